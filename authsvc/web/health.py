"""`/healthz`, the process answers; `/readyz`, it can do its work."""

from flask import Blueprint, Response

from authsvc.parts import parts
from authsvc.store import schema
from authsvc.web.responses import Answer

blueprint = Blueprint("health", __name__)


@blueprint.route("/healthz", methods=["GET", "HEAD"])
def healthz() -> Response:
    """The process answers."""
    return Answer(200, {"status": "ok"}).response()


@blueprint.route("/readyz", methods=["GET", "HEAD"])
def readyz() -> Response:
    """The database answers, and its schema is the one this code is written for."""
    if reason := schema.problem(parts().database):
        return Answer(503, {"status": "not ready", "reason": reason}).response()
    return Answer(200, {"status": "ready"}).response()
