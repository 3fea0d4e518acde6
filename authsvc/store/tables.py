"""The tables. Times are seconds since the epoch (UTC), so that both databases store and compare them alike."""

import sqlalchemy as sa

REVISION = "0003"
"""The migration this code is written for; a test holds it equal to the head of `migrations/`."""

metadata = sa.MetaData(
    # Constraints get names that migrations can refer to.
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

# SQLite numbers rows by itself only in a column that is literally INTEGER.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


role = sa.Table(
    "role",
    metadata,
    sa.Column("id", _ID, sa.Identity(), primary_key=True),
    sa.Column("code", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
)

role_permission = sa.Table(
    "role_permission",
    metadata,
    sa.Column("role_id", sa.ForeignKey("role.id"), primary_key=True),
    sa.Column("code", sa.Text, primary_key=True),
)

# `name` is as typed, `name_key` is what names are compared by.
account = sa.Table(
    "account",
    metadata,
    sa.Column("id", _ID, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("name_key", sa.Text, nullable=False, unique=True),
    sa.Column("phone", sa.Text, unique=True),
    sa.Column("avatar", sa.Text),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("role_id", sa.ForeignKey("role.id"), nullable=False, index=True),
    sa.Column("permission", sa.BigInteger, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("created_by", sa.ForeignKey("account.id")),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("login_at", sa.Double),
    sa.Column("login_address", sa.Text),
    sa.Column("login_count", sa.BigInteger, nullable=False),
    # Encrypted. NULL where two-step verification is off.
    sa.Column("otp_seed", sa.Text),
    # The last time step that was used.
    sa.Column("otp_step", sa.BigInteger, nullable=False, server_default="0"),
    # Wrong one-time codes in a row.
    sa.Column("otp_row", sa.Integer, nullable=False, server_default="0"),
    # Encrypted too: a seed that its owner has not confirmed, and since when it waits.
    sa.Column("otp_pending_seed", sa.Text),
    sa.Column("otp_pending_at", sa.Double),
    # The id of a deleted account is never given again. PostgreSQL numbers rows so by itself.
    sqlite_autoincrement=True,
)

# Recovery codes that have not been used; only the SHA-256 of each is kept.
recovery_code = sa.Table(
    "recovery_code",
    metadata,
    sa.Column("account_id", sa.ForeignKey("account.id"), primary_key=True),
    sa.Column("code_hash", sa.LargeBinary(32), primary_key=True),
)

# Wrong guesses since the window began. `account` or `address` is empty where a counter is not about one.
counter = sa.Table(
    "counter",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("address", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("ends_at", sa.Double, nullable=False, index=True),
)

# Where an account last opened a session from, per network.
known_address = sa.Table(
    "known_address",
    metadata,
    sa.Column("account_id", sa.ForeignKey("account.id"), primary_key=True),
    sa.Column("network", sa.Text, primary_key=True),
    sa.Column("last_login_at", sa.Double, nullable=False, index=True),
)

# Sessions that were not ended on purpose. The id itself is only in the token; here is its SHA-256.
session = sa.Table(
    "session",
    metadata,
    sa.Column("id_hash", sa.LargeBinary(32), primary_key=True),
    sa.Column("account_id", sa.ForeignKey("account.id"), nullable=False, index=True),
    sa.Column("opened_at", sa.Double, nullable=False),
    sa.Column("last_seen_at", sa.Double, nullable=False),
    sa.Column("ends_at", sa.Double, nullable=False, index=True),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("user_agent", sa.Text, nullable=False),
)

# What an administrator sets at run time, by name; today the console's `appcfg`.
setting = sa.Table(
    "setting",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

# What happened, and who did it. No foreign key: it outlives its account.
trail = sa.Table(
    "trail",
    metadata,
    sa.Column("id", _ID, sa.Identity(), primary_key=True),
    sa.Column("at", sa.Double, nullable=False, index=True),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("account_id", sa.BigInteger, index=True),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("address", sa.Text),
    # A JSON object.
    sa.Column("detail", sa.Text, nullable=False),
)

# Alembic's own.
alembic_version = sa.table("alembic_version", sa.column("version_num"))
