"""Rotation (who replaces whom), lists of scopes, and the immutable id of a token's owner. Rows that are there keep their MACs:
it covers these columns only where they hold something."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for name in ("owner_id", "scopes", "parent", "family"):
        op.add_column("tokens", sa.Column(name, sa.Text))
    for name in ("rotated_at", "reused_at"):
        op.add_column("tokens", sa.Column(name, sa.BigInteger))
    op.create_index("tokens_by_family", "tokens", ["family"])
