"""Password hashes."""

import hashlib
from collections.abc import Iterator
from typing import NoReturn

import argon2
import pytest
from werkzeug.security import generate_password_hash

from authsvc.errors import BadParameter, Busy, RefusedPassword
from authsvc.metrics import Metrics
from authsvc.passwords import DamagedHash, Passwords, check_new
from tests.databases import cheap_passwords
from tests.hashers import WatchedHasher

PASSWORD = "correct-horse-battery"

passwords = cheap_passwords()
OLDER = {
    **{
        f"argon2{kind.name}": argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1, type=kind).hash(PASSWORD)
        for kind in (argon2.Type.ID, argon2.Type.I)
    },
    "scrypt": generate_password_hash(PASSWORD, "scrypt:1024:8:1"),
    "pbkdf2": generate_password_hash(PASSWORD, "pbkdf2:sha256:10"),
}
"""Hashes of PASSWORD that are good, and are replaced at the next login."""
DAMAGED = {
    "empty": "",
    "plain text": "secret",
    "unknown scheme": "$2b$12$" + "x" * 53,
    "argon2 without a digest": "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ",
    "argon2 cut": passwords.hash(PASSWORD)[:-5] + "=",
    "argon2 with nonsense for parameters": "$argon2id$v=19$m=x,t=1,p=1$c2FsdHNhbHQ$YWJj",
    "argon2 with not ASCII": passwords.hash(PASSWORD) + "é",
    "scrypt without a digest": "scrypt:1024:8:1$salt",
    "scrypt with an empty digest": "scrypt:1024:8:1$salt$",
    "scrypt cut": OLDER["scrypt"][:-1],
    "scrypt with nonsense for parameters": "scrypt:a:b:c$salt$" + "0" * 128,
    "scrypt with more memory than there is": "scrypt:1073741824:8:1$salt$" + "0" * 128,
    "pbkdf2 without a digest": "pbkdf2:sha256:10$salt",
    "pbkdf2 cut": OLDER["pbkdf2"][:-1],
    "pbkdf2 of an unknown digest": "pbkdf2:nosuch:10$salt$" + "0" * 64,
    "pbkdf2 of no rounds": "pbkdf2:sha256:0$salt$" + "0" * 64,
    "pbkdf2 of too many rounds": f"pbkdf2:sha256:{2**70}$salt$" + "0" * 64,
}

CANNOT_BE_READ = {
    *("empty", "plain text", "unknown scheme", "argon2 without a digest", "argon2 with nonsense for parameters"),
    *("scrypt with nonsense for parameters", "scrypt with more memory than there is", "pbkdf2 of too many rounds"),
}
"""Of these not even the cost can be told."""


