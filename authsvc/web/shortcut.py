"""The short way of a session check: where nothing but the token is to be looked at, Flask is not asked.

Routing, request and response objects and hooks are more than half of the work of a check. The token, the service, the
body and the headers are the same as on Flask's way; all but a plain check takes that, and so does whatever is refused.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from authsvc.config import Config
from authsvc.service import Service
from authsvc.web import acc_admin, api_auth
from authsvc.web.envelope import encode
from authsvc.web.incoming import REFUSAL, carries_body, token_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from authsvc.repository import Account

_Answer = tuple[Mapping[str, object], Mapping[str, str]]


class Shortcut:
    """WSGI middleware that answers plain session checks by itself."""

    def __init__(self, app: "WSGIApplication", service: Service, config: Config) -> None:
        self._app = app
        self._service = service
        logged_in = partial(acc_admin.logged_in, timezone=config.timezone)
        self._answers: dict[tuple[str, str], Callable[[Account], _Answer]] = {
            ("GET", "/api/auth/verify"): api_auth.verified,
            ("GET", "/AccAdmin/getLoginInfo"): logged_in,
            ("POST", "/AccAdmin/getLoginInfo"): logged_in,
        }
        # On Flask's way CORS is answered, and a proxy that nobody trusts is noticed.
        self._not_plain = {"HTTP_ORIGIN"} if config.trusted_proxies else {"HTTP_ORIGIN", "HTTP_X_FORWARDED_FOR"}

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        describe = self._answers.get((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        plain = not environ.get("QUERY_STRING") and not carries_body(environ) and self._not_plain.isdisjoint(environ)
        if describe is None or not plain:
            return self._app(environ, start_response)
        try:
            content, headers = describe(self._service.whoami(token_of(environ)))
            body = encode(content).encode()
        except Exception as error:  # noqa: BLE001 - whatever it is, Flask's way has an answer for it
            environ[REFUSAL] = error
            return self._app(environ, start_response)
        length = ("Content-Length", str(len(body)))
        start_response("200 OK", [("Content-Type", "application/json"), length, *headers.items()])
        return [body]
