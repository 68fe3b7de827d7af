"""A headless Chromium driven through its debugging pipe (the DevTools protocol): no driver, no port, no package."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # the projector draws with WebGL
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
LAUNCH = """
import fcntl, os, sys
# the browser reads commands from file descriptor 3 and answers on 4
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD_CLOEXEC, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
TEXT = """
(() => {
  const text = (node) => [...node.childNodes].map((child) =>
    child.nodeType === 3 ? child.textContent
    : ['STYLE', 'SCRIPT', 'TEMPLATE'].includes(child.nodeName) ? ''
    : child.nodeName === 'IFRAME' ? (child.contentDocument?.body ? text(child.contentDocument.body) : '')
    : (child.shadowRoot ? text(child.shadowRoot) : '') + ' ' + text(child)).join(' ');
  return document.body === null ? '' : text(document.body).replace(/\\s+/g, ' ');
})()
"""
"""All text of the page, shadow roots and frames included."""
COUNT = """
((selector) => {
  const count = (root) => [...root.querySelectorAll('*')].reduce((sum, element) =>
    sum + (element.matches(selector) && element.getClientRects().length > 0)
    + (element.shadowRoot ? count(element.shadowRoot) : 0), 0);
  return count(document);
})(%s)
"""


def find_browser() -> str | None:
    """The path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a headless browser with a profile of its own.

    Args:
        program: Path of a Chromium.
        profile: Folder for its profile, empty.
        size: Of the window, in pixels.
    """

    def __init__(self, program: str, profile: Path, size: tuple[int, int] = (1400, 1000)) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        command = [program, *FLAGS, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}", "about:blank"]
        launch = [sys.executable, "-c", LAUNCH, str(to_browser), str(from_browser), *command]
        with (profile / "browser.log").open("wb") as log:
            self._process = subprocess.Popen(
                launch, pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self._session = b"", 0, ""
        self.requested: list[str] = []
        """The address of everything that the page has asked for so far, in order, socket connections included."""

    def __enter__(self) -> "Browser":
        try:
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            self._call("Page.enable")
            self._call("Network.enable")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        os.close(self._write)  # a browser whose pipe ends leaves
        os.close(self._read)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _call(self, method: str, timeout_s: float = 60, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            while b"\0" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\0")
                answer = json.loads(line)
                if answer.get("method") == "Network.requestWillBeSent":
                    self.requested.append(answer["params"]["request"]["url"])
                elif answer.get("method") == "Network.webSocketCreated":
                    self.requested.append(answer["params"]["url"])
                if answer.get("id") == self._number:
                    if "error" in answer:
                        raise RuntimeError(f"{method}: {answer['error']}")
                    result: dict[str, Any] = answer["result"]
                    return result
            if select.select([self._read], [], [], 0.2)[0]:
                part = os.read(self._read, 1 << 20)
                if not part:
                    raise RuntimeError(f"{method}: the browser has gone")
                self._buffer += part
        raise TimeoutError(f"{method}: no answer in {timeout_s:g} s")

    def open(self, url: str) -> None:
        """Load a page afresh."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, plain data."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "script failed"))
        return answer["result"].get("value")

    def text(self) -> str:
        """All text of the page."""
        return str(self.run(TEXT))

    def count(self, selector: str) -> int:
        """Elements on show that a CSS selector matches, within shadow roots too."""
        return int(self.run(COUNT % json.dumps(selector)))

    def wait_for(self, script: str, timeout_s: float = 40) -> Any:
        """The value of an expression once it is true.

        Raises:
            TimeoutError: With the page's text, if it does not become true.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            value = self.run(script)
            if value:
                return value
            time.sleep(0.2)
        raise TimeoutError(f"not in {timeout_s:g} s: {script}\n{self.text()[:2000]}")

    def wait_for_elements(self, selector: str, num: int, timeout_s: float = 40) -> None:
        """Wait until so many elements on show match a CSS selector."""
        self.wait_for(f"{(COUNT % json.dumps(selector)).strip()} >= {num}", timeout_s)

    def wait_for_text(self, *wanted: str, timeout_s: float = 40) -> str:
        """The page's text once it holds all that is wanted."""
        self.wait_for(
            f"(() => {{ const t = {TEXT.strip()}; return {json.dumps(wanted)}.every((w) => t.includes(w)) }})()",
            timeout_s,
        )
        return self.text()

    def drag(self, points: Sequence[tuple[float, float]], pause_s: float = 0.01) -> None:
        """Press the mouse at the first of these points of the window, move through all, release at the last."""
        held = {"button": "left", "buttons": 1, "clickCount": 1}
        self._mouse("mouseMoved", points[0])
        self._mouse("mousePressed", points[0], **held)
        for point in points:
            time.sleep(pause_s)
            self._mouse("mouseMoved", point, button="left", buttons=1)
        self._mouse("mouseReleased", points[-1], **held)

    def _mouse(self, kind: str, point: tuple[float, float], **parameters: Any) -> None:
        self._call("Input.dispatchMouseEvent", type=kind, x=point[0], y=point[1], **parameters)

    def choose_file(self, selector: str, *files: Path) -> None:
        """Give files to the page's first file input that a CSS selector matches, as its dialogue would."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def look(self, width: int, height: int, dark: bool = False) -> None:
        """Give the window another size, and the page the reader's preference for light or dark."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path | None = None) -> bytes:
        """The window as PNG, written to `path` if given."""
        picture = base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.write_bytes(picture)
        return picture
