"""Login, logout and who-am-I: the policy that both dialects translate.

The order of login's steps is its security. What costs a caller nothing is looked at first; what the caller may learn
only with the right password is looked at after it; and whatever was read before the password was matched is decided
again, under the account's row lock, in the transaction that opens the session.
"""

import time
from collections.abc import Callable

from authsvc import errors, logs
from authsvc.identifiers import Key
from authsvc.passwords import DamagedHash, Passwords
from authsvc.repository import Account, Credentials, Database, Repository, Session
from authsvc.sessions import Client, SessionLimits
from authsvc.tokens import Tokens

_CLOCK_SKEW = 60.0
"""Seconds that a replica's clock may be ahead of another's before its tokens count as forged."""

_PURGE_BATCH = 20
"""Ended sessions dropped with each login: more than a login adds, so the table shrinks; few enough to cost nothing."""


class Service:
    """The one login behind both dialects."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        tokens: Tokens,
        limits: SessionLimits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._tokens = tokens
        self._limits = limits
        self._clock = clock

    def login(self, key: Key, password: str, *, client: Client, token: str | None = None) -> tuple[Account, str]:
        """Open a session; return the account as it is now, and the new token. A live `token` is ended by it.

        Raises WrongCredentials, AccountDisabled, Unavailable.
        """
        try:
            account, new_token = self._login(key, password, client, token)
        except errors.Refusal as refusal:
            logs.login_refused(refusal.cause, refusal.account_id)
            raise
        logs.login_succeeded(account.id)
        return account, new_token

    def _login(self, key: Key, password: str, client: Client, token: str | None) -> tuple[Account, str]:
        while True:
            credentials = self._database.read(lambda rows: rows.credentials(key))
            # No connection is held from here to the transaction: matching takes long.
            if not credentials:
                self._passwords.match_nobody(password)
                raise errors.UnknownAccount
            if not self._matches(credentials, password):
                raise errors.WrongCredentials(account_id=credentials.account_id)
            password_hash = credentials.password_hash
            if self._passwords.is_outdated(password_hash):
                password_hash = self._passwords.hash(password)
            if opened := self._open_session(credentials, password_hash, client, token):
                return opened
            # The stored hash is another one by now (changed, or upgraded by a parallel login): it decides.

    def _open_session(
        self, credentials: Credentials, password_hash: str, client: Client, old_token: str | None
    ) -> tuple[Account, str] | None:
        new_token, id_hash = self._tokens.issue()
        now = self._clock()
        session = Session(now, now, now + self._limits.lifetime, client.address, client.user_agent)
        with self._database.write() as rows:
            # The row lock comes with this first write: a disabling or a new password at the same moment is either
            # seen here, or waits and then ends the session opened here.
            counted = rows.count_login(credentials, at=now, address=client.address, password_hash=password_hash)
            account = rows.account(Key("id", credentials.account_id))
            if not counted or account is None:
                if account and account.disabled:
                    raise errors.AccountDisabled(account_id=account.id)
                return None
            if old_id_hash := self._id_hash(old_token):
                rows.end_session(old_id_hash)
            rows.add_session(id_hash, account.id, session)
            # Last, where nothing is waited for any more: it locks rows of other accounts.
            rows.purge_sessions(now - _CLOCK_SKEW, most=_PURGE_BATCH)
        return account, new_token

    def _matches(self, credentials: Credentials, password: str) -> bool:
        try:
            return self._passwords.matches(credentials.password_hash, password)
        except DamagedHash:
            logs.hash_damaged(credentials.account_id)
            self._passwords.match_nobody(password)
            return False

    def whoami(self, token: str | None) -> Account:
        """The account behind a live session, read now; its use is noted. Raises TokenRefused, Unavailable."""
        id_hash, session, account = self._live_session(token)
        now = self._clock()
        if self._limits.wants_touch(session, now):
            self._touch(id_hash, now)
        return account

    def logout(self, token: str | None) -> None:
        """End the session of a token. Raises TokenRefused where there is none to end, Unavailable."""
        id_hash, _, account = self._live_session(token)
        with self._database.write() as rows:
            # Of two that end the same session at once, only one does.
            if not rows.end_session(id_hash):
                raise errors.TokenRevoked(account_id=account.id)
        logs.logout(account.id)

    def _live_session(self, token: str | None) -> tuple[bytes, Session, Account]:
        if not token:
            raise errors.TokenMissing
        signed = self._tokens.read(token)
        now = self._clock()
        if signed.signed_at > now + _CLOCK_SKEW:
            raise errors.TokenInvalid
        # Tokens are dated in whole seconds: the one second more leaves the exact moment to the row.
        if now >= signed.signed_at + self._limits.lifetime + 1:
            raise errors.TokenExpired
        found = self._database.read(lambda rows: rows.session(signed.id_hash))
        if not found:
            raise errors.TokenRevoked
        session, account = found
        if self._limits.refuses(session, now):
            raise errors.TokenExpired(account_id=account.id)
        if account.disabled:
            raise errors.TokenRevoked(account_id=account.id)
        return signed.id_hash, session, account

    def _touch(self, id_hash: bytes, now: float) -> None:
        try:
            with self._database.write() as rows:
                rows.touch_session(id_hash, now)
        except errors.Unavailable:
            # The session was just read and is good. A disk that is full or a database that only reads must not
            # refuse it; at worst it idles out early.
            logs.failed("session.touch_failed")

    def _id_hash(self, token: str | None) -> bytes | None:
        """The session that a presented token names, dead or alive; None for what is no token of ours."""
        try:
            return self._tokens.read(token).id_hash if token else None
        except errors.TokenInvalid:
            return None

    def schema_revision(self) -> str | None:
        """The migration that the database is at. Raises Unavailable."""
        return self._database.read(Repository.schema_revision)
