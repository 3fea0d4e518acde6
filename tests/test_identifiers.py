"""What an account may be called, and what a KEY refers to."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authsvc.errors import BadParameter
from authsvc.identifiers import (
    Key,
    by_name,
    check_avatar,
    check_id,
    check_name,
    check_phone,
    fold,
    is_text,
    parse_key,
)

UNKNOWN = Key("id", 0)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("1", Key("id", 1)),
        ("10001", Key("id", 10001)),
        ("1380000000", Key("id", 1380000000)),
        ("138000000000", Key("id", 138000000000)),
        (str(2**63 - 1), Key("id", 2**63 - 1)),
        (str(2**63), UNKNOWN),
        ("9" * 5000, UNKNOWN),
        ("13800000000", Key("phone", "13800000000")),
        ("00000000000", Key("phone", "00000000000")),
        ("0", Key("name", "0")),
        ("010001", Key("name", "010001")),
        ("+10001", Key("name", "+10001")),
        ("-1", Key("name", "-1")),
        ("1_000", Key("name", "1_000")),
        (" 10001", Key("name", " 10001")),
        ("10001\n", Key("name", "10001\n")),
        ("1e3", Key("name", "1e3")),
        ("１０００１", Key("name", "10001")),
        ("١٠٠٠١", Key("name", "١٠٠٠١")),
        ("²", Key("name", "2")),
        ("Admin", Key("name", "admin")),
        ("ＡＤＭＩＮ", Key("name", "admin")),
        ("Straße", Key("name", "strasse")),
        ("e\u0301", Key("name", "\u00e9")),
        ("", Key("name", "")),
    ],
)
def test_a_key_is_a_phone_an_id_or_a_name(text: str, key: Key) -> None:
    """11 ASCII digits are a phone, other plain decimals without leading zero an id, anything else a name."""
    assert parse_key(text) == key


@pytest.mark.parametrize("text", ["1", "13800000000", "admin"])
def test_by_name_takes_everything_for_a_name(text: str) -> None:
    """Where only names are asked for, digits are a name too."""
    assert by_name(text) == Key("name", text)


@pytest.mark.parametrize(
    "name", ["a", "admin", "sa", "Zoë", "张三", "一二三", "o'brien", "a b", "1a", "+1", "0x10", "½", "x" * 64, "😀"]
)
def test_ordinary_names_are_accepted(name: str) -> None:
    """A name of any script is stored as typed."""
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "must have 1 to 64 characters"),
        ("x" * 65, "must have 1 to 64 characters"),
        *(
            (f"ad{invisible}min", "has control, bidirectional, zero-width or other invisible characters")
            for invisible in (
                *"\0\n\t\x1b\x7f\x85",  # controls
                *"\u061c\u200e\u200f\u202a\u202b\u202d\u202e\u2066\u2067\u2069",  # bidirectional
                *"\u200b\u200c\u200d\u2060\ufeff\u00ad",  # zero-width
                *"\u2028\u2029\u3164\u034f\ufe0f\u2800\U000e0061",  # separators, fillers, selectors, tags
                *"\ud800\ue000\u0378",  # no characters at all
            )
        ),
        (" admin", "begins or ends with a space"),
        ("admin ", "begins or ends with a space"),
        ("\u3000admin", "begins or ends with a space"),
        ("admin\u00a0", "begins or ends with a space"),
        ("\u00a8admin", "begins or ends with a space"),  # as it is compared
        (" ", "begins or ends with a space"),
        ("1", "is all digits"),
        ("010001", "is all digits"),
        ("13800000000", "is all digits"),
        ("１２３", "is all digits"),
        ("²", "is all digits"),
        ("١٢٣", "is all digits"),
    ],
)
def test_names_that_mislead_are_refused(name: str, problem: str) -> None:
    """Nobody can be called what looks like another account, like nothing at all, or like an id or a phone."""
    with pytest.raises(BadParameter) as refusal:
        check_name(name)
    assert (refusal.value.name, refusal.value.problem) == ("name", problem)


@pytest.mark.parametrize(
    "phone", ["", "1380000000", "138000000000", "1380000000a", "１３８００００００００", "13800000000\n"]
)
def test_a_phone_is_11_ascii_digits(phone: str) -> None:
    """What doLogin would not read as a phone cannot be an account's phone."""
    with pytest.raises(BadParameter, match="phone must be 11 digits"):
        check_phone(phone)


@pytest.mark.parametrize("number", [1, 2**63 - 1])
def test_an_id_fits_its_column(number: int) -> None:
    """From 1 to the largest number that either database holds."""
    assert check_id("id", number) == number


@pytest.mark.parametrize("number", [-1, 0, 2**63])
def test_what_fits_no_column_is_no_id(number: int) -> None:
    """The refusal says which of the ids it was, and what would do."""
    with pytest.raises(BadParameter) as refusal:
        check_id("role id", number)
    assert (refusal.value.name, refusal.value.problem) == ("role id", "must be from 1 to 9223372036854775807")


def test_an_avatars_length_is_bounded() -> None:
    """To 512 characters, all told."""
    longest = "/" + "x" * 511
    assert check_avatar(longest) == longest
    with pytest.raises(BadParameter, match="avatar must be a path or"):
        check_avatar(longest + "x")


@given(st.text())
@example("9" * 11)
def test_every_text_is_a_key(text: str) -> None:
    """No KEY is an error, and what it points at can be compared by both databases."""
    key = parse_key(text)
    assert (key.kind == "id") == isinstance(key.value, int)
    if isinstance(key.value, int):
        assert 0 <= key.value < 2**63


@given(st.text(max_size=70))
@example("²")
@example("１２３４５６７８９０１")
def test_an_accepted_name_is_found_by_it(name: str) -> None:
    """Whatever an account may be called, its holder can log in with it, in either Unicode form."""
    try:
        check_name(name)
    except BadParameter:
        return
    for form in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFKC", name)):
        assert parse_key(form) == Key("name", fold(name))


@given(st.text(st.characters(codec=None)))
def test_text_is_what_can_be_stored_and_shown(value: str) -> None:
    """Text has neither control characters nor lone surrogates."""
    categories = {unicodedata.category(character) for character in value}
    assert is_text(value) == (not categories & {"Cc", "Cs"})
