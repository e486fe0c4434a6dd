"""Controls Chromium without a window, through its DevTools protocol and two pipes. It needs no other package."""

import base64
import fcntl
import functools
import http.server
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--no-proxy-server", "--window-size=1400,1000", "--remote-debugging-pipe",
]  # fmt: skip
SECONDS = 60
ALL_TEXT = """
(() => {
  const parts = [];
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE) parts.push(node.data);
    if (["SCRIPT", "STYLE"].includes(node.nodeName)) return;
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
  };
  walk(document.documentElement);
  return parts.join(" ").replace(/\\s+/g, " ");
})()
"""


def executable() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


class Browser:
    """One process of the browser. `visit` opens a page and returns its faults."""

    def __init__(self, profile: str):
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 100) for end in (theirs_in, theirs_out)]  # so that 3 and 4 are free

        def connect() -> None:
            for end, number in zip(ends, (3, 4), strict=True):
                os.dup2(end, number)

        self.process = subprocess.Popen(
            [str(executable()), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=connect, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (theirs_in, theirs_out, *ends):
            os.close(end)
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self.number = 0
        self.events: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        pending = b""
        while data := os.read(self.into, 1 << 16):
            *whole, pending = (pending + data).split(b"\0")
            for message in whole:
                self.messages.put(json.loads(message))

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command, and wait for the answer. Events that come meanwhile are added to `events`."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        os.write(self.out, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            received = self.messages.get(timeout=max(0.1, end - time.monotonic()))
            if received.get("id") == self.number:
                if "error" in received:
                    raise RuntimeError(f"{method}: {received['error']}")
                return dict(received["result"])
            self.events.append(received)

    @contextmanager
    def page(self, url: str, text: str, width: int = 1280) -> Iterator["Page"]:
        """Open a page in a `with`, and wait until it shows the text."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable", session)
        self.events.clear()
        page = Page(self, session)
        page.look(width)
        self.call("Page.navigate", session, url=url)
        page.wait(f"document.readyState === 'complete' && {ALL_TEXT}.includes({json.dumps(text)})", f"no {text!r}")
        yield page
        self.call("Target.closeTarget", targetId=target)

    def visit(self, url: str, text: str, picture: Path, settle: float = 0.5) -> list[str]:
        """Open a page, wait until it shows the text, and take a picture of it. Returns a line for each fault."""
        with self.page(url, text) as page:
            time.sleep(settle)
            page.shoot(picture)
            return page.wrong()


class Page:
    """A page in the browser. `wrong` lists its faults so far."""

    def __init__(self, browser: Browser, session: str):
        self.browser, self.session, self.missing = browser, session, list[str]()

    def look(self, width: int, dark: bool = False, media: str = "screen") -> None:
        """Show the page in a window of this width, in light or dark mode, or as it is printed."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.call("Emulation.setDeviceMetricsOverride", self.session, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.call("Emulation.setEmulatedMedia", self.session, media=media, features=[scheme])

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; if it is a promise, the value of the promise."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        found = self.browser.call("Runtime.evaluate", self.session, **asked)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", found["exceptionDetails"]))
        return found["result"].get("value")

    def wait(self, condition: str, otherwise: str) -> None:
        """Wait until a JavaScript expression is true. If it never is, note that as a fault."""
        end = time.monotonic() + SECONDS
        while not self.ask(condition):
            if time.monotonic() > end:
                self.missing.append(f"{otherwise}, but: {self.ask(ALL_TEXT)[:300]!r}")
                return
            time.sleep(0.05)

    def shoot(self, picture: Path, whole: bool = False) -> None:
        """Take a picture of the window or of the whole page."""
        how: dict[str, Any] = {"format": "png"}
        if whole:
            size = self.browser.call("Page.getLayoutMetrics", self.session)["cssContentSize"]
            how |= {"captureBeyondViewport": True, "clip": size | {"scale": 1}}
        picture.parent.mkdir(parents=True, exist_ok=True)
        shot = self.browser.call("Page.captureScreenshot", self.session, **how)
        picture.write_bytes(base64.b64decode(shot["data"]))

    def wrong(self) -> list[str]:
        events = [event for event in self.browser.events if event.get("sessionId") == self.session]
        return self.missing + [line for event in events for line in complaints(event)]


def complaints(event: dict[str, Any]) -> Iterator[str]:
    """The faults that an event reports: an error in the console, a failed request, a request to another host."""
    found = event.get("params", {})
    match event["method"]:
        case "Runtime.exceptionThrown":
            yield f"exception: {found['exceptionDetails'].get('exception', found['exceptionDetails'])}"
        case "Runtime.consoleAPICalled" if found["type"] in ("error", "assert"):
            yield f"console: {found['args']}"
        case "Log.entryAdded" if found["entry"]["level"] == "error":
            yield f"log: {found['entry']['text']} {found['entry'].get('url', '')}"
        case "Network.responseReceived" if found["response"]["status"] >= 400:
            yield f"{found['response']['status']}: {found['response']['url']}"
        case "Network.requestWillBeSent":
            url = found["request"]["url"]
            own = ("http://127.0.0.1:", "http://localhost:", "file://", "data:", "blob:", "about:")
            if not url.startswith(own):
                yield f"a request to another host: {url}"


@contextmanager
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        running = Browser(profile)
        try:
            yield running
        finally:
            running.process.terminate()
            try:
                running.process.wait(20)
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()


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
