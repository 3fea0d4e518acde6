"""A third dialect, as small as it can be: all that it takes beside this module is one line in `web.DIALECTS`."""

from typing import NoReturn

from flask import Blueprint, Response

from authsvc.config import Config
from authsvc.sessions import LiveSession
from authsvc.web.request import whoami
from authsvc.web.responses import Answer, Check

blueprint = Blueprint("toy", __name__, url_prefix="/toy")
PREFIXES = ("/toy",)


def refuse(error: Exception, path: str) -> Answer:
    """What was raised, and where."""
    return Answer(418, {"no": type(error).__name__, "at": path})


@blueprint.route("/view", methods=["GET"])
def view() -> Response:
    """Tell who asks."""
    return Answer(200, {"yes": whoami().account.name}).response()


@blueprint.route("/crash", methods=["GET"])
def crash() -> NoReturn:
    """Fail as nothing should."""
    raise ZeroDivisionError


def check(live: LiveSession, _: Config) -> Answer:
    """Tell who asks, too; as no view does this, it is the fast path that answers."""
    return Answer(200, {"yes": live.account.name})


CHECKS: dict[tuple[str, str], Check] = {("GET", "/toy/check"): check}
