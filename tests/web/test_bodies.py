"""Request bodies: whole or not at all, and none of them in the way of another."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder, run_wsgi_app

from tests.conftest import MakeApp
from tests.databases import PASSWORD
from tests.dialects import FORM, JSON, Auth
from tests.doors import HOME, IN, door_of
from tests.refusals import BUSY, TOO_LARGE, UNREADABLE_BODY

NEW = "a-new-password-of-mine"
CHANGE = {"password": PASSWORD, "new_password": NEW}
LOGIN = {"username": "user", "key": "user", "password": PASSWORD}

Query = Callable[..., list[Any]]
Read = io.BytesIO | Any


def post(
    app: Flask, path: str, body: Read, kind: str = FORM, *, length: int | None = None, token: str = "", at: str = HOME
) -> tuple[int, Any]:
    """Send what `body` reads, announced with `length` or chunked; return status and JSON."""
    environ = EnvironBuilder(path, method="POST", headers=[("Content-Type", kind), ("satoken", token)]).get_environ()
    environ |= {"wsgi.input": body, "REMOTE_ADDR": at, "wsgi.input_terminated": True}
    if length is None:
        environ.pop("CONTENT_LENGTH", None)
        environ["HTTP_TRANSFER_ENCODING"] = "chunked"
    else:
        environ["CONTENT_LENGTH"] = str(length)
    answer, status, _ = run_wsgi_app(app, environ, buffered=True)
    return int(status[:3]), json.loads(b"".join(answer))


def reason(answer: tuple[int, Any]) -> tuple[int, str | None]:
    """Status and reason of an answer of /api/auth."""
    status, body = answer
    return status, body.get("data", {}).get("reason")


def untouched(app: Flask, query: Query) -> bool:
    """Whether no guess was counted and the password is the old one."""
    return query("SELECT * FROM counter") == [] and door_of(app, Auth)(PASSWORD) == IN


@pytest.mark.parametrize("kind", [FORM, JSON])
def test_a_body_that_was_cut_off_changes_no_password(app: Flask, token: str, kind: str, query: Query) -> None:
    """Wherever: not even where the part that arrived would be a good one. It counts as no guess, either."""
    body = (urlencode(CHANGE) if kind == FORM else json.dumps(CHANGE)).encode()
    for end in range(len(body)):
        answer = post(app, "/api/auth/password", io.BytesIO(body[:end]), kind, length=len(body), token=token)
        assert reason(answer) == (400, "Body is incomplete.")
    assert untouched(app, query)
    assert post(app, "/api/auth/password", io.BytesIO(body), kind, length=len(body), token=token)[0] == 200


@pytest.mark.parametrize(("path", "code"), [("/api/auth/login", 400), ("/AccAdmin/doLogin", 500)])
def test_a_login_that_was_cut_off_is_no_guess(app: Flask, path: str, code: int, query: Query) -> None:
    """In either dialect."""
    body = urlencode(LOGIN).encode()
    codes = {post(app, path, io.BytesIO(body[:end]), length=len(body))[1]["code"] for end in range(len(body))}
    assert codes == {code}
    assert untouched(app, query)


def test_a_chunked_form_is_refused(app: Flask, token: str, query: Query) -> None:
    """Nobody can tell whether it is whole."""
    body = urlencode(CHANGE).encode()
    answer = post(app, "/api/auth/password", io.BytesIO(body), token=token)
    assert reason(answer) == (411, "Body has no length.")
    assert untouched(app, query)


def test_an_empty_chunked_body_is_none(app: Flask, token: str) -> None:
    """Some clients announce one with whatever they post."""
    assert reason(post(app, "/api/auth/login", io.BytesIO(), token=token)) == (200, None)
    assert post(app, "/api/auth/logout", io.BytesIO(), token=token) == (200, {"code": 200})


def test_chunked_json_counts_when_it_is_whole(app: Flask, token: str, query: Query) -> None:
    """An object proves its own end, and nothing shorter is one."""
    body = json.dumps(CHANGE).encode()
    for end in range(1, len(body)):
        answer = post(app, "/api/auth/password", io.BytesIO(body[:end]), JSON, token=token)
        assert reason(answer) == UNREADABLE_BODY.auth
    assert untouched(app, query)
    assert post(app, "/api/auth/password", io.BytesIO(body), JSON, token=token)[0] == 200


def test_a_chunked_body_has_its_limit(app: Flask) -> None:
    """16 KiB, as any other; what comes after is not read."""
    endless = io.BytesIO(b"x" * 100_000)
    assert reason(post(app, "/api/auth/login", endless, JSON)) == TOO_LARGE.auth
    assert endless.tell() <= 16 * 1024 + 1


# Places


class Stuck(io.BytesIO):
    """A body of which nothing comes."""

    def __init__(self, until: threading.Event) -> None:
        super().__init__()
        self.reading = threading.Event()
        self._until = until

    def read(self, _size: int | None = -1) -> bytes:
        """Wait."""
        self.reading.set()
        self._until.wait()
        return b""


@contextmanager
def stuck(app: Flask, *addresses: str) -> Iterator[None]:
    """While the block runs, somebody at each of these sends a body and gets nowhere."""
    end = threading.Event()
    with ThreadPoolExecutor(len(addresses)) as threads:
        try:
            bodies = [Stuck(end) for _ in addresses]
            answers: list[Future[Any]] = [
                threads.submit(post, app, "/api/auth/login", body, length=5, at=address)
                for body, address in zip(bodies, addresses, strict=True)
            ]
            assert all(body.reading.wait(30) for body in bodies)
            yield
        finally:
            end.set()
    assert {reason(answer.result()) for answer in answers} == {(400, "Body is incomplete.")}


@pytest.fixture
def small(make_app: MakeApp) -> Flask:
    """With places for four bodies."""
    return make_app(AUTHSVC_THREADS="10")


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (["192.0.2.1"] * 2, "192.0.2.2"),
        (["2001:db8::1", "2001:db8::2:3"], "2001:db8:0:1::1"),
        (["192.0.2.1", "::ffff:192.0.2.1"], "192.0.2.2"),
    ],
)
def test_one_network_gets_half_of_the_places(small: Flask, here: list[str], there: str) -> None:
    """Whoever sends bodies and does not end them refuses those of his own network, and nobody else's."""
    body = urlencode(LOGIN).encode()
    with stuck(small, *here):
        assert reason(post(small, "/api/auth/login", io.BytesIO(body), length=len(body), at=here[0])) == BUSY.auth
        assert post(small, "/api/auth/login", io.BytesIO(body), length=len(body), at=there)[0] == 200
    assert post(small, "/api/auth/login", io.BytesIO(body), length=len(body), at=here[0])[0] == 200


