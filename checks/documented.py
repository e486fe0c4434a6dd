"""Every command that the documentation names."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
STARTS = (
    "python ",
    "python3 ",
    ".venv/bin/",
    "rlgrad ",
    "tensorboard ",
    "pip ",
    "cmp ",
)  # of what is a command between backticks


def commands() -> dict[str, str]:
    """Each command, on one line, without its comment and without `.venv/bin/` -> the first file that names it."""
    found: dict[str, str] = {}
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in [*pages, ROOT / "configs" / "README.md", ROOT / "examples" / "README.md"]:
        if page.exists():
            for command in in_page(page.read_text(encoding="utf-8")):
                found.setdefault(command, str(page.relative_to(ROOT)))
    for script in [*sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "examples").glob("*.py"))]:
        for command in in_docstring(script.read_text(encoding="utf-8")):
            found.setdefault(command, str(script.relative_to(ROOT)))
    return found


def in_page(text: str) -> Iterator[str]:
    """In blocks of sh, and between backticks where it has arguments."""
    for block in SHELL.findall(text):
        for line in block.splitlines():
            if command := tidy(line):
                yield command
    for inline in INLINE.findall(FENCED.sub("", text)):
        if inline.startswith(STARTS):
            yield tidy(inline)


def in_docstring(source: str) -> Iterator[str]:
    """The first command line of a script's docstring."""
    head = source.split('"""')[1] if source.startswith('"""') else ""
    lines = [line.strip() for line in head.splitlines() if line.strip().startswith(STARTS)]
    yield from (tidy(line) for line in lines[:1])


def tidy(line: str) -> str:
    return " ".join(re.sub(r"(^|\s)#\s.*", "", line).replace(".venv/bin/", "").split())


if __name__ == "__main__":
    for command, page in commands().items():
        print(f"{page:28} {command}")
