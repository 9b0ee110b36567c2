"""Which root key a Biscuit was made under. Rows that are there keep their MACs: it covers this column only where it holds something."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("tokens", sa.Column("root_key", sa.BigInteger))
