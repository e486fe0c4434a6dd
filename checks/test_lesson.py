"""The lesson: every number on the page is computed, and the page needs no other file."""

import math
import re
from pathlib import Path

import pytest

from rlgrad.cli import main
from rlgrad.lesson.page import fill
from rlgrad.pages.drawing import THEME

DOCS = Path(__file__).parents[1] / "docs"


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
    html, text, _ = written
    assert len(html.encode()) < 3_000_000
    assert "{{" not in html
    pictures = text.count("](why-ascent/")
    assert pictures > 20
    assert html.count("<figure") == pictures == html.count("<svg") - 1  # one svg is the slider's
    assert html.count("<script") == 1
    assert "<img" not in html
    linked = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert [target for target in linked if not target.startswith("#")] == []
    assert re.findall(r"@import|url\([^#]|https?:(?!//www\.w3\.org/)", html) == []
    names = re.findall(r'\bid="([^"]+)"', html)
    assert {target[1:] for target in linked} <= set(names)
    assert len(names) == len(set(names))  # no picture uses a part of another one


def test_the_answer_is_its_first_two_lines_and_nothing_needs_the_script(written: tuple[str, str, Path]) -> None:
    html, text, _ = written
    first = text.split("\n\n")[1].splitlines()
    assert [line.removesuffix("<br>")[:2] + line.removesuffix("<br>")[-2:] for line in first] == ["****", "****"]
    assert html.index("<h1") < html.index(first[0].strip("*br<>")) < html.index("<h2")
    assert '<form id="try" hidden>' in html  # the script removes `hidden`
    assert set(re.findall(r'<figure role="img" aria-label="([^"]{20,})">', html)) == set(
        re.findall(r"!\[([^\]]+)\]", text)
    )


def luminance(colour: str) -> float:
    """The relative luminance of a colour: https://www.w3.org/TR/WCAG21/#dfn-relative-luminance"""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_its_colours_can_be_told_from_the_page_by_day_and_by_night(written: tuple[str, str, Path]) -> None:
    html, _, folder = written
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for shade in (0, 1):
        paper = {name: pair[shade] for name, pair in THEME.items()}
        for behind in ("paper", "code", "said"):
            assert contrast(paper["ink"], paper[behind]) > 7
        for name in ("up", "down"):
            assert contrast(paper[name], paper["paper"]) > 4.5, name  # these are colours of text
        assert contrast(paper["faint"], paper["paper"]) > 3
    for file in (folder / "why-ascent").iterdir():  # a colour without a name would not change in dark mode
        assert set(re.findall(r"#[0-9a-f]{6}", file.read_text())) <= {c for pair in THEME.values() for c in pair}
        drawn = file.read_text().partition("</defs>")[2]
        assert "var(--" in drawn
        assert re.findall(r"(?:fill|stroke): #\w+", drawn) == []
    assert "prefers-color-scheme: dark" in html


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
    assert spread[3] < spread[1] / 2  # the baseline lowers the variance
    assert spread[4] < spread[2] / 2


def test_a_number_that_nobody_computed_is_no_text() -> None:
    assert fill("{{a.b}} is 1", {"a.b": "one"}) == "one is 1"
    with pytest.raises(KeyError):
        fill("{{a.c}}", {"a.b": "one"})


def test_a_place_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["lesson", "--to", str(tmp_path / "no" / "page.html")]) == 2
    assert "there is no directory" in capsys.readouterr().err


def test_the_size_of_a_step_is_as_the_closed_form_has_it(written: tuple[str, str, Path]) -> None:
    """Descent on x² multiplies x by 1 − 2α."""
    _, text, _ = written
    rates = [cell.partition("\u00a0")[0] for cell in column(text, "α")]
    assert rates[-1] == "Newton"
    places, needed = (column(text, name) for name in ("x after one, two, three, four steps", "steps needed"))
    for rate, place, steps in zip(
        [0.5 if rate == "Newton" else float(rate) for rate in rates], places, needed, strict=True
    ):
        factor = 1 - 2 * rate
        assert [float(x) for x in place.split(",")] == pytest.approx([2 * factor**n for n in range(1, 5)], rel=5e-3)
        if abs(factor) >= 1:
            assert steps == "never"
        else:
            assert int(steps) == (math.ceil(math.log(1 / 100) / math.log(abs(factor))) if factor else 1)
    along, across = (abs(1 - 1.8 / 50 * curvature) for curvature in (2, 50))
    valley = next(n for n in range(200) if math.hypot(2 * along**n, 0.5 * across**n) <= math.hypot(2, 0.5) / 100)
    assert f"{valley} steps at nine tenths of the bound" in text
    assert "takes the same places, equal to the last bit" in text
    assert "the steps overshoot" in text
