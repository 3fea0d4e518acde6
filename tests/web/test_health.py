"""Whether the service lives, and whether it can work."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from authsvc.store import causes
from authsvc.store.tables import REVISION
from tests.conftest import MakeApp
from tests.databases import Databases
from tests.dialects import Auth, in_process
from tests.refusals import WRONG_METHOD


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_healthy_service_says_so(method: str, path: str, app: Flask) -> None:
    """To whoever asks, in JSON."""
    answer = in_process(app)(method, path, {}, b"")
    assert answer.status == 200
    assert method == "HEAD" or answer.json == {"status": "ok" if path == "/healthz" else "ready"}


@pytest.mark.parametrize(("revision", "found"), [("0000", "0000"), (None, "absent")])
def test_an_older_schema_is_not_ready(
    revision: str | None, found: str, app: Flask, query: Callable[..., list[Any]]
) -> None:
    """It says which; the process lives all the same."""
    if revision:
        query("UPDATE alembic_version SET version_num = :revision", revision=revision)
    else:
        query("DELETE FROM alembic_version")
    answer = in_process(app)("GET", "/readyz", {}, b"")
    assert (answer.status, answer.json["status"]) == (503, "not ready")
    assert answer.json["reason"].startswith(f"The database's schema is {found}, this code needs ")
    assert in_process(app)("GET", "/healthz", {}, b"").status == 200


def test_a_newer_schema_is_ready(app: Flask, query: Callable[..., list[Any]]) -> None:
    """A release's migrations leave the release before it working, and a replica of it must stay in service."""
    query("UPDATE alembic_version SET version_num = '9999'")
    assert in_process(app)("GET", "/readyz", {}, b"").status == 200


def test_a_newer_schema_that_this_code_does_not_fit_is_not_ready(app: Flask, query: Callable[..., list[Any]]) -> None:
    """The schema itself says how old code may be."""
    query("UPDATE alembic_version SET version_num = '9999'")
    query("INSERT INTO setting VALUES ('oldest_code', '9998')")
    answer = in_process(app)("GET", "/readyz", {}, b"")
    reason = f"The database's schema is 9999 and needs code that knows 9998; this code knows {REVISION}."
    assert (answer.status, answer.json["reason"]) == (503, reason)


def test_a_database_that_does_not_answer_is_not_ready(make_app: MakeApp, databases: Databases) -> None:
    """And says why: without tables, and on SQLite without a file."""
    url = databases.empty()
    answer = in_process(make_app(AUTHSVC_DATABASE_URL=url))("GET", "/readyz", {}, b"")
    cause = "its file is not there, or cannot be opened" if url.startswith("sqlite") else causes.TABLES
    reason = f"The database does not answer: {cause}."
    assert (answer.status, answer.json) == (503, {"status": "not ready", "reason": reason})


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_only_looked_at(path: str, app: Flask) -> None:
    """Other methods are refused in the words of /api/auth."""
    assert Auth.verdict(in_process(app)("POST", path, {}, b"")) == WRONG_METHOD.auth
