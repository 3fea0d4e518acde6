"""Password hashes: argon2id for new ones, werkzeug's scrypt and pbkdf2 understood."""

import base64
import secrets
import unicodedata
from functools import cache
from importlib.resources import files

import argon2
from werkzeug.security import check_password_hash

from authsvc.errors import BadParameter, Busy
from authsvc.hash_thread import HashThread
from authsvc.identifiers import is_text

LENGTH_MIN, LENGTH_MAX = 8, 256
"""Characters in a new password (NIST SP 800-63B, section 5.1.1.2)."""


_NO_MEMORY = argon2.low_level.error_to_str(-22)  # ARGON2_MEMORY_ALLOCATION_ERROR
_SHORTEST_DIGEST = 16  # bytes: none of the schemes makes a shorter one


class DamagedHash(Exception):
    """A stored hash that no scheme here can read."""


class Passwords:
    """Hashes and matches passwords, each NFKC-normalised and otherwise exactly as typed."""

    def __init__(self, hasher: argon2.PasswordHasher | None = None, max_waiting: int = 32) -> None:
        """At most `max_waiting` passwords wait to be hashed or matched; more are refused as Busy."""
        # OWASP Password Storage Cheat Sheet: argon2id with m=19 MiB, t=2, p=1.
        self._argon2 = hasher or argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._decoy = _decoy(self._argon2)
        self._thread = HashThread(max_waiting)

    def hash(self, password: str) -> str:
        """The argon2id hash to store for `password`. Raises Busy."""
        return self._thread.run(lambda: self._argon2.hash(_normalised(password)))

    def matches(self, stored: str, password: str) -> bool:
        """Whether `password` is the one behind `stored`. Raises DamagedHash where that cannot be told, Busy."""
        return self._thread.run(lambda: self._matches(stored, password))

    def _matches(self, stored: str, password: str) -> bool:
        try:
            if stored.startswith(("scrypt:", "pbkdf2:")):
                # Werkzeug takes what is cut short for a wrong password.
                if len(bytes.fromhex(stored.split("$")[2])) < _SHORTEST_DIGEST:
                    raise DamagedHash
                return check_password_hash(stored, _normalised(password))
            return self._argon2.verify(stored, _normalised(password))
        except argon2.exceptions.VerifyMismatchError:
            return False
        except MemoryError:
            raise Busy from None
        except (
            argon2.exceptions.Argon2Error,
            argon2.exceptions.InvalidHashError,
            ValueError,
            IndexError,
            OverflowError,
        ) as error:
            if str(error) == _NO_MEMORY:  # it says nothing about the password
                raise Busy from None
            raise DamagedHash from error

    def match_nobody(self, password: str) -> None:
        """Do the work of one match for an account that is not there, so that its absence takes as long. Raises Busy."""
        self.matches(self._decoy, password)

    def renewed(self, stored: str, password: str) -> str:
        """A hash of today's kind in place of an outdated one that matched `password`. Raises Busy."""
        outdated = not stored.startswith("$argon2") or self._argon2.check_needs_rehash(stored)
        return self.hash(password) if outdated else stored

    def check_stored(self, stored: str) -> str:
        """Return a hash made elsewhere if it can be matched against; raise BadParameter if not."""
        try:
            self.matches(stored, secrets.token_hex())
        except DamagedHash:
            raise BadParameter("password hash", "is neither argon2 nor werkzeug's scrypt or pbkdf2") from None
        return stored


def check_new(password: str, name: str = "password") -> str:
    """Return `password` if it may be a new password; raise BadParameter for `name` saying why not.

    Length and a blocklist, no rules of composition (NIST SP 800-63B, section 5.1.1.2).
    """
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        raise BadParameter(name, f"must have {LENGTH_MIN} to {LENGTH_MAX} characters")
    # What a login would refuse as a parameter must not become a password.
    if not is_text(password):
        raise BadParameter(name, "has control characters or is not valid Unicode")
    folded = _normalised(password).casefold()
    if folded in _common() or len(set(folded)) == 1:
        raise BadParameter(name, "is one of the most common passwords")
    return password


def _normalised(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def _decoy(hasher: argon2.PasswordHasher) -> str:
    """A hash of nothing, with the parameters of new hashes: matching against it costs the same and never succeeds."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (hasher.salt_len, hasher.hash_len)
    )
    return f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}${salt}${digest}"


@cache
def _common() -> frozenset[str]:
    """The 3,000 most common passwords of eight or more characters, by frequency in public leaks (zxcvbn's list)."""
    return frozenset(files("authsvc").joinpath("common_passwords.txt").read_text("utf-8").split("\n"))
