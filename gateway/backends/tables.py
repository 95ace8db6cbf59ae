"""The gateway's tables, as its migrations make them."""

from typing import Final

import sqlalchemy as sa

__all__ = ["answers", "api_keys", "audit", "metadata", "quotas", "usage"]

metadata: Final = sa.MetaData()

api_keys: Final = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("digest", sa.String, nullable=False, unique=True),
    sa.Column("tenant", sa.String, nullable=False, index=True),
    sa.Column("subject", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("hint", sa.String, nullable=False),
    sa.Column("roles", sa.JSON, nullable=False),
    sa.Column("groups", sa.JSON, nullable=False),
    sa.Column("requests_per_minute", sa.BigInteger),
    sa.Column("max_concurrent", sa.BigInteger),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
)

quotas: Final = sa.Table(
    "quotas",
    metadata,
    sa.Column("tenant", sa.String, primary_key=True),
    sa.Column("tokens_per_day", sa.BigInteger, nullable=False),
)

usage: Final = sa.Table(
    "usage",
    metadata,
    sa.Column("tenant", sa.String, primary_key=True),
    sa.Column("hour", sa.BigInteger, primary_key=True),
    sa.Column("key_id", sa.String, primary_key=True),
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("completion_tokens", sa.BigInteger, nullable=False),
)

audit: Final = sa.Table(
    "audit",
    metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("request_id", sa.String, nullable=False),
    sa.Column("tenant", sa.String, nullable=False),
    sa.Column("subject", sa.String, nullable=False),
    sa.Column("key_id", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("object_id", sa.String, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Index("audit_by_tenant", "tenant", "at"),
)

answers: Final = sa.Table(
    "answers",
    metadata,
    sa.Column("scope", sa.String, primary_key=True),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("media_type", sa.String, nullable=False),
    sa.Column("body", sa.LargeBinary),
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
)
