"""Pages: HTML of ours, each in one piece. `/login` and `/account` are for people, and share a style and a script."""

import base64
import hashlib
import re
from collections.abc import Callable
from importlib.resources import files

from flask import Blueprint, Response

_SHARED = ("pages.css", "pages.js")

blueprint = Blueprint("pages", __name__)


def page(name: str) -> Callable[[], Response]:
    """The view that serves a page of this package, and lets a browser run what is in it and nothing else."""
    content = _read(name)
    for each in _SHARED:
        content = content.replace(f"{{{{{each}}}}}\n".encode(), _read(each))
    policy = (
        f"default-src 'none'; script-src {_hash(content, b'script')}; style-src {_hash(content, b'style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    def view() -> Response:
        response = Response(content, mimetype="text/html")
        response.headers["Content-Security-Policy"] = policy
        return response

    return view


def _read(name: str) -> bytes:
    return files("authsvc.web").joinpath(name).read_bytes()


def _hash(content: bytes, element: bytes) -> str:
    """The hash source by which the page's one inline element of this kind is let through (CSP level 2)."""
    (inline,) = re.findall(rb"<%b>(.*?)</%b>" % (element, element), content, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline).digest()).decode()}'"


blueprint.add_url_rule("/login", "login", page("login.html"), methods=["GET", "HEAD"])
blueprint.add_url_rule("/account", "account", page("account.html"), methods=["GET", "HEAD"])
