"""What the README says is true."""

import ast
import itertools
import re
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

import rlgrad
from rlgrad.cli import make_parser
from rlgrad.config import load_config
from rlgrad.usage import SHIPPED

ROOT = Path(rlgrad.__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_ten_lines_are_the_loop_s() -> None:
    """Every call that the README's loop makes stands in the loop itself, in that order."""

    def calls(source: str) -> list[str]:
        tree = ast.parse(source)
        nodes = sorted((n for n in ast.walk(tree) if isinstance(n, ast.Call)), key=lambda n: (n.lineno, n.col_offset))
        return [ast.unparse(node.func) for node in nodes]

    shown = [source for source in blocks("python") if "itertools.count(first)" in source]
    assert len(shown) == 1
    remaining = iter(calls((ROOT / "rlgrad" / "loop.py").read_text()))
    for call in calls(shown[0]):
        assert call in remaining, call


def test_the_python_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = [source for source in blocks("python") if "import rlgrad" in source]
    exec(other, {})
    assert capsys.readouterr().out == f"{torch.full((5,), 3.0)}\n"
    exec(one.replace("seed=3", "seed=3, updates=2"), {})
    assert capsys.readouterr().out.startswith("runs/cartpole-1 ")


def test_the_yaml_example_is_a_config() -> None:
    (example,) = blocks("yaml")
    built = load_config(yaml.safe_load(example), {"episodes": 2, "replicas": 1, "episode_limit": 600}).build()
    update = next(itertools.islice(rlgrad.updates(built.problem, built.optimizer), 1))
    assert update.value.item() < 0


def test_every_shipped_config_is_in_the_table_and_every_command_exists() -> None:
    for path in SHIPPED.glob("*.yaml"):
        assert f"`{path.stem}`" in README, path.stem
    for command in re.findall(r"rlgrad (\w+)[ `]", README):
        if command not in ("import", "from"):
            assert command in make_parser().format_help(), command


def test_ci_runs_the_command_of_the_readme() -> None:
    line = subprocess.run(
        ["grep", "-m1", "-F", "python -m pytest", "README.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert line in "".join(blocks("sh"))
    ci = (ROOT / ".ci" / "run").read_text()
    assert "grep -m1 -F 'python -m pytest' README.md" in ci
    assert "grep -m1 -F 'python -m pytest checks' README.md" in ci
    assert README.index("python -m pytest &&") < README.index("python -m pytest checks")  # grep takes the first


def test_the_citation_and_the_newest_changes_are_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["title"], str(citation["version"])) == ("rlgrad", rlgrad.__version__)
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert rlgrad.__version__ in headings[:2]  # behind what is not released yet


def test_type_checkers_are_told_that_there_are_types() -> None:
    assert (ROOT / "rlgrad" / "py.typed").exists()


def test_links_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "configs" / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
