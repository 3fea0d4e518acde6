"""The administrator's verbs: accounts, roles and the console's configuration."""

import json
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from authsvc import errors, otp
from authsvc.accounts import Account, Role
from authsvc.events import Event
from authsvc.identifiers import Key, by_name, check_label, check_name, check_phone, is_text
from authsvc.otp import Seeds
from authsvc.passwords import Passwords
from authsvc.sessions import Session, SessionLimits
from authsvc.store.database import Database
from authsvc.store.repository import Repository
from authsvc.throttle import by_key, known_account

DEFAULT_ROLE = "user"
"""The role of an account that is given none."""

_ADMIN_ROLE = "admin"
_PERMISSION_MAX = 2**63 - 1
_CODE_MAX, _AVATAR_MAX, _APPCFG_MAX = 128, 512, 16 * 1024  # characters
# A console puts it where a browser would run `javascript:` or load from anywhere else.
_AVATAR = re.compile(r"https?://|/(?!/)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the owner of an account needs for two-step verification. It is shown once and stored nowhere else."""

    uri: str = field(repr=False)
    seed: str = field(repr=False)
    recovery_codes: tuple[str, ...] = field(repr=False)


class Administration:
    """Each verb is one transaction, which notes what it does. Raises Unavailable, besides what each verb says."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        seeds: Seeds,
        limits: SessionLimits,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._seeds = seeds
        self._limits = limits
        self._clock = clock

    def bootstrap(self, password: str | None, name: str = "admin") -> str | None:
        """Create the first administrator, called `name`, if there is no account.

        Return the password made up for it, if it was created and none was given: it is stored nowhere else.
        """
        if self._database.read(Repository.has_accounts):
            return None
        chosen = password or secrets.token_urlsafe(16)
        password_hash = self._passwords.hash(chosen)
        with self._database.write(exclusive=True) as repository:
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
        role: str = DEFAULT_ROLE,
        phone: str | None = None,
        avatar: str | None = None,
        permission: int = 0,
        created_by: Key | None = None,
    ) -> int:
        """Create an account with a password or with a hash made elsewhere; return its id.

        Raises BadParameter, Conflict, UnknownRole, and UnknownAccount for its creator.
        """
        check_name(name)
        _check(phone=phone, avatar=avatar, permission=permission)
        if password_hash is None:
            password_hash = self._passwords.hash(self._passwords.check_new(password or "", about=(name, phone)))
        else:
            self._passwords.check_stored(password_hash)
        with self._database.write() as repository:
            values = self._new(repository, name, password_hash, role=role)
            creator = _existing(repository, created_by).id if created_by else None
            values.update(phone=phone, avatar=avatar, permission=permission, created_by=creator)
            account_id = repository.add_account(**values)
            repository.note(Event.ACCOUNT_ADDED, account_id)
        return account_id

    def _new(self, repository: Repository, name: str, password_hash: str, *, role: str) -> dict[str, Any]:
        return {
            "name": name,
            "password_hash": password_hash,
            "role_id": repository.role_id(role),
            "permission": 0,
            "disabled": False,
            "created_at": self._clock(),
        }

    def accounts(self) -> list[Account]:
        """All accounts, oldest first."""
        return self._database.read(Repository.accounts)

    def account(self, key: Key) -> Account:
        """One account. Raises UnknownAccount."""
        return self._database.read(lambda repository: _existing(repository, key))

    def change_account(
        self,
        key: Key,
        *,
        phone: str | None = None,
        avatar: str | None = None,
        role: str | None = None,
        permission: int | None = None,
    ) -> None:
        """Set what is given; an empty phone or avatar removes it.

        Raises UnknownAccount, UnknownRole, BadParameter, Conflict.
        """
        _check(phone=phone or None, avatar=avatar or None, permission=permission)
        given = {"phone": phone, "avatar": avatar, "permission": permission}
        values: dict[str, Any] = {
            name: value if value != "" else None for name, value in given.items() if value is not None
        }
        with self._database.write() as repository:
            account = _existing(repository, key)
            if role is not None:
                values["role_id"] = repository.role_id(role)
            if not values:
                raise errors.BadParameter("what to set", "is missing")
            repository.change_account(account.id, **values)
            repository.note(Event.ACCOUNT_CHANGED, account.id, fields=sorted(values))

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
            return repository.end_sessions(account.id, event)

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
            keys = [Key("id", account.id), by_name(account.name)]
            if account.phone:
                keys.append(Key("phone", account.phone))
            repository.forgive_all([known_account(account.id), *map(by_key, keys)])
            repository.note(Event.ACCOUNT_UNLOCKED, account.id)

    def sessions(self, key: Key) -> list[Session]:
        """The live sessions of an account, oldest first. Raises UnknownAccount."""
        now = self._clock()
        found = self._database.read(lambda repository: repository.sessions(_existing(repository, key).id))
        return [session for session in found if not self._limits.refuses(session, now)]

    def roles(self) -> list[Role]:
        """All roles, oldest first."""
        return self._database.read(Repository.roles)

    def add_role(self, code: str, name: str) -> None:
        """Create a role that grants nothing. Raises BadParameter, Conflict."""
        _check_code("code", code)
        check_label(name)
        with self._database.write() as repository:
            repository.add_role(code, name)
            repository.note(Event.ROLE_ADDED, role=code)

    def grant(self, code: str, permissions: Iterable[str]) -> None:
        """Let a role grant permission codes. Raises BadParameter, UnknownRole."""
        self._for_each(code, permissions, Repository.grant, Event.ROLE_GRANTED)

    def revoke(self, code: str, permissions: Iterable[str]) -> None:
        """Let a role no longer grant permission codes. Raises BadParameter, UnknownRole."""
        self._for_each(code, permissions, Repository.revoke, Event.ROLE_REVOKED)

    def _for_each(
        self, code: str, permissions: Iterable[str], change: Callable[[Repository, int, str], None], event: Event
    ) -> None:
        wanted = [_check_code("permission", permission) for permission in permissions]
        with self._database.write() as repository:
            role_id = repository.role_id(code)
            for permission in wanted:
                change(repository, role_id, permission)
            repository.note(event, role=code, permissions=wanted)

    def appcfg(self) -> str:
        """The console's configuration, a JSON object as text."""
        return self._database.read(Repository.appcfg)

    def set_appcfg(self, value: str) -> None:
        """Replace the console's configuration. Raises BadParameter where it is no JSON object."""
        if len(value) > _APPCFG_MAX or not _is_json_object(value):
            raise errors.BadParameter("appcfg", f"must be a JSON object of up to {_APPCFG_MAX} characters")
        with self._database.write() as repository:
            repository.set_appcfg(value)
            repository.note(Event.APPCFG_CHANGED)


def _is_json_object(text: str) -> bool:
    def refuse(constant: str) -> float:  # NaN and Infinity, which Python reads and brepositoryers do not
        raise ValueError(constant)

    try:
        text.encode()  # an argument that was no UTF-8 has lone surrogates
        return isinstance(json.loads(text, parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False


def _existing(repository: Repository, key: Key) -> Account:
    account = repository.account(key)
    if account is None:
        raise errors.UnknownAccount
    return account


def _check(*, phone: str | None, avatar: str | None, permission: int | None) -> None:
    if phone is not None:
        check_phone(phone)
    if avatar is not None and not (is_text(avatar) and len(avatar) <= _AVATAR_MAX and _AVATAR.match(avatar)):
        raise errors.BadParameter("avatar", f"must be a path or an http(s) URL of up to {_AVATAR_MAX} characters")
    if permission is not None and not 0 <= permission <= _PERMISSION_MAX:
        raise errors.BadParameter("permission", f"must be from 0 to {_PERMISSION_MAX}")


def _check_code(what: str, code: str) -> str:
    # Codes are joined with spaces on their way out of the database.
    if not 1 <= len(code) <= _CODE_MAX or not code.isprintable() or " " in code:
        raise errors.BadParameter(what, f"must have 1 to {_CODE_MAX} printable characters and no spaces")
    return code
