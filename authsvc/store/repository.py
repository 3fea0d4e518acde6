"""The queries. What a row holds becomes a value by the names of its columns."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
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
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from authsvc import errors, logs
from authsvc.accounts import Account, Credentials, Role
from authsvc.events import Event, Happening, acting
from authsvc.identifiers import Key, fold
from authsvc.sessions import LiveSession, Session
from authsvc.store import tables
from authsvc.store.bulk import Backend, Bulk
from authsvc.throttle import Counter, Counters

_accounts, _roles, _grants, _sessions = tables.account, tables.role, tables.role_permission, tables.session
_account, _role, _grant, _session = _accounts.c, _roles.c, _grants.c, _sessions.c
_counter, _known, _recovery = tables.counter.c, tables.known_address.c, tables.recovery_code.c
_setting, _trail = tables.setting.c, tables.trail.c

Row = Mapping[str, Any]


class IsPrimary(FunctionElement[bool]):
    """True, as part of a statement; on a standby of PostgreSQL the statement fails instead, whatever rows it finds.

    A standby lags: a session that was ended a moment ago is live there. And a connection that was made to a primary is
    no proof, because a pooler may have another server behind it by now.
    """

    inherit_cache = True
    type = Boolean()


@compiles(IsPrimary)
def _anywhere(_element: IsPrimary, _compiler: Any, **_: Any) -> str:
    return "1"


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


def _selected(fields: Sequence[str], columns: Mapping[str, ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """What a value is made of: the columns that are named as its fields, in their order."""
    return [columns[field].label(field) for field in fields]


_SESSION_COLUMNS = _selected(Session._fields, dict(_session.items()))
_ACCOUNT_COLUMNS = _selected(
    Account._fields,
    {
        **dict(_account.items()),
        "role_code": _role.code,
        "role_name": _role.name,
        "permissions": _PERMISSIONS,
        "otp": _account.otp_seed.is_not(None),
    },
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


def live_session(row: Sequence[Any]) -> LiveSession:
    """The value of one of LIVE_SESSIONS."""
    *both, appcfg = row
    at = len(_SESSION_COLUMNS)
    return LiveSession(Session(*both[:at]), _account_value(both[at:]), appcfg or "{}")


def _account_value(row: Sequence[Any]) -> Account:
    values = list(row)
    for at, convert in _CONVERTED:
        values[at] = convert(values[at])
    return Account(*values)


def _codes(joined: str | None) -> tuple[str, ...]:
    return tuple(sorted(joined.split(" "))) if joined else ()


# What a driver may hand on in another form.
_CONVERT: dict[str, Callable[[Any], Any]] = {"permissions": _codes, "disabled": bool, "otp": bool}
_CONVERTED = [(at, _CONVERT[field]) for at, field in enumerate(Account._fields) if field in _CONVERT]


def _trail_value(row: Row) -> tuple[tuple[float, int], Happening]:
    values = {**row, "detail": json.loads(row["detail"])}
    return (row["at"], values.pop("id")), Happening(**values)


def _place(counter: Counter) -> dict[str, Any]:
    return {"account": counter.account, "address": counter.address, "scope": counter.scope}


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
        and_(_counter.account == bindparam("pair"), _counter.address == bindparam("address")),
        and_(_counter.account == _NOBODY, _counter.address == bindparam("address")),
        and_(_counter.account == bindparam("account"), _counter.address == _NOBODY),
    )
)
_FORGIVE = (
    delete(tables.counter)
    .where(*(_counter[name] == bindparam(name) for name in ("account", "address", "scope")))
    .returning(_counter.count, _counter.ends_at)
)
_ADD_SESSION = insert(_sessions)
# Inline: what number a row got is not asked for.
# A guess at nobody leaves none, and takes as long: it is asked for all the same, and only then left out.
_ITS_COLUMNS = [_trail[name] for name in ("at", "event", "account_id", "by", "address", "detail")]
_ITS_VALUES = select(*(bindparam(f"its_{each.name}", type_=each.type) for each in _ITS_COLUMNS))
_LEAVE_TRAIL = insert(tables.trail).from_select(_ITS_COLUMNS, _ITS_VALUES.where(bindparam("is_kept", type_=Boolean())))
_LIVE_SESSION = LIVE_SESSIONS.where(_session.id_hash == bindparam("id_hash"))
_LOCKED_SESSION = _LIVE_SESSION.with_for_update(of=_sessions)
_ACCOUNT_BY = {kind: _ACCOUNTS.where(key == bindparam("value")) for kind, key in _KEYS.items()}
_UNCHANGED = and_(
    _account.id == bindparam("account_id"),
    _account.password_hash == bindparam("matched_hash"),
    _account.otp_seed.is_not_distinct_from(bindparam("matched_seed")),
    _account.disabled.is_(False),
)
_IS_UNCHANGED = select(_account.id).where(_UNCHANGED)
_COUNT_LOGIN = update(_accounts).where(_UNCHANGED).values(login_count=_account.login_count + 1)


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

    def __init__(self, connection: Connection, backend: Backend, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._backend = backend
        self._upsert = backend.upsert
        self._clock = clock
        self._noted: list[tuple[Event, int | None, dict[str, object]]] = []
        self.bulk = Bulk(connection, backend)

    def note(self, event: Event, account_id: int | None = None, **fields: object) -> None:
        """Say what this transaction does.

        The trail keeps it, but for refusals that concern nobody; the log tells it once it is committed.
        """
        self._noted.append((event, account_id, fields))

    def commit(self) -> None:
        """Commit now. A `write` block commits by itself, but not where it is about to raise."""
        self._leave_trail()
        self._connection.exec_driver_sql("COMMIT")
        for event, account_id, details in self._noted:
            logs.audit(event, account_id, **details)
        self._noted.clear()

    def _leave_trail(self) -> None:
        at, actor = self._clock(), acting.get()
        rows = [
            {
                "its_at": at,
                "its_event": event,
                "its_account_id": account_id,
                "its_by": actor.name,
                "its_address": actor.address,
                "its_detail": json.dumps(details, ensure_ascii=False),
                "is_kept": account_id is not None or not event.is_refusal,
            }
            for event, account_id, details in self._noted
        ]
        if rows:
            self._connection.execute(_LEAVE_TRAIL, rows)

    def trail(
        self,
        most: int,
        *,
        account_id: int | None = None,
        event: str | None = None,
        since: float = 0.0,
        before: tuple[float, int] | None = None,
    ) -> list[tuple[tuple[float, int], Happening]]:
        """Up to `most` rows of the trail, newest first, each with its place; `before` is that of one not to repeat."""
        statement = select(tables.trail).where(_trail.at >= since).order_by(_trail.at.desc(), _trail.id.desc())
        if account_id is not None:
            statement = statement.where(_trail.account_id == account_id)
        if event is not None:
            statement = statement.where(_trail.event == event)
        if before is not None:
            statement = statement.where(tuple_(_trail.at, _trail.id) < tuple_(*map(literal, before)))
        return [_trail_value(row) for row in self._all(statement.limit(most))]

    # Accounts

    def account(self, key: Key) -> Account | None:
        """The account that `key` points at."""
        row = self._connection.execute(_ACCOUNT_BY[key.kind], {"value": key.value}).one_or_none()
        return _account_value(row) if row else None

    def accounts(
        self, *, search: str | None = None, role_id: int | None = None, disabled: bool = False, limit: int | None = None
    ) -> list[Account]:
        """All accounts, oldest first; those only whose name or phone contains `search`, and so on."""
        statement = _ACCOUNTS.order_by(_account.id).limit(limit)
        if search is not None:
            in_name = _account.name_key.contains(fold(search), autoescape=True)
            statement = statement.where(or_(in_name, _account.phone.contains(search, autoescape=True)))
        if role_id is not None:
            statement = statement.where(_account.role_id == role_id)
        if disabled:
            statement = statement.where(_account.disabled)
        return [_account_value(row) for row in self._connection.execute(statement)]

    def has_accounts(self) -> bool:
        """Whether there is any account."""
        return self._one(select(_account.id).limit(1)) is not None

    def credentials(self, key: Key, network: str, known_since: float) -> Credentials | None:
        """What a login for `key` from `network` is checked against."""
        row = self._one(_CREDENTIALS[key.kind], {"value": key.value, "network": network, "known_since": known_since})
        return Credentials(**row) if row else None

    def pending_otp(self, account_id: int) -> tuple[str | None, float | None]:
        """Two-step verification that was begun: the encrypted seed, and when."""
        statement = select(_account.otp_pending_seed, _account.otp_pending_at).where(_account.id == account_id)
        sealed, begun_at = self._connection.execute(statement).one()
        return sealed, begun_at

    def lock_account(self, account_id: int) -> None:
        """Hold an account's row until the end of the transaction, as each login does that opens a session."""
        self._connection.execute(select(_account.id).where(_account.id == account_id).with_for_update())

    def add_account(self, *, name: str, **values: Any) -> int:
        """Insert an account and return its id. Raises Conflict where its id, name or phone is in use.

        Where an `id` is given, ask for `exclusive`: the numbering goes on behind the highest.
        """
        statement = self._upsert(_accounts).values(name=name, name_key=fold(name), login_count=0, **values)
        account_id = self._connection.execute(statement.on_conflict_do_nothing().returning(_account.id)).scalar()
        if account_id is None:
            self.refuse_conflict(name=name, **values)
            raise errors.Conflict("name")  # not reached, unless it went away meanwhile
        if "id" in values:
            self._backend.number_on(self._connection, _accounts.name)
        return int(account_id)

    def refuse_conflict(self, *, name: str, **values: Any) -> None:
        """Raise Conflict where an account has this id, name or phone."""
        for kind, value in {"id": values.get("id"), "name": fold(name), "phone": values.get("phone")}.items():
            if value is not None and self._one(select(_account.id).where(_KEYS[kind] == value)):
                raise errors.Conflict(kind)

    def change_account(self, account_id: int, **values: Any) -> None:
        """Set columns of an account. Raises Conflict where a new name or phone is in use."""
        if "name" in values:
            values["name_key"] = fold(values["name"])
        try:
            self._connection.execute(update(_accounts).where(_account.id == account_id).values(**values))
        except IntegrityError as error:
            raise errors.Conflict("name" if "name_key" in str(error.orig) else "phone") from None

    def delete_account(self, account_id: int) -> None:
        """Delete an account with all that is its own; whom it created have no creator then. The trail stays."""
        for table in (_sessions, tables.recovery_code, tables.known_address):
            self._connection.execute(delete(table).where(table.c.account_id == account_id))
        created = update(_accounts).where(_account.created_by == account_id)
        self._connection.execute(created.values(created_by=None))
        self._connection.execute(delete(_accounts).where(_account.id == account_id))

    def is_unchanged(self, credentials: Credentials) -> bool:
        """Whether an account is enabled and its password and seed are still those that were matched."""
        return self._one(_IS_UNCHANGED, _matched(credentials)) is not None

    def count_login(self, credentials: Credentials, network: str, *, at: float, **values: Any) -> bool:
        """Count a login, note when and whence, and take the account's row lock.

        False, and nothing done, where the account is disabled by now or its password or seed is no longer the one
        that was matched: hashing took a while, and somebody may have been faster.
        """
        counted = self._changed(_COUNT_LOGIN, {**_matched(credentials), "login_at": at, **values})
        if counted:
            known = {"account_id": credentials.account_id, "network": network, "last_login_at": at}
            self._connection.execute(_know_address(self._upsert), known)
        return counted

    # Two-step verification

    def claim_step(self, account_id: int, step: int, row_limit: int) -> bool:
        """Use up a time step, and begin to count wrong codes anew.

        False where it, or a newer one, was used before, and after `row_limit` wrong codes in a row (0: no such limit).
        """
        claimed = update(_accounts).where(_account.id == account_id, _account.otp_step < step)
        if row_limit:
            claimed = claimed.where(_account.otp_row < row_limit)
        return self._changed(claimed.values(otp_step=step, otp_row=0))

    def count_wrong_code(self, account_id: int) -> int:
        """Count one more wrong one-time code; return how many there were in a row. Locks the account's row."""
        counted = update(_accounts).where(_account.id == account_id).values(otp_row=_account.otp_row + 1)
        return int(self._connection.execute(counted.returning(_account.otp_row)).scalar() or 0)

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
        first = {"count": 1, "ends_at": now + counter.limit.window}
        limits = {"now": now, "latest_end": counter.latest_end(now), "limit": counter.limit.count}
        return self._one(_charge(self._upsert), {**_place(counter), **first, **limits}) is not None

    def full_until(self, counters: Counters, now: float) -> float | None:
        """When the last of the counters that refuse a try is over; None where none does."""
        values = {"pair": counters.pair().account, "account": counters.account, "address": counters.network}
        rows = self._all(_COUNTERS, values)
        found = {(row["account"], row["address"], row["scope"]): (row["count"], row["ends_at"]) for row in rows}
        ends = []
        for counter in counters.for_code():
            count, ends_at = found.get((counter.account, counter.address, counter.scope), (0, 0.0))
            if counter.is_full(count, ends_at, now):
                ends.append(ends_at)
        return max(ends, default=None)

    def counters(self, accounts: Collection[str]) -> list[tuple[str, int, float]]:
        """The scope, count and end of each counter that is kept for these."""
        statement = select(_counter.scope, _counter.count, _counter.ends_at).where(_counter.account.in_(accounts))
        return [(row["scope"], row["count"], row["ends_at"]) for row in self._all(statement)]

    def forgive(self, counter: Counter, now: float) -> float | None:
        """Set a counter to nothing; return when it would have been over, where it refuses: then roll back."""
        row = self._one(_FORGIVE, _place(counter))
        return row["ends_at"] if row and counter.is_full(row["count"], row["ends_at"], now) else None

    def forgive_all(self, accounts: Collection[str]) -> None:
        """Set all counters that are kept for these to nothing."""
        statement = select(_counter.account, _counter.address, _counter.scope).where(_counter.account.in_(accounts))
        # One by one, in the order in which they are charged: two that lock the same rows never wait for each other.
        for account, address, scope in sorted(map(tuple, self._connection.execute(statement))):
            self._connection.execute(_FORGIVE, {"account": account, "address": address, "scope": scope})

    # Sessions

    def live_session(self, id_hash: bytes) -> LiveSession | None:
        """A session with its account."""
        row = self._connection.execute(_LIVE_SESSION, {"id_hash": id_hash}).one_or_none()
        return live_session(row) if row else None

    def lock_session(self, id_hash: bytes) -> LiveSession | None:
        """The same; nobody ends it until the end of the transaction. Lock its account first."""
        row = self._connection.execute(_LOCKED_SESSION, {"id_hash": id_hash}).one_or_none()
        return live_session(row) if row else None

    def sessions(self, account_id: int) -> list[Session]:
        """All sessions of an account that were not ended on purpose, oldest first."""
        statement = select(*_SESSION_COLUMNS).where(_session.account_id == account_id).order_by(_session.opened_at)
        return [Session(*row) for row in self._connection.execute(statement)]

    def add_session(self, account_id: int, session: Session) -> None:
        """Open a session."""
        self._connection.execute(_ADD_SESSION, {"account_id": account_id, **session._asdict()})

    def touch_session(self, id_hash: bytes, seen_at: float) -> None:
        """Note that a session is in use; whoever holds its row goes first, and this does nothing."""
        free = select(_session.id_hash).where(_session.id_hash == id_hash).with_for_update(skip_locked=True)
        self._connection.execute(update(_sessions).where(_session.id_hash.in_(free)).values(last_seen_at=seen_at))

    def end_session(self, id_hash: bytes) -> int | None:
        """End one session; return whose it was, None where somebody else already did."""
        ended = delete(_sessions).where(_session.id_hash == id_hash).returning(_session.account_id)
        return self._connection.execute(ended).scalar()

    def end_sessions(self, account_id: int, cause: str, but: bytes | None = None) -> list[Session]:
        """End all sessions of an account, or all but one, and note why; return them."""
        statement = delete(_sessions).where(_session.account_id == account_id)
        if but is not None:
            statement = statement.where(_session.id_hash != but)
        ended = [Session(*row) for row in self._connection.execute(statement.returning(*_SESSION_COLUMNS))]
        if ended:
            self.note(Event.SESSIONS_ENDED, account_id, cause=cause, count=len(ended))
        return ended

    def purge(self, now: float, known_since: float, trail_since: float, most: int) -> None:
        """Drop up to `most` rows of each kind that only time ends: sessions, counters, known addresses, the trail.

        It waits for nobody: rows that somebody else holds are left. It locks rows of other accounts, so call it last.
        """
        for row_key, is_over in (
            ((_session.id_hash,), _session.ends_at < now),
            ((_counter.account, _counter.address, _counter.scope), _counter.ends_at < now),
            ((_known.account_id, _known.network), _known.last_login_at < known_since),
            ((_trail.id,), _trail.at < trail_since),
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

    def add_role(self, **values: Any) -> int:
        """Insert a role that grants nothing and return its id. Raises Conflict where its code or id is in use.

        Where an `id` is given, ask for `exclusive`: the numbering goes on behind the highest.
        """
        statement = self._upsert(_roles).values(**values).on_conflict_do_nothing()
        row = self._one(statement.returning(_role.id))
        if row is None:
            has_code = self._one(select(_role.id).where(_role.code == values["code"]))
            raise errors.Conflict("code" if has_code else "id")
        if "id" in values:
            self._backend.number_on(self._connection, _roles.name)
        return int(row["id"])

    def change_role(self, role_id: int, **values: Any) -> None:
        """Set columns of a role. Raises Conflict where a new code is in use."""
        try:
            self._connection.execute(update(_roles).where(_role.id == role_id).values(**values))
        except IntegrityError:
            raise errors.Conflict("code") from None

    def delete_role(self, role_id: int) -> None:
        """Delete a role. Raises RoleInUse where accounts have it."""
        self._connection.execute(delete(_grants).where(_grant.role_id == role_id))
        try:
            self._connection.execute(delete(_roles).where(_role.id == role_id))
        except IntegrityError:
            raise errors.RoleInUse from None

    def grant(self, role_id: int, permission: str) -> None:
        """Let a role grant a permission code, if it does not already."""
        statement = self._upsert(_grants).values(role_id=role_id, code=permission)
        self._connection.execute(statement.on_conflict_do_nothing())

    def revoke(self, role_id: int, permission: str) -> None:
        """Let a role no longer grant a permission code."""
        self._connection.execute(delete(_grants).where(_grant.role_id == role_id, _grant.code == permission))

    # The rest

    def setting(self, name: str) -> str | None:
        """What is set at run time: `appcfg`, the console's configuration; `keys`, which secret keys were used."""
        return self._connection.execute(select(_setting.value).where(_setting.name == name)).scalar()

    def set_setting(self, name: str, value: str) -> None:
        """Replace it."""
        statement = self._upsert(tables.setting).values(name=name, value=value)
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
