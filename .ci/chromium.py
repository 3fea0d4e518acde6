#!/usr/bin/env python3
"""Tries `/docs` in headless Chromium, on a phone and on a desk, light and dark. Fails when anything is wrong.

    .venv/bin/python .ci/chromium.py [DIRECTORY]

leaves its screenshots in DIRECTORY. Needs Debian's chromium and chromium-driver, and installs them where it may.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.description import operations
from tests.servers import Server, free_port, wait_for

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
SCREENS = {"phone": (390, 844), "desk": (1280, 900)}
OVERFLOWING = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
OPERATIONS = "return Array.from(document.querySelectorAll('.operation'), node => node.id)"
OPEN_ALL = "document.querySelectorAll('details').forEach(node => { node.open = true })"
BACKGROUND = "return getComputedStyle(document.body).backgroundColor"


class Browser:
    """A browser behind ChromeDriver, which speaks WebDriver (W3C): JSON over HTTP."""

    def __init__(self, driver: str, profile: str) -> None:
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self._url = f"{driver}/session"
        session = self._post("", capabilities={"alwaysMatch": capabilities})
        self._url += f"/{session['sessionId']}"

    def _post(self, command: str, **parameters: object) -> Any:
        body, headers = json.dumps(parameters).encode(), {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self._url + command, body, headers), timeout=60) as answer:
            return json.load(answer)["value"]

    def devtools(self, command: str, **parameters: object) -> None:
        """Use the browser's developer tools."""
        self._post("/goog/cdp/execute", cmd=command, params=parameters)

    def open(self, url: str) -> None:
        """Go to a page."""
        self._post("/url", url=url)

    def run(self, script: str) -> Any:
        """Run a script in the page."""
        return self._post("/execute/sync", script=script, args=[])

    def log(self, kind: str) -> list[dict[str, Any]]:
        """What was logged since the last time."""
        entries: list[dict[str, Any]] = self._post("/se/log", type=kind)
        return entries

    def screenshot(self, path: Path) -> None:
        """Take a picture of what is on the screen."""
        with urllib.request.urlopen(f"{self._url}/screenshot", timeout=60) as answer:
            path.write_bytes(base64.b64decode(json.load(answer)["value"]))

    def close(self) -> None:
        """End it."""
        urllib.request.urlopen(urllib.request.Request(self._url, method="DELETE"), timeout=60).close()


def install() -> None:
    """See that the browser is there."""
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit(f"/docs cannot be tried: install {' and '.join(PACKAGES)} (Debian), or run this as root")
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", "--quiet", *arguments], check=True)


@contextmanager
def browser(folder: str) -> Iterator[Browser]:
    """Start one, with an empty profile."""
    port = free_port()
    driver = subprocess.Popen(["chromedriver", f"--port={port}", "--log-level=OFF"], stdout=subprocess.DEVNULL)

    def ready() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/status") as answer:
            return bool(json.load(answer)["value"]["ready"])
        return False

    try:
        wait_for(ready)
        started = Browser(f"http://127.0.0.1:{port}", folder)
        try:
            yield started
        finally:
            started.close()
    finally:
        driver.terminate()
        driver.wait()


def requested_hosts(page: Browser) -> set[str]:
    """Whom the browser asked on behalf of the page."""
    messages = [json.loads(entry["message"])["message"] for entry in page.log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # The browser's own pages ask chrome://; the icon is data:.
    return {urlsplit(url).netloc for url in urls if not url.startswith(("chrome:", "data:"))}


def problems(page: Browser, server: Server, shots: Path | None) -> Iterator[str]:
    """All that is wrong."""
    host, backgrounds = f"127.0.0.1:{server.port}", {}
    described = {operation["operationId"] for operation in operations().values()}
    for screen, (width, height) in SCREENS.items():
        for scheme in ("light", "dark"):
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "phone"}
            page.devtools("Emulation.setDeviceMetricsOverride", **size)
            page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            page.open(f"http://{host}/docs")
            wait_for(lambda: page.run("return document.querySelector('main') !== null"))
            drawn = page.run(OPERATIONS)
            if sorted(drawn) != sorted(described):
                yield f"{screen}, {scheme}: not on the page, or too often: {described.symmetric_difference(drawn)}"
            backgrounds[scheme] = page.run(BACKGROUND)
            for anchor in ("", "#login", "#getLoginInfo"):
                page.open(f"http://{host}/docs{anchor}")
                if shots:
                    page.screenshot(shots / f"{screen}-{scheme}{anchor.replace('#', '-')}.png")
            page.run(OPEN_ALL)
            if page.run(OVERFLOWING):
                yield f"{screen}, {scheme}: the page is wider than the screen"
            yield from (f"console: {entry['message']}" for entry in page.log("browser"))
            if (hosts := requested_hosts(page)) != {host}:
                yield f"asked {hosts}, not {host} alone"
    if backgrounds["light"] == backgrounds["dark"]:
        yield "light and dark look the same"


def main() -> None:
    """Try it; exit with 1 and one line a problem."""
    install()
    shots = Path(sys.argv[1]) if sys.argv[1:] else None
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), f"sqlite:///{folder}/authsvc.db").wait_until_up()
        try:
            with browser(f"{folder}/profile") as page:
                found = list(dict.fromkeys(problems(page, server, shots)))
        finally:
            server.stop()
    print("\n".join(found) or "/docs: nothing wrong")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
