"""What an account may be called, and what a KEY (id, name or phone) refers to."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from authsvc.errors import BadParameter

NAME_MAX = 64
"""Characters in a name, at most."""

_LARGEST_ID = 2**63 - 1
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
    if len(text) > len(str(_LARGEST_ID)) or int(text) > _LARGEST_ID:
        return Key("id", 0)  # numbering starts at 1: an unknown account
    return Key("id", int(text))


def check_label(name: str) -> str:
    """Return `name` if people can read what it says; raise BadParameter if not."""
    if not 1 <= len(name) <= NAME_MAX:
        raise BadParameter("name", f"must have 1 to {NAME_MAX} characters")
    if _INVISIBLE.search(name) or any(unicodedata.category(c) in _REFUSED_CATEGORIES for c in name):
        raise BadParameter("name", "has control, bidirectional, zero-width or other invisible characters")
    if name != name.strip():
        raise BadParameter("name", "begins or ends with a space")
    return name


def check_name(name: str) -> str:
    """Return `name` if an account may be called that; raise BadParameter if not."""
    folded = fold(check_label(name))
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
