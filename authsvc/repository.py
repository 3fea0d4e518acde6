"""Every query there is, and the values that queries return."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    and_,
    any_,
    bindparam,
    case,
    column,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    table,
    tuple_,
    update,
)
from sqlalchemy import exc as database_errors
from sqlalchemy.dialects import postgresql, sqlite

from authsvc import errors, models
from authsvc.batching import Batcher
from authsvc.identifiers import Key, fold
from authsvc.throttle import Counter

_tables = models.Base.metadata.tables
_accounts, _roles, _grants = _tables["account"], _tables["role"], _tables["role_permission"]
_sessions, _settings, _counters = _tables["session"], _tables["setting"], _tables["counter"]
_known_addresses, _recovery_codes = _tables["known_address"], _tables["recovery_code"]
_account, _role, _grant, _session = _accounts.c, _roles.c, _grants.c, _sessions.c
_setting, _counter, _known, _recovery = _settings.c, _counters.c, _known_addresses.c, _recovery_codes.c

_VERSION = table("alembic_version", column("version_num"))
_BOOTSTRAP_LOCK = 0x61757468  # "auth": any number, as long as it is always the same one.
_CLOCK_SKEW = 60.0  # seconds
_CURSOR = "authsvc.cursor"
_PATIENCE = 1.0  # seconds
_BATCH_WAIT = 0.01  # seconds; some ten times what a batch takes
_WRITER_WAIT = 3.0  # seconds
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it is now, with its role. Times are epoch seconds."""

    id: int
    name: str
    phone: str | None
    avatar: str | None
    role_id: int
    permission: int
    created_by: int | None
    created_at: float
    login_at: float | None
    login_address: str | None
    login_count: int
    role_code: str
    role_name: str
    disabled: bool
    otp: bool
    permissions: tuple[str, ...]
    """The codes the role grants, sorted."""
    appcfg: str
    """The console's configuration: the same for all accounts, read along with each to save a round trip."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a login is checked against."""

    account_id: int
    password_hash: str
    otp_seed: str | None
    """Encrypted; None where two-step verification is off."""
    known_address: bool
    """Whether the account opened a session from the caller's network lately."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session without its id. Times are epoch seconds."""

    opened_at: float
    last_seen_at: float
    ends_at: float
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Role:
    """A role and the permission codes it grants, sorted."""

    id: int
    code: str
    name: str
    permissions: tuple[str, ...]


_KEYS: dict[str, ColumnElement[Any]] = {"id": _account.id, "name": _account.name_key, "phone": _account.phone}
# As literals, so that a session check's only parameter is its session.
_SPACE: Any = literal_column("' '")
_PERMISSIONS = (
    select(func.aggregate_strings(_grant.code, _SPACE)).where(_grant.role_id == _role.id).correlate(_roles)
).scalar_subquery()
_APPCFG = select(_setting.value).where(_setting.name == literal_column("'appcfg'")).scalar_subquery()

_ACCOUNT_COLUMNS: tuple[ColumnElement[Any], ...] = (
    _account.id,
    _account.name,
    _account.phone,
    _account.avatar,
    _account.role_id,
    _account.permission,
    _account.created_by,
    _account.created_at,
    _account.login_at,
    _account.login_address,
    _account.login_count,
    _role.code,
    _role.name,
    _account.disabled,
    _account.otp_seed.is_not(None),
    _PERMISSIONS,
    _APPCFG,
)
_ACCOUNTS = select(*_ACCOUNT_COLUMNS).join(_roles, _account.role_id == _role.id)
_SESSION_COLUMNS = (_session.opened_at, _session.last_seen_at, _session.ends_at, _session.address, _session.user_agent)

_SESSIONS_WITH_ACCOUNTS = (
    select(_session.id_hash, *_SESSION_COLUMNS, *_ACCOUNT_COLUMNS)
    .select_from(_sessions)
    .join(_accounts, _session.account_id == _account.id)
    .join(_roles, _account.role_id == _role.id)
)
_SESSION_WITH_ACCOUNT = _SESSIONS_WITH_ACCOUNTS.where(_session.id_hash == bindparam("id_hash"))
_SESSION_CHECK = {
    "sqlite": _SESSION_WITH_ACCOUNT,
    "postgresql": _SESSIONS_WITH_ACCOUNTS.where(
        _session.id_hash == any_(bindparam("id_hashes", type_=postgresql.ARRAY(LargeBinary)))
    ),
}


