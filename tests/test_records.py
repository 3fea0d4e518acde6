"""What one line of an export says."""

import io
import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from authsvc.records import LINE_MAX, Unusable, as_time, lines, read, write

SHANGHAI = ZoneInfo("Asia/Shanghai")
MD5 = {"digest": "e4ef2a290589a23efe1565bb698437f5", "salt": "whatclickme", "id": 10001}


def values(**account: object) -> dict[str, Any]:
    """What a line with an account says."""
    return read(json.dumps({"account": account}).encode(), SHANGHAI).values


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-02-02T02:40:00+00:00", 1_770_000_000.0),
        ("2026-02-02 10:40:00", 1_770_000_000.0),
        ("2026-02-02 10:40:00.000000", 1_770_000_000.0),
        ("2026-02-02T02:40:00.1234567+00:00", 1_770_000_000.1234567),
    ],
)
def test_times_are_iso_8601_or_in_the_configured_zone(text: str, at: float) -> None:
    """MySQL's JSON has six decimals; an export has as many as the time."""
    assert values(created=text) == {"created_at": at}


@pytest.mark.parametrize("at", [0.0, 1_770_000_000.0, 1_770_000_000.1234567, 1e9 + 2**-23, 253402300799.0])
def test_a_time_comes_back_to_the_last_bit(at: float) -> None:
    """What one side writes the other reads."""
    assert values(created=as_time(at)) == {"created_at": at}


def test_null_is_nothing_or_not_told() -> None:
    """An account may be without a phone; it cannot be without a count."""
    assert values(phone=None, login_count=None, created=None) == {"phone": None}


def test_mysql_has_numbers_for_truths() -> None:
    """And empty texts for phones that are none."""
    assert values(disabled=1, phone="") == {"disabled": True, "phone": None}


def test_a_phone_that_is_none_is_left_out() -> None:
    """The account comes all the same, and the reason is told."""
    record = read(b'{"account": {"name": "a", "phone": "021-5555"}}', SHANGHAI)
    assert (record.values, record.left_out) == ({"name": "a"}, ("phone must be 11 digits",))


def test_a_console_without_a_password_tells_no_digest() -> None:
    """`password` may be NULL there."""
    assert values(sa_plus_md5=MD5 | {"digest": None}) == {"sa_plus_md5": None}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "is not JSON, or not all of it"),
        (b'{"account": {"name": "a"', "is not JSON, or not all of it"),
        (b"[" * 100_000, "is not JSON, or not all of it"),
        (b"1" * 10_000, "is not JSON, or not all of it"),
        (b'{"account": {"name": "a", "name": "b"}}', "is not JSON, or not all of it"),
        (b'{"account": {"id": NaN}}', "is not JSON, or not all of it"),
        (b'{"account": {"name": "\xff"}}', "is not UTF-8"),
        (b"[]", "is not an object with role, account, appcfg or session"),
        (b"{}", "is not an object with role, account, appcfg or session"),
        (b'{"person": {}}', "is not an object with role, account, appcfg or session"),
        (b'{"account": {}, "role": {}}', "is not an object with role, account, appcfg or session"),
        (b'{"account": []}', "account is not an object"),
        (b'{"appcfg": {}}', "appcfg is not text"),
        (b'{"appcfg": "[]"}', "appcfg must be a JSON object of up to 16384 characters"),
        (b'{"role": {"permissions": "bas"}}', "role permissions is not a list"),
        (b'{"role": {"code": "a b"}}', "code must have 1 to 128 printable characters and no spaces"),
    ],
)
def test_a_line_that_is_none_says_why(line: bytes, problem: str) -> None:
    """In a few words, and none of the line's own."""
    with pytest.raises(Unusable, match=f"^{problem}$"):
        read(line, SHANGHAI)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("password", "secret", "account has an unknown field: 'password'"),
        ("id", 0, "account id must be a whole number from 1 to 9223372036854775807"),
        ("id", 2**63, "account id must be a whole number from 1 to 9223372036854775807"),
        ("id", True, "account id must be a whole number from 1 to 9223372036854775807"),
        ("id", 1.0, "account id must be a whole number from 1 to 9223372036854775807"),
        ("id", "1", "account id must be a whole number from 1 to 9223372036854775807"),
        ("name", 5, "account name is not text"),
        ("name", "x" * 101, "name must have 1 to 100 characters"),
        ("name", "10001", "name is all digits"),
        ("name", "\ud800", "account name is not text"),
        ("disabled", 2, "account disabled must be true or false"),
        ("disabled", "yes", "account disabled must be true or false"),
        ("created", "0000-00-00 00:00:00", "account created is not a time since 1970"),
        ("created", "2026-02-30 00:00:00", "account created is not a time since 1970"),
        ("created", "1969-12-31T23:59:59Z", "account created is not a time since 1970"),
        ("created", "２０２６-02-02 00:00:00", "account created is not a time since 1970"),
        ("created", 1_770_000_000, "account created is not a time since 1970"),
        ("recovery_hashes", ["x"], "account recovery_hashes is not 64 lower-case hex digits"),
        ("sa_plus_md5", "x", "account sa_plus_md5 is not an object with digest, salt and id"),
        ("sa_plus_md5", MD5 | {"digest": "x"}, "account sa_plus_md5 has no digest of 32 hex digits"),
        ("sa_plus_md5", MD5 | {"id": None}, "account sa_plus_md5 must be a whole number"),
    ],
)
def test_a_value_that_is_none_says_which(field: str, value: object, problem: str) -> None:
    """The field and what it must be."""
    with pytest.raises(Unusable) as refused:
        values(**{field: value})
    assert str(refused.value).startswith(problem)


def test_a_long_line_is_one_line() -> None:
    """Of ten megabytes little more than the limit is kept, and the next line has the next number."""
    first, second = lines(io.BytesIO(b"x" * 10_000_000 + b"\n\n{}"))
    assert (first[0], len(first[1]), second) == (1, LINE_MAX + 1, (3, b"{}"))
    with pytest.raises(Unusable, match="is longer than"):
        read(first[1], SHANGHAI)


def test_a_session_comes_back_as_it_was() -> None:
    """Each field of it."""
    session = {
        "id_hash": "ab" * 32,
        "account_id": 7,
        "opened_at": 1.5,
        "last_seen_at": 2.25,
        "ends_at": 3.0,
        "address": "::1",
        "user_agent": "",
    }
    assert read(write("session", session).encode(), SHANGHAI).values == session