def test_new_hashes_are_argon2id_as_owasp_has_it() -> None:
    """A new hash is argon2id with 19 MiB, two passes and one lane, and is up to date."""
    stored = Passwords().hash(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert Passwords().renewed(stored, PASSWORD) == stored


def test_hashes_of_one_password_differ() -> None:
    """Each hash has a salt of its own."""
    assert passwords.hash(PASSWORD) != passwords.hash(PASSWORD)


@pytest.mark.parametrize("stored", [passwords.hash(PASSWORD), *OLDER.values()], ids=["new", *OLDER])
def test_hashes_match_their_password_alone(stored: str) -> None:
    """argon2, and werkzeug's scrypt and pbkdf2, verify; another password does not."""
    assert passwords.matches(stored, PASSWORD)
    assert not passwords.matches(stored, PASSWORD + "!")


@pytest.mark.parametrize("stored", OLDER.values(), ids=OLDER)
def test_hashes_of_another_kind_are_outdated(stored: str) -> None:
    """Other schemes, variants and parameters are replaced."""
    renewed = passwords.renewed(stored, PASSWORD)
    assert renewed.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert passwords.matches(renewed, PASSWORD)


@pytest.mark.parametrize("stored", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_hash_says_so(stored: str) -> None:
    """A hash that cannot be matched against is told from a wrong password."""
    with pytest.raises(DamagedHash):
        passwords.matches(stored, PASSWORD)


def test_nobody_costs_what_somebody_does(hasher: WatchedHasher) -> None:
    """For an account that is not there one hash is matched, too."""
    Passwords(hasher).match_nobody(PASSWORD)
    assert hasher.asked == 1


def test_a_hash_of_nothing_matches_nothing() -> None:
    """It has the parameters of new hashes, and costs what they cost."""
    stored = passwords.unmatchable()
    assert not passwords.is_outdated(stored)
    assert not passwords.matches(stored, "")


def test_without_memory_nothing_is_said_of_a_password(hasher: WatchedHasher, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service is busy: the hash is not damaged, nor the password wrong."""

    def refuse(*_: str) -> NoReturn:
        raise argon2.exceptions.VerificationError(argon2.low_level.error_to_str(-22))

    monkeypatch.setattr(hasher, "verify", refuse)
    with pytest.raises(Busy):
        Passwords(hasher).matches(passwords.hash(PASSWORD), PASSWORD)


def test_hashes_are_counted(hasher: WatchedHasher, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the numbers for machines have it."""
    metrics, counted = Metrics(), list[float]()
    monkeypatch.setattr(metrics, "hashed", counted.append)
    Passwords(hasher, metrics=metrics).hash(PASSWORD)
    assert len(counted) == 1


UNUSABLE, WEAK, DEAR = (
    f"password hash {problem}"
    for problem in (
        "is neither argon2 nor werkzeug's scrypt or pbkdf2",
        "is too weak: MD5 or SHA-1, or too few iterations",
        "costs more than 10 hashes of this service",
    )
)
DIGEST = "$TN6+n1J1IFZT+q/1xZO23g$7X6EvImGwz2flIcUfzwZjtvrCZwNnq0KNBeLqBD7BlY"
ARGON2 = argon2.PasswordHasher(time_cost=5, memory_cost=7 * 1024, parallelism=1).hash(PASSWORD)


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        *((stored, UNUSABLE) for name, stored in DAMAGED.items() if name in CANNOT_BE_READ),
        *((stored, WEAK) for name, stored in DAMAGED.items() if name not in CANNOT_BE_READ),
        *((stored, WEAK) for stored in OLDER.values()),
        (ARGON2[:-5] + "=", UNUSABLE),
        (ARGON2[:-5] + "!!!!" + ARGON2[-5:], UNUSABLE),
        ("scrypt:1:512:512$salt$" + "0" * 128, UNUSABLE),
        ("scrypt:40000:8:1$salt$" + "0" * 128, UNUSABLE),
        ("scrypt:65536:1:4$salt$" + "0" * 128, UNUSABLE),
        ("scrypt:32768:8:1$salt$" + "0" * 30, UNUSABLE),
        (generate_password_hash(PASSWORD, "scrypt:32768:8:1")[:-1], UNUSABLE),
        (generate_password_hash(PASSWORD, "pbkdf2:sha256:100000")[:-1], UNUSABLE),
        ("scrypt:32768:8:1$salt", UNUSABLE),
        ("pbkdf2:sha256:100000$salt$", UNUSABLE),
        ("pbkdf2:sha1:1000000$salt$" + "0" * 40, WEAK),
        ("pbkdf2:sha256:99999$salt$" + "0" * 64, WEAK),
        ("scrypt:16384:8:1$salt$" + "0" * 128, WEAK),
        ("pbkdf2:sha256:1000001$salt$" + "0" * 64, DEAR),
        ("scrypt:1048576:8:1$salt$" + "0" * 128, DEAR),
        (ARGON2.replace("m=7168", "m=4194304"), DEAR),
        ("$argon2id$v=19$m=19456,t=2,p=452" + DIGEST, DEAR),
    ],
    ids=map(str, range(100)),
)
def test_a_hash_made_elsewhere_may_be_refused(stored: str, problem: str) -> None:
    """Where nobody could ever log in with it, where it hides the password badly, and where matching it costs much."""
    with pytest.raises(BadParameter) as refusal:
        passwords.check_stored(stored)
    assert str(refusal.value) == problem


@pytest.mark.parametrize(
    "stored",
    [
        ARGON2,
        generate_password_hash(PASSWORD, "scrypt:32768:8:1"),
        generate_password_hash(PASSWORD, "pbkdf2:sha256:100000"),
        generate_password_hash(PASSWORD, "pbkdf2:sha512:100000"),
        "$argon2id$v=19$m=19456,t=2,p=451" + DIGEST,
        "scrypt:2:512:256$salt$" + "0" * 128,
        "pbkdf2:sha256:1000000$salt$" + "0" * 64,
    ],
    ids=[
        *("argon2", "scrypt", "pbkdf2 of SHA-256", "pbkdf2 of SHA-512"),
        *("argon2 of the most lanes", "scrypt of the least N", "pbkdf2 of the most rounds"),
    ],
)
def test_a_hash_made_elsewhere_is_taken_over(stored: str) -> None:
    """Whatever verifies, and is neither weak nor dear, may be imported as it is."""
    assert passwords.check_stored(stored) == stored


@pytest.mark.parametrize("typed", ["Pa\u0308sswort", "P\u00e4sswort", "Ｐ\u00e4sswort"])
def test_passwords_are_compared_in_nfkc(typed: str) -> None:
    """It does not matter which keyboard composed the characters, for new hashes and werkzeug's alike."""
    assert passwords.matches(passwords.hash("P\u00e4sswort"), typed)
    assert passwords.matches(passwords.hash(typed), "P\u00e4sswort")
    assert passwords.matches(generate_password_hash("P\u00e4sswort", "pbkdf2:sha256:10"), typed)


@pytest.mark.parametrize("typed", ["correct-horse", " correct-horse ", "Correct-Horse", "correct-horse" + "x" * 200])
def test_passwords_are_exactly_as_typed(typed: str) -> None:
    """Nothing is trimmed, cut or folded: only the very password matches."""
    others = {"correct-horse", " correct-horse ", "Correct-Horse", "correct-horse" + "x" * 199} - {typed}
    stored = passwords.hash(typed)
    assert passwords.matches(stored, typed)
    assert not any(passwords.matches(stored, other) for other in others)


@pytest.mark.parametrize(
    "password", ["x1-" * 3, "ab cd ef", " 8 chars", "密码密码密码密码一二", "é" * 7 + "!", "ab" * 128]
)
def test_ordinary_passwords_are_accepted(password: str) -> None:
    """8 to 256 characters of any kind will do: no rules of composition."""
    assert check_new(password) == password


LENGTH = ("length", "must have 8 to 256 characters")
CHARACTERS = ("characters", "has control characters or is not valid Unicode")
COMMON = ("common", "is one of the most common passwords")


@pytest.mark.parametrize(
    ("password", "broken"),
    [
        ("", LENGTH),
        ("7 chars", LENGTH),
        ("ab" * 128 + "c", LENGTH),
        ("ab\0defghij", CHARACTERS),
        ("abcdefghij\n", CHARACTERS),
        ("abc\ud800defg", CHARACTERS),
        ("password", COMMON),
        ("PassWord", COMMON),
        ("１２３４５６７８９", COMMON),
        ("zzzzzzzzzz", COMMON),
        ("        ", COMMON),
    ],
)
def test_bad_passwords_are_refused_with_the_reason(password: str, broken: tuple[str, str]) -> None:
    """What a login could not take, and what everybody tries first, cannot become a password."""
    with pytest.raises(RefusedPassword) as refusal:
        check_new(password)
    assert (refusal.value.name, refusal.value.kind, refusal.value.problem) == ("password", *broken)


# What a hash may cost

TOO_DEAR = {
    "argon2 with too much memory": "$argon2id$v=19$m=2147483648,t=1,p=1" + DIGEST,
    "argon2 with too many passes": "$argon2id$v=19$m=19456,t=2000,p=1" + DIGEST,
    "argon2 with a number beyond any": f"$argon2id$v=19$m=8,t={'9' * 320},p=1" + DIGEST,
    "argon2 with too many lanes": "$argon2id$v=19$m=389120,t=1,p=48640" + DIGEST,
    "scrypt with too much memory": "scrypt:134217728:8:1$salt$" + "0" * 128,
    "pbkdf2 with too many rounds": "pbkdf2:sha256:100000000$salt$" + "0" * 64,
    "pbkdf2 of sha3 with too many rounds": "pbkdf2:sha3_512:2000001$salt$" + "0" * 128,
}
NEVER = {
    "scrypt with a negative N": "scrypt:-2:8:1$salt$" + "0" * 128,
    "scrypt without parameters": "scrypt$salt$" + "0" * 128,
    "scrypt of an N that is no power of two": "scrypt:3:8:1$salt$" + "0" * 128,
    "scrypt of nothing": "scrypt:0:0:0$salt$" + "0" * 128,
    "argon2 with a negative memory": "$argon2id$v=19$m=-19456,t=2,p=1" + DIGEST,
    "argon2 without lanes": "$argon2id$v=19$m=19456,t=2,p=0" + DIGEST,
}
TOO_WEAK = {
    "pbkdf2 of SHA-1": generate_password_hash(PASSWORD, "pbkdf2:sha1:400000"),
    "pbkdf2 of MD5": generate_password_hash(PASSWORD, "pbkdf2:md5:400000"),
    "pbkdf2 of few rounds": generate_password_hash(PASSWORD, "pbkdf2:sha256:99999"),
    "scrypt of little": generate_password_hash(PASSWORD, "scrypt:16384:8:1"),
    "argon2 of little": argon2.PasswordHasher(time_cost=1, memory_cost=19 * 1024, parallelism=1).hash(PASSWORD),
}
IMPORTABLE = {
    "argon2id as OWASP has it": argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1).hash(PASSWORD),
    "argon2id as argon2-cffi has it": argon2.PasswordHasher().hash(PASSWORD),
    "argon2i": argon2.PasswordHasher(2, 19 * 1024, 1, type=argon2.Type.I).hash(PASSWORD),
    "scrypt as werkzeug has it": generate_password_hash(PASSWORD),
    "pbkdf2 of 100,000 rounds": generate_password_hash(PASSWORD, "pbkdf2:sha256:100000"),
}


