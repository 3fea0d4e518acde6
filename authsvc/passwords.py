"""Password hashes: argon2id for new ones, werkzeug's scrypt and pbkdf2 understood."""

import base64
import hashlib
import re
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import argon2
from werkzeug.security import check_password_hash

from authsvc.errors import BadParameter, Busy, RefusedPassword
from authsvc.hash_thread import HashThread
from authsvc.identifiers import fold, is_text
from authsvc.metrics import Metrics

LENGTH_MIN, LENGTH_MAX = 8, 256
"""Characters in a new password; more may be asked for (NIST SP 800-63B-4, section 3.1.1.2)."""

_CONTEXT = ("authsvc", "satoken")
_WORD_MIN = 3  # bytes: shorter ones are in too much
# What a match costs, in units of one argon2id of ours (19 MiB, two passes), as measured. The least that is imported is
# the minimum of the OWASP Password Storage Cheat Sheet or, where that is lower, werkzeug's default.
_ARGON2_UNIT = 19 * 1024 * 2  # KiB times passes
_ARGON2_LANES_UNIT = 100  # further lanes times passes: each starts four threads
_SCRYPT_UNIT = 2**16  # N times r times p
_PBKDF2_UNIT = {"sha224": 100_000, "sha256": 100_000, "sha384": 40_000, "sha512": 40_000}  # iterations
_ARGON2_MIN, _SCRYPT_MIN, _PBKDF2_MIN = 7 * 1024 * 5, 2**15 * 8, 100_000
_DEAREST, _DEAREST_IMPORT = 50, 10
_SCRYPT = re.compile(r"scrypt:([0-9]{1,9}):([0-9]{1,4}):([0-9]{1,4})")
_PBKDF2 = re.compile(r"pbkdf2:(\w+):([0-9]{1,12})")
_NO_MEMORY = argon2.low_level.error_to_str(-22)  # ARGON2_MEMORY_ALLOCATION_ERROR
_SHORTEST_DIGEST = 16  # bytes: none of the schemes makes a shorter one
_ARGON2_SALT_MIN, _ARGON2_DIGEST_MIN = 8, 4  # bytes (RFC 9106, section 3.1)
_SA_PLUS = "sa-plus"


class DamagedHash(Exception):
    """A stored hash that no scheme here can read."""


