"""The tables. Times are seconds since the epoch (UTC), so that both databases store and compare them alike."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    column,
    table,
)

REVISION = "0003"
"""The migration this code is written for; a test holds it equal to the head of `migrations/`."""

metadata = MetaData(
    # Constraints get names that migrations can refer to.
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

# SQLite numbers rows by itself only in a column that is literally INTEGER.
_ID = BigInteger().with_variant(Integer(), "sqlite")


role = Table(
    "role",
    metadata,
    Column("id", _ID, Identity(), primary_key=True),
    Column("code", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
)

role_permission = Table(
    "role_permission",
    metadata,
    Column("role_id", ForeignKey("role.id"), primary_key=True),
    Column("code", Text, primary_key=True),
)

# `name` is as typed, `name_key` is what names are compared by.
account = Table(
    "account",
    metadata,
    Column("id", _ID, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, unique=True),
    Column("phone", Text, unique=True),
    Column("avatar", Text),
    Column("password_hash", Text, nullable=False),
    Column("role_id", ForeignKey("role.id"), nullable=False, index=True),
    Column("permission", BigInteger, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_by", ForeignKey("account.id")),
    Column("created_at", Double, nullable=False),
    Column("login_at", Double),
    Column("login_address", Text),
    Column("login_count", BigInteger, nullable=False),
    # Encrypted. NULL where two-step verification is off.
    Column("otp_seed", Text),
    # The last time step that was used.
    Column("otp_step", BigInteger, nullable=False, server_default="0"),
    # Wrong one-time codes in a row.
    Column("otp_row", Integer, nullable=False, server_default="0"),
    # Encrypted too: a seed that its owner has not confirmed, and since when it waits.
    Column("otp_pending_seed", Text),
    Column("otp_pending_at", Double),
    # The id of a deleted account is never given again. PostgreSQL numbers rows so by itself.
    sqlite_autoincrement=True,
)

# Recovery codes that have not been used; only the SHA-256 of each is kept.
recovery_code = Table(
    "recovery_code",
    metadata,
    Column("account_id", ForeignKey("account.id"), primary_key=True),
    Column("code_hash", LargeBinary(32), primary_key=True),
)

# Wrong guesses since the window began. `account` or `address` is empty where a counter is not about one.
counter = Table(
    "counter",
    metadata,
    Column("account", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("ends_at", Double, nullable=False, index=True),
)

# Where an account last opened a session from, per network.
known_address = Table(
    "known_address",
    metadata,
    Column("account_id", ForeignKey("account.id"), primary_key=True),
    Column("network", Text, primary_key=True),
    Column("last_login_at", Double, nullable=False, index=True),
)

# Sessions that were not ended on purpose. The id itself is only in the token; here is its SHA-256.
session = Table(
    "session",
    metadata,
    Column("id_hash", LargeBinary(32), primary_key=True),
    Column("account_id", ForeignKey("account.id"), nullable=False, index=True),
    Column("opened_at", Double, nullable=False),
    Column("last_seen_at", Double, nullable=False),
    Column("ends_at", Double, nullable=False, index=True),
    Column("address", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
)

# What an administrator sets at run time, by name; today the console's `appcfg`.
setting = Table(
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# What happened, and who did it. No foreign key: it outlives its account.
trail = Table(
    "trail",
    metadata,
    Column("id", _ID, Identity(), primary_key=True),
    Column("at", Double, nullable=False, index=True),
    Column("event", Text, nullable=False),
    Column("account_id", BigInteger, index=True),
    Column("by", Text, nullable=False),
    Column("address", Text),
    # A JSON object.
    Column("detail", Text, nullable=False),
)

# Alembic's own.
alembic_version = table("alembic_version", column("version_num"))
