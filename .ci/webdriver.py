"""Headless Chromium behind ChromeDriver, which speaks WebDriver (W3C): JSON over HTTP."""

import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.servers import free_port, wait_for

PACKAGES = ["chromium", "chromium-driver"]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key under which WebDriver hands out elements (section 12.1)."""


class Browser:
    """One browser with one window."""

    def __init__(self, driver: str, profile: str, preferences: dict[str, object]) -> None:
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "prefs": preferences}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self._url = f"{driver}/session"
        session = self._post("", capabilities={"alwaysMatch": capabilities})
        self._url += f"/{session['sessionId']}"

    def _post(self, command: str, **parameters: object) -> Any:
        body, headers = json.dumps(parameters).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + command, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def devtools(self, command: str, **parameters: object) -> Any:
        """Use the browser's developer tools."""
        return self._post("/goog/cdp/execute", cmd=command, params=parameters)

    def open(self, url: str) -> None:
        """Go to a page."""
        self._post("/url", url=url)

    def run(self, script: str) -> Any:
        """Run a script in the page; return what it returns, or what its promise brings."""
        return self._post("/execute/sync", script=script, args=[])

    def type(self, text: str) -> None:
        """Press keys, one after the other, wherever the cursor is."""
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self._post("/actions", actions=[{"type": "key", "id": "keyboard", "actions": keys}])

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        element = self._post("/element", using="css selector", value=selector)[ELEMENT]
        self._post(f"/element/{element}/click")

    def back(self) -> None:
        """Press the back button."""
        self._post("/back")

    def new_tab(self) -> str:
        """Open a tab, and return its handle; the present one stays the present one."""
        return str(self._post("/window/new", type="tab")["handle"])

    def switch(self, handle: str) -> str:
        """Go to another tab; return the handle of the present one."""
        with urllib.request.urlopen(f"{self._url}/window", timeout=60) as answer:
            present = str(json.load(answer)["value"])
        self._post("/window", handle=handle)
        return present

    def log(self, kind: str) -> list[dict[str, Any]]:
        """What was logged since the last time."""
        entries: list[dict[str, Any]] = self._post("/se/log", type=kind)
        return entries

    def screenshot(self, path: Path) -> None:
        """Take a picture of the page, below the screen's edge too."""
        picture = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self) -> None:
        """End it."""
        urllib.request.urlopen(urllib.request.Request(self._url, method="DELETE"), timeout=60).close()


def install() -> None:
    """See that the browser is there."""
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit(f"The pages cannot be tried: install {' and '.join(PACKAGES)} (Debian), or run this as root")
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", "--quiet", *arguments], check=True)


@contextmanager
def browser(profile: Path, **preferences: object) -> Iterator[Browser]:
    """Start one, with an empty profile and Chromium's `preferences`."""
    port = free_port()
    driver = subprocess.Popen(["chromedriver", f"--port={port}", "--log-level=OFF"], stdout=subprocess.DEVNULL)

    def ready() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/status") as answer:
            return bool(json.load(answer)["value"]["ready"])
        return False

    try:
        wait_for(ready)
        started = Browser(f"http://127.0.0.1:{port}", str(profile), preferences)
        try:
            yield started
        finally:
            started.close()
    finally:
        driver.terminate()
        driver.wait()