class Passwords:
    """Hashes and matches passwords, each NFKC-normalised and otherwise exactly as typed."""

    def __init__(
        self,
        hasher: argon2.PasswordHasher | None = None,
        max_waiting: int = 32,
        minimum: int = LENGTH_MIN,
        metrics: Metrics | None = None,
    ) -> None:
        """At most `max_waiting` passwords wait to be hashed or matched; more are refused as Busy.

        New passwords have at least `minimum` characters.
        """
        # OWASP Password Storage Cheat Sheet: argon2id with m=19 MiB, t=2, p=1.
        self._argon2 = hasher or argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._minimum = minimum
        self._decoy = self.unmatchable()
        self._thread = HashThread(max_waiting, metrics)

    def hash(self, password: str) -> str:
        """The argon2id hash to store for `password`. Raises Busy."""
        return self._thread.run(lambda: self._argon2.hash(_normalised(password)))

    def matches(self, stored: str, password: str) -> bool:
        """Whether `password` is the one behind `stored`. Raises DamagedHash where that cannot be told, Busy."""
        if _cost(stored).units > _DEAREST:
            raise DamagedHash  # nobody can have logged in with it
        return self._thread.run(lambda: self._matches(stored, password))

    def _matches(self, stored: str, password: str) -> bool:
        try:
            if stored.startswith(f"{_SA_PLUS}$"):
                return self._argon2.verify(*_unwrapped(stored, password))
            if not stored.startswith("$"):
                # Werkzeug takes what is cut short for a wrong password.
                if len(bytes.fromhex(stored.split("$")[2])) < _SHORTEST_DIGEST:
                    raise DamagedHash
                return check_password_hash(stored, _normalised(password))
            return self._argon2.verify(stored, _normalised(password))
        except argon2.exceptions.VerifyMismatchError:
            return False
        except MemoryError:
            raise Busy from None
        except (argon2.exceptions.Argon2Error, ValueError, IndexError, OverflowError, TypeError) as error:
            if str(error) == _NO_MEMORY:  # it says nothing about the password
                raise Busy from None
            raise DamagedHash from error

    def match_nobody(self, password: str) -> None:
        """Do the work of one match for an account that is not there, so that its absence takes as long. Raises Busy."""
        self.matches(self._decoy, password)

    def unmatchable(self) -> str:
        """A hash of nothing, with the parameters of new hashes: matching it costs what any costs and never succeeds."""
        hasher, sizes = self._argon2, (self._argon2.salt_len, self._argon2.hash_len)
        salt, digest = (base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in sizes)
        return f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}${salt}${digest}"

    def wrapped(self, md5: str, salt: str, old_id: int) -> str:
        """The hash to store for a password of which a sa-plus console knows an MD5, in hex, made with `salt` and an id.

        Does not wait for a turn: it is for the command line, with threads of its own. The MD5 itself is not stored.
        """
        encoded = base64.urlsafe_b64encode(salt.encode()).decode()
        return f"{_SA_PLUS}${old_id}${encoded}{self._argon2.hash(md5.upper())}"

    def is_outdated(self, stored: str) -> bool:
        """Whether the next login replaces a hash by one of today's kind."""
        return not stored.startswith("$argon2") or self._argon2.check_needs_rehash(stored)

    def renewed(self, stored: str, password: str) -> str:
        """A hash of today's kind in place of an outdated one that matched `password`. Raises Busy."""
        return self.hash(password) if self.is_outdated(stored) else stored

    def check_stored(self, stored: str) -> str:
        """Return a hash made elsewhere if it may be imported; raise BadParameter if not (OWASP ASVS 5.0.0, 11.4.2)."""
        try:
            cost = _cost(stored)
            # What this service makes, or made, comes back to it.
            if cost.is_weak and (not _plain(stored).startswith("$") or self.is_outdated(_plain(stored))):
                raise BadParameter("password hash", "is too weak: MD5 or SHA-1, or too few iterations")
            if cost.units > _DEAREST_IMPORT:
                raise BadParameter("password hash", f"costs more than {_DEAREST_IMPORT} hashes of this service")
            _check_form(stored)
        except DamagedHash:
            raise BadParameter("password hash", "is neither argon2 nor werkzeug's scrypt or pbkdf2") from None
        return stored

    def check_new(self, password: str, name: str = "password", *, about: Iterable[str | None] = ()) -> str:
        """Return `password` if it may be a new password; raise RefusedPassword for `name` saying why not.

        `about` is what anybody knows of the account: its name, its phone.
        """
        return check_new(password, name, minimum=self._minimum, about=about)


def check_new(
    password: str, name: str = "password", *, minimum: int = LENGTH_MIN, about: Iterable[str | None] = ()
) -> str:
    """Return `password` if it may be a new password; raise RefusedPassword for `name` saying why not.

    Length, a blocklist and words of the context, no rules of composition (NIST SP 800-63B-4, section 3.1.1.2; OWASP
    ASVS 5.0.0, 6.2.11).
    """
    if not minimum <= len(password) <= LENGTH_MAX:
        raise RefusedPassword(name, "length", f"must have {minimum} to {LENGTH_MAX} characters")
    # What a login would refuse as a parameter must not become a password.
    if not is_text(password):
        raise RefusedPassword(name, "characters", "has control characters or is not valid Unicode")
    folded = _normalised(password).casefold()
    if _is_common(folded):
        raise RefusedPassword(name, "common", "is one of the most common passwords")
    rest = folded
    for word in (*_CONTEXT, *(fold(word) for word in about if word)):
        if len(word.encode()) >= _WORD_MIN:
            rest = rest.replace(word, "")
    # Whoever guesses begins with these words, so the rest has to be a password by itself.
    if rest != folded and (len(rest) < LENGTH_MIN or _is_common(rest)):
        raise RefusedPassword(
            name, "context", "is little more than the account's name or phone, or a word of this service"
        )
    return password


