#!/usr/bin/env bash
# The benchmarks of GPUs on a machine without a network, from a bare checkout and a folder of wheels:
#
#   benchmarks/gpu.sh WHEELS [CODEC]    on every GPU that is there
#
# CODEC is a directory with nvidia-libnvcomp-cu13 in it (pip install --no-deps --target CODEC): only
# the nodes that are to compress get to see it.
#
# The machine has Python 3.12, torch for CUDA 13, cuda-bindings, safetensors, httpx, psutil, rich,
# typer, uvloop, pyyaml, prometheus-client and attrs. What it lacks is downloaded elsewhere:
#
#   needs='annotated-types|apsw|cffi|cronsim|cryptography|httptools|jsonschema'
#   needs="$needs|jsonschema-specifications|pycparser|pydantic|pydantic-core|python-multipart"
#   needs="$needs|referencing|rpds-py|starlette|typing-extensions|typing-inspection|uvicorn"
#   grep -E "^($needs)==" constraints.txt > needs.txt
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#       --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
#       --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
#       -d WHEELS -r needs.txt -r benchmarks/peers/gpu.txt
set -euo pipefail
wheels=$(realpath "$1")
cd "$(dirname "$0")/.."
site=$(mktemp -d)
python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
export PYTHONPATH="$site:$PWD" PYTHONUNBUFFERED=1
devices=$(nvidia-smi --list-gpus | awk '{printf "%scuda:%d", (NR > 1 ? "," : ""), NR - 1}')
python3 -m benchmarks.coldstart_gpu --devices "$devices" ${2:+--codec "$(realpath "$2")"}
python3 -m benchmarks.many_models
python3 -m benchmarks.recovery
