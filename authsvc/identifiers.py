"""What accounts, roles and permissions may be called, and what a KEY (id, name or phone) refers to."""

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from authsvc.errors import BadParameter

NAME_MAX = 64
"""Characters in a name, at most."""

IMPORTED_NAME_MAX = 100
"""Characters in a name that comes from elsewhere, at most: as many as a sa-plus console takes."""

INTEGER_MAX = 2**63 - 1
"""The largest number that a column of either database holds."""

_CODE_MAX, _AVATAR_MAX, _APPCFG_MAX = 128, 512, 16 * 1024  # characters
# A console puts it where a browser would run `javascript:` or load from anywhere else.
_AVATAR = re.compile(r"https?://|/(?!/)", re.IGNORECASE)
_PHONE = re.compile(r"[0-9]{11}")
_ID = re.compile(r"[1-9][0-9]*")
# Invisible although Unicode does not class them as format characters: grapheme joiner, Hangul and Khmer
# fillers, Mongolian and other variation selectors, the blank Braille pattern.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# Controls, formats (bidi, zero-width), surrogates, private use, unassigned, line and paragraph separators.
_REFUSED_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class Key:
    """One way to point at an account. `value` is comparable: an id as int, a name folded, a phone as typed."""

    kind: Literal["id", "name", "phone"]
    value: int | str


def is_text(value: str) -> bool:
    """Whether `value` can be stored and shown: no control characters and no lone surrogates."""
    return value.isprintable() or not any(unicodedata.category(character) in {"Cc", "Cs"} for character in value)


def fold(name: str) -> str:
    """The form names are compared in: NFKC, case-folded (Unicode's identifier caseless matching)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def by_name(name: str) -> Key:
    """The key of the account called `name`, whatever the name looks like."""
    return Key("name", fold(name))


def parse_key(text: str) -> Key:
    """Read a KEY: 11 ASCII digits are a phone, other plain decimals an id, anything else a name.

    There is no falling through from one kind to the next.
    """
    if _PHONE.fullmatch(text):
        return Key("phone", text)
    if not _ID.fullmatch(text):
        return by_name(text)
    # The length goes first: int() refuses thousands of digits with an error.
    if len(text) > len(str(INTEGER_MAX)) or int(text) > INTEGER_MAX:
        return Key("id", 0)  # numbering starts at 1: an unknown account
    return Key("id", int(text))


def check_label(name: str, longest: int = NAME_MAX) -> str:
    """Return `name` if people can read what it says; raise BadParameter if not."""
    if not 1 <= len(name) <= longest:
        raise BadParameter("name", f"must have 1 to {longest} characters")
    if _INVISIBLE.search(name) or any(unicodedata.category(c) in _REFUSED_CATEGORIES for c in name):
        raise BadParameter("name", "has control, bidirectional, zero-width or other invisible characters")
    if name != name.strip():
        raise BadParameter("name", "begins or ends with a space")
    return name


def check_name(name: str, longest: int = NAME_MAX) -> str:
    """Return `name` if an account may be called that; raise BadParameter if not."""
    folded = fold(check_label(name, longest))
    if folded != folded.strip():
        raise BadParameter("name", "begins or ends with a space")
    # All digits would be read as an id or a phone; in other scripts it would only look like one.
    if folded.isdigit():
        raise BadParameter("name", "is all digits")
    return name


def check_phone(phone: str) -> str:
    """Return `phone` if it is 11 ASCII digits; raise BadParameter if not."""
    if not _PHONE.fullmatch(phone):
        raise BadParameter("phone", "must be 11 digits")
    return phone


def check_id(what: str, number: int) -> int:
    """Return `number` if it can be an id; raise BadParameter if not."""
    if not 1 <= number <= INTEGER_MAX:
        raise BadParameter(what, f"must be from 1 to {INTEGER_MAX}")
    return number


def check_avatar(avatar: str) -> str:
    """Return `avatar` if a console may show it; raise BadParameter if not."""
    if not (is_text(avatar) and len(avatar) <= _AVATAR_MAX and _AVATAR.match(avatar)):
        raise BadParameter("avatar", f"must be a path or an http(s) URL of up to {_AVATAR_MAX} characters")
    return avatar


def check_code(what: str, code: str) -> str:
    """Return a role's or a permission's `code` if it may be one; raise BadParameter if not."""
    # Codes are joined with spaces on their way out of the database.
    if not 1 <= len(code) <= _CODE_MAX or not code.isprintable() or " " in code:
        raise BadParameter(what, f"must have 1 to {_CODE_MAX} printable characters and no spaces")
    return code


def check_appcfg(text: str) -> str:
    """Return `text` if it is a JSON object; raise BadParameter if not."""
    if len(text) > _APPCFG_MAX or not _is_json_object(text):
        raise BadParameter("appcfg", f"must be a JSON object of up to {_APPCFG_MAX} characters")
    return text


def _is_json_object(text: str) -> bool:
    def refuse(_: str) -> float:  # NaN and Infinity, which Python reads and browsers do not
        raise ValueError

    try:
        text.encode()  # an argument that was no UTF-8 has lone surrogates
        return isinstance(json.loads(text, parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False
