"""One line of an export: a role, an account, a session or appCfg as a JSON object, and what it is once read.

What is read is checked field by field. null empties a field that can be empty; any other field that is null counts as
left out.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, BinaryIO

from authsvc import identifiers
from authsvc.errors import BadParameter
from authsvc.identifiers import IMPORTED_NAME_MAX, INTEGER_MAX, is_text

LINE_MAX = 1024 * 1024
"""Bytes in a line."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_HEX_32, _HEX_64 = re.compile(r"[0-9A-Fa-f]{32}"), re.compile(r"[0-9a-f]{64}")


class Unusable(Exception):
    """A line that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a line says. `values` has what it tells, by the names of the store's columns."""

    kind: str
    values: dict[str, Any] = field(repr=False)
    left_out: tuple[str, ...] = ()
    """What it says and cannot be used, a sentence each."""


@dataclass(frozen=True, slots=True)
class SaPlusMd5:
    """What a sa-plus console keeps of a password: upper-case hex of MD5 over salt, decimal id and password."""

    digest: str = field(repr=False)
    salt: str = field(repr=False)
    id: int


def lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers; of a longer one than LINE_MAX as much as shows that."""
    number = 0
    while line := stream.readline(LINE_MAX + 1):
        number += 1
        rest = line
        while len(rest) > LINE_MAX and not rest.endswith(b"\n"):
            rest = stream.readline(LINE_MAX + 1)
        if line.strip():
            yield number, line


def read(line: bytes, zone: tzinfo) -> Record:
    """What a line says; times without a zone are of `zone`. Raises Unusable."""
    if len(line) > LINE_MAX:
        raise Unusable(f"is longer than {LINE_MAX} bytes")
    try:
        document = json.loads(line.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise Unusable("is not UTF-8") from None
    except (ValueError, RecursionError):
        raise Unusable("is not JSON, or not all of it") from None
    if not isinstance(document, dict) or len(document) != 1 or not (document.keys() <= _KINDS.keys() | {"appcfg"}):
        raise Unusable("is not an object with role, account, appcfg or session")
    ((kind, told),) = document.items()
    try:
        if kind == "appcfg":
            return Record(kind, {"value": identifiers.check_appcfg(_text(told))})
        return _record(kind, told, zone)
    except BadParameter as problem:
        raise Unusable(str(problem)) from None
    except ValueError as problem:
        raise Unusable(f"{kind} {problem}") from None


def _record(kind: str, told: object, zone: tzinfo) -> Record:
    fields = _KINDS[kind]
    if not isinstance(told, dict):
        raise Unusable(f"{kind} is not an object")
    if unknown := told.keys() - fields.keys():
        raise ValueError(f"has an unknown field: {min(unknown)[:40]!r}")
    values: dict[str, Any] = {}
    left_out = []
    for name, value in told.items():
        each = fields[name]
        if value is None:
            if each.nullable:
                values[each.column] = None
            continue
        try:
            values[each.column] = each.read(value) if each.read is not _time else _time(value, zone)
        except BadParameter as problem:
            if not each.dispensable:
                raise
            left_out.append(str(problem))
        except ValueError as problem:
            raise ValueError(f"{name} {problem}") from None
    return Record(kind, values, tuple(left_out))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _no_number(constant: str) -> float:
    raise ValueError(constant)


# Values: each reader raises ValueError with the end of a sentence, or BadParameter.


def _integer(least: int, most: int = INTEGER_MAX) -> Callable[[Any], int]:
    def read_integer(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return read_integer


def _boolean(value: Any) -> bool:
    # MySQL's JSON has 0 and 1 where it compared.
    if value not in (0, 1) or not isinstance(value, int):
        raise ValueError("must be true or false")
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not is_text(value):
        raise ValueError("is not text")
    return value


def _name(value: Any) -> str:
    return identifiers.check_name(_text(value), IMPORTED_NAME_MAX)


def _phone(value: Any) -> str | None:
    return identifiers.check_phone(_text(value)) if value != "" else None


def _avatar(value: Any) -> str | None:
    return identifiers.check_avatar(_text(value)) if value != "" else None


def _codes(value: Any) -> list[str]:
    return sorted({identifiers.check_code("permission", _text(code)) for code in _list(value)})


def _hex(value: Any) -> str:
    if not isinstance(value, str) or not _HEX_64.fullmatch(value):
        raise ValueError("is not 64 lower-case hex digits")
    return value


def _hexes(value: Any) -> list[str]:
    return [_hex(each) for each in _list(value)]


def _list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise ValueError("is not a list")


def _sa_plus(value: Any) -> SaPlusMd5 | None:
    if not isinstance(value, dict) or value.keys() != {"digest", "salt", "id"}:
        raise ValueError("is not an object with digest, salt and id")
    if not value["digest"]:  # nobody can log in there, either
        return None
    if not isinstance(value["digest"], str) or not _HEX_32.fullmatch(value["digest"]):
        raise ValueError("has no digest of 32 hex digits")
    return SaPlusMd5(value["digest"], _text(value["salt"]), _integer(1)(value["id"]))


def _time(value: Any, zone: tzinfo = UTC) -> float:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    seconds = -1
    if found:
        date, time, fraction, offset = found.groups()
        with suppress(ValueError, OverflowError):
            at = datetime.fromisoformat(f"{date}T{time}{offset or ''}")
            seconds = int((at if offset else at.replace(tzinfo=zone)).timestamp())
    if seconds < 0:
        raise ValueError("is not a time since 1970, as 2026-11-21T07:36:37+08:00 or 2026-11-21 07:36:37")
    # Not by datetime, which ends at microseconds: what was exported comes back to the last bit.
    return float(f"{seconds}{fraction or ''}")


def as_time(at: float | None) -> str | None:
    """Epoch seconds as ISO 8601 in UTC, to the last digit."""
    if at is None:
        return None
    whole = datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = repr(at).partition(".")[2]
    return f"{whole}{'' if fraction == '0' else '.' + fraction}+00:00"


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a line: the store's name of it, and how it is read and written."""

    column: str
    read: Callable[..., Any]
    nullable: bool = False
    dispensable: bool = False
    """Left out, and told, where it cannot be used."""


