"""Every query there is, and the values that queries return."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    bindparam,
    column,
    delete,
    func,
    insert,
    select,
    table,
    update,
)
from sqlalchemy import exc as database_errors
from sqlalchemy.dialects import postgresql, sqlite

from authsvc import errors, models
from authsvc.identifiers import Key, fold

_account, _role, _grant = models.Account.__table__.c, models.Role.__table__.c, models.RolePermission.__table__.c
_session, _setting = models.Session.__table__.c, models.Setting.__table__.c

_VERSION = table("alembic_version", column("version_num"))
_APPCFG_NAME = "appcfg"
_BOOTSTRAP_LOCK = 0x61757468  # "auth": any number, as long as it is always the same one.
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
    disabled: bool
    created_by: int | None
    created_at: float
    login_at: float | None
    login_address: str | None
    login_count: int
    role_code: str
    role_name: str
    permissions: tuple[str, ...]
    """The codes the role grants, sorted."""
    appcfg: str
    """The console's configuration: the same for all accounts, read along with each to save a round trip."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a login is checked against."""

    account_id: int
    password_hash: str


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


_PERMISSIONS = (
    select(func.aggregate_strings(_grant.code, " ")).where(_grant.role_id == _role.id).correlate(models.Role.__table__)
).scalar_subquery()
_APPCFG = select(_setting.value).where(_setting.name == _APPCFG_NAME).scalar_subquery()

_ACCOUNT_COLUMNS: tuple[ColumnElement[Any], ...] = (
    _account.id,
    _account.name,
    _account.phone,
    _account.avatar,
    _account.role_id,
    _account.permission,
    _account.disabled,
    _account.created_by,
    _account.created_at,
    _account.login_at,
    _account.login_address,
    _account.login_count,
    _role.code,
    _role.name,
    _PERMISSIONS,
    _APPCFG,
)
_ACCOUNTS = select(*_ACCOUNT_COLUMNS).join(models.Role.__table__, _account.role_id == _role.id)
_SESSION_COLUMNS = (_session.opened_at, _session.last_seen_at, _session.ends_at, _session.address, _session.user_agent)

_SESSION_WITH_ACCOUNT = (
    select(*_SESSION_COLUMNS, *_ACCOUNT_COLUMNS)
    .select_from(models.Session.__table__)
    .join(models.Account.__table__, _session.account_id == _account.id)
    .join(models.Role.__table__, _account.role_id == _role.id)
    .where(_session.id_hash == bindparam("id_hash"))
)


def _account_from(row: Any) -> Account:
    return Account(*(*row[:-2], _codes(row[-2]), row[-1] or "{}"))


def _codes(joined: str | None) -> tuple[str, ...]:
    return tuple(sorted(joined.split(" "))) if joined else ()


def _points_at(key: Key) -> ColumnElement[bool]:
    column_of = {"id": _account.id, "name": _account.name_key, "phone": _account.phone}
    return column_of[key.kind] == key.value


