"""An exported model gives the answers of the loaded one, with only onnxruntime and numpy installed."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import rlgrad
from checks.conftest import Shell
from checks.shortened import TRAINED
from rlgrad import load, train
from rlgrad.cli import main
from rlgrad.environments.spaces import ObservationReader
from tests.conftest import one_core, one_thread  # noqa: F401
from tests.test_pictures import settings
from tests.test_use import SMALL

ASKED = """
import sys
sys.path.append(sys.argv[1])
import importlib.util, numpy, onnxruntime
assert not any(importlib.util.find_spec(name) for name in ("torch", "rlgrad"))
session = onnxruntime.InferenceSession("cartpole/model.onnx")
for rows in (1, 5):
    action, probabilities = session.run(None, {"observation": numpy.ones((rows, 4), "float32")})
    print(action.tolist(), probabilities.astype(float).tolist()[0])
"""


def bare(folder: Path) -> Path:
    """A folder with links to the packages that `pip install onnxruntime numpy` would install."""
    folder.mkdir()
    wanted, known = ["onnxruntime", "numpy"], set[str]()
    while wanted:
        name = wanted.pop()
        if name not in known:
            known.add(name)
            found = metadata.distribution(name)
            wanted += [re.match(r"[\w.-]+", each)[0] for each in found.requires or () if "extra ==" not in each]
            for part in {file.parts[0] for file in found.files} - {".."}:
                (folder / part).symlink_to(found.locate_file(part))
    return folder


def test_a_model_runs_in_a_bare_environment(project: Path, shell: Shell, tmp_path: Path, exporter: None) -> None:
    shell(f"{TRAINED} && rlgrad export runs/cartpole-1 --to cartpole/model.onnx --replica 0")
    policy, x = load(project / "runs" / "cartpole-1", replica=0), np.ones((1, 4))
    action, probabilities = policy.predict(x, deterministic=True)[0][0], policy.distribution(x).probs[0, 0].tolist()
    command = [sys.executable, "-I", "-S", "-c", ASKED, str(bare(tmp_path / "bare"))]
    found = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    one, five = (line.split("] [") for line in found.splitlines())
    assert (one[0], five[0]) == (f"[{action}", "[" + ", ".join([str(action)] * 5))
    for line in (one, five):
        values = [float(number) for number in line[1].rstrip("]").split(",")]
        assert values == pytest.approx(probabilities, abs=1e-6)


BARE = """
import json, sys
for name in ("torch", "rlgrad", "gymnasium"):
    sys.modules[name] = None
import numpy, onnxruntime
model, data, result = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
takes = session.get_inputs()[0].name
numpy.savez(result, **{
    f"{size} {output.name}": found
    for size, x in numpy.load(data).items()
    for output, found in zip(session.get_outputs(), session.run(None, {takes: x}))
})
"""


def answers(model: Path, x: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of onnxruntime for batches of 1 and for all rows at once, in a process that cannot import torch."""
    data, result = model.with_suffix(".in.npz"), model.with_suffix(".out.npz")
    np.savez(data, one=x[:1], all=x)
    subprocess.run([sys.executable, "-c", BARE, str(model), str(data), str(result)], check=True)
    found = dict(np.load(result))
    assert all(
        np.allclose(value[:1], found[f"one {name[4:]}"], atol=1e-6)
        for name, value in found.items()
        if name[:3] == "all"
    )
    return {name[4:]: value for name, value in found.items() if name[:3] == "all"}


@pytest.fixture(scope="module")
def exporter() -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is not installed: the extra `export` brings it")


@pytest.mark.usefixtures("exporter")
@pytest.mark.parametrize("name", ["Table", "Switches", "Box", "Image"])
def test_an_exported_policy_answers_as_the_loaded_one_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = {"environment": f"tests/{name}-v0", "updates": 1, "schedule": None}
    config |= {"normalise_observations": name != "Image", "policy": {"hidden": [4], "squash": name == "Box"}}
    train(SMALL | config, out=tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "out" / "model.onnx"), "--replica", "1"]) == 0
    if name in ("Box", "Image"):  # the card's program plays an episode of both forms of observations
        program = (tmp_path / "out" / "README.md").read_text().split("```python\n")[1].split("```")[0]
        monkeypatch.chdir(tmp_path / "out")
        exec(program, {})
    policy = load(tmp_path / "run", replica=1)
    policy.observation_space.seed(0)
    seen = [policy.observation_space.sample() for _ in range(5)]
    each = [policy.predict(one, deterministic=True)[0] for one in seen]
    x = np.concatenate([policy.seen(one)[0] for one in seen])
    found = answers(tmp_path / "out" / "model.onnx", x)
    assert np.allclose(found["action"], np.stack(each), atol=1e-6)
    assert found["action"].dtype == policy.action_space.dtype
    with torch.no_grad():
        says = policy.policy(torch.from_numpy(x)[None])
    if name == "Box":
        assert np.allclose(found["mean"], says.mean[0], atol=1e-6)
        assert np.allclose(found["deviation"], says.log_deviation[0].exp(), atol=1e-6)
    else:
        parts = {"Image": lambda: says.probs, "Switches": lambda: says.logits.sigmoid()}
        table = lambda: torch.cat([each.probs for each in says.each], -1)  # noqa: E731
        assert np.allclose(found["probabilities"], parts.get(name, table)()[0], atol=1e-6)


@pytest.mark.usefixtures("exporter")
def test_the_card_and_the_documentation_run_a_policy_in_gymnasium(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    train(SMALL, out="runs/cartpole-1")
    assert main(["export", "runs/cartpole-1", "--to", "cartpole/model.onnx", "--replica", "0"]) == 0
    page = (Path(rlgrad.__file__).parent.parent / "docs" / "use.md").read_text()
    loading, estimating, playing = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    exec(loading, {})
    exec(estimating, {})
    monkeypatch.chdir("cartpole")
    card = Path("README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(playing, {})
    exec(card.replace('"model.onnx"', '"cartpole/model.onnx"'), {})
    policy, environment = load("runs/cartpole-1", replica=0), gymnasium.make("CartPole-v1")
    observation, earned, over = environment.reset(seed=0)[0], 0.0, False
    while not over:
        observation, reward, *ends, _ = environment.step(policy.predict(observation, deterministic=True)[0])
        earned, over = earned + reward, any(ends)
    assert capsys.readouterr().out == f"{earned}\n{earned}\n"


@pytest.mark.usefixtures("exporter")
@pytest.mark.parametrize("form", ["hwc", "stack", "dict", "bytes", "float"])
def test_a_policy_of_pictures_is_the_same_as_onnx(form: str, tmp_path: Path) -> None:
    train(settings(form, updates=1, episodes=2), out=tmp_path / "run")
    to, policy = tmp_path / "out" / "model.onnx", load(tmp_path / "run", replica=1)
    assert main(["export", str(tmp_path / "run"), "--to", str(to), "--replica", "1"]) == 0
    space = policy.observation_space
    space.seed(0)
    drawn = [space.sample() for _ in range(9)]
    found = answers(to, ObservationReader(space).read(drawn))
    assert found["action"].tolist() == [int(policy.predict(one, deterministic=True)[0]) for one in drawn]
    expected = [policy.distribution(one).probs[0, 0].tolist() for one in drawn]
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
