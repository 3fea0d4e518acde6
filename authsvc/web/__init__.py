"""The only place that speaks HTTP: the dialects, and what surrounds them."""

import re
from wsgiref.types import WSGIEnvironment

import flask
from flask import Flask, Response
from flask_cors import CORS
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from authsvc import logs
from authsvc.errors import Refusal, Unavailable
from authsvc.parts import Parts
from authsvc.web import acc_admin, api_auth, description, health, metrics, middleware, pages
from authsvc.web.fast_path import FastPath
from authsvc.web.request import TOKEN_NAME
from authsvc.web.responses import Answer, Dialect

DIALECTS: tuple[Dialect, ...] = (api_auth, acc_admin)
"""The first also answers for the paths that are nobody's."""


def init_app(app: Flask, parts: Parts) -> None:
    """Register everything there is to call."""
    checks = {call: check for dialect in DIALECTS for call, check in dialect.CHECKS.items()}
    app.wsgi_app = FastPath(app.wsgi_app, parts, checks, refuse)  # type: ignore[method-assign]
    middleware.init_app(app, parts)
    around = (health.blueprint, metrics.blueprint, description.blueprint, pages.blueprint)
    for blueprint in (*(dialect.blueprint for dialect in DIALECTS), *around):
        app.register_blueprint(blueprint)
    # Routing errors reach only handlers of the application, whatever the path: one handler for everything.
    app.register_error_handler(Exception, _refused)
    if parts.config.cors_origins:
        CORS(
            app,
            # As patterns: Flask-CORS sends `Vary: Origin` for a single origin only then.
            origins=[re.compile(re.escape(origin) + r"\Z") for origin in parts.config.cors_origins],
            methods=["GET", "POST"],
            allow_headers=[TOKEN_NAME, "content-type", "x-requested-with", "authorization"],
            expose_headers=[TOKEN_NAME],
            supports_credentials=True,
            always_send=False,
        )


def _refused(error: Exception) -> Response:
    # Not by its bare name: in this package that is our own module.
    return refuse(error, flask.request.environ).response()


def refuse(error: Exception, environ: WSGIEnvironment) -> Answer:
    """The answer to whatever was raised, in the words of the path's dialect. Call it while `error` is handled."""
    if isinstance(error, Unavailable) or not isinstance(error, Refusal | HTTPException):
        logs.failed("request.failed")
    environ[middleware.CAUSE] = getattr(error, "cause", type(error).__name__)
    path = environ["PATH_INFO"]
    answer = _dialect_of(path).refuse(error, path)
    headers = dict(answer.headers)
    if isinstance(error, Refusal) and error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return answer._replace(headers=headers)


def _dialect_of(path: str) -> Dialect:
    below = (dialect for dialect in DIALECTS if f"{path}/".startswith(tuple(f"{each}/" for each in dialect.PREFIXES)))
    return next(below, DIALECTS[0])
