"""The id of a token's access key. Rows that are there keep their MACs: it covers this column only where it holds something."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("tokens", sa.Column("access_key", sa.Text))