_count, _id = _integer(0), _integer(1)
_KINDS: dict[str, Mapping[str, _Field]] = {
    "role": {
        "id": _Field("id", _id),
        "code": _Field("code", lambda value: identifiers.check_code("code", _text(value))),
        "name": _Field("name", lambda value: identifiers.check_label(_text(value))),
        "permissions": _Field("permissions", _codes),
    },
    "account": {
        "id": _Field("id", _id),
        "name": _Field("name", _name),
        "phone": _Field("phone", _phone, nullable=True, dispensable=True),
        "avatar": _Field("avatar", _avatar, nullable=True, dispensable=True),
        "role": _Field("role_code", _text),
        "role_id": _Field("role_id", _id),
        "permission": _Field("permission", _count),
        "disabled": _Field("disabled", _boolean),
        "created_by": _Field("created_by", _id, nullable=True),
        "created": _Field("created_at", _time),
        "last_login": _Field("login_at", _time, nullable=True),
        "login_address": _Field("login_address", _text, nullable=True),
        "login_count": _Field("login_count", _count),
        "password_hash": _Field("password_hash", _text),
        "sa_plus_md5": _Field("sa_plus_md5", _sa_plus),
        "otp_seed": _Field("otp_seed", _text, nullable=True),
        # What was used and guessed already is so in the next database, too.
        "otp_step": _Field("otp_step", _count),
        "otp_row": _Field("otp_row", _integer(0, 2**31 - 1)),
        "recovery_hashes": _Field("recovery_hashes", _hexes),
    },
    "session": {
        "id_hash": _Field("id_hash", _hex),
        "account_id": _Field("account_id", _id),
        "opened": _Field("opened_at", _time),
        "last_seen": _Field("last_seen_at", _time),
        "ends": _Field("ends_at", _time),
        "address": _Field("address", _text),
        "user_agent": _Field("user_agent", _text),
    },
}
_NOT_EXPORTED = {"role_id", "sa_plus_md5"}
_TIMES = {each.column for fields in _KINDS.values() for each in fields.values() if each.read is _time}


def write(kind: str, values: Mapping[str, Any]) -> str:
    """The line that says `values`, which has all columns of the kind."""
    told = {
        name: as_time(values[each.column]) if each.column in _TIMES else values[each.column]
        for name, each in _KINDS[kind].items()
        if name not in _NOT_EXPORTED
    }
    return json.dumps({kind: told}, ensure_ascii=False)


def write_appcfg(value: str) -> str:
    """The line that says what the console's configuration is."""
    return json.dumps({"appcfg": value}, ensure_ascii=False)


SESSION_FIELDS = frozenset(each.column for each in _KINDS["session"].values())
"""What a session must tell: all of it."""
