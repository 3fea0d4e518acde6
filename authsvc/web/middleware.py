"""What surrounds every view: headers, request ids, the access line."""

import os
import re
import time
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask, request
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Rule

from authsvc import logs
from authsvc.events import SERVICE, Actor, acting
from authsvc.metrics import Metrics
from authsvc.parts import Parts
from authsvc.web.bodies import Bodies
from authsvc.web.request import Proxies, client_address

CAUSE = "authsvc.cause"
"""Where in the WSGI environment a refused request keeps its cause, for the access line."""

ROUTE = "authsvc.route"
"""Where in the WSGI environment the rule is kept that a request fits, for the metrics."""

_HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_POLICY = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
"""A page brings its own."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ExactRule(Rule):
    """A route that answers the methods it names. Flask would let HEAD run the GET view, and log somebody in."""

    def __init__(self, string: str, **options: Any) -> None:
        super().__init__(string, **options)
        if self.methods is not None and "HEAD" not in (options.get("methods") or ()):
            self.methods.discard("HEAD")


class Middleware:
    """WSGI middleware: whatever is answered gets its headers, and every request its id and its access line.

    Below Flask, and not in its hooks, because this is a third of the work of a session check there.
    """

    def __init__(self, app: WSGIApplication, trusted_proxies: int, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._proxies = Proxies(trusted_proxies)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        started = time.perf_counter()
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = os.urandom(16).hex()
        self._proxies.believe(environ)
        logs.bind(request_id)
        acting.set(Actor("self", client_address(environ)))
        code = ""

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            nonlocal code
            code = status[:3]
            headers += (*_HEADERS, ("X-Request-ID", request_id))
            if _POLICY[0] not in dict(headers):
                headers.append(_POLICY)
            return start_response(status, headers, *exc_info)

        try:
            return self._app(environ, start)
        finally:
            method, code, seconds = environ["REQUEST_METHOD"], code or "500", time.perf_counter() - started
            self._metrics.request(method, environ.get(ROUTE), code, seconds)
            # PEP 3333: the path's bytes come as Latin-1.
            path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
            logs.request_ended(method, path, int(code), round(seconds * 1000, 1), environ.get(CAUSE))
            logs.bind(None)
            acting.set(SERVICE)


def _note_route() -> None:
    if request.url_rule:
        request.environ[ROUTE] = request.url_rule.rule


def _refuse_odd_spellings() -> None:
    """Refuse what werkzeug would take for another path or method: a proxy's rules would not see it as that."""
    if request.environ["PATH_INFO"].startswith("//"):
        raise NotFound
    if request.environ["REQUEST_METHOD"] != request.method:
        raise request.routing_exception or MethodNotAllowed(request.url_rule.methods if request.url_rule else None)


def init_app(app: Flask, parts: Parts) -> None:
    """Surround every view."""
    app.url_rule_class = ExactRule  # type: ignore[assignment]
    app.url_map.merge_slashes = False
    app.before_request(_note_route)
    app.before_request(_refuse_odd_spellings)
    app.before_request(Bodies(parts.config.body_threads))
    proxies = parts.config.trusted_proxies
    app.wsgi_app = Middleware(app.wsgi_app, proxies, parts.metrics)  # type: ignore[method-assign]
