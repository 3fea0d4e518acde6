"""What a request carries: parameters, token, client and site. Nothing of it is trusted further than it says."""

import ipaddress
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.types import WSGIEnvironment

from flask import request
from werkzeug.exceptions import UnsupportedMediaType

from authsvc import logs
from authsvc.errors import AbsentParameter, BadParameter, Refusal
from authsvc.identifiers import is_text
from authsvc.parts import parts
from authsvc.sessions import Client, LiveSession
from authsvc.tokens import has_form

TOKEN_NAME = "satoken"  # noqa: S105
"""The name of the token in headers, cookies and bodies."""

_ADDRESS_MAX = 45  # INET6_ADDRSTRLEN, without its NUL

PARAMETER_MAX = 256
"""Characters in a parameter."""


class UnreadableBody(Refusal):
    """A request body that is no JSON object although it says so."""

    cause = "unreadable_body"


class CrossSite(Refusal):
    """A browser asks on behalf of another site, or ahead of its user (a prefetch)."""

    cause = "cross_site"


def whoami() -> LiveSession:
    """The live session of the request, with its account. Raises TokenRefused, Unavailable."""
    return parts().service.whoami(token())


def token() -> str | None:
    """The token of this request."""
    return token_of(request.environ)


def token_of(environ: WSGIEnvironment) -> str | None:
    """The token: of the header, the Bearer scheme (RFC 6750) and the cookie the first that is there decides.

    Another service's Bearer credential is not there: behind `auth_request` it is the application's.
    """
    if value := environ.get("HTTP_SATOKEN", "").strip():
        return str(value)
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    if scheme.lower() == "bearer" and has_form(value := credentials.strip()):
        return str(value)
    return _cookie(environ.get("HTTP_COOKIE", ""), cookie_name(environ))


def _cookie(header: str, name: str) -> str | None:
    """The first cookie of this name (RFC 6265, section 5.4: no value has a semicolon, quoted or not).

    Werkzeug reads quotes first and all of it as UTF-8: a neighbour's cookie could hide ours, or break the reading.
    """
    for pair in header.split(";"):
        key, _, value = pair.partition("=")
        if key.strip() == name:
            return value.strip().strip('"') or None
    return None


def cookie_name(environ: WSGIEnvironment) -> str:
    """What the token's cookie is called. Over https no other host can set it (RFC 6265bis, section 4.1.3.2)."""
    return f"__Host-{TOKEN_NAME}" if environ["wsgi.url_scheme"] == "https" else TOKEN_NAME


def client() -> Client:
    """Where the request comes from."""
    return Client.of(client_address(request.environ), request.headers.get("User-Agent", ""))


def client_address(environ: WSGIEnvironment) -> str:
    """The client's address in its canonical form."""
    return _canonical(environ.get("REMOTE_ADDR") or "") or "unknown"


class Proxies:
    """Whom to believe where a request comes from."""

    def __init__(self, trusted: int) -> None:
        """Believe the last `trusted` proxies before this service."""
        self._trusted = trusted
        self._warned = False

    def believe(self, environ: WSGIEnvironment) -> None:
        """Put the client that the first trusted proxy saw in the place of the peer, and the scheme it used.

        Each proxy appends to X-Forwarded-For, so the right hop is counted from the end; what is no address changes
        nothing. The scheme is said once, by the nearest proxy.
        """
        if not self._trusted:
            if "HTTP_X_FORWARDED_FOR" in environ:
                self._warn()
            return
        hops = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        if len(hops) >= self._trusted and (address := _canonical(hops[-self._trusted].strip())):
            environ["REMOTE_ADDR"] = address
        scheme = environ.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip()
        if scheme in {"http", "https"}:
            environ["wsgi.url_scheme"] = scheme

    def _warn(self) -> None:
        # Once: all clients share one address now, and would on every request.
        if not self._warned:
            self._warned = True
            what, hint = "X-Forwarded-For came and no proxy is trusted", "set AUTHSVC_TRUSTED_PROXIES"
            logs.risk(logs.RiskyButLegal("authsvc.W004", what, hint))


