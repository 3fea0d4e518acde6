"""The fast path of a session check: where nothing but the token is to be looked at, Flask is not asked.

Routing, request and response objects and hooks are more than half of the work of a check. Token, service, answers and
refusals are the same as on Flask's way, which all but a plain check takes.
"""

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from authsvc.parts import Parts
from authsvc.web.middleware import ROUTE
from authsvc.web.request import carries_body, token_of
from authsvc.web.responses import Answer, Check, encode

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class FastPath:
    """WSGI middleware that answers plain session checks by itself."""

    def __init__(
        self,
        app: WSGIApplication,
        parts: Parts,
        checks: Mapping[tuple[str, str], Check],
        refuse: Callable[[Exception, WSGIEnvironment], Answer],
    ) -> None:
        self._app = app
        self._service, self._config = parts.service, parts.config
        self._checks = checks
        self._refuse = refuse

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ["PATH_INFO"]
        check = self._checks.get((environ["REQUEST_METHOD"], path))
        # With an Origin, CORS has a say.
        if check is None or environ.get("QUERY_STRING") or "HTTP_ORIGIN" in environ or carries_body(environ):
            return self._app(environ, start_response)
        environ[ROUTE] = path
        try:
            answer = check(self._service.whoami(token_of(environ)), self._config)
        except Exception as error:  # noqa: BLE001 - whatever it is, the dialect has an answer for it
            answer = self._refuse(error, environ)
        body = encode(answer.body).encode()
        length = ("Content-Length", str(len(body)))
        headers = [("Content-Type", "application/json"), length, *answer.headers.items()]
        start_response(_STATUS_LINES[answer.status], headers)
        return [body]
