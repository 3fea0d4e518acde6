"""The administrator's verbs: accounts, roles and the console's configuration."""

import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from authsvc import errors, logs, otp, passwords
from authsvc.identifiers import Key, check_name, check_phone, is_text
from authsvc.otp import Seeds
from authsvc.passwords import Passwords
from authsvc.repository import Account, Database, Repository, Role, Session
from authsvc.sessions import SessionLimits
from authsvc.throttle import known_account

DEFAULT_ROLE = "user"
"""The role of an account that is given none."""

_ADMIN_ROLE, _ADMIN_NAME = "admin", "admin"
_PERMISSION_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the owner of an account needs for two-step verification. It is shown once and stored nowhere else."""

    uri: str = field(repr=False)
    seed: str = field(repr=False)
    recovery_codes: tuple[str, ...] = field(repr=False)


class Administration:
    """Each verb is one transaction and one audit event. Raises Unavailable, besides what each verb says."""

    def __init__(
        self,
        database: Database,
        hasher: Passwords,
        seeds: Seeds,
        limits: SessionLimits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._hasher = hasher
        self._seeds = seeds
        self._limits = limits
        self._clock = clock

    def bootstrap(self, password: str | None) -> str | None:
        """Create the first administrator if there is no account.

        Return the password made up for it, if it was created and none was given: it is stored nowhere else.
        """
        if self._database.read(Repository.has_accounts):
            return None
        chosen = password or secrets.token_urlsafe(12)
        password_hash = self._hasher.hash(chosen)
        with self._database.write() as rows:
            rows.lock_bootstrap()
            # Asked again under the lock: replicas that start together all came this far.
            if rows.has_accounts():
                return None
            account_id = rows.add_account(**self._new(rows, _ADMIN_NAME, password_hash, role=_ADMIN_ROLE))
        logs.administered("account.added", account_id)
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

        Raises BadParameter, Taken, UnknownRole, and UnknownAccount for its creator.
        """
        check_name(name)
        _check(phone=phone, avatar=avatar, permission=permission)
        if password_hash is None:
            password_hash = self._hasher.hash(passwords.check(password or ""))
        else:
            self._hasher.check_stored(password_hash)
        with self._database.write() as rows:
            values = self._new(rows, name, password_hash, role=role)
            creator = _existing(rows, created_by).id if created_by else None
            values.update(phone=phone, avatar=avatar, permission=permission, created_by=creator)
            account_id = rows.add_account(**values)
        logs.administered("account.added", account_id)
        return account_id

    def _new(self, rows: Repository, name: str, password_hash: str, *, role: str) -> dict[str, Any]:
        return {
            "name": name,
            "password_hash": password_hash,
            "role_id": rows.role_id(role),
            "permission": 0,
            "disabled": False,
            "created_at": self._clock(),
        }

    def accounts(self) -> list[Account]:
        """All accounts, oldest first."""
        return self._database.read(Repository.accounts)

    def account(self, key: Key) -> Account:
        """One account. Raises UnknownAccount."""
        return self._database.read(lambda rows: _existing(rows, key))

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

        Raises UnknownAccount, UnknownRole, BadParameter, Taken.
        """
        _check(phone=phone or None, avatar=avatar or None, permission=permission)
        given = {"phone": phone, "avatar": avatar, "permission": permission}
        values: dict[str, Any] = {
            name: value if value != "" else None for name, value in given.items() if value is not None
        }
        with self._database.write() as rows:
            account = _existing(rows, key)
            if role is not None:
                values["role_id"] = rows.role_id(role)
            if not values:
                raise errors.BadParameter("what to set", "is missing")
            rows.change_account(account.id, **values)
        logs.administered("account.changed", account.id, fields=sorted(values))

    def set_password(self, key: Key, password: str) -> None:
        """Give an account a new password and end its sessions. Raises UnknownAccount, BadParameter."""
        password_hash = self._hasher.hash(passwords.check(password))
        self._change_and_end_sessions(key, "password.changed", password_hash=password_hash)

    def set_disabled(self, key: Key, disabled: bool) -> None:
        """Switch an account off, which ends its sessions, or on again. Raises UnknownAccount."""
        self._change_and_end_sessions(key, "account.disabled" if disabled else "account.enabled", disabled=disabled)

    def end_sessions(self, key: Key) -> int:
        """End all sessions of an account; return how many there were. Raises UnknownAccount."""
        return self._change_and_end_sessions(key, "account.logged_out")

    def _change_and_end_sessions(self, key: Key, event: str, **values: Any) -> int:
        with self._database.write() as rows:
            account = _existing(rows, key)
            # The account's row first: a login that runs at the same moment holds it until its session is there to end.
            rows.change_account(account.id, **(values or {"name": account.name}))
            ended = rows.end_sessions(account.id)
        logs.administered(event, account.id)
        logs.sessions_ended(account.id, event, ended)
        return ended

    def enable_otp(self, key: Key) -> Enrolment:
        """Switch two-step verification on, or over to a new seed, and end the account's sessions.

        In force at once. Raises UnknownAccount.
        """
        seed, codes = otp.new_seed(), otp.new_recovery_codes()
        hashes = [code_hash for code in codes if (code_hash := otp.recovery_hash(code))]
        account = self._change_otp(key, "otp.enabled", self._seeds.encrypt(seed), hashes)
        return Enrolment(otp.uri(seed, account.name), seed, tuple(codes))

    def disable_otp(self, key: Key) -> None:
        """Switch two-step verification off and end the account's sessions. Raises UnknownAccount."""
        self._change_otp(key, "otp.disabled", None, [])

    def _change_otp(self, key: Key, event: str, seed: str | None, code_hashes: list[bytes]) -> Account:
        with self._database.write() as rows:
            account = _existing(rows, key)
            # In the order in which a login with a recovery code locks them.
            rows.replace_recovery_codes(account.id, code_hashes)
            rows.change_account(account.id, otp_seed=seed, otp_step=0)
            ended = rows.end_sessions(account.id)
        logs.administered(event, account.id)
        logs.sessions_ended(account.id, event, ended)
        return account

    def unlock(self, key: Key) -> None:
        """Forget the wrong guesses counted against an account. Raises UnknownAccount."""
        with self._database.write() as rows:
            account = _existing(rows, key)
            rows.forgive_all(known_account(account.id))
        logs.administered("account.unlocked", account.id)

    def sessions(self, key: Key) -> list[Session]:
        """The live sessions of an account, oldest first. Raises UnknownAccount."""
        now = self._clock()
        found = self._database.read(lambda rows: rows.sessions(_existing(rows, key).id))
        return [session for session in found if not self._limits.refuses(session, now)]

    def roles(self) -> list[Role]:
        """All roles, oldest first."""
        return self._database.read(Repository.roles)

    def add_role(self, code: str, name: str) -> None:
        """Create a role that grants nothing. Raises BadParameter, Taken."""
        _check_code("code", code)
        if not name.strip() or not is_text(name):
            raise errors.BadParameter("name", "is empty or not text")
        with self._database.write() as rows:
            rows.add_role(code, name)
        logs.administered("role.added", role=code)

    def grant(self, code: str, permissions: Iterable[str]) -> None:
        """Let a role grant permission codes. Raises BadParameter, UnknownRole."""
        self._for_each(code, permissions, Repository.grant, "role.granted")

    def revoke(self, code: str, permissions: Iterable[str]) -> None:
        """Let a role no longer grant permission codes. Raises BadParameter, UnknownRole."""
        self._for_each(code, permissions, Repository.revoke, "role.revoked")

    def _for_each(
        self, code: str, permissions: Iterable[str], change: Callable[[Repository, int, str], None], event: str
    ) -> None:
        wanted = [_check_code("permission", permission) for permission in permissions]
        with self._database.write() as rows:
            role_id = rows.role_id(code)
            for permission in wanted:
                change(rows, role_id, permission)
        logs.administered(event, role=code, permissions=wanted)

    def appcfg(self) -> str:
        """The console's configuration, a JSON object as text."""
        return self._database.read(Repository.appcfg)

    def set_appcfg(self, value: str) -> None:
        """Replace the console's configuration. Raises BadParameter where it is no JSON object."""
        if not _is_json_object(value):
            raise errors.BadParameter("appcfg", "must be a JSON object")
        with self._database.write() as rows:
            rows.set_appcfg(value)
        logs.administered("appcfg.changed")


def _is_json_object(text: str) -> bool:
    def refuse(constant: str) -> float:  # NaN and Infinity, which Python reads and browsers do not
        raise ValueError(constant)

    try:
        text.encode()  # an argument that was no UTF-8 has lone surrogates
        return isinstance(json.loads(text, parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False


def _existing(rows: Repository, key: Key) -> Account:
    account = rows.account(key)
    if account is None:
        raise errors.UnknownAccount
    return account


def _check(*, phone: str | None, avatar: str | None, permission: int | None) -> None:
    if phone is not None:
        check_phone(phone)
    if avatar is not None and not is_text(avatar):
        raise errors.BadParameter("avatar", "is not text")
    if permission is not None and not 0 <= permission <= _PERMISSION_MAX:
        raise errors.BadParameter("permission", f"must be from 0 to {_PERMISSION_MAX}")


def _check_code(what: str, code: str) -> str:
    # Codes are joined with spaces on their way out of the database.
    if not code or not code.isprintable() or " " in code:
        raise errors.BadParameter(what, "must be printable and without spaces")
    return code
