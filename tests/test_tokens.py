"""Session ids and the signed texts that carry them."""

import hashlib
import itertools
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import Signer, TimestampSigner

from authsvc.errors import TokenInvalid
from authsvc.tokens import Tokens, has_form

KEY, OLDER_KEY = "n" * 32, "o" * 32
BASE64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
SALT, SESSION_ID = b"authsvc.session", b"i" * 32

tokens = Tokens([KEY])


def signed(value: bytes, *, key: str = KEY, salt: bytes = SALT, derivation: str = "hmac") -> str:
    """A token as itsdangerous signs it."""
    signer = TimestampSigner(key, salt=salt, key_derivation=derivation, digest_method=hashlib.sha256)
    return signer.sign(value).decode()


def spellings(token: str) -> list[str]:
    """Other texts that itsdangerous takes for the same token: a signature's last character has spare bits."""
    last = BASE64.index(token[-1])
    return [token[:-1] + BASE64[last - last % 4 + spare] for spare in range(4)] + [token + "="]


def test_a_token_names_its_session() -> None:
    """What was issued is read back as the same session."""
    token, id_hash = tokens.issue()
    assert tokens.read(token).id_hash == id_hash


def test_ids_are_long_and_stored_as_their_sha256() -> None:
    """A session's id has at least 128 bits; what is stored for it is their SHA-256."""
    token, id_hash = tokens.issue()
    session_id = token.partition(".")[0].encode()
    assert len(session_id) * 6 >= 128
    assert id_hash == hashlib.sha256(session_id).digest()


def test_ids_do_not_repeat() -> None:
    """No two logins share a session."""
    assert len({tokens.issue()[1] for _ in range(1000)}) == 1000


@pytest.mark.parametrize("older", [[KEY], [OLDER_KEY, KEY]], ids=["alone", "as a fallback"])
def test_the_first_key_signs(older: list[str]) -> None:
    """A new token verifies wherever the newest key is known."""
    token, id_hash = Tokens([KEY, OLDER_KEY]).issue()
    assert Tokens(older).read(token).id_hash == id_hash


def test_what_was_read_once_is_remembered_within_bounds() -> None:
    """Of good tokens alone: what somebody invents takes no place from them."""
    remembering = Tokens([KEY])
    token, _ = remembering.issue()
    assert remembering.read(token) is remembering.read(token)
    for _ in range(2):
        with pytest.raises(TokenInvalid):
            remembering.read(token[:-5])
    remembered = remembering._remembered.cache_info()
    assert (remembered.hits, remembered.currsize, remembered.maxsize) == (1, 1, 4096)


def test_tokens_of_other_releases_are_good() -> None:
    """How a token is signed stays as it is: HMAC-SHA-256, with a key derived for sessions alone."""
    assert Tokens([KEY]).read(signed(SESSION_ID)).id_hash == hashlib.sha256(SESSION_ID).digest()


def test_older_keys_verify() -> None:
    """A token signed before a rotation stays good after it."""
    token, id_hash = Tokens([OLDER_KEY]).issue()
    assert Tokens([KEY, OLDER_KEY]).read(token).id_hash == id_hash


@pytest.mark.parametrize("number", range(5))
def test_every_spelling_is_the_same_session(number: int) -> None:
    """One token has several texts, and all of them name one session."""
    token, id_hash = tokens.issue()
    assert tokens.read(spellings(token)[number]).id_hash == id_hash


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "é" * 20,
        "\ud800",
        "x" * 5000,
        SESSION_ID.decode(),
        signed(SESSION_ID, key=OLDER_KEY),
        signed(SESSION_ID, salt=b"authsvc.seed"),
        signed(SESSION_ID, salt=b"itsdangerous.Signer"),
        signed(SESSION_ID, derivation="django-concat"),
        signed(SESSION_ID[1:]),
        signed(SESSION_ID + b"i"),
        signed(b"!" + SESSION_ID[1:]),
        signed(SESSION_ID + b"\n"),
        signed(SESSION_ID + b"." + SESSION_ID),
        TimestampSigner(KEY, salt=SALT, key_derivation="hmac").sign(SESSION_ID).decode(),
        Signer(KEY, salt=SALT, key_derivation="hmac", digest_method=hashlib.sha256).sign(SESSION_ID).decode(),
        signed(SESSION_ID) + signed(SESSION_ID),
        signed(SESSION_ID) + "." + signed(SESSION_ID),
        signed(SESSION_ID) + "=" * 300,
        " " + signed(SESSION_ID),
        signed(SESSION_ID).upper(),
        *(signed(SESSION_ID)[:length] for length in (31, 32, 39, 40, 60, 80)),
    ],
    ids=itertools.count(),  # what is signed is another with each run
)
def test_what_was_not_issued_is_invalid(token: str) -> None:
    """Cut, altered, doubled, signed with another key, salt, derivation, digest or without a date: not a token."""
    with pytest.raises(TokenInvalid):
        tokens.read(token)


@given(st.text() | st.text(BASE64 + "."))
def test_no_text_is_a_token_by_chance(text: str) -> None:
    """Whatever somebody sends, it is refused as a token and not with another error."""
    with pytest.raises(TokenInvalid):
        tokens.read(text)


@given(st.data())
def test_an_altered_token_names_the_same_session_or_none(data: st.DataObject) -> None:
    """No change of a token's text leads to another session."""
    token, id_hash = tokens.issue()
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, len(token)))
    altered = token[:start] + data.draw(st.text(BASE64 + ".=!", max_size=8)) + token[end:]
    try:
        assert tokens.read(altered).id_hash == id_hash
    except TokenInvalid:
        assert altered not in spellings(token)


def test_a_token_has_the_form_of_one_in_every_spelling() -> None:
    """Whoever signed it."""
    token, _ = tokens.issue()
    assert all(map(has_form, [token, *spellings(token), signed(SESSION_ID, key=OLDER_KEY)]))


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "dXNlcjpw", "a.b.c", "ya29.a0AfB_byC", "ghp_" + "x" * 36, "T T", f"{'x' * 32}.abcdef."),
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.dBjftJeZ4CVP-mBtBJ7H3w",
        *(f"{'x' * 31}.abcdef.sig", f"{'x' * 32}.abcde.sig", f"{'x' * 32}.abcdef.sig\n", f"{'ä' * 32}.abcdef.sig"),
        f"{'x' * 32}.abcdef.{'s' * 300}",
    ],
)
def test_what_another_service_issues_has_not(text: str) -> None:
    """A JWT, a key of somebody's API, credentials in base64: none is taken for ours."""
    assert not has_form(text)
