"""Why ascent, why descent: writes a page that computes each of its claims."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from rlgrad.lesson import costs, curvature, extrema, noise, sizes, slopes, starts, textbook, wrong_sign
from rlgrad.lesson.page import fill, read, write_html, write_markdown
from rlgrad.pages.drawing import style

CHAPTERS = (slopes, extrema, sizes, costs, textbook, wrong_sign, noise, curvature, starts)


def write(html: Path, markdown: Path | None = None) -> None:
    """Run all chapters, and write the page. html, markdown: the files; a Markdown page has its pictures beside it."""
    torch.set_num_threads(1)
    numbers: dict[str, str] = {}
    pictures: dict[str, Figure] = {}
    with style():
        for module in CHAPTERS:
            chapter = module.chapter()
            numbers |= chapter.numbers
            pictures |= chapter.pictures
    text = fill(read("why-ascent.md"), numbers)
    write_html(html, text, pictures)
    if markdown:
        write_markdown(markdown, text, pictures)
