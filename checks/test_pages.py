"""The site, the lesson and TensorBoard in a browser."""

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="selenium is not installed: the extra `docs` brings it")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from checks.browser import Browser, served
from checks.conftest import ROOT, Shell, environment

PICTURES = ROOT / "build" / "pictures"  # a picture of each page, for people to look at


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


def seen(page: Browser, name: str, often: bool) -> list[str]:
    """The faults of a page of the site, wide and narrow. often: also in dark mode, with a picture of each."""
    found = []
    for width, dark in LOOKS if often else [(1280, False), (390, False)]:
        page.look(width, dark)
        scheme = "slate" if dark else "default"
        page.until(f"document.body.dataset.mdColorScheme === '{scheme}'", f"its colours are not {scheme}")
        if often:
            page.shoot(PICTURES / f"site_{name}_{width}_{'dark' if dark else 'light'}.png")
        if (over := page.ask(OVERFLOW)) > 0:
            found.append(f"at {width} px it is {over} px too wide")
    found += [f"no picture, or no words for it: {image}" for image in page.ask(IMAGES)]
    return found + page.wrong()


def test_every_page_of_the_site(site: Path, browser: Browser) -> None:
    """Each page shows its heading, and nothing on it is missing or loaded from another host."""
    pages = sorted(path for path in site.rglob("index.html"))
    assert len(pages) >= 18
    wrong = {}
    with served(site) as address:
        for page in pages:
            where = page.parent.relative_to(site).as_posix().strip(".")
            heading = " ".join(Title(page.read_text(encoding="utf-8")).text.split())
            assert heading, where
            browser.open(f"{address}/{where}/" if where else address, heading)
            name = where.replace("/", "_") or "index"
            if found := seen(browser, name, often=where == "" or where.startswith("docs")):
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


def test_the_lesson(written: tuple[str, str, Path], browser: Browser) -> None:
    """The page that `rlgrad lesson` writes needs no other file, on a desk, on a phone, in dark mode and on paper."""
    browser.open((written[2] / "page.html").as_uri(), "Why ascent, why descent")
    assert len(looked_at(browser, "lesson", smallest=8.5)) > 20
    assert browser.ask('getComputedStyle(document.getElementById("try")).display') == "none"
    assert browser.wrong() == []


def looked_at(page: Browser, name: str, smallest: float) -> list[dict[str, Any]]:
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


def test_the_report_of_a_run_and_of_several(project: Path, shell: Shell, browser: Browser) -> None:
    """The pages need no other file. Their charts are there by name, and have data."""
    shell("rlgrad train --config cartpole --updates 12 --quiet --out runs/seen")
    shell("rlgrad train --config cartpole --updates 8 --optimizer.lr 0.01 --quiet --out runs/slower")
    shell("rlgrad report runs/seen --to one.html && rlgrad report runs/seen runs/slower --to two.html")
    for name, heading in {"one": "seen", "two": "2 runs compared"}.items():
        browser.open((project / f"{name}.html").as_uri(), heading)
        charts = [chart["name"] for chart in looked_at(browser, f"report_{name}", smallest=6)]
        for what in ("return", "objective"):
            for axis in ("environment steps", "updates", "seconds"):
                assert f"{what} over {axis}" in charts
        assert browser.wrong() == []


def lightness(colour: str) -> float:
    """The lightness of a CSS colour: 1 for "rgb(255, 255, 255)"."""
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 765


def test_the_slider_of_the_lesson_goes_where_the_loop_goes(tmp_path: Path, browser: Browser) -> None:
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
    browser.open(page_file.as_uri(), "Try it")
    for rate in (0.01, 0.03, 0.35, 0.5, 0.75, 1.0, 1.15, 1.2):
        for direction in Direction:
            places, sentence, points = browser.ask(f"{show}({rate}, {direction.sign})")
            assert places == pytest.approx(loop(direction, rate), rel=1e-12, abs=1e-15)
            assert points > 1
            wanted = said.get(rate, "") if direction is Direction.MINIMIZE else "stays on its side, further away"
            assert wanted in sentence, (rate, direction)
    before = browser.ask(f"{show}(0.5, -1)")
    browser.find_element(By.NAME, "rate").send_keys(Keys.ARROW_RIGHT)
    after = browser.ask('document.getElementById("try").places')
    assert after == pytest.approx(loop(Direction.MINIMIZE, 0.51), rel=1e-12, abs=1e-15)
    assert before[0] != after
    assert browser.wrong() == []


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


CARDS = """
deep(document.body).filter((node) => /-CARD$|^TF-(IMAGE|TEXT)-LOADER$|^TF-HPARAMS-TABLE/.test(node.nodeName))
.map((card) => [
  read(card),
  deep(card).some((node) => node.naturalWidth > 1 || ["TD", "PRE", "CANVAS"].includes(node.nodeName)
    || (node.nodeName === "path" && !node.ownerSVGElement.hasAttribute("viewBox") && node.getBBox().width > 3)),
])
"""
TABS = {  # of TensorBoard, each with the names of what must be there and have data
    "timeseries": ["evaluation/accuracy", "evaluation/length"],
    "custom_scalars": ["evaluation/return", "evaluation/log_loss", "objective/value", "the gradient's norm"],
    "images": ["pictures/film", "pictures/path", "pictures/calibration", "pictures/roc"],
    "text": ["config"],
    "hparams": ["cartpole-1"],
}


def test_tensorboard(project: Path, shell: Shell, browser: Browser) -> None:
    """The tabs that the documentation describes show the runs, light and dark: what is there by name has data."""
    for config, updates in (("cartpole", 8), ("bowl", 20), ("breast_cancer", 100)):
        shell(f"rlgrad train --config {config} --updates {updates} --pictures_every_updates {updates} --quiet")
    with tensorboard(project) as address:
        for (tab, names), (width, dark) in itertools.product(TABS.items(), (LOOKS[0], LOOKS[3])):
            browser.open(f"{address}/#{tab}", "cartpole-1", width, dark)
            for name in names:
                there = f"{CARDS.strip()}.some(([text, data]) => data && text.includes({json.dumps(name)}))"
                browser.until(there, f"{name} is not in the tab {tab}, or is empty")
            browser.shoot(PICTURES / f"tensorboard_{tab}_{width}.png")
            assert browser.wrong() == []
