"""The service's own description: `/openapi.json` for machines, `/docs` for people."""

import base64
import hashlib
import re
from importlib.resources import files

from flask import Blueprint, Response

blueprint = Blueprint("description", __name__)

_DOCUMENT = files("authsvc.web").joinpath("openapi.json").read_bytes()
_PAGE = files("authsvc.web").joinpath("docs.html").read_bytes()


def _hash(element: bytes) -> str:
    """The hash source by which the page's one inline element of this kind is let through (CSP level 2)."""
    (content,) = re.findall(rb"<%b>(.*?)</%b>" % (element, element), _PAGE, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


_POLICY = (
    f"default-src 'none'; script-src {_hash(b'script')}; style-src {_hash(b'style')}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@blueprint.route("/openapi.json", methods=["GET", "HEAD"])
def openapi() -> Response:
    """Serve the OpenAPI document."""
    return Response(_DOCUMENT, mimetype="application/json")


@blueprint.route("/docs", methods=["GET", "HEAD"])
def docs() -> Response:
    """Serve the page that draws it."""
    response = Response(_PAGE, mimetype="text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response
