"""Two-step verification: one-time codes (RFC 6238: SHA-1, 6 digits, 30 seconds), their seeds, recovery codes."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress

import pyotp
from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

STEP_SECONDS = 30
RECOVERY_CODES = 10
"""How many recovery codes an enrolment gives."""

_SKEW = 1
"""Steps that a code may be early or late (RFC 6238, section 5.2)."""

_HINT_SKEW = 20
"""Steps within which a wrong code is a sign of a clock that is off."""

_TIME_CODE = re.compile(r"[0-9]{6}")
_RECOVERY_CODE = re.compile(r"[a-z2-7]{4}(-[a-z2-7]{4}){3}((-[a-z2-7]{4}){2})?")  # the shorter ones are older
_RECOVERY_BYTES = 15
_GCM = "aes256gcm:"
_NONCE_BYTES = 12
_FULL_WIDTH_COMMA = "，"


class DamagedSeed(Exception):
    """A stored seed that none of the secret keys can decrypt."""


class Seeds:
    """Encrypts seeds for storage under the secret keys: with the newest, readable with all of them.

    AES-256-GCM with a random nonce of 96 bits (NIST SP 800-38D). The account's id is authenticated along: a seed that
    is copied to another account's row cannot be read there. Seeds that were stored under Fernet are still read.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        # Keys of their own, so that what signs tokens encrypts nothing.
        self._ciphers = [AESGCM(_derived(key, b"authsvc.otp-seed.aes-256-gcm")) for key in keys]
        fernet_keys = (base64.urlsafe_b64encode(_derived(key, b"authsvc.otp-seed")) for key in keys)
        self._fernet = MultiFernet([Fernet(key) for key in fernet_keys])

    def encrypt(self, seed: str, account_id: int) -> str:
        """The text to store."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[0].encrypt(nonce, seed.encode(), _bound_to(account_id))
        return _GCM + base64.b64encode(nonce + sealed).decode()

    def decrypt(self, stored: str, account_id: int) -> str:
        """The seed behind a stored text. Raises DamagedSeed."""
        seed, _ = self._opened(stored, account_id)
        return seed

    def renewed(self, stored: str, account_id: int) -> str:
        """`stored` under the newest key, so that an older one can be retired. Raises DamagedSeed."""
        seed, is_newest = self._opened(stored, account_id)
        return stored if is_newest else self.encrypt(seed, account_id)

    def _opened(self, stored: str, account_id: int) -> tuple[str, bool]:
        try:
            if not stored.startswith(_GCM):
                return self._fernet.decrypt(stored.encode()).decode(), False
            sealed = base64.b64decode(stored.removeprefix(_GCM), validate=True)
        except (InvalidToken, ValueError):
            raise DamagedSeed from None
        for cipher in self._ciphers:
            with suppress(InvalidTag, ValueError):
                seed = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(account_id))
                return seed.decode(), cipher is self._ciphers[0]
        raise DamagedSeed


def _derived(key: str, purpose: bytes) -> bytes:
    return hmac.digest(key.encode(), purpose, hashlib.sha256)


def _bound_to(account_id: int) -> bytes:
    return f"authsvc.account:{account_id}".encode()


def new_seed() -> str:
    """A random seed of 160 bits, in base32 (RFC 4226, section 4)."""
    return pyotp.random_base32()


def uri(seed: str, account_name: str) -> str:
    """The otpauth:// URI that authenticator apps read."""
    return pyotp.TOTP(seed).provisioning_uri(name=account_name, issuer_name="authsvc")


def time_step(seed: str, code: str, now: float, skew: int = _SKEW) -> int | None:
    """The time step that `code` belongs to, within `skew` steps of `now`; None if it is no code of these."""
    if not _TIME_CODE.fullmatch(code):
        return None
    totp, current = pyotp.TOTP(seed), int(now // STEP_SECONDS)
    matching = [
        step
        for step in range(max(0, current - skew), current + skew + 1)
        if hmac.compare_digest(totp.at(step * STEP_SECONDS), code)
    ]
    return matching[-1] if matching else None


def clock_offset(seed: str, code: str, now: float) -> int | None:
    """By how many seconds the clocks seem to differ, where a refused code is right for another time."""
    step = time_step(seed, code, now, _HINT_SKEW)
    return None if step is None else (step - int(now // STEP_SECONDS)) * STEP_SECONDS


def new_recovery_codes() -> list[str]:
    """Ten random codes of 120 bits each."""
    texts = (base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES))
    return ["-".join(re.findall("....", text)) for text in texts]


def recovery_hash(code: str) -> bytes | None:
    """What is stored of a recovery code; None for what does not look like one.

    A plain hash will do: so many random bits cannot be guessed, slow hashing or not.
    """
    code = code.lower()
    return hashlib.sha256(code.encode()).digest() if _RECOVERY_CODE.fullmatch(code) else None


def recovery_hashes(codes: Sequence[str]) -> list[bytes]:
    """What is stored of recovery codes that were made here."""
    return [hashed for code in codes if (hashed := recovery_hash(code))]


def split_appended(password: str) -> tuple[str, str | None]:
    """Take `password,code` apart; (password, None) where no code is appended.

    The comma may be full-width, as a Chinese keyboard has it.
    """
    head, _, tail = password.replace(_FULL_WIDTH_COMMA, ",").rpartition(",")
    head = password[: len(head)]
    looks_like_code = _TIME_CODE.fullmatch(tail) or _RECOVERY_CODE.fullmatch(tail.lower())
    return (head, tail) if head and looks_like_code else (password, None)
