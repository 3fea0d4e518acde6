"""Which database URLs are accepted, and what is said of the others."""

from pathlib import Path

import pytest

from authsvc.store.url import parse_url

SECRET = "p%40ss"


@pytest.mark.parametrize(
    "rest",
    [
        "db.example/authsvc",
        "db.example:5433/authsvc?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "/authsvc?host=h1:5432&host=h2:5433",
        "/authsvc?host=/run/postgresql",
        "[::1]:5432/authsvc",
        "db/authsvc?service=authsvc&passfile=/run/secrets/pgpass&application_name=login",
        "db/authsvc?target_session_attrs=read-write",
        "db/authsvc?target_session_attrs=primary",
        "db/authsvc?prepare_threshold=none",
        "db/authsvc?prepare_threshold=5",
    ],
)
def test_what_leads_to_a_primary_is_accepted(rest: str) -> None:
    """Several hosts, sockets, TLS, and whatever else libpq knows."""
    assert parse_url(f"postgresql://u:{SECRET}@{rest}").drivername == "postgresql+psycopg"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+psycopg"])
def test_the_driver_is_the_same_whatever_the_scheme(scheme: str) -> None:
    """People have all of them."""
    assert parse_url(f"{scheme}://u:{SECRET}@db/authsvc") == parse_url(f"postgresql://u:{SECRET}@db/authsvc")


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///a/authsvc.db", Path.cwd() / "a" / "authsvc.db"), ("sqlite:////a/authsvc.db", Path("/a/authsvc.db"))],
)
def test_a_file_stays_where_it_is(url: str, path: Path) -> None:
    """A relative path begins where the service was started, wherever it goes then."""
    assert parse_url(url).database == str(path)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://u:p@ss@db/authsvc", "has an @ in its host: in a password, write it as %40"),
        (
            "postgresql://u:p@h1:5432,h2:5433/authsvc",
            "must list several hosts as postgresql://user:password@/name?host=h1:5432&host=h2:5432",
        ),
        (
            "postgresql://u:p@h1,h2/authsvc",
            "must list several hosts as postgresql://user:password@/name?host=h1:5432&host=h2:5432",
        ),
        ("postgresql://u:p@db:port/authsvc", "is not a database URL"),
        ("postgresql://u:p,p@db:port/authsvc", "is not a database URL"),
        ("postgresql://u:p@s,s@db:port/authsvc", "is not a database URL"),
        ("postgresql://u:p@a b/authsvc", "has a host that cannot be one: in a password, write / ? # as %2F %3F %23"),
        (
            "postgresql://u:p@db/authsvc?pgbouncer=true",
            "has a parameter after its ? that PostgreSQL's client library does not know",
        ),
        (
            "postgresql://u:p@db/authsvc?options=-c%20x",
            "must not have ?options=, which the service sets itself (see deploy/README.md)",
        ),
        (
            "postgresql://u:p@db/authsvc?connect_timeout=30",
            "must not have ?connect_timeout=, which the service sets itself (see deploy/README.md)",
        ),
        ("postgresql://u:p@db/authsvc?prepare_threshold=many", "?prepare_threshold= must be none or a whole number"),
        (
            "postgresql://u:p@db/authsvc?prepare_threshold=1&prepare_threshold=1",
            "?prepare_threshold= must be none or a whole number",
        ),
        (
            "postgresql://u:p@db/authsvc?target_session_attrs=any",
            "?target_session_attrs= must be primary or read-write: a standby's answers may be old",
        ),
        ("postgresql://u:p@db/authsvc?sslmode=require&sslmode=disable", "has ?sslmode= more than once"),
        ("mysql://u:p@db/authsvc", "must begin with sqlite:/// or postgresql://"),
        ("sqlite://", "must name a file, as sqlite:///path or sqlite:////absolute/path"),
        ("sqlite:///", "must name a file, as sqlite:///path or sqlite:////absolute/path"),
        ("sqlite:///:memory:", "must name a file, as sqlite:///path or sqlite:////absolute/path"),
        ("sqlite:///authsvc.db?mode=ro", "must name a file, as sqlite:///path or sqlite:////absolute/path"),
        ("sqlite://host/authsvc.db", "must name a file, as sqlite:///path or sqlite:////absolute/path"),
    ],
)
def test_what_cannot_work_is_told_before_it_is_tried(url: str, problem: str) -> None:
    """And how it is spelled right."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its whole text follows
        parse_url(url)
    assert str(caught.value) == problem