def _account_from(row: Any) -> Account:
    *plain, disabled, otp, permissions, appcfg = row
    return Account(*(*plain, bool(disabled), bool(otp), _codes(permissions), appcfg or "{}"))


def _session_from(row: Any) -> tuple[Session, Account] | None:
    return (Session(*row[1:6]), _account_from(row[6:])) if row else None


def _codes(joined: str | None) -> tuple[str, ...]:
    return tuple(sorted(joined.split(" "))) if joined else ()


def _matched(credentials: Credentials) -> dict[str, Any]:
    return {
        "account_id": credentials.account_id,
        "matched_hash": credentials.password_hash,
        "matched_seed": credentials.otp_seed,
    }


def _is_over(ends_at: Any, now: Any, furthest: Any) -> Any:
    """Whether a counter's window is over, in Python and in SQL alike.

    Further away than a window can be: a clock was set back, or the window was made shorter.
    """
    return (ends_at <= now) | (ends_at > furthest)


def _furthest(counter: Counter, now: float) -> float:
    # The leeway is for replicas whose clocks differ: one must not take the other's window for such a leftover.
    return now + counter.limit.window + _CLOCK_SKEW


# The statements of every login are built once: building them costs more than running them.

_CREDENTIALS = {
    kind: select(
        _account.id,
        _account.password_hash,
        _account.otp_seed,
        select(_known.account_id)
        .where(
            _known.account_id == _account.id,
            _known.network == bindparam("network"),
            _known.last_login_at > bindparam("known_since"),
        )
        .exists(),
    ).where(key == bindparam("value"))
    for kind, key in _KEYS.items()
}
_COUNTERS = select(_counters).where(
    or_(
        and_(
            _counter.account == bindparam("owner"), _counter.address.in_([literal_column("''"), bindparam("network")])
        ),
        and_(_counter.account == literal_column("''"), _counter.address == bindparam("network")),
    )
)
_FORGIVE = delete(_counters).where(
    _counter.account == bindparam("owner"),
    _counter.address == bindparam("network"),
    _counter.scope == bindparam("kind"),
)
_ADD_SESSION = insert(_sessions)
_ACCOUNT_BY = {kind: _ACCOUNTS.where(key == bindparam("value")) for kind, key in _KEYS.items()}
_UNCHANGED = update(_accounts).where(
    _account.id == bindparam("account_id"),
    _account.password_hash == bindparam("matched_hash"),
    _account.otp_seed.is_not_distinct_from(bindparam("matched_seed")),
    _account.disabled.is_(False),
)
_COUNT_LOGIN = _UNCHANGED.values(login_count=_account.login_count + 1)


def _charge(upsert: Any) -> Any:
    over = _is_over(_counter.ends_at, bindparam("now"), bindparam("furthest"))
    statement = upsert(_counters)
    return statement.on_conflict_do_update(
        index_elements=["account", "address", "scope"],
        set_={
            "count": case((over, 1), else_=_counter.count + 1),
            "ends_at": case((over, statement.excluded.ends_at), else_=_counter.ends_at),
        },
        where=or_(over, _counter.count < bindparam("limit")),
    ).returning(_counter.count)


def _know_address(upsert: Any) -> Any:
    statement = upsert(_known_addresses)
    return statement.on_conflict_do_update(
        index_elements=["account_id", "network"], set_={"last_login_at": statement.excluded.last_login_at}
    )


_UPSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_CHARGE = {dialect: _charge(upsert) for dialect, upsert in _UPSERT.items()}
_KNOW_ADDRESS = {dialect: _know_address(upsert) for dialect, upsert in _UPSERT.items()}


