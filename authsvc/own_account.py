"""What a logged-in account does with itself."""

from collections.abc import Callable

from authsvc import errors
from authsvc.authentication import Authenticator, told
from authsvc.events import Event
from authsvc.identifiers import Key
from authsvc.passwords import Passwords, check_new
from authsvc.sessions import Client, LiveSession
from authsvc.store.database import Database


class OwnAccount:
    """Each verb asks for the present password, and a wrong one is a wrong guess like any other."""

    def __init__(
        self, database: Database, authenticator: Authenticator, passwords: Passwords, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._passwords = passwords
        self._clock = clock

    def change_password(self, live: LiveSession, password: str, new_password: str, client: Client) -> None:
        """Give the account a new password, and end its other sessions.

        Raises Throttled, WrongCredentials, BadParameter for a new password that may not be one, TokenRevoked where the
        session has ended meanwhile, Busy, Unavailable.
        """
        with told(Event.PASSWORD_REFUSED, live.account.id):
            while not self._change_password(live, password, new_password, client):
                pass  # a parallel login renewed the hash: the new one decides

    def _change_password(self, live: LiveSession, password: str, new_password: str, client: Client) -> bool:
        account_id, this_session = live.account.id, live.session.id_hash
        # An empty code: the session has proved the second step, and `password,code` is no password here.
        match = self._authenticator.match(Key("id", account_id), password, "", client, Event.PASSWORD_REFUSED)
        new_hash = self._passwords.hash(check_new(new_password, "new_password"))
        with self._database.write() as repository:
            self._authenticator.refuse_if_full(repository, match.counters, self._clock(), match.credentials)
            changed = repository.change_if_unchanged(match.credentials, password_hash=new_hash)
            # Only now, as the account's row is locked: who disables it, changes its password or logs out has either
            # ended this session already, or waits.
            if not repository.live_session(this_session):
                raise errors.TokenRevoked(account_id=account_id)
            if changed:
                repository.note(Event.PASSWORD_CHANGED, account_id)
                repository.end_sessions(account_id, Event.PASSWORD_CHANGED, but=this_session)
        return changed
