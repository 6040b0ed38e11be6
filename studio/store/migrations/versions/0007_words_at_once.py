"""The index of words takes in all records of a transaction at once, instead of one by one."""

from alembic import op

from studio.store.words import WORDS_AT_ONCE_FOR_SQLITE

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for statement in WORDS_AT_ONCE_FOR_SQLITE:
            op.execute(statement)
