"""What a logged-in account does with itself."""

from collections.abc import Callable

from authsvc import errors
from authsvc.authentication import Authenticator, CredentialsChangedError, told
from authsvc.events import Event
from authsvc.identifiers import Key, by_name
from authsvc.passwords import Passwords
from authsvc.sessions import Client, LiveSession, SessionLimits
from authsvc.store.database import Database
from authsvc.tokens import Tokens


class OwnAccount:
    """Each verb asks for the present password, and a wrong one is a wrong guess like any other."""

    def __init__(
        self,
        database: Database,
        authenticator: Authenticator,
        passwords: Passwords,
        tokens: Tokens,
        limits: SessionLimits,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._passwords = passwords
        self._tokens = tokens
        self._limits = limits
        self._clock = clock

    def change_password(
        self, live: LiveSession, password: str, new_password: str, code: str | None, client: Client
    ) -> str:
        """Give the account a new password; return the token of a new session. All others end.

        Raises Throttled, WrongCredentials, CodeRequired, WrongCode, BadParameter for a new password that may not be
        one, TokenRevoked where the session has ended meanwhile, Busy, Unavailable.
        """
        with told(Event.PASSWORD_REFUSED, live.account.id):
            while True:
                try:
                    return self._change_password(live, password, new_password, code, client)
                except CredentialsChangedError:
                    continue  # by a parallel login that renewed the hash: the new one decides

    def _change_password(
        self, live: LiveSession, password: str, new_password: str, code: str | None, client: Client
    ) -> str:
        account, refused = live.account, Event.PASSWORD_REFUSED
        # By its id, as a name may change hands; counted as a login with the name is.
        key, counted_as = Key("id", account.id), by_name(account.name)
        match = self._authenticator.match(key, password, code, client, refused, counted_as=counted_as)
        about = (account.name, account.phone)
        new_hash = self._passwords.hash(self._passwords.check_new(new_password, "new_password", about=about))
        token, id_hash = self._tokens.issue()
        with self._database.write() as repository:
            now = self._clock()
            self._authenticator.confirm(repository, match, now, refused)
            changed = repository.change_if_unchanged(match.credentials, password_hash=new_hash)
            # Only now, as the account's row is locked: who disables it, changes its password or logs out has either
            # ended this session already, or waits.
            if not repository.live_session(live.session.id_hash):
                raise errors.TokenRevoked(account_id=account.id)
            if not changed:
                raise CredentialsChangedError
            repository.note(Event.PASSWORD_CHANGED, account.id)
            # This session's, too: its token may be in other hands (OWASP ASVS 5.0.0, 7.2.4).
            repository.end_sessions(account.id, Event.PASSWORD_CHANGED)
            repository.add_session(account.id, self._limits.opened(id_hash, now, client))
        return token
