"""The lesson: everything it says is computed, and the page needs nothing but itself."""

import re
from pathlib import Path

import pytest

from rlgrad.cli import main
from rlgrad.lesson.page import fill

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    folder = tmp_path_factory.mktemp("lesson")
    assert main(["lesson", "--out", str(folder / "page.html"), "--markdown", str(folder / "why-ascent.md")]) == 0
    return (folder / "page.html").read_text(), (folder / "why-ascent.md").read_text(), folder


def column(page: str, heading: str) -> list[str]:
    """The cells below a heading of the page's tables."""
    lines = page.splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.startswith("|") and f"| {heading} |" in line)
    place = [cell.strip() for cell in lines[first].split("|")].index(heading)
    cells = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        cells.append(line.split("|")[place].strip())
    return cells


def test_the_page_is_complete_in_itself(written: tuple[str, str, Path]) -> None:
    html, _, _ = written
    assert len(html.encode()) < 3_000_000
    assert "{{" not in html
    assert html.count("<figure") == html.count("<svg") == 7
    assert "<img" not in html
    assert "<script" not in html
    linked = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert [target for target in linked if not target.startswith("#")] == []
    names = set(re.findall(r'\bid="([^"]+)"', html))
    assert {target[1:] for target in linked} <= names
    assert len(names) == len(re.findall(r'\bid="([^"]+)"', html))  # no picture refers to a part of another


def test_the_page_in_docs_is_the_current_text(written: tuple[str, str, Path]) -> None:
    _, text, folder = written

    def without_numbers(page: str) -> str:
        return re.sub(r"[-−]?\d[\d,.]*(e[-+]?\d+)?", "#", page)

    assert without_numbers((DOCS / "why-ascent.md").read_text()) == without_numbers(text)
    assert sorted(p.name for p in (DOCS / "why-ascent").iterdir()) == sorted(
        p.name for p in (folder / "why-ascent").iterdir()
    )
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (folder / target).is_file()


def test_what_it_says_is_so(written: tuple[str, str, Path]) -> None:
    _, text, _ = written
    for slope, difference in zip(
        column(text, "slope by automatic differentiation"), column(text, "by finite difference"), strict=True
    ):
        assert float(slope) == pytest.approx(float(difference), rel=1e-5)
    assert "**equal to the last bit**" in text
    assert "f has no maximum to climb to" in text
    off, chance = ([float(cell) for cell in column(text, name)] for name in ("centre is off by", "expected by chance"))
    assert all(a < 3 * b for a, b in zip(off, chance, strict=True))
    spread = [float(cell) for cell in column(text, "spread")]
    assert spread[3] < spread[1] / 2  # what the baseline is for
    assert spread[4] < spread[2] / 2


def test_a_number_that_nobody_computed_is_no_text() -> None:
    assert fill("{{a.b}} is 1", {"a.b": "one"}) == "one is 1"
    with pytest.raises(KeyError):
        fill("{{a.c}}", {"a.b": "one"})


def test_a_place_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["lesson", "--out", str(tmp_path / "no" / "page.html")]) == 2
    assert "there is no directory" in capsys.readouterr().err
