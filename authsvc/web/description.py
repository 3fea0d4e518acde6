"""The service's own description: `/openapi.json` for machines, `/docs` for people."""

from importlib.resources import files

from flask import Blueprint, Response

from authsvc.web.pages import page

blueprint = Blueprint("description", __name__)

_DOCUMENT = files("authsvc.web").joinpath("openapi.json").read_bytes()


@blueprint.route("/openapi.json", methods=["GET", "HEAD"])
def openapi() -> Response:
    """Serve the OpenAPI document."""
    return Response(_DOCUMENT, mimetype="application/json")


blueprint.add_url_rule("/docs", "docs", page("docs.html"), methods=["GET", "HEAD"])
