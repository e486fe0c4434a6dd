"""The site, the lesson and TensorBoard, as a browser shows them."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest

from checks.browser import browser, executable, served
from checks.conftest import ROOT, Shell, environment

PICTURES = ROOT / "build" / "pictures"  # of each page, for people to look at

in_browser = pytest.mark.skipif(executable() is None, reason="no Chromium on the path (apt-get install chromium)")


class Title(HTMLParser):
    """The text of the first heading."""

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


@in_browser
def test_every_page_of_the_site(project: Path, shell: Shell) -> None:
    """It is built without a warning, shows its heading, and nothing is missing on it or loaded from elsewhere."""
    assert "No issues" in shell("python scripts/build_site.py 2>&1").stdout
    site = project / "build" / "site"
    pages = sorted(path for path in site.rglob("index.html"))
    assert len(pages) >= 18
    wrong = {}
    with served(site) as address, browser() as running:
        for page in pages:
            where = page.parent.relative_to(site).as_posix().strip(".")
            heading = " ".join(Title(page.read_text(encoding="utf-8")).text.split())
            assert heading, where
            picture = PICTURES / f"site_{where.replace('/', '_') or 'index'}.png"
            if found := running.visit(f"{address}/{where}/".replace("//", "/").replace(":/", "://"), heading, picture):
                wrong[where] = found
    assert not wrong


def test_the_reference_has_every_public_name(project: Path, shell: Shell) -> None:
    import rlgrad

    shell("python scripts/build_site.py")
    site = project / "build" / "site"
    page = (site / "api" / "rlgrad" / "index.html").read_text(encoding="utf-8")
    missing = [name for name in rlgrad.__all__ if f'id="rlgrad.{name}"' not in page]
    assert not missing
    for built in (site / "api").rglob("index.html"):
        assert len(re.findall(r"<h[2-5] ", built.read_text(encoding="utf-8"))) > 1, built.parent.name


@in_browser
def test_the_lesson(project: Path, shell: Shell) -> None:
    """The page that `rlgrad lesson` writes needs nothing but itself."""
    shell("rlgrad lesson --out why.html", timeout=300)
    with browser() as running:
        wrong = running.visit((project / "why.html").as_uri(), "Why ascent, why descent", PICTURES / "lesson.png")
    assert not wrong


@contextmanager
def tensorboard(project: Path) -> Iterator[str]:
    """The address of a TensorBoard of the project's runs."""
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
    """The dashboards that the README speaks of show the run."""
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