class Database:
    """Hands out repositories: for one read, or for a transaction that writes.

    Whatever the database does wrong (away, locked, full, without our tables) is raised as Unavailable.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # A reader that turns writer fails at once on SQLite, whatever the time-out: say it up front.
        self._begin = "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else "BEGIN ISOLATION LEVEL READ COMMITTED"

    def read(self, query: Callable[["Repository"], _T]) -> _T:
        """The result of `query`, which must not write. Raises Unavailable."""
        with _outages(), self._engine.connect() as connection:
            return query(Repository(connection))

    @contextmanager
    def write(self) -> Iterator["Repository"]:
        """A transaction: committed when the block ends, rolled back when it raises. Raises Unavailable."""
        with _outages(), self._engine.connect() as connection:
            connection.exec_driver_sql(self._begin)
            # Where the block raises, returning the connection to the pool rolls back.
            yield Repository(connection)
            connection.exec_driver_sql("COMMIT")


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
        self._upsert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert

    # Accounts

    def account(self, key: Key) -> Account | None:
        """The account that `key` points at."""
        row = self._connection.execute(_ACCOUNTS.where(_points_at(key))).one_or_none()
        return _account_from(row) if row else None

    def accounts(self) -> list[Account]:
        """All accounts, oldest first."""
        return [_account_from(row) for row in self._connection.execute(_ACCOUNTS.order_by(_account.id))]

    def has_accounts(self) -> bool:
        """Whether there is any account."""
        return self._connection.execute(select(_account.id).limit(1)).first() is not None

    def credentials(self, key: Key) -> Credentials | None:
        """What a login for `key` is checked against."""
        row = self._connection.execute(select(_account.id, _account.password_hash).where(_points_at(key))).one_or_none()
        return Credentials(*row) if row else None

    def add_account(self, *, name: str, **values: Any) -> int:
        """Insert an account and return its id. Raises Taken where its name or phone is in use."""
        statement = self._upsert(models.Account).values(name=name, name_key=fold(name), login_count=0, **values)
        account_id = self._connection.execute(statement.on_conflict_do_nothing().returning(_account.id)).scalar()
        if account_id is None:
            raise errors.Taken("name" if self.account(Key("name", fold(name))) else "phone")
        return int(account_id)

    def change_account(self, account_id: int, **values: Any) -> None:
        """Set columns of an account. Raises Taken where a new phone is in use."""
        try:
            self._connection.execute(update(models.Account).where(_account.id == account_id).values(**values))
        except database_errors.IntegrityError:
            raise errors.Taken("phone") from None

    def count_login(self, credentials: Credentials, *, at: float, address: str, password_hash: str) -> bool:
        """Count a login and note when and whence, and store `password_hash`; take the account's row lock.

        False, and nothing done, where the account is disabled by now or its password is no longer the one that
        was matched: hashing took a while, and somebody may have been faster.
        """
        return self._changed(
            update(models.Account)
            .where(
                _account.id == credentials.account_id,
                _account.password_hash == credentials.password_hash,
                _account.disabled.is_(False),
            )
            .values(
                login_at=at, login_address=address, login_count=_account.login_count + 1, password_hash=password_hash
            )
        )

    # Sessions

    def session(self, id_hash: bytes) -> tuple[Session, Account] | None:
        """A session with its account: all that a session check needs, in one statement."""
        row = self._connection.execute(_SESSION_WITH_ACCOUNT, {"id_hash": id_hash}).one_or_none()
        return (Session(*row[:5]), _account_from(row[5:])) if row else None

    def sessions(self, account_id: int) -> list[Session]:
        """All sessions of an account that were not ended on purpose, oldest first."""
        statement = select(*_SESSION_COLUMNS).where(_session.account_id == account_id).order_by(_session.opened_at)
        return [Session(*row) for row in self._connection.execute(statement)]

    def add_session(self, id_hash: bytes, account_id: int, session: Session) -> None:
        """Open a session."""
        self._connection.execute(
            insert(models.Session).values(
                id_hash=id_hash,
                account_id=account_id,
                opened_at=session.opened_at,
                last_seen_at=session.last_seen_at,
                ends_at=session.ends_at,
                address=session.address,
                user_agent=session.user_agent,
            )
        )

    def touch_session(self, id_hash: bytes, seen_at: float) -> None:
        """Note that a session is in use."""
        self._connection.execute(update(models.Session).where(_session.id_hash == id_hash).values(last_seen_at=seen_at))

    def end_session(self, id_hash: bytes) -> bool:
        """End one session; False where somebody else already did."""
        return self._changed(delete(models.Session).where(_session.id_hash == id_hash))

    def end_sessions(self, account_id: int) -> int:
        """End all sessions of an account; return how many there were."""
        return self._connection.execute(delete(models.Session).where(_session.account_id == account_id)).rowcount

    def purge_sessions(self, ended_before: float, most: int) -> None:
        """Drop up to `most` sessions whose absolute end has passed."""
        # Rows that another replica is dropping at this moment are left to it.
        ended = select(_session.id_hash).where(_session.ends_at < ended_before).limit(most)
        ended = ended.with_for_update(skip_locked=True)
        self._connection.execute(delete(models.Session).where(_session.id_hash.in_(ended)))

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
        found = self._connection.execute(select(_role.id).where(_role.code == code)).scalar()
        if found is None:
            raise errors.UnknownRole
        return int(found)

    def add_role(self, code: str, name: str) -> None:
        """Insert a role that grants nothing. Raises Taken where its code is in use."""
        statement = self._upsert(models.Role).values(code=code, name=name).on_conflict_do_nothing()
        if not self._changed(statement):
            raise errors.Taken("code")

    def grant(self, role_id: int, permission: str) -> None:
        """Let a role grant a permission code, if it does not already."""
        self._connection.execute(
            self._upsert(models.RolePermission).values(role_id=role_id, code=permission).on_conflict_do_nothing()
        )

    def revoke(self, role_id: int, permission: str) -> None:
        """Let a role no longer grant a permission code."""
        self._connection.execute(
            delete(models.RolePermission).where(_grant.role_id == role_id, _grant.code == permission)
        )

    # The rest

    def appcfg(self) -> str:
        """The console's configuration, a JSON object as text."""
        return str(self._connection.execute(select(func.coalesce(_APPCFG, "{}"))).scalar_one())

    def set_appcfg(self, value: str) -> None:
        """Replace the console's configuration."""
        statement = self._upsert(models.Setting).values(name=_APPCFG_NAME, value=value)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))

    def schema_revision(self) -> str | None:
        """The migration the database is at."""
        return self._connection.execute(select(_VERSION.c.version_num)).scalar()

    def lock_bootstrap(self) -> None:
        """Let nobody else set up the first account until the end of this transaction."""
        # On SQLite the transaction itself is that lock: it began IMMEDIATE.
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(select(func.pg_advisory_xact_lock(_BOOTSTRAP_LOCK)))

    def _changed(self, statement: Any) -> bool:
        return self._connection.execute(statement).rowcount == 1
