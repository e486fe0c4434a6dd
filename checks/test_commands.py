"""Every command in the documentation runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checks.conftest import Shell
from checks.documented import FOLLOWED, commands, followed
from checks.shortened import AS_IS, BROKEN, INSTEAD, SHORTENED

DOCUMENTED = commands()


def test_every_documented_command_is_in_the_table() -> None:
    unknown = {command: page for command, page in DOCUMENTED.items() if command not in SHORTENED}
    assert not unknown, "checks/shortened.py does not say how these are run"


def test_the_table_has_no_command_that_is_gone() -> None:
    assert not set(SHORTENED) - set(DOCUMENTED)
    assert set(BROKEN) <= set(SHORTENED)


def lines() -> Iterator[Any]:
    """Each line once, even if it is run for several commands, with the first of them as its name."""
    seen: set[str] = set()
    for command in DOCUMENTED:
        line = SHORTENED.get(command, AS_IS) or command
        if command in SHORTENED and line not in seen:
            seen.add(line)
            broken = BROKEN.get(command)
            marks = [pytest.mark.xfail(reason=broken, strict=True)] if broken else []
            yield pytest.param(line, marks=marks, id=command)


@pytest.mark.parametrize("line", list(lines()))
def test_it_runs(line: str, shell: Shell) -> None:
    shell(line)


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed(page: str, project: Path, shell: Shell) -> None:
    """A reader can save the page's files and run its commands, one after the other, without an error."""
    files, lines = followed(page)
    assert lines
    for name, text in files.items():
        (project / name).write_text(text, encoding="utf-8")
    shell(" && ".join(INSTEAD.get(line, line) for line in lines))
