"""Session ids and the signed texts that carry them."""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from itsdangerous import BadSignature, TimestampSigner

from authsvc.errors import TokenInvalid

_ID_BYTES = 24
_REMEMBERED = 4096  # tokens
# A bound, since what is well signed is remembered: base64 may be followed by any number of "=".
_FORM = re.compile(r"[A-Za-z0-9_-]{32}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_=-]{1,200}")


@dataclass(frozen=True, slots=True)
class SignedId:
    """What a well-signed token says: the SHA-256 of its session's id, and when it was signed (epoch seconds)."""

    id_hash: bytes
    signed_at: float


def has_form(text: str) -> bool:
    """Whether a text looks like a token of ours, genuine or not: another service's does not."""
    return _FORM.fullmatch(text) is not None


class _Signer(TimestampSigner):
    """Dates tokens by our clock, and derives each key once: anew for every signature is half of all the work."""

    def __init__(self, keys: list[str], clock: Callable[[], float]) -> None:
        super().__init__(keys, salt=b"authsvc.session", key_derivation="hmac", digest_method=hashlib.sha256)
        self.derive_key = cache(super().derive_key)  # type: ignore[method-assign]
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock())


class Tokens:
    """Makes and reads session tokens.

    A token is `<id>.<time>.<signature>`, signed by itsdangerous with HMAC-SHA-256 under a key derived for this one
    purpose (the salt). Several texts are accepted for one token (the last base64 character has spare bits), so a
    session is found by its id and never by the text.
    """

    def __init__(self, keys: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        """Sign with the first of `keys`; verify with all of them."""
        self._signer = _Signer(list(reversed(keys)), clock)
        # What was well signed once is so as long as the keys are these, and most checks are of few tokens.
        self._remembered = lru_cache(_REMEMBERED)(self._read)

    def issue(self) -> tuple[str, bytes]:
        """Make a new session id of 192 random bits; return its token and the hash to store."""
        session_id = secrets.token_urlsafe(_ID_BYTES).encode()
        return self._signer.sign(session_id).decode(), hashlib.sha256(session_id).digest()

    def read(self, token: str) -> SignedId:
        """Check a token's form and signature, not its age. Raises TokenInvalid."""
        return self._remembered(token)

    def _read(self, token: str) -> SignedId:
        if not has_form(token):
            raise TokenInvalid
        try:
            session_id, signed_at = self._signer.unsign(token, return_timestamp=True)
        except BadSignature:
            raise TokenInvalid from None
        return SignedId(hashlib.sha256(session_id).digest(), signed_at.timestamp())
