"""The habits of the house, as far as they can be checked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rlgrad

PACKAGE = Path(rlgrad.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 40  # lines of a function, its docstring aside


def test_imports_only_point_down() -> None:
    """The rooms, as pyproject.toml has them."""
    pytest.importorskip("importlinter")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    found = subprocess.run([*command, "--no-cache"], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) else None
            said = docstring.end_lineno - docstring.lineno + 1 if docstring else 0
            lines = node.end_lineno - node.lineno + 1 - said
            assert lines <= LONGEST, f"{node.name} has {lines} lines"


def test_a_problem_is_asked_nothing_with_hasattr() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("hasattr", "getattr")
            ):
                asked = ast.unparse(node.args[0])
                assert "problem" not in asked, f"{path.name}:{node.lineno}"


def test_what_is_public_is_there() -> None:
    for name in rlgrad.__all__:
        assert vars(rlgrad).get(name) is not None or rlgrad.__getattr__(name) is not None
    assert rlgrad.__all__ == sorted(rlgrad.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rlgrad.nothing  # noqa: B018
