"""What a logged-in account does with itself: password, sessions, two-step verification."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import ParamSpec, TypeVar

from authsvc import errors, otp
from authsvc.accounts import Account
from authsvc.authentication import Authenticator, CredentialsChangedError, Match, told
from authsvc.events import Event
from authsvc.identifiers import Key, by_name
from authsvc.otp import DamagedSeed, Seeds
from authsvc.passwords import Passwords
from authsvc.sessions import CLOCK_SKEW, Client, LiveSession, Session, SessionLimits
from authsvc.store.database import Database
from authsvc.store.repository import Repository
from authsvc.tokens import Tokens

PENDING_SECONDS = 600
"""How long two-step verification that was begun waits to be confirmed."""

_HANDLE_DIGITS = 32
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Pending:
    """Two-step verification that is not in force yet. It is shown once, to the account's owner."""

    seed: str = field(repr=False)
    uri: str = field(repr=False)


def handle(session: Session) -> str:
    """What a session is called towards its owner; good for nothing else."""
    return session.id_hash.hex()[:_HANDLE_DIGITS]


def _with_what_holds_now(verb: Callable[_P, _T]) -> Callable[_P, _T]:
    """Begin a verb anew where somebody was faster and changed what the account proves itself with."""

    @wraps(verb)
    def again(*arguments: _P.args, **named: _P.kwargs) -> _T:
        while True:
            try:
                return verb(*arguments, **named)
            except CredentialsChangedError:
                continue  # in this very session, or by a login that renewed them: any other change ends the session

    return again


