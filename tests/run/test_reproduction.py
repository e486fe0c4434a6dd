"""The same seed gives the same bits: in another process, at another time, with more threads, beside other replicas."""

import os
import re
from pathlib import Path

import pytest
import torch

from rlgrad.cli import main
from rlgrad.run import guest, resume, train
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer
from tests.run.support import AGENT, CLASSIFIER, POINT, SURFACE, assert_same, forked, rows


@pytest.mark.parametrize("config", [AGENT, CLASSIFIER, SURFACE], ids=["agent", "classifier", "surface"])
def test_another_process_gets_the_same_bits(tmp_path: Path, config: dict) -> None:
    train(config, out=tmp_path / "one")
    child = forked(lambda: train(config, out=tmp_path / "other") and None, tmp_path / "output")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, (tmp_path / "output").read_text()
    assert_same(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize("config", [AGENT, CLASSIFIER], ids=["agent", "classifier"])
def test_more_threads_get_the_same_bits(tmp_path: Path, config: dict) -> None:
    class Threads(Observer):
        def begin(self, run: Following) -> None:
            assert torch.get_num_threads() == threads
            assert set(numpy_s()) <= {1}

    def numpy_s() -> list[int]:
        return [library.num_threads for library in libraries]

    torch.set_num_threads(2)
    libraries = guest.numpy_libraries()  # the run itself may load scipy's
    guest.set_threads(2, dict.fromkeys(libraries, 2))
    before = numpy_s()
    for threads in (1, 2, 3):
        train(config, out=tmp_path / str(threads), threads=threads, observers=[Threads()])
        assert torch.get_num_threads() == 2  # as before
        assert numpy_s() == before
        assert rows(tmp_path / "1") == rows(tmp_path / str(threads))


def test_a_run_is_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    path = train(AGENT, out="run").directory
    assert main(["reproduce", "run", "--quiet"]) == 0
    assert "run and runs/run-again-1 are identical: every number of metrics.jsonl" in capsys.readouterr().out
    assert_same(path, Path("runs/run-again-1"))
    assert main(["reproduce", "run", "--quiet", "--out", "run"]) == 2  # which holds a run
    capsys.readouterr()

    metrics = path / "metrics.jsonl"
    text = metrics.read_text()
    found = rows(path)[3]["objective/value"][1]
    metrics.write_text(text.replace(str(found), "0.5", 1))
    assert main(["reproduce", "run", "--quiet"]) == 1
    assert re.search(
        r"differ: metrics.jsonl, update 4: objective/value is \[.*, 0.5\] in the first", capsys.readouterr().out
    )
    metrics.write_text(text.replace('"objective/value"', '"objective/\\u001b[31mvalue"', 1))
    assert main(["reproduce", "run", "--quiet"]) == 1
    assert "metrics.jsonl, update 1: objective/ [31mvalue is" in capsys.readouterr().out
    metrics.write_text(text[: text.index("\n") + 1])
    assert main(["reproduce", "run", "--quiet"]) == 1
    assert "metrics.jsonl has 1 lines in the first, 6 in the second" in capsys.readouterr().out
    metrics.write_text("{")
    assert main(["reproduce", "run", "--quiet"]) == 2
    assert "metrics.jsonl cannot be read" in capsys.readouterr().err


def test_other_weights_and_other_versions_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    path = train(POINT, out="run").directory
    weights = path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-8] ^= 1  # the last bit of the last number
    weights.write_bytes(content)
    environment = path / "environment.json"
    environment.write_text(environment.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
    assert main(["reproduce", "run", "--quiet"]) == 1
    said = capsys.readouterr().out
    assert "differ: model.safetensors: point[0, 0, 1] is " in said
    assert f"between the two, these have changed: packages.torch: 1.0 -> {torch.__version__}" in said


def test_an_extended_run_is_reproduced_as_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(POINT, out="run")
    resume("run", extend_to=7)
    resume("run", extend_to=9)
    assert main(["reproduce", "run", "--quiet"]) == 0
    assert rows(Path("runs/run-again-1")) == rows(Path("run"))


def test_only_a_completed_run_is_reproduced(tmp_path: Path, capsys) -> None:
    assert main(["reproduce", str(tmp_path)]) == 2
    assert "there is no run here" in capsys.readouterr().err
    path = train(POINT, out=tmp_path / "run").directory
    (path / "summary.json").write_text('{"status": "interrupted"}')
    assert main(["reproduce", str(path)]) == 2
    assert "the run is not completed" in capsys.readouterr().err
