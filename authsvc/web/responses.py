"""What is answered, before it becomes HTTP."""

from collections.abc import Callable, Mapping
from json import JSONEncoder
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

from flask import Blueprint, Response, request

from authsvc.config import Config
from authsvc.sessions import LiveSession
from authsvc.web.request import cookie_name

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_T = TypeVar("_T")
encode = JSONEncoder(ensure_ascii=False).encode
"""Write JSON: keys in the order given, Chinese as Chinese."""


class Answer(NamedTuple):
    """Status, JSON body and headers, whoever sends them: a view, or the fast path."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = _NO_HEADERS

    def response(self) -> Response:
        """The same for Flask."""
        return Response(encode(self.body), self.status, self.headers, mimetype="application/json")


def set_token(response: Response, token: str, samesite: str) -> Response:
    """Give a browser its token, where no script can read it."""
    response.set_cookie(cookie_name(request.environ), token, httponly=True, samesite=samesite, secure=request.is_secure)
    return response


def clear_token(response: Response) -> Response:
    """Take a browser's token away; of its cookie, only name, path and Secure have to fit."""
    response.delete_cookie(cookie_name(request.environ), httponly=True, samesite="Lax", secure=request.is_secure)
    return response


Check = Callable[[LiveSession, Config], Answer]
"""What is answered to a live session."""


class Dialect(Protocol):
    """What a dialect's module offers; `web.DIALECTS` lists the modules."""

    @property
    def blueprint(self) -> Blueprint:
        """Its views."""

    @property
    def PREFIXES(self) -> tuple[str, ...]:  # noqa: N802 - a module's constant
        """Below which paths it answers, unknown ones too."""

    @property
    def CHECKS(self) -> Mapping[tuple[str, str], Check]:  # noqa: N802 - a module's constant
        """The session checks that the fast path may answer, by method and path."""

    def refuse(self, error: Exception, path: str) -> Answer:
        """The answer to a refusal."""


def nearest(error: Exception, table: Mapping[type[Exception], _T]) -> _T:
    """The row of a dialect's table for an error: its own class's, or that of the nearest class above it."""
    return next(table[kind] for kind in type(error).__mro__ if kind in table)
