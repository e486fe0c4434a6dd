"""Kills without warning, each at a random instant, and each survived. `checks/test_kills.py` tries fifty."""

import os
import random
import signal
import time
from pathlib import Path

from rlgrad.run import resume, train
from tests.run.support import POINT, assert_same, forked

CONFIG = POINT | {"updates": 30, "checkpoint": {"every_updates": 3}, "evaluation": {"every_updates": 10}}


def test_a_run_killed_at_random_instants_ends_in_the_same_bits(tmp_path: Path) -> None:
    survive(5, tmp_path)


def survive(count: int, tmp_path: Path) -> None:
    train(CONFIG, out=tmp_path / "first", updates=3)  # which imports what there is to import
    resume(tmp_path / "first", extend_to=6)
    began = time.monotonic()
    whole = train(CONFIG, out=tmp_path / "whole").directory
    longest = (time.monotonic() - began) / 2
    rng = random.Random(0)
    kills = runs = 0
    output = tmp_path / "output"
    while kills < count:
        path = tmp_path / str(runs)

        def work(path: Path = path) -> None:
            resume(path) if is_begun(path) else train(CONFIG, out=path)

        patience = longest
        while True:  # until it gets to its end before the kill
            child = forked(work, output)
            time.sleep(rng.uniform(0, patience))
            patience *= 1.2  # or one that takes longer to begin again than it is left alone would never end
            os.kill(child, signal.SIGKILL)
            if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
                break
            kills += 1
            if not is_begun(path):  # killed before its config was written: it is begun again elsewhere
                path = path.with_name(f"{path.name}-")
                work.__defaults__ = (path,)
        assert_same(whole, path, with_events=runs % 5 == 0)
        runs += 1
    assert "Traceback" not in output.read_text(), output.read_text()


def is_begun(path: Path) -> bool:
    return (path / "config.yaml").is_file() and (path / "config.yaml").stat().st_size > 0
