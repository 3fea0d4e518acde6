"""One-time codes (RFC 6238: SHA-1, 6 digits, 30 seconds), their seeds, and recovery codes."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

import pyotp
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

STEP_SECONDS = 30
RECOVERY_CODES = 10
"""How many recovery codes an enrolment gives."""

_SKEW = 1
"""Steps that a code may be early or late (RFC 6238, section 5.2)."""

_HINT_SKEW = 20
"""Steps within which a wrong code is a sign of a clock that is off."""

_TIME_CODE = re.compile(r"[0-9]{6}")
_RECOVERY_CODE = re.compile(r"[a-z2-7]{4}(-[a-z2-7]{4}){3}")


class DamagedSeed(Exception):
    """A stored seed that none of the secret keys can decrypt."""


class Seeds:
    """Encrypts seeds for storage under the secret keys: with the newest, readable with all of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        fernets = [Fernet(_derived(key)) for key in keys]
        self._newest, self._all = fernets[0], MultiFernet(fernets)

    def encrypt(self, seed: str) -> str:
        """The text to store."""
        return self._newest.encrypt(seed.encode()).decode()

    def decrypt(self, stored: str) -> str:
        """The seed behind a stored text. Raises DamagedSeed."""
        try:
            return self._all.decrypt(stored.encode()).decode()
        except (InvalidToken, ValueError):
            raise DamagedSeed from None

    def renewed(self, stored: str) -> str:
        """`stored` under the newest key, so that an older one can be retired. Raises DamagedSeed."""
        try:
            self._newest.decrypt(stored.encode())
        except (InvalidToken, ValueError):
            return self.encrypt(self.decrypt(stored))
        return stored


def _derived(key: str) -> bytes:
    # A key of its own, so that what signs tokens encrypts nothing.
    return base64.urlsafe_b64encode(hmac.digest(key.encode(), b"authsvc.otp-seed", hashlib.sha256))


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
    """Ten random codes of 80 bits each."""
    texts = (base64.b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(RECOVERY_CODES))
    return ["-".join(re.findall("....", text)) for text in texts]


def recovery_hash(code: str) -> bytes | None:
    """What is stored of a recovery code; None for what does not look like one.

    A plain hash will do: 80 random bits cannot be guessed, slow hashing or not.
    """
    code = code.lower()
    return hashlib.sha256(code.encode()).digest() if _RECOVERY_CODE.fullmatch(code) else None


def split_appended(password: str) -> tuple[str, str | None]:
    """Take `password,code` apart; (password, None) where no code is appended."""
    head, _, tail = password.rpartition(",")
    looks_like_code = _TIME_CODE.fullmatch(tail) or _RECOVERY_CODE.fullmatch(tail.lower())
    return (head, tail) if head and looks_like_code else (password, None)
