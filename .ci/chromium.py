#!/usr/bin/env python3
"""Tries the pages in headless Chromium, on a phone, a desk and a wall, light and dark. Fails when anything is wrong.

    .venv/bin/python .ci/chromium.py [DIRECTORY]

leaves its screenshots in DIRECTORY. Needs Debian's chromium and chromium-driver, and installs them where it may; needs
npm, for axe-core.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent))

import pages
from gateway import gateway
from webdriver import Browser, browser, install

from tests.description import operations
from tests.servers import Server, wait_for

NO_COOKIES = {"profile.default_content_setting_values.cookies": 2}
SCREENS = {"phone": (390, 844), "desk": (1280, 900)}
OVERFLOWING = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
OPERATIONS = "return Array.from(document.querySelectorAll('.operation'), node => node.id)"
OPEN_ALL = "document.querySelectorAll('details').forEach(node => { node.open = true })"
BACKGROUND = "return getComputedStyle(document.body).backgroundColor"


def requested_hosts(page: Browser) -> set[str]:
    """Whom the browser asked on behalf of the page."""
    messages = [json.loads(entry["message"])["message"] for entry in page.log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # The browser's own pages ask chrome://; the icon is data:.
    return {urlsplit(url).netloc for url in urls if not url.startswith(("chrome:", "data:"))}


def docs_problems(page: Browser, server: Server, shots: Path | None) -> Iterator[str]:
    """All that is wrong with `/docs`."""
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
    """Try them; exit with 1 and one line a problem."""
    install()
    shots = Path(sys.argv[1]) if sys.argv[1:] else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        axe = pages.axe(folder)
        settings = {"AUTHSVC_ADMIN_PASSWORD": pages.PASSWORD, "AUTHSVC_LIMIT_ACCOUNT_ADDRESS": "100/1"}
        server = Server(folder, f"sqlite:///{folder}/authsvc.db", **settings).wait_until_up()
        try:
            with (
                gateway(server.port) as front,
                browser(folder / "profile") as page,
                browser(folder / "strict", **NO_COOKIES) as strict,
            ):
                found = list(docs_problems(page, server, shots))
                found += pages.problems(*(pages.Trial(each, front, axe, shots) for each in (page, strict)))
        finally:
            server.stop()
    print("\n".join(dict.fromkeys(found)) or "/docs, /login, /account: nothing wrong")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
