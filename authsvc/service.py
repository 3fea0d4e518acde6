"""Log in, log out, who am I: what both dialects translate."""

from collections.abc import Callable
from dataclasses import dataclass

from authsvc import errors, logs
from authsvc.accounts import Credentials
from authsvc.authentication import Authenticator, CredentialsChangedError, Match, refuse, told
from authsvc.events import Event
from authsvc.identifiers import Key
from authsvc.otp import DamagedSeed, Seeds
from authsvc.passwords import Passwords
from authsvc.sessions import CLOCK_SKEW, Client, LiveSession, SessionLimits
from authsvc.store.database import Database
from authsvc.tokens import Tokens


@dataclass(eq=False, repr=False)
class Service:
    """The one login behind all dialects."""

    _database: Database
    _authenticator: Authenticator
    _passwords: Passwords
    _tokens: Tokens
    _seeds: Seeds
    _limits: SessionLimits
    _clock: Callable[[], float]

    def login(
        self, key: Key, password: str, code: str | None = None, *, client: Client, token: str | None = None
    ) -> tuple[LiveSession, str]:
        """Open a session; return it with its account as it is now, and the new token. A live `token` is ended by it.

        Where two-step verification is on and no `code` is given, `password` may be `password,code`.
        Raises Throttled, WrongCredentials, CodeRequired, WrongCode, AccountDisabled, Busy, Unavailable.
        """
        with told(Event.LOGIN_REFUSED):
            while True:
                match = self._authenticator.match(key, password, code, client, Event.LOGIN_REFUSED)
                better_hash = self._passwords.renewed(match.credentials.password_hash, match.password)
                try:
                    return self._open_session(match, better_hash, client, token)
                except CredentialsChangedError:
                    continue  # by an administrator, or by a parallel login that renewed them: the new ones decide

    def _open_session(
        self, match: Match, better_hash: str, client: Client, old_token: str | None
    ) -> tuple[LiveSession, str]:
        """What follows the right password, in one transaction."""
        credentials, counters = match.credentials, match.counters
        token, id_hash = self._tokens.issue()
        with self._database.write() as repository:
            now = self._clock()
            self._authenticator.confirm(repository, match, now, Event.LOGIN_REFUSED)
            # From here on the account's row is locked: a disabling or a new password at the same moment is either
            # seen here, or waits and then ends the session opened here.
            counted = repository.count_login(
                credentials,
                counters.network,
                at=now,
                login_address=client.address,
                password_hash=better_hash,
                otp_seed=self._renewed_seed(credentials),
            )
            if not counted:
                account = repository.account(Key("id", credentials.account_id))
                if account and account.disabled:
                    # The code stays used although the login is refused.
                    refuse(repository, Event.LOGIN_REFUSED, errors.AccountDisabled(account_id=account.id))
                raise CredentialsChangedError
            old_id_hash = self._id_hash(old_token)
            if old_id_hash and (whose := repository.end_session(old_id_hash)) is not None:
                repository.note(Event.SESSIONS_ENDED, whose, cause=Event.LOGIN_SUCCEEDED, count=1)
            repository.add_session(credentials.account_id, self._limits.opened(id_hash, now, client))
            # Only now, and only this one: forgiven after the password, it would let whoever has the password guess
            # codes for ever.
            self._authenticator.forgive(repository, counters, now)
            opened = repository.live_session(id_hash)
            assert opened, "was just added"
            repository.note(Event.LOGIN_SUCCEEDED, credentials.account_id, factors=match.factors)
            self._authenticator.purge(repository, now)
        return opened, token

    def _renewed_seed(self, credentials: Credentials) -> str | None:
        """The seed under the newest secret key; as it is, where it cannot be read (a recovery code was given)."""
        seed = credentials.otp_seed
        try:
            return None if seed is None else self._seeds.renewed(seed, credentials.account_id)
        except DamagedSeed:
            return seed

    def whoami(self, token: str | None) -> LiveSession:
        """The live session of a token, read now; that it is in use is noted. Raises TokenRefused, Unavailable."""
        live = self._live_session(token)
        now = self._clock()
        if self._limits.wants_touch(live.session, now):
            self._touch(live.session.id_hash, now)
        return live

    def _live_session(self, token: str | None) -> LiveSession:
        if not token:
            raise errors.TokenMissing
        signed = self._tokens.read(token)
        now = self._clock()
        if signed.signed_at > now + CLOCK_SKEW:
            raise errors.TokenInvalid
        # Tokens are dated in whole seconds: the one second more leaves the exact moment to the row.
        if now >= signed.signed_at + self._limits.lifetime + 1:
            raise errors.TokenExpired
        live = self._database.check(signed.id_hash)
        if not live:
            raise errors.TokenRevoked
        if self._limits.refuses(live.session, now):
            raise errors.TokenExpired
        if live.account.disabled:
            raise errors.TokenRevoked
        return live

    def authorize(self, live: LiveSession, permission: str) -> None:
        """Raise PermissionMissing unless the account's role grants a permission code."""
        if permission not in live.account.permissions:
            logs.audit(Event.PERMISSION_REFUSED, live.account.id, permission=permission)
            raise errors.PermissionMissing

    def logout(self, token: str | None) -> None:
        """End the session of a token. Raises TokenRefused where there is none to end, Unavailable."""
        live = self._live_session(token)
        with self._database.write() as repository:
            # Of two that end the same session at once, only one does.
            if repository.end_session(live.session.id_hash) is None:
                raise errors.TokenRevoked
            repository.note(Event.LOGOUT, live.account.id)

    def _touch(self, id_hash: bytes, now: float) -> None:
        try:
            # Waits for nobody: a check must not be slow, and the next one tries again.
            with self._database.write(patience=0.0) as repository:
                repository.touch_session(id_hash, now)
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
