"""Accounts, roles, sessions and settings; the two roles that every installation starts with."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables, and roles 1 and 2."""
    role = op.create_table(
        "role",
        sa.Column("id", _id(), sa.Identity(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_role"),
        sa.UniqueConstraint("code", name="uq_role_code"),
    )
    grant = op.create_table(
        "role_permission",
        sa.Column("role_id", _id(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["role_id"], ["role.id"], name="fk_role_permission_role_id"),
        sa.PrimaryKeyConstraint("role_id", "code", name="pk_role_permission"),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_setting"),
    )
    op.create_table(
        "account",
        sa.Column("id", _id(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("avatar", sa.Text(), nullable=True),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role_id", _id(), nullable=False),
        sa.Column("permission", sa.BigInteger(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_by", _id(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("login_at", sa.Double(), nullable=True),
        sa.Column("login_address", sa.Text(), nullable=True),
        sa.Column("login_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name="fk_account_created_by"),
        sa.ForeignKeyConstraint(["role_id"], ["role.id"], name="fk_account_role_id"),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.UniqueConstraint("name_key", name="uq_account_name_key"),
        sa.UniqueConstraint("phone", name="uq_account_phone"),
    )
    op.create_index("ix_account_role_id", "account", ["role_id"])
    op.create_table(
        "session",
        sa.Column("id_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("account_id", _id(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("last_seen_at", sa.Double(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_session_account_id"),
        sa.PrimaryKeyConstraint("id_hash", name="pk_session"),
    )
    op.create_index("ix_session_account_id", "session", ["account_id"])
    op.create_index("ix_session_ends_at", "session", ["ends_at"])
    # Without explicit ids, in this order: PostgreSQL's numbering goes on behind them.
    for code, name in (("admin", "开发者"), ("user", "普通账号")):
        op.execute(role.insert().values(code=code, name=name))
    admin = sa.select(role.c.id).where(role.c.code == "admin").scalar_subquery()
    for permission in ("bas", "dev", "in-system"):
        op.execute(grant.insert().values(role_id=admin, code=permission))


def downgrade() -> None:
    """Drop everything."""
    for table in ("session", "account", "setting", "role_permission", "role"):
        op.drop_table(table)
