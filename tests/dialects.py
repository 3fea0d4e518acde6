"""Both dialects as sentences, the same for the test client and for a running server."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlencode

from flask import Flask
from werkzeug.datastructures import Headers
from werkzeug.http import HTTP_STATUS_CODES, parse_cookie

from tests.refusals import Verdict

FORM, JSON = "application/x-www-form-urlencoded", "application/json"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON; a message that was changed reads as the promised one."""
        assert self.headers["Content-Type"] == JSON
        return json.loads(self.body.decode())

    @property
    def data(self) -> Any:
        """What a granted request is told."""
        return self.json["data"]

    @property
    def cookie(self) -> list[str]:
        """The token's cookie: its name, its value, then its attributes in alphabetical order."""
        (line,) = self.headers.getlist("Set-Cookie")
        pair, *attributes = line.split("; ")
        ((name, value),) = parse_cookie(pair).items()
        return [name, value, *sorted(attributes)]


class Send(Protocol):
    """Carries one request to the service, whether that is in this process or not."""

    def __call__(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Return what came back."""


def in_process(app: Flask, address: str = "127.0.0.1") -> Send:
    """Carry requests to `app` without a server, and without a cookie jar."""

    def send(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        client = app.test_client(use_cookies=False)
        environ = {"REMOTE_ADDR": address}
        # As a server does it: the type is there when the caller says it, the length when there is a body.
        response = client.open(
            target, method=method, headers=Headers(list(headers.items())), data=body or None, environ_overrides=environ
        )
        return Answer(response.status_code, response.headers, response.data)

    return send


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request, told so that both dialects can be asked it: NAME stands for the parameter that says who."""

    method: str = "POST"
    query: str = ""
    body: str | bytes = ""
    type: str = FORM
    length: int = 0
    """To which the body is filled up."""
    headers: Mapping[str, str] = field(default_factory=dict)


class Dialect(ABC):
    """What both have in common."""

    prefix: str
    login_path: str
    logout_path: str
    name_parameter: str

    def __init__(self, send: Send) -> None:
        self._send = send

    def call(
        self,
        method: str,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        body: bytes = b"",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask for `path` below this dialect's prefix."""
        every = dict(headers or {})
        if form is not None:
            body, every["Content-Type"] = urlencode(form).encode(), FORM
        if token is not None:
            every["satoken"] = token
        return self._send(method, self.prefix + path, every, body)

    @staticmethod
    @abstractmethod
    def verdict(answer: Answer) -> Verdict:
        """What the answer comes down to; the envelope is held to its form on the way."""

    def ask(self, path: str, ask: Ask, token: str | None = None) -> Answer:
        """Ask what both dialects are asked."""
        text = ask.body.encode() if isinstance(ask.body, str) else ask.body
        target = f"{path}?{ask.query.replace('NAME', self.name_parameter)}" if ask.query else path
        headers = {"Content-Type": ask.type, **ask.headers} if text else ask.headers
        body = text.replace(b"NAME", self.name_parameter.encode()).ljust(ask.length, b"x")
        return self.call(ask.method, target, body=body, headers=headers, token=token)


class Auth(Dialect):
    """`/api/auth`."""

    prefix, name_parameter = "/api/auth", "username"
    login_path, logout_path = "/login", "/logout"

    def login(
        self, username: str, password: str, *, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Try to log in."""
        form = {"username": username, "password": password}
        return self.call("POST", "/login", form=form, token=token, headers=headers)

    def token(self, username: str, password: str) -> str:
        """Log in and return the new token."""
        return self.login(username, password).headers["satoken"]

    def whoami(self, token: str | None) -> Answer:
        """Log in with nothing but a token."""
        return self.call("GET", "/login", token=token)

    def verify(self, token: str | None, permission: str | None = None, *, method: str = "GET") -> Answer:
        """Check a session."""
        query = "" if permission is None else "?" + urlencode({"permission": permission})
        return self.call(method, "/verify" + query, token=token)

    def logout(self, token: str | None) -> Answer:
        """Log out."""
        return self.call("POST", "/logout", token=token)

    @staticmethod
    def verdict(answer: Answer) -> Verdict:
        """The status and, of a refusal, its reason; the envelope is held to its form on the way."""
        body = answer.json
        assert body["code"] == answer.status
        if answer.status == HTTPStatus.OK:
            assert list(body) in (["code", "data"], ["code"])
            return answer.status, None
        assert body == {
            "code": answer.status,
            "msg": HTTP_STATUS_CODES[answer.status],
            "data": {"reason": body["data"]["reason"]},
        }
        assert list(body) == ["code", "msg", "data"]
        return answer.status, body["data"]["reason"]


class Console(Dialect):
    """`/AccAdmin`."""

    prefix, name_parameter = "/AccAdmin", "key"
    login_path, logout_path = "/doLogin", "/doExit"

    def login(
        self, key: str, password: str, *, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Try to log in."""
        return self.call("POST", "/doLogin", form={"key": key, "password": password}, token=token, headers=headers)

    def token(self, key: str, password: str) -> str:
        """Log in and return the new token."""
        return str(self.login(key, password).data["tokenInfo"]["tokenValue"])

    def info(self, token: str | None) -> Answer:
        """Ask whose session it is."""
        return self.call("GET", "/getLoginInfo", token=token)

    def exit(self, token: str | None) -> Answer:
        """Log out."""
        return self.call("POST", "/doExit", token=token)

    @staticmethod
    def verdict(answer: Answer) -> Verdict:
        """The code and the message; the envelope is held to its form on the way."""
        body = answer.json
        assert list(body) == ["code", "msg", "data"]
        unavailable = (
            answer.status == HTTPStatus.SERVICE_UNAVAILABLE and body["code"] == HTTPStatus.INTERNAL_SERVER_ERROR
        )
        assert answer.status == HTTPStatus.OK or unavailable
        assert body["code"] == HTTPStatus.OK or body["data"] is None
        return body["code"], body["msg"]
