"""HTML pages that need no other file. They follow the reader's light or dark mode, and fit screens, phones and paper.

The lesson and the reports are such pages.
"""

import itertools
import re
from pathlib import Path

from rlgrad.pages.drawing import colours

CSS = Path(__file__).with_name("page.css")


def page(title: str, body: str) -> str:
    """The HTML of a whole page. title, body: HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{colours()}{CSS.read_text(encoding='utf-8')}</style>\n"
        f"<main>\n{with_unique_ids(body)}\n</main>\n</html>\n"
    )


def with_unique_ids(body: str) -> str:
    """Make the ids in each picture unique, because matplotlib uses the same ids in all pictures."""
    count = itertools.count(1)

    def renamed(picture: re.Match[str]) -> str:
        prefix = f"picture{next(count)}-"
        return re.sub(r'\bid="|(?<=url\()#|xlink:href="#', lambda part: part[0] + prefix, picture[0])

    return re.sub(r"<svg.*?</svg>", renamed, body, flags=re.DOTALL)
