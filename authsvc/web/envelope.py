"""Every answer's outer form: JSON, headers, request ids, and which dialect a refusal is told in."""

import re
import time
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from flask import Flask, Response, g, json, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.routing import Rule

from authsvc import logs
from authsvc.web.incoming import address

BODY_MAX = 16 * 1024
"""Bytes in a request body."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_T = TypeVar("_T")


class ExactRule(Rule):
    """A route that answers the methods it names. Flask would let HEAD run the GET view, and log somebody in."""

    def __init__(self, string: str, **options: Any) -> None:
        super().__init__(string, **options)
        if self.methods is not None and "HEAD" not in (options.get("methods") or ()):
            self.methods.discard("HEAD")


class _Answer(Response):
    default_mimetype = "application/json"


def answer(body: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON answer; keys stay in the order given."""
    return _Answer(json.dumps(body), status)


def row_for(error: BaseException, table: Mapping[type[BaseException], _T]) -> _T:
    """The row of a dialect's table for an error: its own class's, or the nearest above it."""
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def init_app(app: Flask) -> None:
    """Set up what surrounds every view."""
    app.url_rule_class = ExactRule  # type: ignore[assignment]
    app.url_map.merge_slashes = False
    app.response_class = _Answer
    # One more than allowed: without a length, werkzeug cuts a body at the limit and says nothing (see _begin).
    app.config["MAX_CONTENT_LENGTH"] = BODY_MAX + 1
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.before_request(_begin)
    app.after_request(_finish)


def _begin() -> None:
    g.started = time.perf_counter()
    request_id = request.headers.get("X-Request-ID", "")
    g.request_id = request_id if _REQUEST_ID.fullmatch(request_id) else uuid.uuid4().hex
    logs.bind(g.request_id, address())
    # Read here, whatever the path: a body over the limit is refused everywhere, and a view that takes none does not
    # leave it on the connection. Without a length (chunked) only reading tells.
    has_body = request.content_length or "Transfer-Encoding" in request.headers
    if has_body and len(request.get_data()) > BODY_MAX:
        raise RequestEntityTooLarge


def _finish(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Request-ID"] = g.request_id
    milliseconds = round((time.perf_counter() - g.started) * 1000, 1)
    logs.request_ended(request.method, request.path, response.status_code, milliseconds, g.get("cause"))
    return response
