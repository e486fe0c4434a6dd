"""The site, the lesson and TensorBoard in a browser."""

import itertools
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from checks.browser import Page, browser, executable, served
from checks.conftest import ROOT, Shell, environment

PICTURES = ROOT / "build" / "pictures"  # a picture of each page, for people to look at

in_browser = pytest.mark.skipif(executable() is None, reason="no Chromium on the path (apt-get install chromium)")


class Title(HTMLParser):
    """A parser that finds the text of the first heading."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.text = False, ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open = self.open or (tag == "h1" and not self.text)
        if tag == "a" and self.open:  # the link to the heading itself
            self.open = False

    def handle_endtag(self, tag: str) -> None:
        self.open = self.open and tag != "h1"

    def handle_data(self, data: str) -> None:
        self.text += data if self.open else ""


LOOKS = [(width, dark) for width in (1280, 390) for dark in (False, True)]
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
IMAGES = """
[...document.images].filter((image) => !(image.complete && image.naturalWidth && image.alt)).map((image) => image.src)
"""


def seen(page: Page, name: str, often: bool) -> list[str]:
    """The faults of a page of the site, wide and narrow. often: also in dark mode, with a picture of each."""
    found = []
    for width, dark in LOOKS if often else [(1280, False), (390, False)]:
        page.look(width, dark)
        scheme = "slate" if dark else "default"
        page.wait(f"document.body.dataset.mdColorScheme === '{scheme}'", f"its colours are not {scheme}")
        if often:
            page.shoot(PICTURES / f"site_{name}_{width}_{'dark' if dark else 'light'}.png")
        if (over := page.ask(OVERFLOW)) > 0:
            found.append(f"at {width} px it is {over} px too wide")
    found += [f"no picture, or no words for it: {image}" for image in page.ask(IMAGES)]
    return found + page.wrong()


@in_browser
def test_every_page_of_the_site(site: Path) -> None:
    """Each page shows its heading, and nothing on it is missing or loaded from another host."""
    pages = sorted(path for path in site.rglob("index.html"))
    assert len(pages) >= 18
    wrong = {}
    with served(site) as address, browser() as running:
        for page in pages:
            where = page.parent.relative_to(site).as_posix().strip(".")
            heading = " ".join(Title(page.read_text(encoding="utf-8")).text.split())
            assert heading, where
            with running.page(f"{address}/{where}/".replace("//", "/").replace(":/", "://"), heading) as shown:
                found = seen(shown, where.replace("/", "_") or "index", often=where == "" or where.startswith("docs"))
                if found:
                    wrong[where] = found
    assert not wrong


def test_the_reference_has_every_public_name(site: Path) -> None:
    import rlgrad

    page = (site / "api" / "rlgrad" / "index.html").read_text(encoding="utf-8")
    missing = [name for name in rlgrad.__all__ if f'id="rlgrad.{name}"' not in page]
    assert not missing
    for built in (site / "api").rglob("index.html"):
        assert len(re.findall(r"<h[2-5] ", built.read_text(encoding="utf-8"))) > 1, built.parent.name


CHARTS = """
[...document.querySelectorAll("figure[role=img]")].map((figure) => {
  const box = figure.getBoundingClientRect(), texts = [...figure.querySelectorAll("text")];
  const scale = figure.querySelector("svg").getScreenCTM().a;
  const large = (mark) => Math.max(mark.getBBox().width, mark.getBBox().height) > 3;
  return {
    name: figure.ariaLabel,
    inside: box.left >= 0 && box.right <= document.documentElement.clientWidth,
    marks: [...figure.querySelectorAll("path, use")].filter(large).length,
    smallest: Math.min(...texts.map((text) => scale * parseFloat(getComputedStyle(text).fontSize))),
    ink: texts[0] && getComputedStyle(texts[0]).fill,
    paper: getComputedStyle(document.body).backgroundColor,
  };
})
"""


@in_browser
def test_the_lesson(written: tuple[str, str, Path]) -> None:
    """The page that `rlgrad lesson` writes needs no other file, on a desk, on a phone, in dark mode and on paper."""
    with browser() as running, running.page((written[2] / "page.html").as_uri(), "Why ascent, why descent") as page:
        assert len(looked_at(page, "lesson", smallest=8.5)) > 20
        assert page.ask('getComputedStyle(document.getElementById("try")).display') == "none"
        assert page.wrong() == []


def looked_at(page: Page, name: str, smallest: float) -> list[dict[str, Any]]:
    """Check a page on a desk and on a phone, light, dark and printed; return its charts. smallest: the least height in
    pixels of the letters in its charts."""
    for width, dark in LOOKS:
        page.look(width, dark)
        page.shoot(PICTURES / f"{name}_{width}_{'dark' if dark else 'light'}.png", whole=True)
        assert page.ask(OVERFLOW) == 0, width
        charts: list[dict[str, Any]] = page.ask(CHARTS)
        for chart in charts:
            assert chart["inside"], (width, chart)
            assert chart["marks"] >= 4, chart  # axes and data
            assert chart["smallest"] > smallest, (width, chart)
            assert (lightness(chart["paper"]) < 0.2) == dark == (lightness(chart["ink"]) > 0.8), chart
    page.look(800, dark=True, media="print")
    assert lightness(page.ask(CHARTS)[0]["paper"]) == 1
    return charts


@in_browser
def test_the_report_of_a_run_and_of_several(project: Path, shell: Shell) -> None:
    """The pages need no other file. Their charts are there by name, and have data."""
    shell("rlgrad train --config cartpole --updates 12 --quiet --out runs/seen")
    shell("rlgrad train --config cartpole --updates 8 --optimizer.lr 0.01 --quiet --out runs/slower")
    shell("rlgrad report runs/seen --to one.html && rlgrad report runs/seen runs/slower --to two.html")
    for name, heading in {"one": "seen", "two": "2 runs compared"}.items():
        with browser() as running, running.page((project / f"{name}.html").as_uri(), heading) as page:
            charts = [chart["name"] for chart in looked_at(page, f"report_{name}", smallest=6)]
            for what in ("return", "objective"):
                for axis in ("environment steps", "updates", "seconds"):
                    assert f"{what} over {axis}" in charts
            assert page.wrong() == []


def lightness(colour: str) -> float:
    """The lightness of a CSS colour: 1 for "rgb(255, 255, 255)"."""
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 765


@in_browser
def test_the_slider_of_the_lesson_goes_where_the_loop_goes(tmp_path: Path) -> None:
    import torch

    from rlgrad import Direction, Estimate, Problem, make_optimizer, updates

    class Curve(Problem):
        def __init__(self, direction: Direction):
            self.direction, self.model = direction, torch.nn.ParameterDict({"x": torch.tensor([2.0]).double()})

        def objective(self, batch: None) -> Estimate:
            return Estimate(self.model["x"] ** 2, {})

    def loop(direction: Direction, rate: float) -> list[float]:
        problem = Curve(direction)
        optimizer = make_optimizer(problem, "SGD", lr=rate)
        return [2.0] + [problem.model["x"].item() for _ in itertools.islice(updates(problem, optimizer), 20)]

    show = """((rate, sign) => {
      const form = document.getElementById("try");
      form.elements.rate.value = rate;
      form.elements.sign.value = sign;
      form.elements.rate.dispatchEvent(new Event("input", { bubbles: true }));
      return [form.places, form.elements.said.value, form.querySelectorAll("circle").length];
    })"""
    said = {
        0.03: "stays on its side, nearer each time",
        0.5: "there in one step",
        0.75: "side to side, nearer each time",
    }
    said |= {1.0: "never nearer", 1.15: "side to side, further away each time"}
    page_file = tmp_path / "slider.html"
    page_file.write_text(f"<!doctype html><meta charset=utf-8>{(ROOT / 'rlgrad/lesson/slider.html').read_text()}")
    with browser() as running, running.page(page_file.as_uri(), "Try it") as page:
        for rate in (0.01, 0.03, 0.35, 0.5, 0.75, 1.0, 1.15, 1.2):
            for direction in Direction:
                places, sentence, points = page.ask(f"{show}({rate}, {direction.sign})")
                assert places == pytest.approx(loop(direction, rate), rel=1e-12, abs=1e-15)
                assert points > 1
                wanted = said.get(rate, "") if direction is Direction.MINIMIZE else "stays on its side, further away"
                assert wanted in sentence, (rate, direction)
        before = page.ask(f"{show}(0.5, -1)")
        page.ask('document.querySelector("[name=rate]").focus()')
        for kind in ("rawKeyDown", "keyUp"):
            key = {"type": kind, "key": "ArrowRight", "code": "ArrowRight", "windowsVirtualKeyCode": 39}
            running.call("Input.dispatchKeyEvent", page.session, **key)
        after = page.ask('document.getElementById("try").places')
        assert after == pytest.approx(loop(Direction.MINIMIZE, 0.51), rel=1e-12, abs=1e-15)
        assert before[0] != after
        assert page.wrong() == []


@contextmanager
def tensorboard(project: Path) -> Iterator[str]:
    """Start a TensorBoard of the project's runs; return its address."""
    command = ["tensorboard", "--logdir", "runs", "--port", "0", "--host", "127.0.0.1", "--load_fast", "false"]
    process = subprocess.Popen(
        [str(project / ".venv" / "bin" / command[0]), *command[1:]],
        cwd=project, env=environment(project), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if match := re.search(r"at (http://\S+?)/? ", line):
                yield match[1]
                return
        raise AssertionError("".join(lines))
    finally:
        process.terminate()
        process.wait(20)


@in_browser
def test_tensorboard_of_a_run(project: Path, shell: Shell) -> None:
    """The dashboards that the README describes show the run."""
    shell("rlgrad train --config cartpole --updates 4 --quiet")
    with tensorboard(project) as address, browser() as running:
        wrong = {
            tab: found
            for tab, text in {
                "custom_scalars": "objective and evaluation",
                "text": "is to be",
                "hparams": "replicas",
                "timeseries": "objective",
            }.items()
            if (found := running.visit(f"{address}/#{tab}", text, PICTURES / f"tensorboard_{tab}.png", settle=2))
        }
    assert not wrong
