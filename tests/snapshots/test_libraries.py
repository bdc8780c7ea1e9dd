from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version


def test_what_a_loaded_module_is_from_is_a_library_of_the_state_and_nothing_else_is() -> None:
    code = (
        "import json, yaml, safetensors.torch; from dsfn.snapshots.libraries import *;"
        "found = loaded_libraries(); check_libraries(found); print(json.dumps(found))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    found = json.loads(run.stdout)
    assert found["pyyaml"] == version("pyyaml")
    assert found["safetensors"] == version("safetensors")
    assert not {"dsfn", "torch", "pytest", "PyYAML"} & set(found)
