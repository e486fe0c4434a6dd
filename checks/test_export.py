"""An exported model answers where nothing but onnxruntime and numpy is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from checks.conftest import Shell

ASKED = """
import importlib.util, numpy, onnxruntime
assert not any(importlib.util.find_spec(name) for name in ("torch", "rlgrad"))
session = onnxruntime.InferenceSession("cartpole/model.onnx")
for rows in (1, 5):
    action, probabilities = session.run(None, {"observation": numpy.ones((rows, 4), "float32")})
    print(action.tolist(), probabilities.astype(float).tolist()[0])
"""


def test_a_model_runs_in_a_bare_environment(project: Path, shell: Shell, tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is not installed: the extra `export` brings it")
    python = tmp_path / "bare" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "bare")], check=True)
    install = [str(python), "-m", "pip", "install", "-q", "onnxruntime", "numpy"]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("onnxruntime cannot be installed: there is no package index here")
    shell("rlgrad train --config cartpole --updates 2 --quiet")
    shell("rlgrad export runs/cartpole-1 --to cartpole/model.onnx --replica 0")
    asked = 'import rlgrad, numpy; p = rlgrad.load("runs/cartpole-1", replica=0); x = numpy.ones((1, 4)); '
    asked += "print(p.predict(x, deterministic=True)[0][0], *p.distribution(x).probs[0, 0].tolist())"
    expected = shell(f"python -c '{asked}'")
    action, *probabilities = expected.stdout.split()
    found = subprocess.run([python, "-I", "-c", ASKED], cwd=project, capture_output=True, text=True, check=True).stdout
    one, five = (line.split("] [") for line in found.splitlines())
    assert (one[0], five[0]) == (f"[{action}", "[" + ", ".join([action] * 5))
    for line in (one, five):
        values = [float(number) for number in line[1].rstrip("]").split(",")]
        assert values == pytest.approx([float(number) for number in probabilities], abs=1e-6)