def _canonical(address: str) -> str | None:
    """`::ffff:a.b.c.d` as `a.b.c.d`, without a scope, which may be any text; None for what is no address."""
    address = address.partition("%")[0]
    return _parsed(address) if len(address) <= _ADDRESS_MAX else None


@lru_cache(maxsize=4096)
def _parsed(address: str) -> str | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def carries_body(environ: WSGIEnvironment) -> bool:
    """Whether a request carries a body, said or chunked."""
    return environ.get("CONTENT_LENGTH") not in {None, "", "0"} or "HTTP_TRANSFER_ENCODING" in environ


def refuse_other_sites() -> None:
    """Raise CrossSite where a browser asks on behalf of a site that is not listed, or before its user does.

    Fetch Metadata (W3C) tells; older browsers send an Origin with what may change something, other clients neither.
    """
    headers, origin = request.headers, request.headers.get("Origin", "").lower()
    if "prefetch" in headers.get("Sec-Purpose", "").lower():
        raise CrossSite
    if origin in parts().config.cors_origins:
        return
    site = headers.get("Sec-Fetch-Site", "").strip().lower()
    own_origin = f"{request.scheme}://{request.host}".lower()
    other_site = site in {"cross-site", "same-site"} or (not site and origin not in {"", own_origin})
    # An image or a frame of a page that somebody else may write.
    embedded = request.method == "GET" and headers.get("Sec-Fetch-Dest", "empty") not in {"empty", "document"}
    if other_site or embedded:
        raise CrossSite


class Parameters:
    """The parameters of one request, from its query and its body alike. Unknown ones are never looked at."""

    def __init__(self) -> None:
        """Raises UnreadableBody, and UnsupportedMediaType for a body that is neither a form nor JSON."""
        self._sent: dict[str, list[Any]] = {}
        for name, value in (*_urlencoded(request.query_string), *_body()):
            self._sent.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._sent

    def required(self, name: str) -> str:
        """The text of a parameter. Raises AbsentParameter where it is missing or empty, BadParameter."""
        value = self.optional(name)
        if value is None:
            raise AbsentParameter(name, "is empty" if name in self else "is missing")
        return value

    def optional(self, name: str) -> str | None:
        """The text of a parameter, None where it is missing or empty. Raises BadParameter."""
        values = self._sent.get(name, [])
        if len(values) > 1:
            raise BadParameter(name, "is sent more than once")
        for value in values:
            if not isinstance(value, str) or not is_text(value):
                raise BadParameter(name, "is not text")
            if len(value) > PARAMETER_MAX:
                raise BadParameter(name, f"is longer than {PARAMETER_MAX} characters")
            return value or None
        return None


def _urlencoded(text: bytes) -> list[tuple[str, str]]:
    # Bytes that are no UTF-8 become lone surrogates, so that the parameter that holds them can be named.
    return parse_qsl(text.decode(errors="surrogateescape"), keep_blank_values=True, errors="surrogateescape")


def _body() -> Iterable[tuple[str, Any]]:
    body = request.get_data() if carries_body(request.environ) else b""
    if not body:
        return []
    if request.mimetype == "application/x-www-form-urlencoded":
        return _urlencoded(body)
    if request.mimetype == "application/json":
        return _json_object(body)
    raise UnsupportedMediaType


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object in the order sent, repeated ones too."""


def _json_object(body: bytes) -> Iterator[tuple[str, Any]]:
    try:
        # Numbers need no exact value here, and int() would refuse those of thousands of digits.
        text = body.decode(errors="surrogateescape")
        parsed = json.loads(text, object_pairs_hook=_Pairs, parse_int=float, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise UnreadableBody from None
    if not isinstance(parsed, _Pairs):
        raise UnreadableBody
    return iter(parsed)


def _no_constant(_: str) -> float:
    raise ValueError
