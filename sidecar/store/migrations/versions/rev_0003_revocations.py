"""Revocations of what has no row of its own: JWTs, blocks of Biscuits, identities, keys."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "revocations",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("before", sa.BigInteger),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("pepper_id", sa.Text, nullable=False),
        sa.Column("mac", sa.Text, nullable=False),
    )