@pytest.fixture
def unhashed(hasher: WatchedHasher, monkeypatch: pytest.MonkeyPatch) -> Iterator[Passwords]:
    """Passwords of which none is hashed, in whichever scheme."""
    asked: list[object] = []
    monkeypatch.setattr("authsvc.passwords.check_password_hash", lambda *given: asked.append(given))
    yield Passwords(hasher)
    assert (hasher.asked, asked) == (0, [])


@pytest.mark.parametrize("stored", TOO_DEAR.values(), ids=TOO_DEAR)
def test_a_hash_that_costs_too_much_is_not_matched(stored: str, unhashed: Passwords) -> None:
    """It is damaged, found out before anything is hashed: guesses at it hold up nobody's login."""
    with pytest.raises(DamagedHash):
        unhashed.matches(stored, PASSWORD)


@pytest.mark.parametrize("stored", TOO_DEAR.values(), ids=TOO_DEAR)
def test_a_hash_that_costs_too_much_is_not_imported(stored: str, unhashed: Passwords) -> None:
    """Nor is it tried out."""
    with pytest.raises(BadParameter, match="password hash"):
        unhashed.check_stored(stored)


@pytest.mark.parametrize("stored", NEVER.values(), ids=NEVER)
def test_a_hash_of_impossible_parameters_is_damaged(stored: str) -> None:
    """A wrong password, whatever its library says of it; and nothing to import."""
    with pytest.raises(DamagedHash):
        passwords.matches(stored, PASSWORD)
    with pytest.raises(BadParameter, match="password hash"):
        passwords.check_stored(stored)


