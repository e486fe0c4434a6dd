"""Chromium without a window, driven by Selenium."""

import base64
import functools
import http.server
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync", "--disable-dev-shm-usage"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--no-first-run", "--no-proxy-server"]
FLAGS += ["--force-prefers-reduced-motion"]  # without animations that pictures would catch halfway
DRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
OWN = ("http://127.0.0.1:", "http://localhost:", "file:", "data:", "blob:", "about:", "chrome:")
DEEP = """
const deep = (node) => [node, ...[node.shadowRoot ?? [], ...node.childNodes].flat().flatMap(deep)];
const read = (node) => deep(node).filter((part) => part.nodeType === Node.TEXT_NODE)
  .filter((part) => !["SCRIPT", "STYLE"].includes(part.parentNode.nodeName))
  .map((part) => part.data).join(" ").replace(/\\s+/g, " ");
"""


class Browser(webdriver.Chrome):
    """A Chromium that shows one page at a time. `wrong` lists its faults."""

    def __init__(self, temporary: str):
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        for flag in FLAGS:
            options.add_argument(flag)
        super().__init__(options, Service(DRIVER, env=os.environ | {"TMPDIR": temporary}))

    def open(self, url: str, text: str, width: int = 1280, dark: bool = False) -> None:
        """Open a page, and wait until it shows the text, in its components too."""
        self.get("about:blank")  # a page whose address differs only after the # would not be loaded again
        self.wrong()
        self.look(width, dark)
        self.get(url)
        self.until(f"document.readyState === 'complete' && read(document).includes({json.dumps(text)})", f"no {text!r}")

    def look(self, width: int, dark: bool = False, media: str = "screen") -> None:
        """Show the page in a window of this width, in light or dark mode, or as it is printed."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; if it is a promise, the value of the promise. In it, `deep(node)` is a
        list of all nodes within a node, those of components too, and `read(node)` is their text."""
        return self.execute_script(f"{DEEP} return ({expression.strip()})")

    def until(self, condition: str, otherwise: str) -> None:
        """Wait until a JavaScript expression is true. otherwise: the message if it never is."""
        WebDriverWait(self, 60, 0.05).until(lambda _: self.ask(condition), otherwise)

    def shoot(self, picture: Path, whole: bool = False) -> None:
        """Take a picture of the window or of the whole page."""
        size = self.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        how = {"captureBeyondViewport": True, "clip": size | {"scale": 1}} if whole else {}
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(base64.b64decode(self.execute_cdp_cmd("Page.captureScreenshot", how)["data"]))

    def wrong(self) -> list[str]:
        """The faults since the last call: errors in the console, failed requests, and requests to another host."""
        found = [entry["message"] for entry in self.get_log("browser") if entry["level"] == "SEVERE"]
        for entry in self.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                url = event["params"]["request"]["url"]
                found += [] if url.startswith(OWN) else [f"a request to another host: {url}"]
        return found


@contextmanager
def started() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        browser = Browser(temporary)
        try:
            yield browser
        finally:
            browser.quit()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder in a `with`; return its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
