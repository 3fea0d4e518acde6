"""Many rows at a time: page by page out, and in only as an import was planned."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from authsvc.errors import ChangedMeanwhile
from authsvc.parts import parts
from authsvc.store.bulk import PAGE
from authsvc.store.database import Database
from tests.databases import NOW

Query = Callable[..., list[Any]]
MANY = range(3, 3 + PAGE)
COUNT = 2 + PAGE


@pytest.fixture
def database(app: Flask) -> Database:
    """The application's, with `admin` and `user` in it."""
    return parts(app).database


@pytest.fixture
def full(database: Database) -> Database:
    """One with more accounts than a page has, each with a seed, a session and a recovery code."""
    accounts = [
        {"id": n, "name": f"a{n}", "name_key": f"a{n}", "password_hash": f"hash {n}", "role_id": 2, "permission": 0,
         "disabled": False, "created_at": NOW, "login_count": 0, "otp_seed": f"seed {n}", "otp_step": 0, "otp_row": 0}
        for n in MANY
    ]  # fmt: skip
    with database.write(exclusive=True) as repository:
        repository.bulk.add_accounts(accounts)
        repository.bulk.change_accounts([{"name_key": name, "otp_seed": "seed"} for name in ("admin", "user")])
        names = ["admin", "user", *(f"a{n}" for n in MANY)]
        repository.bulk.replace_recovery_codes(
            [{"name_key": name, "recovery_hashes": [f"{n:02x}" * 32]} for n, name in enumerate(names[:200])]
        )
        repository.bulk.put_sessions([session(f"{n:064x}", account_id=n) for n in range(1, COUNT + 1)])
    return database


def session(id_hash: str, **values: object) -> dict[str, Any]:
    """A session's row, as an import has it."""
    times = {"opened_at": NOW, "last_seen_at": NOW, "ends_at": NOW + 60}
    return {"id_hash": id_hash, "account_id": 1, **times, "address": "::1", "user_agent": "", **values}


def test_accounts_come_page_by_page(full: Database) -> None:
    """In the order of their ids, each with its own recovery codes and with nobody else's."""
    first = full.read(lambda repository: repository.bulk.accounts(0))
    last = full.read(lambda repository: repository.bulk.accounts(first[-1]["id"]))
    assert (len(first), len(last)) == (PAGE, 2)
    assert [row["id"] for row in first + last] == list(range(1, COUNT + 1))
    hashes = [row["recovery_hashes"] for row in first + last]
    assert hashes == [[f"{n:02x}" * 32] if n < 200 else [] for n in range(COUNT)]


def test_secrets_seeds_and_sessions_come_page_by_page(full: Database) -> None:
    """In the order of their keys."""
    secrets = full.read(lambda repository: repository.bulk.secrets(2))
    assert secrets == [(n, f"hash {n}", f"seed {n}") for n in MANY]
    assert len(full.read(lambda repository: repository.bulk.secrets(0))) == PAGE
    seeds = full.read(lambda repository: repository.bulk.seeds(0))
    assert seeds == [(1, "seed"), (2, "seed"), *((n, f"seed {n}") for n in MANY[:-2])]
    sessions = full.read(lambda repository: repository.bulk.sessions(bytes.fromhex(f"{2:064x}")))
    assert [row["id_hash"].hex() for row in sessions] == [f"{n:064x}" for n in MANY]
    assert len(full.read(lambda repository: repository.bulk.sessions(b""))) == PAGE


def test_an_account_without_two_step_verification_has_no_seed(database: Database) -> None:
    """And is not among those that have one."""
    assert [seed for _, _, seed in database.read(lambda repository: repository.bulk.secrets(0))] == [None, None]
    assert database.read(lambda repository: repository.bulk.seeds(0)) == []


@pytest.mark.parametrize(
    ("now", "before", "count"),
    [(0, 1, 1), (59.5, 1, 1), (60, 1, 0), (61, 1, 0), (0, 0, 0), (0, 0.5, 1)],
)
def test_a_session_is_live_until_its_end(database: Database, now: float, before: float, count: int) -> None:
    """And counts where it was opened before a time."""
    with database.write() as repository:
        repository.bulk.put_sessions([session("ab" * 32)])
    assert database.read(lambda repository: repository.bulk.live_sessions(NOW + now, NOW + before)) == count


@pytest.mark.parametrize(
    ("column", "values", "ids"),
    [("id", [2, 9], [2]), ("name_key", ["admin", "user"], [1, 2]), ("phone", ["13800000000"], [2]), ("id", [], [])],
)
def test_accounts_are_found_by_what_an_import_has(
    database: Database, column: str, values: list[object], ids: list[int]
) -> None:
    """Many at once."""
    assert sorted(row["id"] for row in database.read(lambda each: each.bulk.find(column, values))) == ids