@pytest.mark.parametrize("times", [11, 50])
def test_a_hash_is_dearer_to_import_than_to_keep(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times one of ours may come in; what is there already is matched, up to some more."""
    monkeypatch.setattr("authsvc.passwords.check_password_hash", lambda *_: True)
    stored = f"pbkdf2:sha256:{times * 100_000}$salt$" + "0" * 64
    with pytest.raises(BadParameter, match="costs more than 10 hashes of this service"):
        passwords.check_stored(stored)
    assert passwords.matches(stored, PASSWORD)


@pytest.mark.parametrize("stored", TOO_WEAK.values(), ids=TOO_WEAK)
def test_a_weak_hash_is_not_imported(stored: str) -> None:
    """It is good for the login of whoever has it already, and then replaced."""
    with pytest.raises(BadParameter, match="password hash is too weak"):
        passwords.check_stored(stored)
    assert passwords.matches(stored, PASSWORD)
    assert passwords.renewed(stored, PASSWORD).startswith("$argon2id$")


@pytest.mark.parametrize("stored", IMPORTABLE.values(), ids=IMPORTABLE)
def test_a_good_hash_is_imported(stored: str) -> None:
    """What the Flask world makes by default, among others."""
    assert passwords.check_stored(stored) == stored


# Words of the context, and the least length

ABOUT = ["Zoë Müller", "13800000000", None, "é", "张"]


@pytest.mark.parametrize(
    "password",
    [
        *("authsvc1", "AuthSvc-2026", "satoken1", "my-satoken", "authsvcsatoken", "1234satoken5678"),
        *("zoë müller", "ZOË MÜLLER-1", "ｚｏë müller2026", "Zoe\u0308 Mu\u0308ller", "13800000000", "x13800000000x"),
        *("zoë müller13800000000authsvc", "satokensatokensatoken", "password1satoken"),
        "1234张5678",
    ],
)
def test_little_more_than_a_word_of_the_context_is_refused(password: str) -> None:
    """The account's own name and phone and this service's words are what a guesser begins with."""
    with pytest.raises(RefusedPassword, match="is little more than") as refusal:
        check_new(password, about=ABOUT)
    assert refusal.value.kind == "context"


@pytest.mark.parametrize(
    "password", ["authsvc-otherwise", "zoë müller+seven-8", "tokens and salt", "é-é-é-é-é", "1380000000"]
)
def test_a_word_of_the_context_may_be_a_part(password: str) -> None:
    """As long as the rest would do by itself; a name of one letter is in too much to count."""
    assert check_new(password, about=ABOUT) == password


def test_the_least_length_has_its_setting() -> None:
    """NIST wants 15 where a password is the only factor."""
    strict = Passwords(minimum=15)
    with pytest.raises(BadParameter, match="must have 15 to 256 characters"):
        strict.check_new("fourteen chars")
    assert strict.check_new("fifteen chars--")


# From a sa-plus console


@pytest.fixture
def wrapped() -> str:
    """The hash of PASSWORD as it comes from a console, which knows an MD5 of salt, id and password."""
    md5 = hashlib.md5(f"salt10001{PASSWORD}".encode(), usedforsecurity=False).hexdigest()
    return passwords.wrapped(md5, "salt", 10001)


def test_a_consoles_hash_matches_its_password_alone(wrapped: str) -> None:
    """Until the next login, when it is replaced by one of ours."""
    assert passwords.matches(wrapped, PASSWORD)
    assert not passwords.matches(wrapped, PASSWORD + "!")
    assert passwords.renewed(wrapped, PASSWORD).startswith("$argon2id$")


def test_a_consoles_hash_is_taken_over_from_another_authsvc(wrapped: str) -> None:
    """What this service exports, it imports."""
    assert passwords.check_stored(wrapped) == wrapped


@pytest.mark.parametrize(
    "cut", ["sa-plus", "sa-plus$", "sa-plus$10001$c2FsdA==", "sa-plus$x$c2FsdA=={}", "sa-plus$1$A{}"]
)
def test_a_consoles_hash_may_be_damaged(cut: str) -> None:
    """Without a part, or with an id or a salt that is none."""
    stored = cut.format(passwords.hash(PASSWORD))
    with pytest.raises(DamagedHash):
        passwords.matches(stored, PASSWORD)
    with pytest.raises(BadParameter, match=UNUSABLE):
        passwords.check_stored(stored)
