"""The administrator's verbs: accounts, roles and the console's configuration."""

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from authsvc import errors, identifiers, otp
from authsvc.accounts import Account, Guesses, Role
from authsvc.events import Event, Happening
from authsvc.identifiers import INTEGER_MAX, Key, by_name
from authsvc.otp import Seeds
from authsvc.passwords import Passwords
from authsvc.sessions import Session, SessionLimits
from authsvc.store.database import Database
from authsvc.store.repository import Repository
from authsvc.throttle import Counter, Limits, by_key, known_account

DEFAULT_ROLE = "user"
"""The role of an account that is given none."""

_ADMIN_ROLE = "admin"
_TRAIL_PAGE = 1000
_START_PATIENCE = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the owner of an account needs for two-step verification. It is shown once and stored nowhere else."""

    uri: str = field(repr=False)
    seed: str = field(repr=False)
    recovery_codes: tuple[str, ...] = field(repr=False)


@dataclass(eq=False, repr=False)
class Administration:
    """Each verb is one transaction, which notes what it does. Raises Unavailable, besides what each verb says."""

    _database: Database
    _passwords: Passwords
    _seeds: Seeds
    _limits: SessionLimits
    _guesses: Limits
    _clock: Callable[[], float]

    def bootstrap(self, password: str | None, name: str = "admin") -> str | None:
        """Create the first administrator, called `name`, if there is no account.

        Return the password made up for it, if it was created and none was given: it is stored nowhere else.
        """
        if self._database.read(Repository.has_accounts):
            return None
        chosen = password or secrets.token_urlsafe(16)
        password_hash = self._passwords.hash(chosen)
        # No request waits for it, and other replicas that start may have much to write.
        with self._database.write(exclusive=True, patience=_START_PATIENCE) as repository:
            # Asked again under the lock: replicas that start together all came this far.
            if repository.has_accounts():
                return None
            account_id = repository.add_account(**self._new(repository, name, password_hash, role=_ADMIN_ROLE))
            repository.note(Event.ACCOUNT_ADDED, account_id)
        return None if password else chosen

    def add_account(
        self,
        name: str,
        *,
        password: str | None = None,
        password_hash: str | None = None,
        account_id: int | None = None,
        role: str = DEFAULT_ROLE,
        phone: str | None = None,
        avatar: str | None = None,
        permission: int = 0,
        created_by: Key | None = None,
        ask_password: Callable[[], str] = str,
    ) -> int:
        """Create an account with a password or with a hash made elsewhere; return its id.

        Where neither is given, `ask_password` does, but only after all that can be refused without.
        Raises BadParameter, Conflict, UnknownRole, and UnknownAccount for its creator.
        """
        identifiers.check_name(name)
        _check(phone=phone, avatar=avatar, permission=permission)
        given = {"phone": phone, "avatar": avatar, "permission": permission}
        if account_id is not None:
            given["id"] = identifiers.check_id("id", account_id)

        def values(repository: Repository, password_hash: str) -> dict[str, Any]:
            creator = _existing(repository, created_by).id if created_by else None
            return self._new(repository, name, password_hash, role=role) | given | {"created_by": creator}

        self._database.read(lambda repository: repository.refuse_conflict(**values(repository, "")))
        if password_hash is None:
            new = ask_password() if password is None else password
            password_hash = self._passwords.hash(self._passwords.check_new(new, about=(name, phone)))
        else:
            self._passwords.check_stored(password_hash)
        with self._database.write(exclusive=True) as repository:
            added = repository.add_account(**values(repository, password_hash))
            repository.note(Event.ACCOUNT_ADDED, added)
        return added

    def _new(self, repository: Repository, name: str, password_hash: str, *, role: str) -> dict[str, Any]:
        return {
            "name": name,
            "password_hash": password_hash,
            "role_id": repository.role_id(role),
            "permission": 0,
            "disabled": False,
            "created_at": self._clock(),
        }

    def accounts(
        self, *, search: str | None = None, role: str | None = None, disabled: bool = False, limit: int | None = None
    ) -> list[Account]:
        """All accounts, oldest first, or those whose name or phone contains `search`, and so on. Raises UnknownRole."""

        def found(repository: Repository) -> list[Account]:
            role_id = None if role is None else repository.role_id(role)
            return repository.accounts(search=search, role_id=role_id, disabled=disabled, limit=limit)

        return self._database.read(found)

    def account(self, key: Key) -> Account:
        """One account. Raises UnknownAccount."""
        return self._database.read(lambda repository: _existing(repository, key))

    def guesses(self, account: Account) -> Guesses:
        """The wrong guesses that are counted against an account now."""
        now, failures, ends = self._clock(), 0, []
        for scope, count, ends_at in self._database.read(lambda repository: repository.counters(_counted_as(account))):
            counter = Counter("", "", scope, getattr(self._guesses, scope))
            if scope == "account" and counter.is_running(ends_at, now):
                failures = max(failures, count)
            if counter.is_full(count, ends_at, now):
                ends.append(ends_at)
        return Guesses(failures, max(ends, default=None))

    def history(
        self, key: Key | None = None, *, since: float = 0.0, event: str | None = None, limit: int | None = None
    ) -> Iterator[Happening]:
        """The trail of all accounts or of one, newest first. An id finds that of an account that is gone, too.

        Raises UnknownAccount where there is neither the account nor a trail of it.
        """
        account_id = None if key is None else self._trail_owner(key)
        place, left = None, INTEGER_MAX if limit is None else limit
        while left > 0:
            most = min(left, _TRAIL_PAGE)
            query = partial(Repository.trail, most=most, account_id=account_id, event=event, since=since, before=place)
            page = self._database.read(query)
            yield from (happening for _, happening in page)
            if len(page) < most:
                return
            place = page[-1][0]
            left -= most

    def _trail_owner(self, key: Key) -> int:
        def owner(repository: Repository) -> int:
            if key.kind == "id" and repository.trail(1, account_id=int(key.value)):
                return int(key.value)
            return _existing(repository, key).id

        return self._database.read(owner)

    def change_account(
        self,
        key: Key,
        *,
        name: str | None = None,
        phone: str | None = None,
        avatar: str | None = None,
        role: str | None = None,
        permission: int | None = None,
    ) -> None:
        """Set what is given; an empty phone or avatar removes it.

        Raises UnknownAccount, UnknownRole, BadParameter, Conflict.
        """
        if name is not None:
            identifiers.check_name(name)
        _check(phone=phone or None, avatar=avatar or None, permission=permission)
        given = {"name": name, "phone": phone, "avatar": avatar, "permission": permission}
        values: dict[str, Any] = {
            name: None if value == "" else value for name, value in given.items() if value is not None
        }
        with self._database.write() as repository:
            account = _existing(repository, key)
            if role is not None:
                values["role_id"] = repository.role_id(role)
            if not values:
                raise errors.BadParameter("what to set", "is missing")
            repository.change_account(account.id, **values)
            repository.note(Event.ACCOUNT_CHANGED, account.id, fields=sorted(values))

    def delete_account(self, key: Key) -> None:
        """Delete an account with all that is its own, but for its trail. Its id is never given again.

        Raises UnknownAccount.
        """
        with self._database.write() as repository:
            account = _existing(repository, key)
            # First, so that what a login in flight adds is there to delete, or the login finds no account.
            repository.lock_account(account.id)
            repository.delete_account(account.id)
            repository.forgive_all(_counted_as(account))
            repository.note(Event.ACCOUNT_DELETED, account.id, name=account.name)

    def set_password(self, key: Key, password: str) -> None:
        """Give an account a new password and end its sessions. Raises UnknownAccount, BadParameter."""
        account = self.account(key)
        about = (account.name, account.phone)
        password_hash = self._passwords.hash(self._passwords.check_new(password, about=about))
        self._change_and_end_sessions(key, Event.PASSWORD_CHANGED, password_hash=password_hash)

    def set_disabled(self, key: Key, disabled: bool) -> None:
        """Switch an account off, which ends its sessions, or on again. Raises UnknownAccount."""
        event = Event.ACCOUNT_DISABLED if disabled else Event.ACCOUNT_ENABLED
        self._change_and_end_sessions(key, event, disabled=disabled)

    def end_sessions(self, key: Key) -> int:
        """End all sessions of an account; return how many there were. Raises UnknownAccount."""
        return self._change_and_end_sessions(key, Event.ACCOUNT_LOGGED_OUT)

    def _change_and_end_sessions(self, key: Key, event: Event, **values: Any) -> int:
        with self._database.write() as repository:
            account = _existing(repository, key)
            # Lock the account first, so that sessions of logins in flight are there to delete.
            repository.lock_account(account.id)
            if values:
                repository.change_account(account.id, **values)
            repository.note(event, account.id)
            return len(repository.end_sessions(account.id, event))

    def enable_otp(self, key: Key) -> Enrolment:
        """Switch two-step verification on, or over to a new seed, and end the account's sessions.

        In force at once. Raises UnknownAccount.
        """
        seed, codes = otp.new_seed(), otp.new_recovery_codes()
        account = self._change_otp(key, Event.OTP_ENABLED, seed, otp.recovery_hashes(codes))
        return Enrolment(otp.uri(seed, account.name), seed, tuple(codes))

    def disable_otp(self, key: Key) -> None:
        """Switch two-step verification off and end the account's sessions. Raises UnknownAccount."""
        self._change_otp(key, Event.OTP_DISABLED, None, [])

    def _change_otp(self, key: Key, event: Event, seed: str | None, code_hashes: list[bytes]) -> Account:
        with self._database.write() as repository:
            account = _existing(repository, key)
            # In the order in which a login with a recovery code locks them.
            repository.lock_account(account.id)
            repository.replace_recovery_codes(account.id, code_hashes)
            sealed = None if seed is None else self._seeds.encrypt(seed, account.id)
            repository.change_account(account.id, otp_seed=sealed, otp_step=0, otp_row=0, otp_pending_seed=None)
            repository.note(event, account.id)
            repository.end_sessions(account.id, event)
        return account

    def unlock(self, key: Key) -> None:
        """Forget the wrong guesses counted against an account. Raises UnknownAccount."""
        with self._database.write() as repository:
            account = _existing(repository, key)
            # In the order in which a login locks them.
            repository.change_account(account.id, otp_row=0)
            repository.forgive_all(_counted_as(account))
            repository.note(Event.ACCOUNT_UNLOCKED, account.id)

    def sessions(self, key: Key) -> list[Session]:
        """The live sessions of an account, oldest first. Raises UnknownAccount."""
        now = self._clock()
        found = self._database.read(lambda repository: repository.sessions(_existing(repository, key).id))
        return self._limits.alive(found, now)

    def roles(self) -> list[Role]:
        """All roles, oldest first."""
        return self._database.read(Repository.roles)

    def role(self, code: str) -> int:
        """The id of a role. Raises UnknownRole."""
        return self._database.read(lambda repository: repository.role_id(code))

    def add_role(self, code: str, name: str, role_id: int | None = None) -> None:
        """Create a role that grants nothing. Raises BadParameter, Conflict."""
        values: dict[str, Any] = {"code": identifiers.check_code("code", code), "name": identifiers.check_label(name)}
        if role_id is not None:
            values["id"] = identifiers.check_id("id", role_id)
        with self._database.write(exclusive=True) as repository:
            repository.add_role(**values)
            repository.note(Event.ROLE_ADDED, role=code)

    def change_role(self, code: str, *, new_code: str | None = None, name: str | None = None) -> None:
        """Set what is given. Raises BadParameter, UnknownRole, Conflict."""
        values: dict[str, Any] = {}
        if new_code is not None:
            values["code"] = identifiers.check_code("code", new_code)
        if name is not None:
            values["name"] = identifiers.check_label(name)
        if not values:
            raise errors.BadParameter("what to set", "is missing")
        with self._database.write() as repository:
            repository.change_role(repository.role_id(code), **values)
            repository.note(Event.ROLE_CHANGED, role=code, **values)

    def delete_role(self, code: str) -> None:
        """Delete a role that no account has. Raises UnknownRole, RoleInUse."""
        with self._database.write() as repository:
            repository.delete_role(repository.role_id(code))
            repository.note(Event.ROLE_DELETED, role=code)

    def grant(self, code: str, permissions: Iterable[str]) -> None:
        """Let a role grant permission codes. Raises BadParameter, UnknownRole."""
        self._for_each(code, permissions, Repository.grant, Event.ROLE_GRANTED)

    def revoke(self, code: str, permissions: Iterable[str]) -> None:
        """Let a role no longer grant permission codes. Raises BadParameter, UnknownRole."""
        self._for_each(code, permissions, Repository.revoke, Event.ROLE_REVOKED)

    def _for_each(
        self, code: str, permissions: Iterable[str], change: Callable[[Repository, int, str], None], event: Event
    ) -> None:
        wanted = [identifiers.check_code("permission", permission) for permission in permissions]
        with self._database.write() as repository:
            role_id = repository.role_id(code)
            for permission in wanted:
                change(repository, role_id, permission)
            repository.note(event, role=code, permissions=wanted)

    def appcfg(self) -> str:
        """The console's configuration, a JSON object as text."""
        return self._database.read(lambda repository: repository.setting("appcfg")) or "{}"

    def set_appcfg(self, value: str) -> None:
        """Replace the console's configuration. Raises BadParameter where it is no JSON object."""
        identifiers.check_appcfg(value)
        with self._database.write() as repository:
            repository.set_setting("appcfg", value)
            repository.note(Event.APPCFG_CHANGED)


def _counted_as(account: Account) -> list[str]:
    """Whose counters are about an account: its own, and those of each key that it can be tried by."""
    keys = [Key("id", account.id), by_name(account.name)]
    if account.phone:
        keys.append(Key("phone", account.phone))
    return [known_account(account.id), *map(by_key, keys)]


def _existing(repository: Repository, key: Key) -> Account:
    account = repository.account(key)
    if account is None:
        raise errors.UnknownAccount
    return account


def _check(*, phone: str | None, avatar: str | None, permission: int | None) -> None:
    if phone is not None:
        identifiers.check_phone(phone)
    if avatar is not None:
        identifiers.check_avatar(avatar)
    if permission is not None and not 0 <= permission <= INTEGER_MAX:
        raise errors.BadParameter("permission", f"must be from 0 to {INTEGER_MAX}")
