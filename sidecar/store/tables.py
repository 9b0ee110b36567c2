"""The tables, in SQL that SQLite and PostgreSQL both read. A change here is a new file in `migrations/versions` and a new
`VERSION`; a test compares the two.

Times are whole Unix seconds. Digests and MACs are hexadecimal text.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text

VERSION = "0006"
"""The newest revision in `migrations/versions`."""

metadata = MetaData()

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("workspaces", Text),
    Column("permissions", Text),
    Column("path", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("revoked_by", Text),
    Column("pepper_id", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("mac", Text, nullable=False),
    Column("last_used_at", BigInteger),
    Column("owner_id", Text),
    Column("scopes", Text),
    Column("parent", Text),
    Column("family", Text),
    Column("rotated_at", BigInteger),
    Column("reused_at", BigInteger),
    Column("access_key", Text),
    Column("root_key", BigInteger),
    Index("tokens_by_age", "created_at", "id"),
    Index("tokens_by_subject", "subject", "created_at", "id"),
    Index("tokens_by_family", "family"),
)

# AUTOINCREMENT: SQLite would otherwise hand a deleted row's number out again, and a reader that is past it would miss the row.
changes = Table(
    "changes",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("token_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("changes_by_kind", "kind", "seq"),
    sqlite_autoincrement=True,
)

revocations = Table(
    "revocations",
    metadata,
    Column("name", Text, primary_key=True),
    Column("before", BigInteger),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("pepper_id", Text, nullable=False),
    Column("mac", Text, nullable=False),
)
"""Of what has no row in `tokens`: JWTs, blocks of Biscuits, identities, keys."""

root_keys = Table(
    "root_keys",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("public_key", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("retired_at", BigInteger),
    Column("retired_by", Text),
    Column("pepper_id", Text, nullable=False),
    Column("mac", Text, nullable=False),
)
"""Of Biscuits, their public halves."""

marks = Table(
    "marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

schema_version = Table(
    "alembic_version",
    metadata,
    Column("version_num", Text, primary_key=True),
)
"""Alembic's own table, so that a file made at first use and one that was upgraded are told apart by nothing."""
