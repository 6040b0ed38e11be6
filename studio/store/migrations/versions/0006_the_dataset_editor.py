"""What the dataset editor needs: conversations, review states, search, undo, flags, saved filters and purges."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from studio.store.words import WORDS_FOR_POSTGRESQL, WORDS_FOR_SQLITE

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_THERE: dict[str, Any] = {
    "sqlite_where": sa.text("removed_at IS NULL"),
    "postgresql_where": sa.text("removed_at IS NULL"),
}


def upgrade() -> None:
    _extend_tables()
    _make_tables()
    op.execute("UPDATE records SET letters = length(instruction) + length(context) + length(response)")
    op.drop_index("ix_records_dataset_id_id", "records")
    op.drop_index("ix_records_dataset_id_category", "records")
    filters = ["dataset_id", "category", "split", "state", "author", "source", "letters", "id"]
    op.create_index("ix_records_there", "records", ["dataset_id", "id"], **_THERE)
    op.create_index("ix_records_filters", "records", filters, **_THERE)
    op.create_index("ix_records_letters", "records", ["dataset_id", "letters", "id"], **_THERE)
    op.create_index("ix_records_updated_at", "records", ["dataset_id", "updated_at", "id"], **_THERE)
    op.create_index("ix_records_added_by", "records", ["added_by"])
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in WORDS_FOR_SQLITE if is_sqlite else WORDS_FOR_POSTGRESQL:
        op.execute(sa.text(statement.replace(":", r"\:")))
    if is_sqlite:
        op.execute("INSERT INTO records_words(records_words) VALUES ('rebuild')")


def _extend_tables() -> None:
    op.add_column("datasets", sa.Column("change", sa.Integer(), nullable=False, server_default="0"))
    for column in (
        sa.Column("turns", sa.JSON(), nullable=True),
        sa.Column("talk", sa.Text(), nullable=False, server_default=""),
        sa.Column("licence", sa.Text(), nullable=False, server_default=""),
        sa.Column("state", sa.Text(), nullable=False, server_default="draft"),
        sa.Column("letters", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("provenance", sa.JSON(), nullable=True),
        sa.Column("added_by", sa.Integer(), nullable=True),
        sa.Column("removed_at", sa.Double(), nullable=True),
    ):
        op.add_column("records", column)
    op.add_column("record_revisions", sa.Column("edit_id", sa.Integer(), nullable=True))
    op.create_index("ix_record_revisions_edit_id", "record_revisions", ["edit_id"])
    op.add_column("snapshots", sa.Column("purged_at", sa.Double(), nullable=True))


def _make_tables() -> None:
    op.create_table(
        "edits",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("of_id", sa.Integer(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("last_row", sa.Integer(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("undone_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_edits_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_edits")),
    )
    op.create_index("ix_edits_dataset_id_author_id", "edits", ["dataset_id", "author", "id"])
    op.create_table(
        "comments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("record_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["record_id"], ["records.id"], name=op.f("fk_comments_record_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comments")),
    )
    op.create_index("ix_comments_record_id_id", "comments", ["record_id", "id"])
    op.create_table(
        "flags",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("record_id", sa.Integer(), nullable=False),
        sa.Column("check", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=True),
        sa.Column("end", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_flags_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flags")),
    )
    op.create_index("ix_flags_dataset_id_check_record_id", "flags", ["dataset_id", "check", "record_id"])
    op.create_index("ix_flags_record_id_check", "flags", ["record_id", "check"])
    op.create_table(
        "check_runs",
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("check", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("flagged", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_check_runs_dataset_id")),
        sa.PrimaryKeyConstraint("dataset_id", "check", name=op.f("pk_check_runs")),
    )
    op.create_table(
        "left_out_rows",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("edit_id", sa.Integer(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("column", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cells", sa.JSON(), nullable=False),
        sa.Column("settled_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_left_out_rows_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_left_out_rows")),
    )
    op.create_index("ix_left_out_rows_dataset_id_settled_at_id", "left_out_rows", ["dataset_id", "settled_at", "id"])
    op.create_table(
        "saved_filters",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("filter", sa.JSON(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_saved_filters_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_filters")),
        sa.UniqueConstraint("dataset_id", "name", name=op.f("uq_saved_filters_dataset_id_name")),
    )
    op.create_table(
        "purges",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("snapshots", sa.JSON(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_purges_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purges")),
    )