class Database:
    """Hands out repositories: for one read, or for a transaction that writes.

    Whatever the database does wrong (away, locked, full, without our tables) is raised as Unavailable.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # SQLite has one writer at a time. Its turn is waited for here: who waited for it on a connection would hold one
        # that a session check needs.
        self._writer = threading.Lock() if engine.dialect.name == "sqlite" else None
        self._session_check = _SESSION_CHECK[engine.dialect.name].compile(dialect=engine.dialect).string
        self._driver_error = engine.dialect.loaded_dbapi.Error
        self._batcher = None if self._writer else Batcher(self._session_rows, _BATCH_WAIT)

    def session(self, id_hash: bytes) -> tuple[Session, Account] | None:
        """A session with its account: all that a session check needs, in one statement. Raises Unavailable.

        This is what the service does all day, so it goes straight to the driver, which SQLAlchemy's execution would
        take longer than; and on PostgreSQL all checks of a moment share a round trip. Whatever goes wrong there is
        left to `read`, which knows dead connections from outages.
        """
        started = time.monotonic()
        try:
            row = self._batcher.get(id_hash) if self._batcher else self._session_rows([id_hash]).get(id_hash)
        except (self._driver_error, database_errors.DBAPIError, database_errors.TimeoutError) as error:
            if time.monotonic() - started > _PATIENCE:
                raise errors.Unavailable from error
            return self.read(lambda rows: rows.session(id_hash))
        return _session_from(row)

    def _session_rows(self, id_hashes: list[bytes]) -> dict[bytes, Any]:
        connection = self._engine.raw_connection()
        try:
            # One cursor a connection: making it is a good part of the work.
            if (cursor := connection.info.get(_CURSOR)) is None:
                cursor = connection.info[_CURSOR] = connection.cursor()
            cursor.execute(self._session_check, {"id_hashes": id_hashes} if self._batcher else id_hashes)
            rows = {row[0]: row for row in cursor.fetchall()}
        except self._driver_error:
            connection.invalidate()
            raise
        finally:
            connection.close()
        return rows

    def read(self, query: Callable[["Repository"], _T]) -> _T:
        """The result of `query`, each of whose statements is a transaction of its own. Raises Unavailable."""
        with _outages():
            connection, result = self._try(lambda connection: query(Repository(connection)))
            connection.close()
            return result

    @contextmanager
    def write(self) -> Iterator["Repository"]:
        """A transaction: committed when the block ends, rolled back when it raises. Raises Unavailable."""
        with _outages(), self._turn() as seconds:
            connection, _ = self._try(lambda connection: _begin(connection, seconds))
            # Where the block raises, returning the connection to the pool rolls back.
            with connection:
                yield Repository(connection)
                connection.exec_driver_sql("COMMIT")

    @contextmanager
    def _turn(self) -> Iterator[float]:
        """Be this process's writer; yields the seconds left to wait for those of other processes."""
        if self._writer is None:
            yield 0
            return
        started = time.monotonic()
        if not self._writer.acquire(timeout=_WRITER_WAIT):
            raise errors.Unavailable
        try:
            yield _WRITER_WAIT - (time.monotonic() - started)
        finally:
            self._writer.release()

    def _try(self, first: Callable[[Connection], _T]) -> tuple[Connection, _T]:
        """A connection on which `first` went well, and its result.

        A pooled connection may have died long ago, with a restart of the server; nothing was done yet, so a fresh one
        gets the same chance. Not where it took long to find out: the caller waits.
        """
        started = time.monotonic()
        while True:
            connection = self._engine.connect()
            try:
                return connection, first(connection)
            except database_errors.DBAPIError as error:
                connection.close()
                if not error.connection_invalidated or time.monotonic() - started > _PATIENCE:
                    raise
            except BaseException:
                connection.close()
                raise


def _begin(connection: Connection, seconds: float) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED")
        return
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
    # A reader that turns writer fails at once, whatever the time-out: say it up front.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _outages() -> Iterator[None]:
    try:
        yield
    except database_errors.TimeoutError as error:
        raise errors.Unavailable from error
    except database_errors.DBAPIError as error:
        if _is_our_mistake(error):
            raise
        raise errors.Unavailable from error


