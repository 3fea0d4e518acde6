"""Real processes at the same moment: two replicas on one database, asked in both dialects by turns."""

import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pyotp
import pytest
from sqlalchemy import text

from authsvc import create_app
from authsvc.administration import Administration, Enrolment
from authsvc.config import load
from authsvc.identifiers import by_name
from authsvc.parts import parts
from authsvc.store import db
from tests.conftest import StartServer, servers
from tests.databases import PASSWORD, SECRET_KEY, Databases, cheap_passwords, close
from tests.doors import BUSY, IN, THROTTLED, WRONG, WRONG_CODE, Door, at_once

GUESS = "not-the-password"


class Replicas:
    """Two servers on one database, each with one worker, and behind a proxy that says where clients are."""

    def __init__(self, url: str, start: StartServer) -> None:
        settings = {"AUTHSVC_WORKERS": "1", "AUTHSVC_TRUSTED_PROXIES": "1", "AUTHSVC_LIMIT_OTP": "1000/300"}
        servers = cycle(at_once(*[lambda: start(url, **settings)] * 2))

        self._door = Door(lambda _: next(servers).send)
        environ = {"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}
        self.app = create_app(load(environ), cheap_passwords())
        self._administration: Administration = parts(self.app).administration

    def login(self, name: str, password: str, **how: Any) -> str:
        """Try to log in; who is told to come back comes back, as the machine may have more to do than hashing."""
        while (verdict := self._door(password, name, **how)) == BUSY:
            pass
        return verdict

    def add(self, name: str) -> None:
        """Create an account; its hash is outdated, so that each login has it to renew."""
        self._administration.add_account(name, password=PASSWORD)

    def enrol(self, name: str) -> Enrolment:
        """Switch two-step verification on."""
        return self._administration.enable_otp(by_name(name))

    def count(self, name: str) -> int:
        """How often the account has logged in."""
        return self._administration.account(by_name(name)).login_count

    def in_a_row(self, name: str) -> int:
        """How many wrong codes were counted in a row."""
        with self.app.app_context(), db.engine.begin() as connection:
            counted = connection.execute(text("SELECT otp_row FROM account WHERE name = :name"), {"name": name})
            return int(counted.scalar_one())

    def end_days(self) -> None:
        """Let a day pass for every counter."""
        with self.app.app_context(), db.engine.begin() as connection:
            connection.execute(text("UPDATE counter SET ends_at = ends_at - 86400"))

    def end_windows(self) -> None:
        """Let five minutes pass for every counter."""
        with self.app.app_context(), db.engine.begin() as connection:
            connection.execute(text("UPDATE counter SET ends_at = ends_at - 300"))


@pytest.fixture(scope="module")
def replicas(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """They are shared: each test has an account of its own."""
    url = databases.copy()
    with servers(tmp_path_factory) as start:
        replicas = Replicas(url, start)
        yield replicas
        close(replicas.app)
    databases.drop(url)


def test_of_sixty_wrong_guesses_five_get_a_verdict(replicas: Replicas) -> None:
    """The others are refused as the right password is from then on, until the window ends."""
    replicas.add("guessed")
    words = at_once(*[lambda: replicas.login("guessed", GUESS)] * 60)
    assert Counter(word.split()[0] for word in words) == {WRONG: 5, THROTTLED: 55}
    assert replicas.login("guessed", PASSWORD).startswith(THROTTLED)
    replicas.end_windows()
    assert replicas.login("guessed", PASSWORD) == IN


def test_sixty_right_logins_all_get_in(replicas: Replicas) -> None:
    """Nobody is refused for what others might have guessed, and each login is counted."""
    replicas.add("popular")
    assert at_once(*[lambda: replicas.login("popular", PASSWORD)] * 60) == [IN] * 60
    assert replicas.count("popular") == 60


@pytest.mark.parametrize("kind", ["time", "recovery"])
def test_of_thirty_uses_of_one_code_one_gets_in(replicas: Replicas, kind: str) -> None:
    """From thirty addresses at once, with the right password and one good code."""
    name = f"owner with {kind} code"
    replicas.add(name)
    enrolment = replicas.enrol(name)
    code = pyotp.TOTP(enrolment.seed).at(int(time.time())) if kind == "time" else enrolment.recovery_codes[0]
    uses = [
        lambda number=number: replicas.login(name, PASSWORD, code=code, forwarded=f"198.51.100.{number}")
        for number in range(30)
    ]
    assert Counter(at_once(*uses)) == {IN: 1, WRONG_CODE: 29}
    assert replicas.count(name) == 1


def test_a_hundred_wrong_codes_in_a_row_and_no_more(replicas: Replicas) -> None:
    """A hundred and forty at once, of whoever knows the password: the hundredth stops all codes, and is told once."""
    replicas.add("besieged")
    enrolment = replicas.enrol("besieged")
    right = pyotp.TOTP(enrolment.seed)
    near = {right.at(int(time.time()) + 30 * steps) for steps in range(-20, 40)}
    wrong = next(code for code in map(str, range(100_000, 200_000)) if code not in near)
    tries = [
        lambda number=number: replicas.login("besieged", PASSWORD, code=wrong, forwarded=f"203.0.113.{number}")
        for number in range(140)
    ]
    verdicts = Counter(THROTTLED if word.startswith(THROTTLED) else word for word in at_once(*tries))
    # The account's own limit, 100 a day, is the same: each verdict was counted in both, and no other anywhere.
    assert verdicts == {WRONG_CODE: 100, THROTTLED: 40}
    assert replicas.in_a_row("besieged") == 100
    replicas.end_days()
    now = right.at(int(time.time()))
    assert replicas.login("besieged", PASSWORD, code=now) == WRONG_CODE
    assert replicas.login("besieged", PASSWORD, code=enrolment.recovery_codes[0]) == IN
