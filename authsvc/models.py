"""The tables. Times are seconds since the epoch (UTC), so that both databases store and compare them alike."""

from sqlalchemy import BigInteger, Double, ForeignKey, Identity, Integer, LargeBinary, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_REVISION = "0002"
"""The migration this code is written for; a test holds it equal to the head of `migrations/`."""

# SQLite numbers rows by itself only in a column that is literally INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """What all tables share: constraint names that migrations can refer to."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
        }
    )


class Role(Base):
    """A named set of permission codes; every account has exactly one role."""

    __tablename__ = "role"

    id: Mapped[int] = mapped_column(_Id, Identity(), primary_key=True)
    code: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text)


class RolePermission(Base):
    """One permission code granted to one role."""

    __tablename__ = "role_permission"

    role_id: Mapped[int] = mapped_column(ForeignKey("role.id"), primary_key=True)
    code: Mapped[str] = mapped_column(Text, primary_key=True)


class Account(Base):
    """Who can log in. `name` is as typed, `name_key` is what names are compared by."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(_Id, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    name_key: Mapped[str] = mapped_column(Text, unique=True)
    phone: Mapped[str | None] = mapped_column(Text, unique=True)
    avatar: Mapped[str | None] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    role_id: Mapped[int] = mapped_column(ForeignKey("role.id"), index=True)
    permission: Mapped[int] = mapped_column(BigInteger)
    disabled: Mapped[bool]
    created_by: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[float] = mapped_column(Double)
    login_at: Mapped[float | None] = mapped_column(Double)
    login_address: Mapped[str | None] = mapped_column(Text)
    login_count: Mapped[int] = mapped_column(BigInteger)
    otp_seed: Mapped[str | None] = mapped_column(Text)
    otp_step: Mapped[int] = mapped_column(BigInteger, server_default="0")


class RecoveryCode(Base):
    """A recovery code that has not been used. Only its SHA-256 is kept."""

    __tablename__ = "recovery_code"

    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), primary_key=True)
    code_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)


class Counter(Base):
    """Wrong guesses since the window began. `account` or `address` is empty where a counter is not about one."""

    __tablename__ = "counter"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    address: Mapped[str] = mapped_column(Text, primary_key=True)
    scope: Mapped[str] = mapped_column(Text, primary_key=True)
    count: Mapped[int] = mapped_column(Integer)
    ends_at: Mapped[float] = mapped_column(Double, index=True)


class KnownAddress(Base):
    """Where an account last opened a session from, per network."""

    __tablename__ = "known_address"

    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), primary_key=True)
    network: Mapped[str] = mapped_column(Text, primary_key=True)
    last_login_at: Mapped[float] = mapped_column(Double, index=True)


class Session(Base):
    """A login that has not been ended on purpose. The id itself is only in the token; here is its SHA-256."""

    __tablename__ = "session"

    id_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    opened_at: Mapped[float] = mapped_column(Double)
    last_seen_at: Mapped[float] = mapped_column(Double)
    ends_at: Mapped[float] = mapped_column(Double, index=True)
    address: Mapped[str] = mapped_column(Text)
    user_agent: Mapped[str] = mapped_column(Text)


class Setting(Base):
    """What an administrator sets at run time, by name; today the console's `appcfg`."""

    __tablename__ = "setting"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text)
