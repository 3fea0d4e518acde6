"""A primary fails or steps down, its synchronous standby takes over: nothing acknowledged is lost, nothing is wrong."""

import contextlib
import http.client
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import pytest
from sqlalchemy import make_url

from tests.conftest import StartServer
from tests.databases import PASSWORD, PostgresDatabases
from tests.dialects import Answer, Auth
from tests.postgres import Postgres, running_pair
from tests.servers import Server, wait_for
from tests.wire import wire_to

Pair = tuple[Postgres, Postgres]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary and its synchronous standby."""
    with running_pair() as pair:
        yield pair


@pytest.fixture
def url(pair: Pair) -> str:
    """A database on the primary, with `admin` and `user` in it."""
    return PostgresDatabases(pair[0].url()).copy()


def both(url: str, pair: Pair) -> str:
    """The same database, with the addresses of both servers, as deploy/README.md says."""
    name = make_url(url).database
    return f"postgresql://postgres@/{name}?host=127.0.0.1:{pair[0].port}&host=127.0.0.1:{pair[1].port}"


def hand_over(pair: Pair) -> None:
    """Switch over: the standby becomes the primary, and the primary its standby, which applies nothing for now."""
    primary, standby = pair
    primary.stop(signal.SIGINT)
    standby.promote()
    primary.follow(standby)
    primary.start()
    primary.execute("SELECT pg_wal_replay_pause()")


def test_a_demoted_primary_gives_no_verdict(pair: Pair, url: str, start_server: StartServer) -> None:
    """One name still leads to it: no old answer is given, /readyz says why, and where the name leads on all is well."""
    with wire_to(pair[0].port) as wire:
        server = start_server(wire.url(url))
        ended, live = server.auth.token("user", PASSWORD), server.auth.token("user", PASSWORD)
        hand_over(pair)
        elsewhere = start_server(make_url(url).set(port=pair[1].port).render_as_string())
        assert elsewhere.auth.logout(ended).status == 200
        new = elsewhere.auth.token("user", PASSWORD)
        for token in (ended, live, new):
            assert server.auth.verify(token).status == 503
        assert server.auth.login("user", PASSWORD).status == 503
        ready = server.send("GET", "/readyz", {}, b"")
        reason = "The database does not answer: no server that was reached is the primary."
        assert (ready.status, ready.json["reason"]) == (503, reason)
        wire.port_there = pair[1].port
        wait_for(server.is_ready)
        assert Auth.verdict(server.auth.verify(ended)) == (401, "Token is revoked.")
        assert {server.auth.verify(token).status for token in (live, new)} == {200}
        assert server.auth.login("user", PASSWORD).status == 200


class Load:
    """Logins, logouts and checks without end; what was acknowledged of them, and what was wrong."""

    def __init__(self, server: Server) -> None:
        self._auth = server.auth
        self._kept = server.auth.token("user", PASSWORD)
        self._goes_on = threading.Event()
        self._goes_on.set()
        self.opened = [self._kept]
        self.ended: list[str] = []
        self.wrong: list[int] = []

    def __enter__(self) -> Self:
        self._callers = ThreadPoolExecutor(8)
        for act in (*[self._log_in] * 2, *[self._log_out] * 2, *[self._check] * 4):
            self._callers.submit(self._repeat, act)
        return self

    def __exit__(self, *_: object) -> None:
        self._goes_on.clear()
        self._callers.shutdown()

    def goes_well(self) -> None:
        """Return when some more logins and logouts were acknowledged."""
        opened, ended = len(self.opened), len(self.ended)
        wait_for(lambda: len(self.opened) > opened + 10 and len(self.ended) > ended + 5)

    def _repeat(self, act: Callable[[], object]) -> None:
        while self._goes_on.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                act()

    def _log_in(self) -> None:
        answer = self._auth.login("user", PASSWORD)
        if self._is_acknowledged(answer):
            self.opened.append(answer.headers["satoken"])

    def _log_out(self) -> None:
        answer = self._auth.login("admin", PASSWORD)
        if self._is_acknowledged(answer) and self._is_acknowledged(self._auth.logout(answer.headers["satoken"])):
            self.ended.append(answer.headers["satoken"])

    def _check(self) -> None:
        self._is_acknowledged(self._auth.verify(self._kept))

    def _is_acknowledged(self, answer: Answer) -> bool:
        if answer.status not in {200, 503}:
            self.wrong.append(answer.status)
        return answer.status == 200


def test_nothing_acknowledged_is_lost_when_the_primary_freezes(pair: Pair, url: str, start_server: StartServer) -> None:
    """Under load, with both addresses in the URL: what was answered holds, and no restart is needed.

    The primary takes itself for one when it goes on. Nobody asks it anything. (One that is killed: tests/histories.)
    """
    server = start_server(both(url, pair), AUTHSVC_WORKERS="2")
    with Load(server) as load:
        load.goes_well()
        with pair[0].frozen():
            pair[1].promote()
            load.goes_well()
        load.goes_well()
    assert load.wrong == []
    assert {server.auth.verify(token).status for token in load.opened} == {200}
    assert {Auth.verdict(server.auth.verify(token)) for token in load.ended} == {(401, "Token is revoked.")}
    assert server.is_ready()