def test_each_row_changes_what_it_has(database: Database, query: Query) -> None:
    """Whatever the others have; one that has nothing changes nothing and stops nothing."""
    with database.write() as repository:
        repository.bulk.change_accounts(
            [{"name_key": "user"}, {"name_key": "admin", "permission": 5}, {"permission": 7, "name_key": "user"}]
        )
    assert query("SELECT permission FROM account ORDER BY id") == [(5,), (7,)]


@pytest.mark.parametrize(
    ("verb", "rows"),
    [
        ("change_accounts", [{"name_key": "user", "permission": 5}, {"name_key": "nobody", "permission": 5}]),
        ("rename_accounts", [{"account_id": 2, "new_key": "b"}, {"account_id": 9, "new_key": "c"}]),
        ("rename_accounts", [{"account_id": 2, "new_key": "admin"}]),
        ("replace_recovery_codes", [{"name_key": "nobody", "recovery_hashes": ["ab" * 32]}]),
        ("put_sessions", [session("ab" * 32, account_id=9)]),
    ],
)
def test_a_row_that_is_gone_stops_an_import(database: Database, verb: str, rows: list[dict[str, Any]]) -> None:
    """It was planned for what is no longer so."""
    before = database.read(lambda repository: repository.bulk.accounts(0))
    with pytest.raises(ChangedMeanwhile), database.write() as repository:
        getattr(repository.bulk, verb)(rows)
    assert database.read(lambda repository: repository.bulk.accounts(0)) == before


def test_recovery_codes_take_the_place_of_others(database: Database) -> None:
    """Of that account alone; what is said twice is stored once."""

    def found() -> list[list[str]]:
        return [row["recovery_hashes"] for row in database.read(lambda repository: repository.bulk.accounts(0))]

    one, two = "ab" * 32, "cd" * 32
    with database.write() as repository:
        repository.bulk.replace_recovery_codes(
            [{"name_key": "admin", "recovery_hashes": [one]}, {"name_key": "user", "recovery_hashes": [two, one, two]}]
        )
    assert found() == [[one], [one, two]]
    with database.write() as repository:
        repository.bulk.replace_recovery_codes([{"name_key": "user", "recovery_hashes": []}])
    assert found() == [[one], []]


def test_sessions_end_by_account(database: Database) -> None:
    """Nobody else's."""
    with database.write() as repository:
        repository.bulk.put_sessions([session("ab" * 32), session("cd" * 32, account_id=2)])
        repository.bulk.end_sessions([{"account_id": 2}])
    assert [row["account_id"] for row in database.read(lambda repository: repository.bulk.sessions(b""))] == [1]


def test_a_session_that_is_there_becomes_the_one_that_is_put(database: Database) -> None:
    """In every column."""
    for values in ({}, {"account_id": 2, "opened_at": 1.0, "last_seen_at": 2.0, "ends_at": 3.0, "address": "a"}):
        with database.write() as repository:
            repository.bulk.put_sessions([session("ab" * 32, **values)])
    (row,) = database.read(lambda repository: repository.bulk.sessions(b""))
    assert row == session("ab" * 32, **values) | {"id_hash": bytes.fromhex("ab" * 32)}


def test_a_seed_that_is_no_longer_so_is_left_alone(database: Database) -> None:
    """A login that is faster has renewed it; it is counted what was changed."""
    with database.write() as repository:
        repository.bulk.change_accounts([{"name_key": name, "otp_seed": name} for name in ("admin", "user")])
        old = [{"owner": 1, "old": "admin", "new": "new"}, {"owner": 2, "old": "renewed", "new": "new"}]
        assert repository.bulk.change_seeds(old) == 1
    assert database.read(lambda repository: repository.bulk.seeds(0)) == [(1, "new"), (2, "user")]


def test_accounts_are_numbered_on_behind_the_highest(full: Database) -> None:
    """Also where they came with their ids."""
    with full.write(exclusive=True) as repository:
        repository.bulk.number_on()
        row = {"name": "next", "password_hash": "", "role_id": 2, "permission": 0, "disabled": False}
        repository.bulk.add_accounts(
            [row | {"name_key": "next", "created_at": NOW, "login_count": 0, "otp_step": 0, "otp_row": 0}]
        )
    assert [row["id"] for row in full.read(lambda each: each.bulk.find("name_key", ["next"]))] == [COUNT + 1]