def test_all_places_may_be_taken(small: Flask) -> None:
    """Then bodies are refused wherever they come from; a session check has none, and goes on."""
    with stuck(small, "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"):
        assert reason(post(small, "/api/auth/login", io.BytesIO(b"x"), length=1, at="192.0.2.3")) == BUSY.auth
        assert small.test_client().get("/api/auth/verify").status_code == 401


def test_a_refusal_before_reading_takes_no_place(small: Flask) -> None:
    """A body that is announced too long is not waited for."""
    for _ in range(9):
        assert reason(post(small, "/api/auth/login", io.BytesIO(), length=16 * 1024 + 1)) == TOO_LARGE.auth
    with stuck(small, "192.0.2.1", "192.0.2.1"):
        pass


@pytest.mark.parametrize("length", ["-1", "+5", "5_0", "²", "x", "5, 5", "9" * 5000])
def test_a_length_that_is_none_is_refused(app: Flask, length: str) -> None:
    """Where a server hands such a one on, there is no body: nothing is read, and nothing fails."""
    body = io.BytesIO(b"username=user")
    environ = EnvironBuilder("/api/auth/login", method="POST", headers=[("Content-Type", FORM)]).get_environ()
    environ |= {"wsgi.input": body, "CONTENT_LENGTH": length}
    answer, status, _ = run_wsgi_app(app, environ, buffered=True)
    assert reason((int(status[:3]), json.loads(b"".join(answer)))) == (400, "Parameter username is missing.")
    assert body.tell() == 0
