"""Pages in a real browser: headless Chromium, driven through its DevTools protocol over a pipe.

The pipe (file descriptors 3 and 4, JSON messages that end in NUL) needs no port, no network and
nothing beyond the standard library: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
]
_TIMEOUT = 60.0


class Tab:
    """One page, and what the browser had to say about it.

    `console` holds errors and warnings, `requests` the addresses that the page asked for.
    """

    def __init__(self, chromium: Chromium, session: str) -> None:
        self._chromium, self._session = chromium, session
        self.console: list[str] = []
        self.requests: list[str] = []
        self.loaded = False

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its result."""
        result: dict[str, Any] = self._chromium.call(method, parameters, self)
        return result

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression; a promise is awaited."""
        done = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in done:
            raise AssertionError(done["exceptionDetails"])
        return done["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + _TIMEOUT
        while not self.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)

    def press(self, key: str, text: str = "") -> None:
        """A key, as a person presses it."""
        code = {"Enter": 13, "Tab": 9, " ": 32}.get(key, 0)
        about = {"key": key, "text": text, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what is in view, or the whole page, as PNG."""
        image = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(image["data"]))

    def handle(self, event: dict[str, Any]) -> None:
        """Take note of an event."""
        about = event["params"]
        match event["method"]:
            case "Page.loadEventFired":
                self.loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(about["request"]["url"])
            case "Runtime.exceptionThrown":
                details = about["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", "")
                self.console.append(f"error: {details['text']} {thrown}")
            case "Runtime.consoleAPICalled" if about["type"] in {"error", "warning", "assert"}:
                said = [str(each.get("value", each.get("description"))) for each in about["args"]]
                self.console.append(f"{about['type']}: {' '.join(said)}")
            case "Log.entryAdded" if about["entry"]["level"] in {"error", "warning"}:
                entry = about["entry"]
                self.console.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")


class Chromium:
    """A running browser; `open` is where to get one."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._tabs: dict[str, Tab] = {}
        self._buffer = b""
        self._last = 0

    def call(self, method: str, parameters: dict[str, Any], tab: Tab | None = None) -> Any:
        """A command of the DevTools protocol, and its result."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if tab is not None:
            message["sessionId"] = tab._session
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self._send, left) :]
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    @contextmanager
    def tab(
        self, page: Path, width: int, height: int, *, dark: bool = False, scripts: bool = True
    ) -> Iterator[Tab]:
        """Open a file in a new tab of a given size in CSS pixels, and wait until it is loaded."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        tab = self._tabs[attached["sessionId"]] = Tab(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        narrow = width < 600
        tab.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if narrow else 1,
            mobile=narrow,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        tab.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        tab.call("Page.navigate", url=page.resolve().as_uri())
        while not tab.loaded:
            self._read()
        try:
            yield tab
        finally:
            self.call("Target.closeTarget", {"targetId": target})

    def _read(self) -> dict[str, Any]:
        """The next message; an event is noted by its tab first."""
        end = time.monotonic() + _TIMEOUT
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._receive], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._receive, 1 << 16) if ready else b""
            assert data, "Chromium does not answer" if not ready else "Chromium has ended"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("sessionId") in self._tabs and "method" in message:
            self._tabs[message["sessionId"]].handle(message)
        return message


@contextmanager
def chromium() -> Iterator[Chromium]:
    """Start a browser with an empty profile; end it and remove the profile."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        pipes = [*os.pipe(), *os.pipe()]
        # Out of the way of 3 and 4, and closed in the browser.
        ours = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pipes]
        for end in pipes:
            os.close(end)
        their_input, send, receive, their_output = ours
        silence = [(os.POSIX_SPAWN_OPEN, i, os.devnull, os.O_RDWR, 0) for i in range(3)]
        ends = [(os.POSIX_SPAWN_DUP2, their_input, 3), (os.POSIX_SPAWN_DUP2, their_output, 4)]
        command = [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = os.posix_spawn(
            CHROMIUM, command, os.environ, file_actions=[*silence, *ends], setsid=True
        )
        os.close(their_input)
        os.close(their_output)
        browser = Chromium(send, receive)
        try:
            yield browser
        finally:
            with contextlib.suppress(AssertionError, OSError):
                browser.call("Browser.close", {})
            _end(process)
            os.close(send)
            os.close(receive)


def _end(process: int) -> None:
    """Wait for the browser, and end it and its helpers if they do not end themselves."""
    end = time.monotonic() + 5
    while time.monotonic() < end and os.waitpid(process, os.WNOHANG)[0] == 0:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process, 0)


def console_of(page: Path, width: int, height: int, screenshot: Path | None = None) -> list[str]:
    """Open a page from its file, and return the errors and warnings of its console.

    Args:
        page: an HTML file.
        width: of the window, in CSS pixels; below 600, a telephone is emulated.
        height: of the window.
        screenshot: where to write a picture of the window.
    """
    with chromium() as browser, browser.tab(page, width, height) as tab:
        tab.evaluate("new Promise(done => setTimeout(done, 200))")  # what starts after loading
        if screenshot is not None:
            tab.screenshot(screenshot)
        return tab.console
