"""Two-step verification; counters of wrong guesses."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the account's seed and last used time step, recovery codes, counters and known addresses."""
    op.add_column("account", sa.Column("otp_seed", sa.Text(), nullable=True))
    op.add_column("account", sa.Column("otp_step", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "recovery_code",
        sa.Column("account_id", _id(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_recovery_code_account_id"),
        sa.PrimaryKeyConstraint("account_id", "code_hash", name="pk_recovery_code"),
    )
    op.create_table(
        "counter",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account", "address", "scope", name="pk_counter"),
    )
    op.create_index("ix_counter_ends_at", "counter", ["ends_at"])
    op.create_table(
        "known_address",
        sa.Column("account_id", _id(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("last_login_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_known_address_account_id"),
        sa.PrimaryKeyConstraint("account_id", "network", name="pk_known_address"),
    )
    op.create_index("ix_known_address_last_login_at", "known_address", ["last_login_at"])


def downgrade() -> None:
    """Drop what upgrade added."""
    for table in ("known_address", "counter", "recovery_code"):
        op.drop_table(table)
    for column in ("otp_step", "otp_seed"):
        op.drop_column("account", column)
