"""What is stored, looked over: a key that was lost, hashes and seeds that cannot be read."""

from collections.abc import Callable
from typing import Any

import pytest

from authsvc.parts import parts
from authsvc.upkeep import Foreign
from tests.conftest import Authenticator, Clock, Commands, MakeApp
from tests.databases import PASSWORD, SECRET_KEY
from tests.dialects import Auth, in_process

Query = Callable[..., list[Any]]
OTHER = "another-key-that-nobody-has-used-before-now"
NOTHING = "0 password hashes are imported or outdated, and wait for a login.\nNothing is wrong.\n"


@pytest.fixture
def other(make_app: MakeApp) -> Commands:
    """The command line, with another secret key."""
    return Commands(make_app(AUTHSVC_SECRET_KEY=OTHER))


def test_nothing_is_wrong_with_what_is_new(command: Commands) -> None:
    """And the check says so."""
    assert command("data", "check") == NOTHING


def test_a_start_with_another_key_is_noticed(make_app: MakeApp, auth: Auth, clock: Clock) -> None:
    """As long as sessions of the lost key live; one that is rotated is not lost."""
    own, other = make_app(), make_app(AUTHSVC_SECRET_KEY=OTHER)
    rotated = make_app(AUTHSVC_SECRET_KEY=OTHER, AUTHSVC_SECRET_KEY_FALLBACKS=SECRET_KEY)
    assert parts(own).upkeep.meet_key() == Foreign(0, 0)
    auth.login("user", PASSWORD)
    clock.advance(60)
    assert parts(own).upkeep.meet_key() == Foreign(0, 0)
    assert parts(other).upkeep.meet_key() == Foreign(1, 0)
    # Again, until they are over; those of its own it knows.
    Auth(in_process(other)).login("user", PASSWORD)
    assert parts(other).upkeep.meet_key() == Foreign(1, 0)
    assert parts(rotated).upkeep.meet_key() == Foreign(0, 0)
    clock.advance(43200)
    assert parts(other).upkeep.meet_key() == Foreign(0, 0)


def test_the_check_tells_of_another_key(make_app: MakeApp, command: Commands, other: Commands, auth: Auth) -> None:
    """Of its sessions and of its seeds; status 1."""
    command("account", "otp", "admin")
    parts(make_app()).upkeep.meet_key()
    auth.login("user", PASSWORD)
    result = other.run("data", "check")
    assert (result.exit_code, result.stdout.splitlines()[:2]) == (
        1,
        [
            "1 live sessions are signed with a secret key that is not here: a lost or a different key.",
            "Account 1: its two-step seed is under no known secret key, or damaged.",
        ],
    )


def test_the_check_tells_of_damage(command: Commands, query: Query) -> None:
    """Each account by its id, and none of its hash."""
    query("UPDATE account SET password_hash = 'broken' WHERE id = 2")
    result = command.run("data", "check")
    assert result.exit_code == 1
    assert result.stdout.startswith("Account 2: its password hash is neither argon2")
    assert "broken" not in result.output


def test_the_check_tells_of_another_schema(command: Commands, query: Query) -> None:
    """And looks no further."""
    query("UPDATE alembic_version SET version_num = '0001'")
    result = command.run("data", "check")
    assert result.exit_code == 1
    assert result.stdout.startswith("The database's schema is 0001")


def test_reencrypting_lets_the_old_key_go(make_app: MakeApp, command: Commands, other: Commands, clock: Clock) -> None:
    """All seeds are under the newest key then, and codes are good without the old one."""
    authenticator = Authenticator(command.json("account", "otp", "user"), clock)
    rotated = Commands(make_app(AUTHSVC_SECRET_KEY=OTHER, AUTHSVC_SECRET_KEY_FALLBACKS=SECRET_KEY))
    assert rotated("data", "reencrypt") == "1 seeds are under the newest key now.\n"
    assert rotated("data", "reencrypt") == "0 seeds are under the newest key now.\n"
    app = make_app(AUTHSVC_SECRET_KEY=OTHER)
    assert Auth(in_process(app)).login("user", f"{PASSWORD},{authenticator.code()}").status == 200
    assert other("data", "check") == NOTHING


def test_a_seed_that_no_key_can_read_stays_and_is_told(command: Commands, other: Commands, query: Query) -> None:
    """By its account's id; status 1."""
    command("account", "otp", "user")
    stored = query("SELECT otp_seed FROM account WHERE id = 2")
    result = other.run("data", "reencrypt")
    assert (result.exit_code, result.stdout) == (1, "0 seeds are under the newest key now.\n")
    assert "Account 2: " in result.stderr
    assert query("SELECT otp_seed FROM account WHERE id = 2") == stored