@dataclass(eq=False, repr=False)
class OwnAccount:
    """What a live session may do. Whoever has the session alone may not: verbs ask for the password, too (ASVS 7.5.1).

    A wrong password or code is a wrong guess like any other. So verbs raise Throttled, WrongCredentials, Busy,
    Unavailable; CodeRequired and WrongCode where they take a code; and TokenRevoked where the session ends meanwhile.
    """

    _database: Database
    _authenticator: Authenticator
    _passwords: Passwords
    _tokens: Tokens
    _seeds: Seeds
    _limits: SessionLimits
    _clock: Callable[[], float]

    @_with_what_holds_now
    def change_password(
        self, live: LiveSession, password: str, new_password: str, code: str | None, client: Client
    ) -> str:
        """Give the account a new password; return the token of a new session. All others end.

        Raises RefusedPassword for a new password that may not be one.
        """
        token, id_hash = self._tokens.issue()
        with self._changing_password(live, password, new_password, code, client) as (repository, now):
            # This session, too: its token may be in other hands (OWASP ASVS 5.0.0, 7.2.4).
            repository.end_sessions(live.account.id, Event.PASSWORD_CHANGED)
            repository.add_session(live.account.id, self._limits.opened(id_hash, now, client))
        return token

    @_with_what_holds_now
    def change_password_and_stay(self, live: LiveSession, password: str, new_password: str, client: Client) -> None:
        """Give the account a new password; all other sessions end. For clients that cannot take a new token.

        Raises RefusedPassword for a new password that may not be one.
        """
        with self._changing_password(live, password, new_password, None, client) as (repository, _):
            repository.end_sessions(live.account.id, Event.PASSWORD_CHANGED, but=live.session.id_hash)

    @contextmanager
    def _changing_password(
        self, live: LiveSession, password: str, new_password: str, code: str | None, client: Client
    ) -> Iterator[tuple[Repository, float]]:
        account = live.account
        with told(Event.PASSWORD_REFUSED, account.id):
            match = self._match(live, password, code, client, Event.PASSWORD_REFUSED)
            about = (account.name, account.phone)
            new_hash = self._passwords.hash(self._passwords.check_new(new_password, "new_password", about=about))
            with self._as_owner(live, match, Event.PASSWORD_REFUSED) as (repository, now):
                repository.change_account(account.id, password_hash=new_hash)
                repository.note(Event.PASSWORD_CHANGED, account.id)
                yield repository, now

    def sessions(self, live: LiveSession) -> list[Session]:
        """The account's live sessions, the one that was used last first. Asks for nothing more than the session."""
        found = self._database.read(lambda repository: repository.sessions(live.account.id))
        return sorted(self._limits.alive(found, self._clock()), key=lambda session: session.last_seen_at, reverse=True)

    @_with_what_holds_now
    def end_session(self, live: LiveSession, password: str, wanted: str, client: Client) -> bool:
        """End the session that is called `wanted`; False where there is none. One's own may be it."""
        with self._proved(live, password, None, client, two_step=False) as (repository, now):
            alive = self._limits.alive(repository.sessions(live.account.id), now)
            session = next((session for session in alive if handle(session) == wanted), None)
            # A logout at the same moment may be faster.
            if session is None or repository.end_session(session.id_hash) is None:
                return False
            if session.id_hash == live.session.id_hash:
                repository.note(Event.LOGOUT, live.account.id)
            else:
                repository.note(Event.SESSIONS_ENDED, live.account.id, cause="owner", count=1)
            return True

    @_with_what_holds_now
    def end_other_sessions(self, live: LiveSession, password: str, client: Client) -> int:
        """End all sessions but this one; return how many there were."""
        with self._proved(live, password, None, client, two_step=False) as (repository, now):
            # Those that are over by themselves, too: a longer limit would bring them back.
            ended = repository.end_sessions(live.account.id, "owner", but=live.session.id_hash)
            return len(self._limits.alive(ended, now))

    @_with_what_holds_now
    def begin_otp(self, live: LiveSession, password: str, client: Client) -> Pending:
        """Begin two-step verification, anew where it was begun before. Nothing is in force yet. Raises OtpIsOn."""
        seed = otp.new_seed()
        with self._proved(live, password, None, client, otp_on=False) as (repository, now):
            sealed = self._seeds.encrypt(seed, live.account.id)
            repository.change_account(live.account.id, otp_pending_seed=sealed, otp_pending_at=now)
        return Pending(seed, otp.uri(seed, live.account.name))

    def confirm_otp(self, live: LiveSession, code: str, client: Client) -> list[str]:
        """Put in force what was begun; return the recovery codes. The account's other sessions end.

        Raises OtpIsOn, OtpNotBegun.
        """
        account, refused = live.account, Event.REAUTHENTICATION_REFUSED
        with told(refused, account.id), self._database.write() as repository:
            now = self._clock()
            counters = self._authenticator.counters(repository, by_name(account.name), account.id, client, now)
            if self._lock(repository, live).otp:
                raise errors.OtpIsOn
            seed = self._pending_seed(repository, account.id, now)
            step = otp.time_step(seed, code, now)
            if step is None:
                self._authenticator.refuse_code(repository, counters, now, refused)
            codes = otp.new_recovery_codes()
            sealed = self._seeds.encrypt(seed, account.id)
            repository.change_account(account.id, otp_seed=sealed, otp_step=step, otp_row=0, otp_pending_seed=None)
            repository.replace_recovery_codes(account.id, otp.recovery_hashes(codes))
            repository.note(Event.OTP_ENABLED, account.id)
            repository.end_sessions(account.id, Event.OTP_ENABLED, but=live.session.id_hash)
        return codes

    def _pending_seed(self, repository: Repository, account_id: int, now: float) -> str:
        sealed, begun_at = repository.pending_otp(account_id)
        if sealed is None or begun_at is None or not -CLOCK_SKEW <= now - begun_at < PENDING_SECONDS:
            raise errors.OtpNotBegun
        try:
            return self._seeds.decrypt(sealed, account_id)
        except DamagedSeed:
            raise errors.OtpNotBegun from None

    @_with_what_holds_now
    def renew_recovery_codes(self, live: LiveSession, password: str, code: str | None, client: Client) -> list[str]:
        """Return new recovery codes; the old ones are void. Raises OtpIsOff."""
        codes = otp.new_recovery_codes()
        with self._proved(live, password, code, client, otp_on=True) as (repository, _):
            repository.replace_recovery_codes(live.account.id, otp.recovery_hashes(codes))
            repository.note(Event.RECOVERY_CODES_RENEWED, live.account.id)
        return codes

    @_with_what_holds_now
    def disable_otp(self, live: LiveSession, password: str, code: str | None, client: Client) -> None:
        """Turn two-step verification off; the account's other sessions end. Raises OtpIsOff."""
        with self._proved(live, password, code, client, otp_on=True) as (repository, _):
            repository.change_account(live.account.id, otp_seed=None)
            repository.replace_recovery_codes(live.account.id, [])
            repository.note(Event.OTP_DISABLED, live.account.id)
            repository.end_sessions(live.account.id, Event.OTP_DISABLED, but=live.session.id_hash)

    @contextmanager
    def _proved(
        self,
        live: LiveSession,
        password: str,
        code: str | None,
        client: Client,
        *,
        two_step: bool = True,
        otp_on: bool | None = None,
    ) -> Iterator[tuple[Repository, float]]:
        """A transaction of whoever knows the password and, with `two_step`, a code where one is needed.

        `otp_on` is for whom it is at all: accounts with two-step verification, or those without. Raises OtpIsOn and
        OtpIsOff, before anything is charged.
        """
        refused = Event.REAUTHENTICATION_REFUSED
        with told(refused, live.account.id):
            _refuse_unless(otp_on, live.account.otp)
            # An empty code is none that could be appended.
            match = self._match(live, password, code if two_step else "", client, refused)
            _refuse_unless(otp_on, match.credentials.otp_seed is not None)
            with self._as_owner(live, match, refused, two_step=two_step) as (repository, now):
                yield repository, now

    def _match(self, live: LiveSession, password: str, code: str | None, client: Client, refused: Event) -> Match:
        # By its id, as a name may change hands; counted as a login with the name is.
        key, counted_as = Key("id", live.account.id), by_name(live.account.name)
        return self._authenticator.match(key, password, code, client, refused, counted_as)

    @contextmanager
    def _as_owner(
        self, live: LiveSession, match: Match, refused: Event, *, two_step: bool = True
    ) -> Iterator[tuple[Repository, float]]:
        with self._database.write() as repository:
            now = self._clock()
            self._authenticator.confirm(repository, match, now, refused, two_step=two_step)
            self._lock(repository, live)
            # Some changes leave the session that made them alive: whoever has it, too, must not profit from before.
            if not repository.is_unchanged(match.credentials):
                raise CredentialsChangedError
            yield repository, now

    @staticmethod
    def _lock(repository: Repository, live: LiveSession) -> Account:
        """The account as it is now, and stays until the end of the transaction."""
        repository.lock_account(live.account.id)
        # Only now: who disables the account, or changes its password or second step elsewhere, has either ended this
        # session already, or waits. So does a logout, which does not lock the account.
        current = repository.lock_session(live.session.id_hash)
        if not current:
            raise errors.TokenRevoked
        return current.account


def _refuse_unless(otp_on: bool | None, is_on: bool) -> None:
    if otp_on is not None and otp_on != is_on:
        raise errors.OtpIsOn if is_on else errors.OtpIsOff
