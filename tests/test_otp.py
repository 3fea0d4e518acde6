"""One-time codes, seeds and recovery codes, each by itself. What comes of them at a login is in test_two_step.py."""

import base64
import hashlib
import hmac
import re

import pyotp
import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from authsvc import otp
from authsvc.otp import DamagedSeed, Seeds

RFC_SEED = base64.b32encode(b"12345678901234567890").decode()
KEY, OLDER_KEY = "n" * 32, "o" * 32

# RFC 6238, appendix B, the rows of SHA-1: their last six digits.
RFC_VECTORS = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]


@pytest.mark.parametrize(("now", "code"), RFC_VECTORS)
def test_codes_are_those_of_rfc_6238(now: int, code: str) -> None:
    """The document's own vectors belong to the time step of their moment."""
    assert otp.time_step(RFC_SEED, code, now) == now // 30


@pytest.mark.parametrize(("steps", "accepted"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
@pytest.mark.parametrize("second", [0, 29.999])
def test_one_step_of_skew_either_way(steps: int, accepted: bool, second: float) -> None:
    """A code of the step before or after is good, and known as that step's; one further away is not."""
    now = 1234567890 + second
    code = pyotp.TOTP(RFC_SEED).at(1234567890 + 30 * steps)
    assert otp.time_step(RFC_SEED, code, now) == (1234567890 // 30 + steps if accepted else None)


def test_the_beginning_of_time_has_no_step_before_it() -> None:
    """At the epoch itself a code is found, and nothing breaks."""
    assert otp.time_step(RFC_SEED, pyotp.TOTP(RFC_SEED).at(0), 0) == 0


@pytest.mark.parametrize(
    "code",
    [
        "28708", "2870820", "0287082", " 287082", "287082 ", "287 082", "287082\n", "+87082", "-87082", "28708.", "",
        "２８７０８２", "٢٨٧٠٨٢", "28708²", "0x4617", "287082\x00", "None",
    ],
)  # fmt: skip
def test_only_six_ascii_digits_are_a_code(code: str) -> None:
    """What merely reads like the right code, or normalises to it, is none."""
    assert otp.time_step(RFC_SEED, code, 59) is None


@given(st.text())
def test_no_text_breaks_the_reading_of_codes(text: str) -> None:
    """Whatever is sent as a code is one, or it is not."""
    otp.recovery_hash(text)
    head, code = otp.split_appended(text)
    assert text in ({head} if code is None else {f"{head},{code}", f"{head}，{code}"})
    assert otp.time_step(RFC_SEED, text, 59) in {None, 0, 1, 2}


@pytest.mark.parametrize(("seconds", "offset"), [(90, 90), (-90, -90), (600, 600), (630, None), (0, 0)])
def test_a_clock_that_is_off_can_be_told(seconds: int, offset: int | None) -> None:
    """A code of up to ten minutes away says by how much; one from further away says nothing."""
    now = RFC_VECTORS[2][0]
    assert otp.clock_offset(RFC_SEED, pyotp.TOTP(RFC_SEED).at(now + seconds), now) == offset


@pytest.mark.parametrize(
    ("password", "parts"),
    [
        ("secret,123456", ("secret", "123456")),
        ("a,b,123456", ("a,b", "123456")),
        ("secret,123456,654321", ("secret,123456", "654321")),
        ("secret,abcd-2345-efgh-67ij", ("secret", "abcd-2345-efgh-67ij")),
        ("secret, 123456", ("secret, 123456", None)),
        ("secret,12345", ("secret,12345", None)),
        ("secret,1234567", ("secret,1234567", None)),
        ("secret,１２３４５６", ("secret,１２３４５６", None)),
        ("secret，123456", ("secret", "123456")),
        ("a，b，123456", ("a，b", "123456")),
        ("secret,abcd-2345-efgh-67ij-klmn-opqr", ("secret", "abcd-2345-efgh-67ij-klmn-opqr")),
        ("secret,123456 ", ("secret,123456 ", None)),
        ("secret,12345a", ("secret,12345a", None)),
        ("secret,abcd-2345-efgh-67ij-klmn", ("secret,abcd-2345-efgh-67ij-klmn", None)),
        ("secret,abcd-2345-efgh", ("secret,abcd-2345-efgh", None)),
        (",123456", (",123456", None)),
        ("123456", ("123456", None)),
        ("a,b", ("a,b", None)),
    ],
)
def test_a_code_is_taken_off_the_end_of_a_password(password: str, parts: tuple[str, str | None]) -> None:
    """Only what follows the last comma, of either width, and only where it has the form of a code."""
    assert otp.split_appended(password) == parts


def test_a_seed_is_fresh_and_long() -> None:
    """Every enrolment has its own 160 bits."""
    seeds = {otp.new_seed() for _ in range(100)}
    assert {len(base64.b32decode(seed)) * 8 for seed in seeds} == {160}
    assert len(seeds) == 100


def test_recovery_codes_are_ten_and_known_by_their_hash() -> None:
    """Ten different codes of 120 bits, each stored as its SHA-256."""
    codes = otp.new_recovery_codes()
    assert all(re.fullmatch(r"[a-z2-7]{4}(-[a-z2-7]{4}){5}", code) for code in codes)
    assert len({otp.recovery_hash(code) for code in codes}) == 10
    assert otp.recovery_hash(codes[0]) == hashlib.sha256(codes[0].encode()).digest()


def test_recovery_codes_of_80_bits_stay_good() -> None:
    """Those handed out before were shorter."""
    code = "abcd-2345-efgh-67ij"
    assert otp.recovery_hash(code) == hashlib.sha256(code.encode()).digest()


def test_a_time_code_is_no_recovery_code() -> None:
    """The two kinds cannot be mistaken for each other."""
    assert otp.recovery_hash("287082") is None


def test_a_seed_is_read_under_every_key_and_written_under_the_newest() -> None:
    """After a rotation old seeds stay readable; what is stored next does without the old key."""
    stored = Seeds([OLDER_KEY]).encrypt("seed", 2)
    both = Seeds([KEY, OLDER_KEY])
    assert both.decrypt(stored, 2) == "seed"
    assert Seeds([KEY]).decrypt(both.renewed(stored, 2), 2) == "seed"


def test_a_seed_under_the_newest_key_is_left_alone() -> None:
    """Only what a rotation made old is written again."""
    stored = Seeds([KEY]).encrypt("seed", 2)
    assert Seeds([KEY, OLDER_KEY]).renewed(stored, 2) == stored


@pytest.mark.parametrize(
    "stored",
    [
        *("", "x", "é", "\ud800", Fernet(Fernet.generate_key()).encrypt(b"seed").decode(), "gAAAAA=="),
        *("aes256gcm:", "aes256gcm:x", "aes256gcm:é", "aes256gcm:\ud800", "aes256gcm:" + "A" * 16),
        *(Seeds([OLDER_KEY]).encrypt("seed", 2), Seeds([KEY]).encrypt("seed", 3), Seeds([KEY]).encrypt("seed", 2)[:-4]),
        Seeds([KEY]).encrypt("seed", 2) + "!",
    ],
    ids=[
        *("empty", "x", "not ASCII", "surrogate", "Fernet of another key", "Fernet cut"),
        *("GCM empty", "GCM x", "GCM not ASCII", "GCM surrogate", "GCM with a nonce alone"),
        *("of another key", "of another account", "cut", "not base64"),
    ],
)
def test_a_seed_that_no_key_opens_is_damaged(stored: str) -> None:
    """Cut, foreign or garbled: one error says so."""
    for act in (Seeds([KEY]).decrypt, Seeds([KEY]).renewed):
        with pytest.raises(DamagedSeed):
            act(stored, 2)


# Sealed seeds and recovery codes


def test_new_recovery_codes_carry_120_bits() -> None:
    """Six groups of four characters of 32."""
    codes = otp.new_recovery_codes()
    assert all(re.fullmatch(r"[a-z2-7]{4}(-[a-z2-7]{4}){5}", code) for code in codes)
    assert len({otp.recovery_hash(code) for code in codes}) == 10


@pytest.mark.parametrize("groups", range(1, 9))
def test_older_recovery_codes_are_still_ones(groups: int) -> None:
    """Those of four groups as those of six, in capitals too; none of any other length."""
    code = "-".join(["ab27"] * groups)
    assert (otp.recovery_hash(code) is not None) == (groups in {4, 6})
    assert otp.recovery_hash(code.upper()) == otp.recovery_hash(code)
    assert otp.split_appended(f"secret,{code}") == (("secret", code) if groups in {4, 6} else (f"secret,{code}", None))


def test_a_seed_is_bound_to_its_account() -> None:
    """Copied into another account's row it cannot be read."""
    seeds = Seeds([KEY])
    stored = seeds.encrypt("seed", 2)
    assert seeds.decrypt(stored, 2) == "seed"
    for other in (1, 22, -2):
        with pytest.raises(DamagedSeed):
            seeds.decrypt(stored, other)


def test_a_seed_is_sealed_anew_each_time() -> None:
    """No two encryptions are alike, and none shows the seed; each says how it was made."""
    stored = {Seeds([KEY]).encrypt(RFC_SEED, 2) for _ in range(100)}
    assert len(stored) == 100
    assert all(text.startswith("aes256gcm:") and RFC_SEED not in text for text in stored)


def fernet(key: str) -> Fernet:
    """As seeds were encrypted before."""
    return Fernet(base64.urlsafe_b64encode(hmac.digest(key.encode(), b"authsvc.otp-seed", "sha256")))


def test_seeds_of_other_releases_are_read() -> None:
    """How a seed is sealed stays as it is, under whichever key."""
    stored = "aes256gcm:E5ce6W4/yF9umfSUbkotNXNzW/o8S+TX+aE/psADiaE="
    assert Seeds([OLDER_KEY, KEY]).decrypt(stored, 2) == "seed"


@pytest.mark.parametrize("key", [KEY, OLDER_KEY])
def test_seeds_of_older_releases_are_read_and_renewed(key: str) -> None:
    """Under the newest key or an older one; what is stored next is bound to its account."""
    stored, seeds = fernet(key).encrypt(b"seed").decode(), Seeds([KEY, OLDER_KEY])
    assert seeds.decrypt(stored, 2) == "seed"
    renewed = seeds.renewed(stored, 2)
    assert Seeds([KEY]).decrypt(renewed, 2) == "seed"
    with pytest.raises(DamagedSeed):
        seeds.decrypt(renewed, 3)


def test_every_byte_of_a_sealed_seed_matters() -> None:
    """Cut or changed anywhere it is damaged, and nothing else."""
    seeds = Seeds([KEY])
    stored = seeds.encrypt("seed", 2)
    sealed = base64.b64decode(stored.removeprefix("aes256gcm:"))
    spoilt = [sealed[:end] for end in range(len(sealed))]
    spoilt += [bytes([*sealed[:at], sealed[at] ^ 1, *sealed[at + 1 :]]) for at in range(len(sealed))]
    for each in spoilt:
        with pytest.raises(DamagedSeed):
            seeds.decrypt("aes256gcm:" + base64.b64encode(each).decode(), 2)
