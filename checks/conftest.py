"""Fixtures of the checks: a copy of the project, in which commands may write."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checks.shortened import TRAINING
from rlgrad.cli import main

if TYPE_CHECKING:
    from checks.browser import Browser

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (".git", ".venv", ".peers", "build", "dist", "runs", "shared", "__pycache__", "*_cache", "*.egg-info")

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


def copied(folder: Path) -> Path:
    """A copy of the project; the commands in its .venv/bin use the Python that runs the checks."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)
    commands = folder / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, arguments in (("python", ""), ("python3", ""), ("rlgrad", "-m rlgrad"), ("tensorboard", TENSORBOARD)):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (commands / name).chmod(0o755)
    return folder


TENSORBOARD = '-c "import sys; from tensorboard.main import run_main; sys.exit(run_main())"'


def environment(folder: Path) -> dict[str, str]:
    path = [str(folder / ".venv" / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return os.environ | {
        "PATH": os.pathsep.join(path), "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "120",
    }  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long to make is made by one worker, for all that look at it."""
    for item in items:
        for made in {"written", "site"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(made))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copied(tmp_path / "project")


@pytest.fixture
def shell(project: Path, request: pytest.FixtureRequest) -> Shell:
    """A function that runs a line in the copy, and shows its output if it fails."""

    def run(line: str, timeout: float = 180) -> "subprocess.CompletedProcess[str]":
        known = {"TRAINED": str(request.getfixturevalue("trained"))} if "$TRAINED" in line else {}
        return ran(line, project, timeout, **known)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run that many commands need, trained once."""
    project = copied(tmp_path_factory.mktemp("trained") / "project")
    ran(TRAINING, project)
    return project / "runs"


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """The lesson: its page, its Markdown, and their folder."""
    folder = tmp_path_factory.mktemp("lesson")
    assert main(["lesson", "--to", str(folder / "page.html"), "--markdown", str(folder / "why-ascent.md")]) == 0
    return (folder / "page.html").read_text(), (folder / "why-ascent.md").read_text(), folder


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built without a warning."""
    project = copied(tmp_path_factory.mktemp("site") / "project")
    assert "No issues" in ran("python scripts/build_site.py 2>&1", project).stdout
    return project / "build" / "site"


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """One for all pages that a worker looks at."""
    from checks.browser import CHROMIUM, DRIVER, started

    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium, or no driver of it, on the path (apt-get install chromium chromium-driver)")
    with started() as running:
        yield running


def ran(line: str, project: Path, timeout: float = 180, **known: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=project, env=environment(project) | known, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\nexit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done
