"""The description as it is served, and the page that draws it."""

import base64
import hashlib
import re

import pytest

from authsvc import __version__
from tests.description import DOCUMENT, described
from tests.dialects import Answer
from tests.servers import Server


@pytest.fixture(scope="module")
def page(server: Server) -> Answer:
    """`/docs`."""
    return described(server.send)("GET", "/docs", {}, b"")


def test_the_document_is_served_as_it_is(server: Server) -> None:
    """What machines read is the file in the package."""
    assert described(server.send)("GET", "/openapi.json", {}, b"").json == DOCUMENT


def test_the_document_has_the_services_version() -> None:
    """Whoever reads it knows what is running."""
    assert DOCUMENT["info"]["version"] == __version__


@pytest.mark.parametrize("element", ["script", "style"])
def test_the_page_runs_its_own_script_and_style_alone(page: Answer, element: str) -> None:
    """The policy lets through the one inline element of each kind, by its hash, and nothing else."""
    (content,) = re.findall(f"<{element}>(.*?)</{element}>", page.body.decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert f"; {element}-src 'sha256-{digest}';" in page.headers["Content-Security-Policy"]


def test_the_page_needs_nothing_from_outside(page: Answer) -> None:
    """It names no other host, and the policy would keep the browser from asking one."""
    assert "//" not in re.sub(r"^\s*//.*$", "", page.body.decode(), flags=re.MULTILINE)
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "connect-src 'self'" in page.headers["Content-Security-Policy"]


def test_the_page_reads_nothing_as_html(page: Answer) -> None:
    """What the document says can be text only."""
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|eval\(", page.body.decode())
