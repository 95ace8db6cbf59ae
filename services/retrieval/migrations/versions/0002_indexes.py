"""Which index is live, what one that is being built holds, and where the chunks of a version lie."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables; say of every version that is there where its chunks lie."""
    op.create_table(
        "indexes",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("dimension", sa.Integer, nullable=False),
        sa.Column("probes", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.String, nullable=False, unique=True),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("held_by", sa.String, nullable=False),
        sa.Column("held_until", sa.Float, nullable=False),
    )
    op.create_table(
        "index_documents",
        sa.Column("index_name", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("document_id", sa.String, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("access_revision", sa.BigInteger, nullable=False),
        sa.Column("attributes_revision", sa.BigInteger, nullable=False),
        sa.Column("writing", sa.Boolean, nullable=False),
    )
    with op.batch_alter_table("versions") as versions:
        versions.add_column(sa.Column("chunks_blob_key", sa.String, nullable=False, server_default=""))
    # The event that named the blob is gone from the log by now. Every release so far has laid it beside the text.
    op.execute(
        "UPDATE versions SET chunks_blob_key = tenant || '/chunks/' || document_id || '/' || version || '.pb' "
        "WHERE text_blob_key = tenant || '/text/' || document_id || '/' || version || '.txt'"
    )
    with op.batch_alter_table("versions") as versions:
        versions.alter_column("chunks_blob_key", server_default=None)


def downgrade() -> None:
    """Drop the tables and the column."""
    with op.batch_alter_table("versions") as versions:
        versions.drop_column("chunks_blob_key")
    for name in ("index_documents", "indexes"):
        op.drop_table(name)
