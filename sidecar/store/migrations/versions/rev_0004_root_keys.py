"""The root keys of Biscuits: their public halves."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "root_keys",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("retired_at", sa.BigInteger),
        sa.Column("retired_by", sa.Text),
        sa.Column("pepper_id", sa.Text, nullable=False),
        sa.Column("mac", sa.Text, nullable=False),
    )
