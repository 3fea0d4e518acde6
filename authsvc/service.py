"""Login, logout, who-am-I and the own password: the policy that both dialects translate.

The order of login's steps is its security. What costs a caller nothing is looked at first; what the caller may learn
only with the right password is looked at after it; a verdict is told only after it is charged; and whatever was read
before the password was matched is decided again in the transaction that opens the session.
"""

import itertools
import math
import time
from collections.abc import Callable

from authsvc import errors, logs, otp, passwords
from authsvc.identifiers import Key
from authsvc.otp import DamagedSeed, Seeds
from authsvc.passwords import DamagedHash, Passwords
from authsvc.repository import Account, Credentials, Database, Repository, Session
from authsvc.sessions import Client, SessionLimits
from authsvc.throttle import KNOWN_ADDRESS_DAYS, Counter, Counters, Limits, known_account, network, unknown_account
from authsvc.tokens import Tokens

_CLOCK_SKEW = 60.0
"""Seconds that a replica's clock may be ahead of another's before its tokens count as forged."""

_PURGE_EVERY, _PURGE_BATCH = 16, 320
"""After how many logins, right or wrong, how many rows of each kind are dropped: more than those add."""


class Service:
    """The one login behind both dialects."""

    def __init__(
        self,
        database: Database,
        hasher: Passwords,
        tokens: Tokens,
        seeds: Seeds,
        sessions: SessionLimits,
        limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._hasher = hasher
        self._tokens = tokens
        self._seeds = seeds
        self._sessions = sessions
        self._limits = limits
        self._clock = clock
        self._logins = itertools.count()

    def login(
        self, key: Key, password: str, code: str | None = None, *, client: Client, token: str | None = None
    ) -> tuple[Account, str]:
        """Open a session; return the account as it is now, and the new token. A live `token` is ended by it.

        Where two-step verification is on and no `code` is given, `password` may be `password,code`.
        Raises Throttled, WrongCredentials, CodeRequired, WrongCode, AccountDisabled, Busy, Unavailable.
        """
        try:
            account, new_token = self._login(key, password, code, client, token)
        except errors.Refusal as refusal:
            logs.login_refused(refusal.cause, refusal.account_id)
            raise
        logs.login_succeeded(account.id)
        return account, new_token

    def _login(
        self, key: Key, password: str, code: str | None, client: Client, old_token: str | None
    ) -> tuple[Account, str]:
        while True:
            credentials, counters = self._look_up(key, client)
            given_password, given_code = password, code
            if credentials and credentials.otp_seed is not None and code is None:
                given_password, given_code = otp.split_appended(password)
            matched = self._match_or_charge(credentials, given_password, counters)
            better_hash = matched.password_hash
            if self._hasher.is_outdated(better_hash):
                better_hash = self._hasher.hash(given_password)
            try:
                return self._open_session(matched, given_code, counters, better_hash, client, old_token)
            except _CredentialsChangedError:
                continue  # by an administrator, or by a parallel login that renewed them: the new ones decide

    def _look_up(self, key: Key, client: Client) -> tuple[Credentials | None, Counters]:
        """Find what to match against, unless a counter is full. Raises Throttled, before anything is hashed."""
        now = self._clock()
        origin = network(client.address)

        def look_up(rows: Repository) -> tuple[Credentials | None, Counters]:
            credentials = rows.credentials(key, origin, now - KNOWN_ADDRESS_DAYS * 86400)
            owner = known_account(credentials.account_id) if credentials else unknown_account(key)
            counters = Counters(self._limits, owner, origin, bool(credentials and credentials.known_address))
            self._stop_if_full(rows, counters, now, credentials)
            return credentials, counters

        return self._database.read(look_up)

    def _match_or_charge(self, credentials: Credentials | None, password: str, counters: Counters) -> Credentials:
        """Match the password or, for nobody, a decoy; no connection is held meanwhile. Raises WrongCredentials.

        The wrong guess is charged in a transaction of its own, committed before it is told.
        """
        if credentials and self._matches(credentials, password):
            return credentials
        if not credentials:
            self._hasher.match_nobody(password)
        with self._database.write() as rows:
            self._charge(rows, counters, counters.for_password(), self._clock(), credentials)
        if not credentials:
            raise errors.UnknownAccount
        raise errors.WrongCredentials(account_id=credentials.account_id)

    def _matches(self, credentials: Credentials, password: str) -> bool:
        try:
            return self._hasher.matches(credentials.password_hash, password)
        except DamagedHash:
            logs.damaged("password hash", credentials.account_id)
            self._hasher.match_nobody(password)
            return False

    def _open_session(
        self,
        credentials: Credentials,
        code: str | None,
        counters: Counters,
        better_hash: str,
        client: Client,
        old_token: str | None,
    ) -> tuple[Account, str]:
        """What follows the right password, in one transaction."""
        new_token, id_hash = self._tokens.issue()
        with self._database.write() as rows:
            now = self._clock()
            self._stop_if_full(rows, counters, now, credentials)
            if credentials.otp_seed is not None:
                self._claim_or_charge(rows, credentials, code, counters, now)
            # From here on the account's row is locked: a disabling or a new password at the same moment is either
            # seen here, or waits and then ends the session opened here.
            counted = rows.count_login(
                credentials,
                counters.network,
                at=now,
                login_address=client.address,
                password_hash=better_hash,
                otp_seed=self._renewed(credentials),
            )
            account = rows.account(Key("id", credentials.account_id))
            if not counted or account is None:
                if account and account.disabled:
                    rows.commit()  # what was told is used up: the code, too
                    raise errors.AccountDisabled(account_id=account.id)
                raise _CredentialsChangedError
            if old_id_hash := self._id_hash(old_token):
                rows.end_session(old_id_hash)
            session = Session(now, now, now + self._sessions.lifetime, client.address, client.user_agent)
            rows.add_session(id_hash, account.id, session)
            # Only now, and only this one: forgiven after the password, it would let whoever has the password guess
            # codes for ever.
            rows.forgive(counters.pair())
            self._purge(rows, now)
        return account, new_token

    def _claim_or_charge(
        self, rows: Repository, credentials: Credentials, code: str | None, counters: Counters, now: float
    ) -> None:
        """Use up the one-time code; charge a wrong one, and commit that before it is told."""
        if code is None:
            raise errors.CodeRequired(account_id=credentials.account_id)
        if not self._claim(rows, credentials, code, now):
            self._charge(rows, counters, counters.for_code(), now, credentials)
            rows.commit()
            raise errors.WrongCode(account_id=credentials.account_id)

    def _claim(self, rows: Repository, credentials: Credentials, code: str, now: float) -> bool:
        if code_hash := otp.recovery_hash(code):
            return rows.claim_recovery_code(credentials.account_id, code_hash)
        try:
            seed = self._seeds.decrypt(credentials.otp_seed or "")
        except DamagedSeed:
            logs.damaged("two-step seed", credentials.account_id)
            return False
        step = otp.time_step(seed, code, now)
        if step is None:
            if seconds := otp.clock_offset(seed, code, now):
                logs.clock_suspected(credentials.account_id, seconds)
            return False
        return rows.claim_step(credentials.account_id, step)

    def _renewed(self, credentials: Credentials) -> str | None:
        """The seed under the newest secret key; as it is, where it cannot be read (a recovery code was given)."""
        try:
            return None if credentials.otp_seed is None else self._seeds.renewed(credentials.otp_seed)
        except DamagedSeed:
            return credentials.otp_seed

    def _stop_if_full(self, rows: Repository, counters: Counters, now: float, credentials: Credentials | None) -> None:
        until = rows.full_until(counters.for_code(), counters.account, counters.network, now)
        if until is not None:
            seconds = max(1, math.ceil(until - now))
            raise errors.Throttled(seconds, account_id=credentials.account_id if credentials else None)

    def _charge(
        self, rows: Repository, counters: Counters, charged: list[Counter], now: float, credentials: Credentials | None
    ) -> None:
        """Charge all of them or, where one that stops is full, none: leaving the transaction takes it all back."""
        for counter in charged:
            if not rows.charge(counter, now) and counter.stops:
                self._stop_if_full(rows, counters, now, credentials)
                raise errors.Throttled(1)  # not reached; but a verdict that was not charged must not be
        self._purge(rows, now)

    def _purge(self, rows: Repository, now: float) -> None:
        if next(self._logins) % _PURGE_EVERY == 0:
            rows.purge(now - _CLOCK_SKEW, now - KNOWN_ADDRESS_DAYS * 86400, _PURGE_BATCH)

    def change_password(self, token: str | None, password: str, new_password: str, client: Client) -> None:
        """Give the account behind a live session a new password, and end its other sessions.

        Raises TokenRefused, Throttled, WrongCredentials, BadParameter for a new password that may not be one, Busy,
        Unavailable. A wrong present password is a wrong guess like any other.
        """
        account = self.whoami(token)
        try:
            self._change_password(account.id, token, password, new_password, client)
        except errors.Refusal as refusal:
            logs.password_refused(refusal.cause, account.id)
            raise
        logs.password_changed(account.id)

    def _change_password(
        self, account_id: int, token: str | None, password: str, new_password: str, client: Client
    ) -> None:
        while True:
            credentials, counters = self._look_up(Key("id", account_id), client)
            matched = self._match_or_charge(credentials, password, counters)
            new_hash = self._hasher.hash(passwords.check(new_password, "new_password"))
            with self._database.write() as rows:
                self._stop_if_full(rows, counters, self._clock(), matched)
                if rows.change_if_unchanged(matched, password_hash=new_hash):
                    this_session = self._id_hash(token)
                    if not this_session or not rows.session(this_session):
                        raise errors.TokenRevoked(account_id=account_id)
                    ended = rows.end_sessions(account_id, but=this_session)
                    break
            # Disabled or changed in the meantime: the token, or the new password, decides.
            self.whoami(token)
        logs.sessions_ended(account_id, "password.changed", ended)

    def whoami(self, token: str | None) -> Account:
        """The account behind a live session, read now; its use is noted. Raises TokenRefused, Unavailable."""
        id_hash, session, account = self._live_session(token)
        now = self._clock()
        if self._sessions.wants_touch(session, now):
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
        if now >= signed.signed_at + self._sessions.lifetime + 1:
            raise errors.TokenExpired
        found = self._database.session(signed.id_hash)
        if not found:
            raise errors.TokenRevoked
        session, account = found
        if self._sessions.refuses(session, now):
            raise errors.TokenExpired(account_id=account.id)
        if account.disabled:
            raise errors.TokenRevoked(account_id=account.id)
        return signed.id_hash, session, account

    def _touch(self, id_hash: bytes, now: float) -> None:
        try:
            self._database.read(lambda rows: rows.touch_session(id_hash, now))
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


class _CredentialsChangedError(Exception):
    """Password, seed or the account's row are no longer what was matched."""
