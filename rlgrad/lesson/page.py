"""Fills the numbers into the lesson's text, and writes it as a Markdown file and as one HTML page."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from rlgrad.pages import page
from rlgrad.pages.drawing import svg, svg_file


class Chapter(NamedTuple):
    """The results of a chapter: the text of each {{placeholder}}, and the pictures by name."""

    numbers: Mapping[str, str]
    pictures: Mapping[str, Figure]


def read(name: str) -> str:
    """The text of a file beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def fill(text: str, numbers: Mapping[str, str]) -> str:
    """Replace each {{placeholder}} in the text by its number. Raises KeyError if a number is missing."""
    return re.sub(r"\{\{([\w.]+)\}\}", lambda found: numbers[found[1]], text)


def write_markdown(path: Path, text: str, pictures: Mapping[str, Figure]) -> None:
    """Write the text, with its pictures in a folder of the same name beside it."""
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        (folder / f"{name}.svg").write_text(svg_file(figure), encoding="utf-8")
    path.write_text(text, encoding="utf-8")


def write_html(path: Path, text: str, pictures: Mapping[str, Figure]) -> None:
    """Write the text as one HTML page that contains its pictures."""
    from markdown import Markdown

    converter = Markdown(extensions=["tables", "fenced_code", "toc"], extension_configs={"toc": {"toc_depth": "2-2"}})
    body = converter.convert(text)

    def inline(found: re.Match[str]) -> str:
        return f'<figure role="img" aria-label="{found[1]}">{svg(pictures[found[2]])}</figure>'

    body = re.sub(r"<p>((?:\s*<img [^>]*>)+)</p>", r'<div class="panels">\1</div>', body)
    body = re.sub(r'<img alt="([^"]*)" src="[^"]*?([\w-]+)\.svg" />', inline, body)
    body = body.replace("<table>", '<div class="table" role="region" aria-label="table" tabindex="0">\n<table>')
    body = body.replace("</table>", "</table>\n</div>")
    body = body.replace("<!-- slider -->", read("slider.html"))
    title = re.sub(r"<.*?>", "", body.partition("</h1>")[0])
    first, heading, rest = body.partition("<h2")
    contents = f'<nav aria-label="On this page">{converter.toc}</nav>'
    path.write_text(page(title, f"{first}\n{contents}\n{heading}{rest}"), encoding="utf-8")
