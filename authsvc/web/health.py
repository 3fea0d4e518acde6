"""`/healthz`, the process answers; `/readyz`, it can do its work."""

from flask import Blueprint, Response

from authsvc.errors import Unavailable
from authsvc.models import SCHEMA_REVISION
from authsvc.web.envelope import answer
from authsvc.web.incoming import service

blueprint = Blueprint("health", __name__)


@blueprint.route("/healthz", methods=["GET", "HEAD"])
def healthz() -> Response:
    """The process answers."""
    return answer({"status": "ok"})


@blueprint.route("/readyz", methods=["GET", "HEAD"])
def readyz() -> Response:
    """The database answers, and its schema is the one this code is written for."""
    try:
        found = service().schema_revision()
    except Unavailable:
        return _not_ready("The database does not answer.")
    if found != SCHEMA_REVISION:
        return _not_ready(f"The database's schema is {found or 'absent'}, this code needs {SCHEMA_REVISION}.")
    return answer({"status": "ready"})


def _not_ready(reason: str) -> Response:
    return answer({"status": "not ready", "reason": reason}, 503)