@dataclass(frozen=True, slots=True)
class _Cost:
    units: float
    is_weak: bool


def _cost(stored: str) -> _Cost:
    """What matching a stored hash costs, read from its parameters. Raises DamagedHash."""
    method = stored.partition("$")[0]
    if scrypt := _SCRYPT.fullmatch(method):
        n, r, p = map(int, scrypt.groups())
        return _Cost(n * r * p / _SCRYPT_UNIT, n * r * p < _SCRYPT_MIN)
    if pbkdf2 := _PBKDF2.fullmatch(method):
        digest, iterations = pbkdf2[1], int(pbkdf2[2])
        return _Cost(
            iterations / _PBKDF2_UNIT.get(digest, 40_000), digest not in _PBKDF2_UNIT or iterations < _PBKDF2_MIN
        )
    try:
        parameters = argon2.extract_parameters(_plain(stored))
        work = parameters.memory_cost * parameters.time_cost
        lanes = (parameters.parallelism - 1) * parameters.time_cost
        return _Cost(work / _ARGON2_UNIT + lanes / _ARGON2_LANES_UNIT, work < _ARGON2_MIN)
    except (argon2.exceptions.InvalidHashError, OverflowError):
        raise DamagedHash from None


def _check_form(stored: str) -> None:
    """Raise DamagedHash where a match could not even begin. It is told without one: an import has thousands."""
    try:
        if stored.startswith((f"{_SA_PLUS}$", "$")):
            if stored.startswith(_SA_PLUS):
                _unwrapped(stored, "")
            salt, digest = (_decoded(each) for each in _plain(stored).split("$")[-2:])
            parameters = argon2.extract_parameters(_plain(stored))
            is_whole = (
                len(salt) >= _ARGON2_SALT_MIN
                and len(digest) >= _ARGON2_DIGEST_MIN
                and parameters.time_cost >= 1 <= parameters.parallelism
                and parameters.memory_cost >= 8 * parameters.parallelism
            )
        else:
            method, salt_text, digest_text = stored.split("$")
            is_whole = bool(salt_text) and len(bytes.fromhex(digest_text)) >= _SHORTEST_DIGEST
            if scrypt := _SCRYPT.fullmatch(method):
                n, r, _ = map(int, scrypt.groups())
                is_whole = is_whole and 1 < n < 2 ** (16 * r) and not n & (n - 1)  # RFC 7914, section 2
    except ValueError:
        raise DamagedHash from None
    if not is_whole:
        raise DamagedHash


def _decoded(text: str) -> bytes:
    if "=" in text:  # argon2 writes base64 without it
        raise ValueError
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _plain(stored: str) -> str:
    """The argon2 hash of a wrapped one, or the hash itself."""
    return "$" + stored.split("$", 3)[-1] if stored.startswith(f"{_SA_PLUS}$") else stored


def _unwrapped(stored: str, password: str) -> tuple[str, str]:
    """The argon2 hash inside a wrapped one, and what it is of: the MD5 that a sa-plus console makes of the password."""
    _, old_id, salt, _ = stored.split("$", 3)
    salted = base64.urlsafe_b64decode(salt) + f"{int(old_id)}{password}".encode()
    return _plain(stored), hashlib.md5(salted, usedforsecurity=False).hexdigest().upper()


def _is_common(folded: str) -> bool:
    return folded in _common() or len(set(folded)) == 1


def _normalised(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


@cache
def _common() -> frozenset[str]:
    """The 3,000 most common passwords of eight or more characters, by frequency in public leaks (zxcvbn's list)."""
    return frozenset(files("authsvc").joinpath("common_passwords.txt").read_text("utf-8").split())
