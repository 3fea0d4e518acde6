"""HTTP: the two dialects and what surrounds them. Outside this package nobody speaks HTTP."""

import re

from flask import Flask, Response, request
from flask_cors import CORS
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from authsvc import logs
from authsvc.config import Config
from authsvc.errors import Refusal, Unavailable
from authsvc.web import acc_admin, api_auth, description, envelope, health
from authsvc.web.incoming import TOKEN_NAME
from authsvc.web.shortcut import Shortcut


def init_app(app: Flask, config: Config, bodies: int) -> None:
    """Register everything there is to call; `bodies` is how many may be read at a time."""
    app.wsgi_app = Shortcut(app.wsgi_app, app.extensions["authsvc"], config)  # type: ignore[method-assign]
    envelope.init_app(app, config, bodies)
    for module in (api_auth, acc_admin, health, description):
        app.register_blueprint(module.blueprint)
    # Routing errors reach only handlers of the application, whatever the path: one handler for everything.
    app.register_error_handler(Exception, _refuse)
    if config.cors_origins:
        CORS(
            app,
            # As patterns: Flask-CORS sends `Vary: Origin` for a single origin only then.
            origins=[re.compile(re.escape(origin) + r"\Z") for origin in config.cors_origins],
            methods=["GET", "POST"],
            allow_headers=[TOKEN_NAME, "content-type", "x-requested-with", "authorization"],
            expose_headers=[TOKEN_NAME],
            supports_credentials=True,
            always_send=False,
        )
    if not config.trusted_proxies:
        app.before_request(_UnheardProxy())


class _UnheardProxy:
    """Warns once where somebody forwards requests and no proxy is trusted: all clients would share one address."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self) -> None:
        if not self._told and "X-Forwarded-For" in request.headers:
            self._told = True
            logs.risk("authsvc.W004", "X-Forwarded-For came and no proxy is trusted", "set AUTHSVC_TRUSTED_PROXIES")


def _refuse(error: Exception) -> Response:
    if isinstance(error, Unavailable) or not isinstance(error, Refusal | HTTPException):
        logs.failed("request.failed")
    in_acc_admin = f"{request.path}/".startswith(f"{acc_admin.blueprint.url_prefix}/")
    response = acc_admin.refuse(error) if in_acc_admin else api_auth.refuse(error)
    if isinstance(error, Refusal) and error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return response