def _is_our_mistake(error: database_errors.DBAPIError) -> bool:
    """Whether a statement of ours is to blame, and not the database or its schema."""
    if getattr(error.orig, "sqlstate", None) in {"42P01", "42703"}:  # undefined table, undefined column
        return False
    return isinstance(
        error,
        database_errors.IntegrityError
        | database_errors.DataError
        | database_errors.ProgrammingError
        | database_errors.NotSupportedError,
    )


class Repository:
    """The queries, on one connection. Who may write, and when it is committed, is the caller's business."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._upsert = _UPSERT[self._dialect]

    def commit(self) -> None:
        """Commit now, in a `write` block that is about to raise."""
        self._connection.exec_driver_sql("COMMIT")

    # Accounts

    def account(self, key: Key) -> Account | None:
        """The account that `key` points at."""
        row = self._connection.execute(_ACCOUNT_BY[key.kind], {"value": key.value}).one_or_none()
        return _account_from(row) if row else None

    def accounts(self) -> list[Account]:
        """All accounts, oldest first."""
        return [_account_from(row) for row in self._connection.execute(_ACCOUNTS.order_by(_account.id))]

    def has_accounts(self) -> bool:
        """Whether there is any account."""
        return self._connection.execute(select(_account.id).limit(1)).first() is not None

    def credentials(self, key: Key, network: str, known_since: float) -> Credentials | None:
        """What a login for `key` from `network` is checked against."""
        values = {"value": key.value, "network": network, "known_since": known_since}
        row = self._connection.execute(_CREDENTIALS[key.kind], values).one_or_none()
        return Credentials(*row) if row else None

    def add_account(self, *, name: str, **values: Any) -> int:
        """Insert an account and return its id. Raises Taken where its name or phone is in use."""
        statement = self._upsert(_accounts).values(name=name, name_key=fold(name), login_count=0, **values)
        account_id = self._connection.execute(statement.on_conflict_do_nothing().returning(_account.id)).scalar()
        if account_id is None:
            raise errors.Taken("name" if self.account(Key("name", fold(name))) else "phone")
        return int(account_id)

    def change_account(self, account_id: int, **values: Any) -> None:
        """Set columns of an account. Raises Taken where a new phone is in use."""
        try:
            self._connection.execute(update(_accounts).where(_account.id == account_id).values(**values))
        except database_errors.IntegrityError:
            raise errors.Taken("phone") from None

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
            self._connection.execute(_KNOW_ADDRESS[self._dialect], known)
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
            delete(_recovery_codes).where(_recovery.account_id == account_id, _recovery.code_hash == code_hash)
        )

    def replace_recovery_codes(self, account_id: int, code_hashes: list[bytes]) -> None:
        """Forget an account's recovery codes and store these."""
        self._connection.execute(delete(_recovery_codes).where(_recovery.account_id == account_id))
        rows = [{"account_id": account_id, "code_hash": code_hash} for code_hash in code_hashes]
        if rows:
            self._connection.execute(insert(_recovery_codes), rows)

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
            "furthest": _furthest(counter, now),
            "limit": counter.limit.count,
        }
        return self._connection.execute(_CHARGE[self._dialect], values).first() is not None

    def full_until(self, counters: list[Counter], owner: str, network: str, now: float) -> float | None:
        """When the last of those counters that are full and stop the caller is over; None where none is."""
        rows = self._connection.execute(_COUNTERS, {"owner": owner, "network": network})
        found = {(account, address, scope): (count, end) for account, address, scope, count, end in rows}
        nothing = (0, 0.0)
        ends = []
        for counter in counters:
            count, end = found.get((counter.account, counter.address, counter.scope), nothing)
            if counter.stops and count >= counter.limit.count and not _is_over(end, now, _furthest(counter, now)):
                ends.append(end)
        return max(ends, default=None)

    def forgive(self, counter: Counter) -> None:
        """Set a counter to nothing."""
        values = {"owner": counter.account, "network": counter.address, "kind": counter.scope}
        self._connection.execute(_FORGIVE, values)

    def forgive_all(self, account: str) -> None:
        """Set all counters of an account to nothing."""
        statement = select(_counter.account, _counter.address, _counter.scope).where(_counter.account == account)
        # One by one, in the order in which they are charged: two that lock the same rows never wait for each other.
        for account_, address, scope in sorted(map(tuple, self._connection.execute(statement))):
            self._connection.execute(_FORGIVE, {"owner": account_, "network": address, "kind": scope})

    # Sessions

    def session(self, id_hash: bytes) -> tuple[Session, Account] | None:
        """A session with its account."""
        return _session_from(self._connection.execute(_SESSION_WITH_ACCOUNT, {"id_hash": id_hash}).one_or_none())

    def sessions(self, account_id: int) -> list[Session]:
        """All sessions of an account that were not ended on purpose, oldest first."""
        statement = select(*_SESSION_COLUMNS).where(_session.account_id == account_id).order_by(_session.opened_at)
        return [Session(*row) for row in self._connection.execute(statement)]

    def add_session(self, id_hash: bytes, account_id: int, session: Session) -> None:
        """Open a session."""
        values = {
            "id_hash": id_hash,
            "account_id": account_id,
            "opened_at": session.opened_at,
            "last_seen_at": session.last_seen_at,
            "ends_at": session.ends_at,
            "address": session.address,
            "user_agent": session.user_agent,
        }
        self._connection.execute(_ADD_SESSION, values)

    def touch_session(self, id_hash: bytes, seen_at: float) -> None:
        """Note that a session is in use. Waits for nobody: whoever holds the row, or SQLite's lock, goes first."""
        if self._connection.dialect.name == "sqlite":
            self._connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        free = select(_session.id_hash).where(_session.id_hash == id_hash).with_for_update(skip_locked=True)
        self._connection.execute(update(_sessions).where(_session.id_hash.in_(free)).values(last_seen_at=seen_at))

    def end_session(self, id_hash: bytes) -> bool:
        """End one session; False where somebody else already did."""
        return self._changed(delete(_sessions).where(_session.id_hash == id_hash))

    def end_sessions(self, account_id: int, but: bytes | None = None) -> int:
        """End all sessions of an account, or all but one; return how many there were."""
        statement = delete(_sessions).where(_session.account_id == account_id)
        if but is not None:
            statement = statement.where(_session.id_hash != but)
        return self._connection.execute(statement).rowcount

    def purge(self, now: float, known_since: float, most: int) -> None:
        """Drop up to `most` rows of each kind that only time ends: sessions, counters, known addresses.

        Call it last in a transaction. It waits for nobody (rows that somebody else holds are left to them), but what
        it locks belongs to any account.
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
        statement = select(_role.id, _role.code, _role.name, _PERMISSIONS).order_by(_role.id)
        return [
            Role(role_id, code, name, _codes(permissions))
            for role_id, code, name, permissions in self._connection.execute(statement)
        ]

    def role_id(self, code: str) -> int:
        """The id of the role with this code. Raises UnknownRole."""
        # Codes are printable: what is not (bytes that are no UTF-8, for one) need not be asked for, and may not be.
        found = code.isprintable() and self._connection.execute(select(_role.id).where(_role.code == code)).scalar()
        if not found:
            raise errors.UnknownRole
        return int(found)

    def add_role(self, code: str, name: str) -> None:
        """Insert a role that grants nothing. Raises Taken where its code is in use."""
        statement = self._upsert(_roles).values(code=code, name=name).on_conflict_do_nothing()
        if not self._upserted(statement.returning(_role.id)):
            raise errors.Taken("code")

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
        statement = self._upsert(_settings).values(name="appcfg", value=value)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))

    def schema_revision(self) -> str | None:
        """The migration the database is at."""
        return self._connection.execute(select(_VERSION.c.version_num)).scalar()

    def lock_bootstrap(self) -> None:
        """Let nobody else set up the first account until the end of this transaction."""
        # On SQLite the transaction itself is that lock: it began IMMEDIATE.
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(select(func.pg_advisory_xact_lock(_BOOTSTRAP_LOCK)))

    def _upserted(self, statement: Any) -> bool:
        return self._connection.execute(statement).first() is not None

    def _changed(self, statement: Any, values: dict[str, Any] | None = None) -> bool:
        return self._connection.execute(statement, values).rowcount == 1
