"""Answers by ticket: a name from before an answer is there, and how it ended ('' where that was not recorded)."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("completions", sa.Column("ticket", sa.Text()))
    op.add_column("completions", sa.Column("finish", sa.Text()))
    answers = sa.table("completions", sa.column("id", sa.Integer), sa.column("ticket"), sa.column("finish"))
    op.execute(answers.update().values(ticket=sa.literal("answer-") + sa.cast(answers.c.id, sa.Text), finish=""))
    with op.batch_alter_table("completions") as batch:
        batch.alter_column("ticket", existing_type=sa.Text(), nullable=False)
        batch.alter_column("finish", existing_type=sa.Text(), nullable=False)
        batch.create_unique_constraint(batch.f("uq_completions_ticket"), ["ticket"])
