"""The trail; two-step verification that its owner begins; ids that are never given again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the trail and the account's columns; number accounts so that a deleted one's id stays its own."""
    op.create_table(
        "trail",
        sa.Column("id", _id(), sa.Identity(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_trail"),
    )
    op.create_index("ix_trail_at", "trail", ["at"])
    op.create_index("ix_trail_account_id", "trail", ["account_id"])
    op.add_column("account", sa.Column("otp_row", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("account", sa.Column("otp_pending_seed", sa.Text(), nullable=True))
    op.add_column("account", sa.Column("otp_pending_at", sa.Double(), nullable=True))
    _number(never_again=True)


def downgrade() -> None:
    """Drop what upgrade added."""
    op.drop_table("trail")
    for column in ("otp_pending_at", "otp_pending_seed", "otp_row"):
        op.drop_column("account", column)
    _number(never_again=False)


def _number(*, never_again: bool) -> None:
    # PostgreSQL's identities do so by themselves; SQLite can change a table's numbering only by copying it.
    if op.get_bind().dialect.name == "sqlite":
        options = {"sqlite_autoincrement": never_again}
        with op.batch_alter_table("account", recreate="always", table_kwargs=options):
            pass
