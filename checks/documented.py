"""Finds every command in the documentation."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
TITLED = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```', re.DOTALL | re.MULTILINE)
FOLLOWED = [  # pages whose commands run one after the other, and need the files that the page shows
    "start.md", "your-environment.md", "your-problem.md", "your-table.md", "statistics.md",
]  # fmt: skip
STARTS = (
    "python ",
    "python3 ",
    ".venv/bin/",
    "rlgrad ",
    "torchrun ",
    "tensorboard ",
    "cmp ",
)  # text between backticks is a command if it starts with one of these
NAMED = re.compile(
    "rlgrad (check|evaluate|export|play|plot|predict|report|reproduce|slice|sweep|train)"
)  # these are incomplete without arguments


def commands() -> dict[str, str]:
    """Each command, on one line, without comment and `.venv/bin/` -> the first file that contains it."""
    found: dict[str, str] = {}
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in [*pages, ROOT / "configs" / "README.md", ROOT / "examples" / "README.md"]:
        if page.exists():
            text = page.read_text(encoding="utf-8")
            for command in in_page(SHELL.sub("", text) if page.name in FOLLOWED else text):
                found.setdefault(command, str(page.relative_to(ROOT)))
    for script in [*sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "examples").glob("*.py"))]:
        for command in in_docstring(script.read_text(encoding="utf-8")):
            found.setdefault(command, str(script.relative_to(ROOT)))
    return found


def in_page(text: str) -> Iterator[str]:
    """Yield the commands in sh blocks and between backticks, but not incomplete ones that a sentence mentions."""
    for block in SHELL.findall(text):
        for line in block.splitlines():
            if command := tidy(line):
                yield command
    for inline in INLINE.findall(FENCED.sub("", text)):
        if inline.startswith(STARTS) and not NAMED.fullmatch(inline):
            yield tidy(inline)


def followed(page: str) -> tuple[dict[str, str], list[str]]:
    """The files that a page in docs/ shows, and its commands in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    lines = [tidy(line) for block in SHELL.findall(text) for line in block.splitlines()]
    return dict(TITLED.findall(text)), [line for line in lines if line]


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
