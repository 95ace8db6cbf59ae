"""Adapters that are withheld, files that are being tried, and more of what was registered by hand."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and add the columns; what was not noted before is empty."""
    with op.batch_alter_table("adapters") as table:
        table.add_column(sa.Column("config_digest", sa.String, nullable=False, server_default=""))
        table.add_column(sa.Column("size_bytes", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "withheld",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "trials",
        sa.Column("content", sa.String, primary_key=True),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("tried_at", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("trials")
    op.drop_table("withheld")
    with op.batch_alter_table("adapters") as table:
        table.drop_column("size_bytes")
        table.drop_column("config_digest")
