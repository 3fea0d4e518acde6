"""The queries. What a row holds becomes a value by the names of its columns."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.compiler import compiles

from authsvc import errors, logs
from authsvc.accounts import Account, Credentials, Role
from authsvc.events import Event
from authsvc.identifiers import Key, fold
from authsvc.sessions import LiveSession, Session
from authsvc.store import tables
from authsvc.throttle import Counter

_accounts, _roles, _grants, _sessions = tables.account, tables.role, tables.role_permission, tables.session
_account, _role, _grant, _session = _accounts.c, _roles.c, _grants.c, _sessions.c
_counter, _known, _recovery, _setting = (
    tables.counter.c,
    tables.known_address.c,
    tables.recovery_code.c,
    tables.setting.c,
)

Row = Mapping[str, Any]


class IsPrimary(ColumnElement[bool]):
    """True, as part of a statement; on a standby of PostgreSQL the statement fails instead, whatever rows it finds.

    A standby lags: a session that was ended a moment ago is live there. And a connection that was made to a primary is
    no proof, because a pooler may have another server behind it by now.
    """

    inherit_cache = True
    type = Boolean()


@compiles(IsPrimary)
def _anywhere(_element: IsPrimary, _compiler: Any, **_: Any) -> str:
    return "1 = 1"


@compiles(IsPrimary, "postgresql")
def _on_postgresql(_element: IsPrimary, _compiler: Any, **_: Any) -> str:
    # PostgreSQL has no function that raises. A sub-select that needs no row is run once, before any row is looked for.
    # What takes locks would fail as well, but also on a primary that is read-only, which may serve checks.
    return "(SELECT 1 / (1 - pg_is_in_recovery()::int)) = 1"


_KEYS: dict[str, ColumnElement[Any]] = {"id": _account.id, "name": _account.name_key, "phone": _account.phone}
# As literals, so that a session check's only parameter is its session.
_SPACE: Any = literal_column("' '")
_PERMISSIONS = (
    select(func.aggregate_strings(_grant.code, _SPACE)).where(_grant.role_id == _role.id).correlate(_roles)
).scalar_subquery()
_APPCFG = select(_setting.value).where(_setting.name == literal_column("'appcfg'")).scalar_subquery()

_ACCOUNT_COLUMNS = (
    _account.id,
    _account.name,
    _account.phone,
    _account.avatar,
    _account.role_id,
    _role.code.label("role_code"),
    _role.name.label("role_name"),
    _PERMISSIONS.label("permissions"),
    _account.permission,
    _account.disabled,
    _account.otp_seed.is_not(None).label("otp"),
    _account.created_by,
    _account.created_at,
    _account.login_at,
    _account.login_address,
    _account.login_count,
)
_SESSION_COLUMNS = (
    _session.id_hash,
    _session.opened_at,
    _session.last_seen_at,
    _session.ends_at,
    _session.address,
    _session.user_agent,
)
_ACCOUNTS = select(*_ACCOUNT_COLUMNS).join(_roles, _account.role_id == _role.id)

LIVE_SESSIONS = (
    select(*_SESSION_COLUMNS, *_ACCOUNT_COLUMNS, _APPCFG.label("appcfg"))
    .select_from(_sessions)
    .join(_accounts, _session.account_id == _account.id)
    .join(_roles, _account.role_id == _role.id)
    .where(IsPrimary())
)
"""Sessions with all that a session check needs; the databases differ in how they are asked for one."""


def live_session(row: Row) -> LiveSession:
    """The value of one of LIVE_SESSIONS."""
    return LiveSession(_session_value(row), _account_value(row), row["appcfg"] or "{}")


def _session_value(row: Row) -> Session:
    return Session(
        id_hash=row["id_hash"],
        opened_at=row["opened_at"],
        last_seen_at=row["last_seen_at"],
        ends_at=row["ends_at"],
        address=row["address"],
        user_agent=row["user_agent"],
    )


def _account_value(row: Row) -> Account:
    return Account(
        id=row["id"],
        name=row["name"],
        phone=row["phone"],
        avatar=row["avatar"],
        role_id=row["role_id"],
        role_code=row["role_code"],
        role_name=row["role_name"],
        permissions=_codes(row["permissions"]),
        permission=row["permission"],
        disabled=bool(row["disabled"]),
        otp=bool(row["otp"]),
        created_by=row["created_by"],
        created_at=row["created_at"],
        login_at=row["login_at"],
        login_address=row["login_address"],
        login_count=row["login_count"],
    )


def _codes(joined: str | None) -> tuple[str, ...]:
    return tuple(sorted(joined.split(" "))) if joined else ()


def _matched(credentials: Credentials) -> dict[str, Any]:
    return {
        "account_id": credentials.account_id,
        "matched_hash": credentials.password_hash,
        "matched_seed": credentials.otp_seed,
    }


# The statements of every login are built once: building them costs more than running them.

_CREDENTIALS = {
    kind: select(
        _account.id.label("account_id"),
        _account.password_hash,
        _account.otp_seed,
        select(_known.account_id)
        .where(
            _known.account_id == _account.id,
            _known.network == bindparam("network"),
            _known.last_login_at > bindparam("known_since"),
        )
        .exists()
        .label("known_address"),
    ).where(key == bindparam("value"))
    for kind, key in _KEYS.items()
}
_NOBODY: Any = literal_column("''")
_COUNTERS = select(tables.counter).where(
    or_(
        and_(_counter.account == bindparam("account"), _counter.address.in_([_NOBODY, bindparam("address")])),
        and_(_counter.account == _NOBODY, _counter.address == bindparam("address")),
    )
)
_FORGIVE = delete(tables.counter).where(
    _counter.account == bindparam("account"),
    _counter.address == bindparam("address"),
    _counter.scope == bindparam("scope"),
)
_ADD_SESSION = insert(_sessions)
_LIVE_SESSION = LIVE_SESSIONS.where(_session.id_hash == bindparam("id_hash"))
_ACCOUNT_BY = {kind: _ACCOUNTS.where(key == bindparam("value")) for kind, key in _KEYS.items()}
_UNCHANGED = update(_accounts).where(
    _account.id == bindparam("account_id"),
    _account.password_hash == bindparam("matched_hash"),
    _account.otp_seed.is_not_distinct_from(bindparam("matched_seed")),
    _account.disabled.is_(False),
)
_COUNT_LOGIN = _UNCHANGED.values(login_count=_account.login_count + 1)


@cache
def _charge(upsert: Callable[..., Any]) -> Any:
    # As in Counter.is_full, a window that ends later than any could is over, too.
    over = or_(_counter.ends_at <= bindparam("now"), _counter.ends_at > bindparam("latest_end"))
    statement = upsert(tables.counter)
    return statement.on_conflict_do_update(
        index_elements=["account", "address", "scope"],
        set_={
            "count": case((over, 1), else_=_counter.count + 1),
            "ends_at": case((over, statement.excluded.ends_at), else_=_counter.ends_at),
        },
        where=or_(over, _counter.count < bindparam("limit")),
    ).returning(_counter.count)


@cache
def _know_address(upsert: Callable[..., Any]) -> Any:
    statement = upsert(tables.known_address)
    return statement.on_conflict_do_update(
        index_elements=["account_id", "network"], set_={"last_login_at": statement.excluded.last_login_at}
    )


class Repository:
    """The queries, on one connection. Who may write, and when it is committed, is the caller's business."""

    def __init__(self, connection: Connection, upsert: Callable[..., Any]) -> None:
        """Write with `upsert` what may be there already: the database's own INSERT ... ON CONFLICT."""
        self._connection = connection
        self._upsert = upsert
        self._noted: list[tuple[Event, int | None, dict[str, object]]] = []

    def note(self, event: Event, account_id: int | None = None, **fields: object) -> None:
        """Say what this transaction does: the log tells it once it is committed, and never if it is not."""
        self._noted.append((event, account_id, fields))

    def commit(self) -> None:
        """Commit now. A `write` block commits by itself, but not where it is about to raise."""
        self._connection.exec_driver_sql("COMMIT")
        for event, account_id, fields in self._noted:
            logs.audit(event, account_id, **fields)
        self._noted.clear()

    # Accounts

    def account(self, key: Key) -> Account | None:
        """The account that `key` points at."""
        row = self._one(_ACCOUNT_BY[key.kind], {"value": key.value})
        return _account_value(row) if row else None

    def accounts(self) -> list[Account]:
        """All accounts, oldest first."""
        return [_account_value(row) for row in self._all(_ACCOUNTS.order_by(_account.id))]

    def has_accounts(self) -> bool:
        """Whether there is any account."""
        return self._one(select(_account.id).limit(1)) is not None

    def credentials(self, key: Key, network: str, known_since: float) -> Credentials | None:
        """What a login for `key` from `network` is checked against."""
        row = self._one(_CREDENTIALS[key.kind], {"value": key.value, "network": network, "known_since": known_since})
        return Credentials(**row) if row else None

    def lock_account(self, account_id: int) -> None:
        """Hold an account's row until the end of the transaction, as each login does that opens a session."""
        self._connection.execute(select(_account.id).where(_account.id == account_id).with_for_update())

    def add_account(self, *, name: str, **values: Any) -> int:
        """Insert an account and return its id. Raises Conflict where its name or phone is in use."""
        statement = self._upsert(_accounts).values(name=name, name_key=fold(name), login_count=0, **values)
        account_id = self._connection.execute(statement.on_conflict_do_nothing().returning(_account.id)).scalar()
        if account_id is None:
            raise errors.Conflict("name" if self.account(Key("name", fold(name))) else "phone")
        return int(account_id)

    def change_account(self, account_id: int, **values: Any) -> None:
        """Set columns of an account. Raises Conflict where a new phone is in use."""
        try:
            self._connection.execute(update(_accounts).where(_account.id == account_id).values(**values))
        except IntegrityError:
            raise errors.Conflict("phone") from None

    def change_if_unchanged(self, credentials: Credentials, **values: Any) -> bool:
        """Set columns of an account and take its row lock.

        False, and nothing done, where the account is disabled by now or its password or seed is no longer the one
        that was matched: hashing took a while, and somebody may have been faster.
        """
        return self._changed(_UNCHANGED, {**_matched(credentials), **values})

    def count_login(self, credentials: Credentials, network: str, *, at: float, **values: Any) -> bool:
        """Count a login and note when and whence, as `change_if_unchanged` does."""
        counted = self._changed(_COUNT_LOGIN, {**_matched(credentials), "login_at": at, **values})
        if counted:
            known = {"account_id": credentials.account_id, "network": network, "last_login_at": at}
            self._connection.execute(_know_address(self._upsert), known)
        return counted

    # Two-step verification

    def claim_step(self, account_id: int, step: int) -> bool:
        """Use up a time step; False where it, or a newer one, was used before."""
        return self._changed(
            update(_accounts).where(_account.id == account_id, _account.otp_step < step).values(otp_step=step)
        )

    def claim_recovery_code(self, account_id: int, code_hash: bytes) -> bool:
        """Use up a recovery code; False where there is none such (any more)."""
        return self._changed(
            delete(tables.recovery_code).where(_recovery.account_id == account_id, _recovery.code_hash == code_hash)
        )

    def replace_recovery_codes(self, account_id: int, code_hashes: list[bytes]) -> None:
        """Forget an account's recovery codes and store these."""
        self._connection.execute(delete(tables.recovery_code).where(_recovery.account_id == account_id))
        rows = [{"account_id": account_id, "code_hash": code_hash} for code_hash in code_hashes]
        if rows:
            self._connection.execute(insert(tables.recovery_code), rows)

    # Counters

    def charge(self, counter: Counter, now: float) -> bool:
        """Count one failure, starting a new window where the last is over; False where the counter is full."""
        values = {
            "account": counter.account,
            "address": counter.address,
            "scope": counter.scope,
            "count": 1,
            "ends_at": now + counter.limit.window,
            "now": now,
            "latest_end": counter.latest_end(now),
            "limit": counter.limit.count,
        }
        return self._one(_charge(self._upsert), values) is not None

    def full_until(self, counters: list[Counter], account: str, address: str, now: float) -> float | None:
        """When the last of those counters that refuse is over; None where none does."""
        rows = self._all(_COUNTERS, {"account": account, "address": address})
        found = {(row["account"], row["address"], row["scope"]): (row["count"], row["ends_at"]) for row in rows}
        ends = []
        for counter in counters:
            count, ends_at = found.get((counter.account, counter.address, counter.scope), (0, 0.0))
            if counter.is_full(count, ends_at, now):
                ends.append(ends_at)
        return max(ends, default=None)

    def forgive(self, counter: Counter) -> None:
        """Set a counter to nothing."""
        values = {"account": counter.account, "address": counter.address, "scope": counter.scope}
        self._connection.execute(_FORGIVE, values)

    def forgive_all(self, account: str) -> None:
        """Set all counters of an account to nothing."""
        statement = select(_counter.address, _counter.scope).where(_counter.account == account)
        # One by one, in the order in which they are charged: two that lock the same rows never wait for each other.
        for address, scope in sorted((row["address"], row["scope"]) for row in self._all(statement)):
            self._connection.execute(_FORGIVE, {"account": account, "address": address, "scope": scope})

    # Sessions

    def live_session(self, id_hash: bytes) -> LiveSession | None:
        """A session with its account."""
        row = self._one(_LIVE_SESSION, {"id_hash": id_hash})
        return live_session(row) if row else None

    def sessions(self, account_id: int) -> list[Session]:
        """All sessions of an account that were not ended on purpose, oldest first."""
        statement = select(*_SESSION_COLUMNS).where(_session.account_id == account_id).order_by(_session.opened_at)
        return [_session_value(row) for row in self._all(statement)]

    def add_session(self, account_id: int, session: Session) -> None:
        """Open a session."""
        self._connection.execute(_ADD_SESSION, {"account_id": account_id, **asdict(session)})

    def touch_session(self, id_hash: bytes, seen_at: float) -> None:
        """Note that a session is in use; whoever holds its row goes first, and this does nothing."""
        free = select(_session.id_hash).where(_session.id_hash == id_hash).with_for_update(skip_locked=True)
        self._connection.execute(update(_sessions).where(_session.id_hash.in_(free)).values(last_seen_at=seen_at))

    def end_session(self, id_hash: bytes) -> bool:
        """End one session; False where somebody else already did."""
        return self._changed(delete(_sessions).where(_session.id_hash == id_hash))

    def end_sessions(self, account_id: int, cause: Event, but: bytes | None = None) -> int:
        """End all sessions of an account, or all but one, and note why; return how many there were."""
        statement = delete(_sessions).where(_session.account_id == account_id)
        if but is not None:
            statement = statement.where(_session.id_hash != but)
        if count := self._connection.execute(statement).rowcount:
            self.note(Event.SESSIONS_ENDED, account_id, cause=cause, count=count)
        return count

    def purge(self, now: float, known_since: float, most: int) -> None:
        """Drop up to `most` rows of each kind that only time ends: sessions, counters, known addresses.

        It waits for nobody: rows that somebody else holds are left. It locks rows of other accounts, so call it last.
        """
        for row_key, is_over in (
            ((_session.id_hash,), _session.ends_at < now),
            ((_counter.account, _counter.address, _counter.scope), _counter.ends_at < now),
            ((_known.account_id, _known.network), _known.last_login_at < known_since),
        ):
            over = select(*row_key).where(is_over).limit(most).with_for_update(skip_locked=True)
            self._connection.execute(delete(row_key[0].table).where(tuple_(*row_key).in_(over)))

    # Roles

    def roles(self) -> list[Role]:
        """All roles, oldest first."""
        statement = select(_roles, _PERMISSIONS.label("permissions")).order_by(_role.id)
        return [Role(**{**row, "permissions": _codes(row["permissions"])}) for row in self._all(statement)]

    def role_id(self, code: str) -> int:
        """The id of the role with this code. Raises UnknownRole."""
        # Codes are printable: what is not (bytes that are no UTF-8, for one) need not be asked for, and may not be.
        row = self._one(select(_role.id).where(_role.code == code)) if code.isprintable() else None
        if row is None:
            raise errors.UnknownRole
        return int(row["id"])

    def add_role(self, code: str, name: str) -> None:
        """Insert a role that grants nothing. Raises Conflict where its code is in use."""
        statement = self._upsert(_roles).values(code=code, name=name).on_conflict_do_nothing()
        if self._one(statement.returning(_role.id)) is None:
            raise errors.Conflict("code")

    def grant(self, role_id: int, permission: str) -> None:
        """Let a role grant a permission code, if it does not already."""
        self._connection.execute(
            self._upsert(_grants).values(role_id=role_id, code=permission).on_conflict_do_nothing()
        )

    def revoke(self, role_id: int, permission: str) -> None:
        """Let a role no longer grant a permission code."""
        self._connection.execute(delete(_grants).where(_grant.role_id == role_id, _grant.code == permission))

    # The rest

    def appcfg(self) -> str:
        """The console's configuration, a JSON object as text."""
        return str(self._connection.execute(select(func.coalesce(_APPCFG, "{}"))).scalar_one())

    def set_appcfg(self, value: str) -> None:
        """Replace the console's configuration."""
        statement = self._upsert(tables.setting).values(name="appcfg", value=value)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))

    def schema(self) -> tuple[str, str]:
        """The migration that the database is at, and the oldest that code must know to work with it; "" for none."""
        oldest = select(_setting.value).where(_setting.name == "oldest_code").scalar_subquery()
        statement = select(tables.alembic_version.c.version_num, func.coalesce(oldest, "")).where(IsPrimary())
        found = self._connection.execute(statement).one_or_none()
        return (found[0], found[1]) if found else ("", "")

    def _one(self, statement: Any, values: dict[str, Any] | None = None) -> Row | None:
        row = self._connection.execute(statement, values).one_or_none()
        return None if row is None else row._asdict()

    def _all(self, statement: Any, values: dict[str, Any] | None = None) -> list[Row]:
        return [row._asdict() for row in self._connection.execute(statement, values)]

    def _changed(self, statement: Any, values: dict[str, Any] | None = None) -> bool:
        return self._connection.execute(statement, values).rowcount == 1
