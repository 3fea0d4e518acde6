#!/usr/bin/env python3
"""Asks OSV whether a vulnerability is known of anything that requirements.txt or tests/requirements.txt pins.

    python3 .ci/vulnerabilities.py [URL [SECONDS]]

Fails where one is known. Without an answer within that time it says that nothing was checked, and does not fail.
"""

import json
import re
import signal
import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path

ROOT = Path(__file__).parent.parent
LISTS = ["requirements.txt", "tests/requirements.txt"]
URL = "https://api.osv.dev/v1/querybatch"
PIN = re.compile(r"^([\w.-]+)==([\w.]+)", re.MULTILINE)


def known(url: str, pins: list[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    """The ids of the vulnerabilities of each pin."""
    queries = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in pins]
    request = urllib.request.Request(url, json.dumps({"queries": queries}).encode())
    with urllib.request.urlopen(request) as response:
        results = json.load(response)["results"]
    return {pin: [each["id"] for each in result.get("vulns", [])] for pin, result in zip(pins, results, strict=True)}


def too_late(*_: object) -> None:
    """End the wait, wherever it is: a socket's own time-out begins anew with each byte."""
    raise TimeoutError("too late")


def main(url: str = URL, seconds: str = "60") -> str | None:
    """Say what is known; return what the script ends with, None for success."""
    pins = sorted({pin for path in LISTS for pin in PIN.findall((ROOT / path).read_text("utf-8"))})
    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(int(seconds))
    try:
        vulnerabilities = known(url, pins)
    # The last three: an answer, but not OSV's.
    except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
        print(f"NOT CHECKED: whether a pinned version has a known vulnerability. No answer from {url}: {error}")
        return None
    for (name, version), ids in vulnerabilities.items():
        for each in ids:
            print(f"{name} {version}: {each}")
    if any(vulnerabilities.values()):
        return "A pinned version has a known vulnerability."
    print(f"{len(pins)} pinned versions, none with a known vulnerability.")
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
