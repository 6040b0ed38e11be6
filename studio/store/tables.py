"""Every table, in SQLAlchemy Core. Facts are append-only; "current" is a column or a query over them.

Times are UTC epoch seconds (REAL), so that SQLite and PostgreSQL agree to the byte.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

__all__ = ["metadata"]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False, default=""),
    Column("guidelines", Text, nullable=False, default=""),  # how answers should be; prompts may quote it
    Column("licence", Text, nullable=False, default=""),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("change", Integer, nullable=False, default=0),  # moves on every write to it: the token that pages poll
)

# One instruction record in dolly's schema. `split` is decided once, at insert, by a hash of the prompt.
records = Table(
    "records",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset_id", Integer, ForeignKey("datasets.id"), nullable=False),
    Column("instruction", Text, nullable=False),
    Column("context", Text, nullable=False, default=""),
    Column("response", Text, nullable=False),
    Column("category", Text, nullable=False, default=""),
    Column("turns", JSON(none_as_null=True)),  # all of a conversation that is more than a question and its answer
    Column("talk", Text, nullable=False, default="", server_default=""),  # the text of `turns`, to be searched
    Column("licence", Text, nullable=False, default=""),  # its own, where it differs from the dataset's
    Column("state", Text, nullable=False, default="draft", server_default="draft"),  # draft | approved | rejected
    Column("letters", Integer, nullable=False, default=0, server_default="0"),  # length of all its text
    Column("group_hash", Text, nullable=False),
    Column("split", Text, nullable=False),  # train | validation | test | excluded
    Column("source", Text, nullable=False, default=""),
    Column("provenance", JSON(none_as_null=True)),  # of a drafted record: model, seeds, passage
    Column("author", Text, nullable=False),
    Column("revision", Integer, nullable=False, default=1),
    Column("added_by", Integer),  # the edit that brought it
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("removed_at", Double),
)
_THERE: dict[str, Any] = {
    "sqlite_where": records.c.removed_at.is_(None),
    "postgresql_where": records.c.removed_at.is_(None),
}
# Pages are counted and found in an index alone, however wide the records are: the first for paging, the second for any
# mixture of filters, the others for what pages can be sorted by.
Index("ix_records_there", records.c.dataset_id, records.c.id, **_THERE)
Index(
    "ix_records_filters",
    *(records.c[name] for name in ("dataset_id", "category", "split", "state", "author", "source", "letters", "id")),
    **_THERE,
)
Index("ix_records_letters", records.c.dataset_id, records.c.letters, records.c.id, **_THERE)
Index("ix_records_updated_at", records.c.dataset_id, records.c.updated_at, records.c.id, **_THERE)
Index("ix_records_added_by", records.c.added_by)

# What a record was before each edit. Revision 0 stands for "not there yet".
record_revisions = Table(
    "record_revisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("record_id", Integer, ForeignKey("records.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("fields", JSON, nullable=False),
    Column("edit_id", Integer),  # the edit that ended it; older rows have none
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("record_id", "revision"),
    Index(None, "edit_id"),
)

# What somebody did to a dataset at one stroke, and whether it was undone: the undo and redo of the page.
edits = Table(
    "edits",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset_id", Integer, ForeignKey("datasets.id"), nullable=False),
    Column("kind", Text, nullable=False),  # add | change | remove, or undo | redo
    Column("of_id", Integer),  # the edit that was undone or redone
    Column("title", Text, nullable=False),
    Column("records", Integer, nullable=False, default=0),
    Column("last_row", Integer, nullable=False, default=0),  # of a file: where an import that stopped goes on
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("undone_at", Double),
    Index(None, "dataset_id", "author", "id"),
)

comments = Table(
    "comments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("record_id", Integer, ForeignKey("records.id"), nullable=False),
    Column("text", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "record_id", "id"),
)

# What the checks found, of the newest run of each. A record that changed since is looked at again by the next.
flags = Table(
    "flags",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset_id", Integer, ForeignKey("datasets.id"), nullable=False),
    Column("record_id", Integer, nullable=False),  # 0: of the dataset as a whole
    Column("check", Text, nullable=False),
    Column("field", Text, nullable=False, default=""),
    Column("start", Integer),
    Column("end", Integer),
    Column("note", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Index(None, "dataset_id", "check", "record_id"),
    Index(None, "record_id", "check"),
)

check_runs = Table(
    "check_runs",
    metadata,
    Column("dataset_id", Integer, ForeignKey("datasets.id"), primary_key=True),
    Column("check", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("records", Integer, nullable=False),
    Column("flagged", Integer, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("until", Double, nullable=False),  # what changed later was not looked at
    Column("ended_at", Double, nullable=False),
)

# Rows of files that could not be taken in, until somebody mends them or lets them go.
left_out_rows = Table(
    "left_out_rows",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset_id", Integer, ForeignKey("datasets.id"), nullable=False),
    Column("edit_id", Integer, nullable=False),  # the import
    Column("row", Integer, nullable=False),
    Column("column", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("cells", JSON, nullable=False),
    Column("settled_at", Double),
    Index(None, "dataset_id", "settled_at", "id"),
)

saved_filters = Table(
    "saved_filters",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset_id", Integer, ForeignKey("datasets.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("filter", JSON, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("dataset_id", "name"),
)

# The one operation that rewrites history, and what it took away: never the text itself.
purges = Table(
    "purges",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset_id", Integer, ForeignKey("datasets.id"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("records", Integer, nullable=False),
    Column("snapshots", JSON, nullable=False),  # the refs that held it
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

# Frozen datasets. The rows live in a file that never changes; `digest` is the SHA-256 of its bytes.
snapshots = Table(
    "snapshots",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("ref", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),  # data | prompts | prefs | eval
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("path", Text, nullable=False),  # relative to the workspace
    Column("licence", Text, nullable=False, default=""),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("purged_at", Double),  # it holds what was purged from its dataset later: not for training any more
    UniqueConstraint("kind", "name", "version"),
)

# Conversations that wait for an answer. The id is the SHA-256 of the messages, so a prompt is here once and keeps the
# split it was born into, whatever batch or snapshot it comes back in.
prompts = Table(
    "prompts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("messages", JSON, nullable=False),
    Column("group_hash", Text, nullable=False),
    Column("split", Text, nullable=False),
    Column("category", Text, nullable=False, default=""),
    Column("source", Text, nullable=False, default=""),  # the snapshot it came from
    Column("created_at", Double, nullable=False),
)

# Every answer given in the playground, which of them were kept, and the answers sampled to be ranked.
completions = Table(
    "completions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("ticket", Text, nullable=False, unique=True),  # given out before the answer is there
    Column("model", Text, nullable=False),
    Column("template", Text, nullable=False),
    Column("variables", JSON, nullable=False),
    Column("messages", JSON, nullable=False),
    Column("sampling", JSON, nullable=False),
    Column("text", Text, nullable=False),
    Column("finish", Text, nullable=False),  # stop | length | cancelled
    Column("prompt_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("kept_at", Double),  # empty until somebody keeps the answer
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("prompt_id", Text, ForeignKey("prompts.id")),  # of a sampled answer
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),  # the task's kind
    Column("task", JSON, nullable=False),
    Column("title", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("position", Double, nullable=False),  # order in the queue
    Column("attempt", Integer, nullable=False, default=0),
    Column("intent", Text, nullable=False, default=""),  # '' | pause | cancel, what a person asked for
    Column("intent_at", Double),
    Column("client_key", Text, unique=True),  # a double click carries the same key
    Column("host", Text, nullable=False),
    Column("pid", Integer),
    Column("step", Integer, nullable=False, default=0),
    Column("total", Integer, nullable=False, default=0),
    Column("message", Text, nullable=False, default=""),
    Column("error", Text, nullable=False, default=""),
    Column("result", JSON),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),  # of the current attempt
    Column("ended_at", Double),
    Column("heartbeat_at", Double),
    # Of the current attempt, by its worker's own clock: the machine's may be set while it works.
    Column("seconds", Double, nullable=False, default=0, server_default="0"),
    Column("origin", JSON(none_as_null=True)),  # the run that it repeats, and what it is held to
    Column("change", Integer, nullable=False, default=0),  # moves on every write: the token that pages poll
    Index(None, "state", "lane", "position"),
)

# A queue that somebody touched: whether it stops when a job fails, and, while it is stopped, why.
queues = Table(
    "queues",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("stops_on_failure", Boolean, nullable=False, default=False),
    Column("stopped", Text, nullable=False, default=""),
    Column("change", Integer, nullable=False, default=0),
)

# Where the ends of training runs are told. The newest row counts; an empty address means nowhere.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("url", Text, nullable=False),  # locked with the workspace's secret, as it often is one itself
    Column("host", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

# What is to be told there, until it was or was given up.
notifications = Table(
    "notifications",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
    Index(None, "ended_at"),
)

# What happened to a job, in order: state changes, sample answers, warnings.
job_events = Table(
    "job_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("kind", Text, nullable=False),  # state | sample | note
    Column("payload", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "job_id", "id"),
)

metrics = Table(
    "metrics",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("values", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "job_id", "id"),
)

# Models that were made or registered here. A finished recipe writes `run:ID`.
models = Table(
    "models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("ref", Text, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("base", Text, nullable=False, default=""),  # the ref it was made from
    Column("method", Text, nullable=False, default=""),  # lora, ...; '' for a base model
    Column("answers", Boolean, nullable=False, default=True),
    Column("scores", Boolean, nullable=False, default=False),
    Column("licence", Text, nullable=False, default=""),
    Column("snapshot", Text, nullable=False, default=""),
    Column("path", Text, nullable=False, default=""),  # relative to the workspace
    Column("base_digest", Text, nullable=False, default=""),
    Column("new_parameters", Integer, nullable=False, default=0),
    Column("train_seconds", Double, nullable=False, default=0),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

# One model with one way of prompting, measured on one evaluation snapshot.
evaluations = Table(
    "evaluations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("snapshot", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("template", Text, nullable=False),
    Column("examples", Text, nullable=False, default=""),  # the snapshot few-shot examples came from
    Column("sampling", JSON, nullable=False),
    Column("rung", Text, nullable=False, default=""),  # L1 | L2 | L3
    Column("items", Integer, nullable=False),
    Column("score", Double, nullable=False),
    Column("low", Double, nullable=False),
    Column("high", Double, nullable=False),
    Column("prompt_tokens", Double, nullable=False),  # mean per call
    Column("output_tokens", Double, nullable=False),  # mean per call
    Column("seconds", Double, nullable=False),  # wall seconds for the whole set
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

evaluation_items = Table(
    "evaluation_items",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("evaluation_id", Integer, ForeignKey("evaluations.id"), nullable=False),
    Column("position", Integer, nullable=False),  # row number in the snapshot, from 0
    Column("score", Double, nullable=False),
    Column("kept", JSON, nullable=False),  # per rule: true or false
    Column("output", Text, nullable=False),
    Column("finish", Text, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    UniqueConstraint("evaluation_id", "position"),
)

# One prompt with the answers to rank. A batch is a name; a prompt is in it once, so that a sampling run that starts
# again adds nothing twice.
items = Table(
    "items",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("batch", Text, nullable=False),
    Column("prompt_id", Text, ForeignKey("prompts.id"), nullable=False),
    Column("completion_ids", JSON, nullable=False),
    Column("reason", Text, nullable=False),  # why it was chosen: random
    Column("target_overlap", Integer, nullable=False, default=1),  # how many people rank it
    # How many people did: counted here because every desk asks. 5,000 items with 50 judgements each: half a minute
    # when it was counted anew.
    Column("judged", Integer, nullable=False, default=0),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("batch", "prompt_id"),
    Index(None, "batch", "id"),
)

annotators = Table(
    "annotators",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),  # human | ai | rule
    Column("note", Text, nullable=False, default=""),  # of a rule: the rule in words
    Column("created_at", Double, nullable=False),
    UniqueConstraint("kind", "name"),
)

# One item given to one annotator, with the order its answers stood in.
assignments = Table(
    "assignments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("item_id", Integer, ForeignKey("items.id"), nullable=False),
    Column("annotator_id", Integer, ForeignKey("annotators.id"), nullable=False),
    Column("display_order", JSON, nullable=False),  # a permutation of the item's completion ids
    Column("order_seed", Integer, nullable=False),
    Column("guideline", Text, nullable=False, default=""),  # start of the SHA-256 of the guidelines shown
    Column("lease_until", Double, nullable=False),
    Column("first_seen", Double, nullable=False),
    Column("ended_at", Double),  # when it was last judged or skipped: what undo goes by
    Column("state", Text, nullable=False),  # open | judged | skipped | expired
    Index(
        None,
        "item_id",
        "annotator_id",
        unique=True,
        sqlite_where=text("state != 'expired'"),
        postgresql_where=text("state != 'expired'"),
    ),
    Index(None, "item_id", "state"),
    Index(None, "annotator_id", "state"),
)

# Never updated, never deleted. What counts is an assignment's newest revision.
judgements = Table(
    "judgements",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("assignment_id", Integer, ForeignKey("assignments.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("supersedes_id", Integer, ForeignKey("judgements.id")),
    Column("client_uuid", Text, nullable=False, unique=True),  # a retry carries the same one
    Column("groups", JSON, nullable=False),  # completion ids, best group first; ties share a group
    Column("tie_kind", Text, nullable=False, default=""),  # '' | equal | both_bad
    Column("wall_ms", Integer, nullable=False),
    Column("active_ms", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("assignment_id", "revision"),
)

# What a scorer (a reward model, or a stated rule) says of an evaluation's answers, in the order of its items.
evaluation_scores = Table(
    "evaluation_scores",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("evaluation_id", Integer, ForeignKey("evaluations.id"), nullable=False),
    Column("scorer", Text, nullable=False),  # run:ID | rule:NAME
    Column("scores", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("evaluation_id", "scorer"),
)

# Prompt templates that people wrote; those that ship with the studio are files. A version is never changed.
prompt_templates = Table(
    "prompt_templates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("tags", JSON, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("archived_at", Double),
)

template_versions = Table(
    "template_versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("template_id", Integer, ForeignKey("prompt_templates.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", JSON, nullable=False),
    Column("digest", Text, nullable=False),  # start of the SHA-256 of the body
    Column("note", Text, nullable=False, default=""),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("template_id", "version"),
)

# What somebody is in the middle of writing: survives a reload and a restart, and is no version of anything.
drafts = Table(
    "drafts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("key", Text, nullable=False),  # playground, chat:7, ...
    Column("body", JSON, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("owner", "key"),
)

# Worked examples to show in prompts, in the order people gave them.
bank_examples = Table(
    "bank_examples",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("bank", Text, nullable=False),
    Column("instruction", Text, nullable=False),
    Column("context", Text, nullable=False, default=""),
    Column("reasoning", Text, nullable=False, default=""),  # for prompts that think first
    Column("response", Text, nullable=False),
    Column("category", Text, nullable=False, default=""),
    Column("group_hash", Text, nullable=False),
    Column("source", Text, nullable=False, default=""),  # a snapshot, or '' when written by hand
    Column("position", Double, nullable=False),
    Column("is_on", Boolean, nullable=False, default=True),
    Column("is_locked", Boolean, nullable=False, default=False),  # in every prompt, whatever a selector says
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("bank", "group_hash"),
    Index(None, "bank", "position"),
)

# Domain documents, unlabelled. The file lies in the workspace; its text is cut into passages.
documents = Table(
    "documents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("format", Text, nullable=False),  # txt | md | html | pdf | docx | csv
    Column("digest", Text, nullable=False, unique=True),  # SHA-256 of the file
    Column("path", Text, nullable=False),  # relative to the workspace
    Column("characters", Integer, nullable=False),
    Column("language", Text, nullable=False, default=""),  # ISO 639-1; '' when too short to tell
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("removed_at", Double),
)

passages = Table(
    "passages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("document_id", Integer, ForeignKey("documents.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("place", Text, nullable=False, default=""),  # a heading, page or row: what a citation names
    Column("text", Text, nullable=False),
    Column("near_id", Integer),  # an earlier passage that says nearly the same
    UniqueConstraint("document_id", "position"),
)

# Servers that answer for us. `key` is encrypted with the workspace's secret, and never leaves the store otherwise.
endpoints = Table(
    "endpoints",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("key", Text, nullable=False, default=""),
    Column("key_variable", Text, nullable=False, default=""),  # or the environment variable that has it
    Column("models", JSON, nullable=False),
    Column("prompt_price", Double),  # per million tokens; empty until somebody says
    Column("output_price", Double),
    Column("currency", Text, nullable=False, default=""),
    Column("timeout", Double, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("removed_at", Double),
)

# Answers by what made them (rendered prompt, weights, sampling, seed, repeat): asking again costs nothing.
cached_answers = Table(
    "cached_answers",
    metadata,
    Column("key", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("finish", Text, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("created_at", Double, nullable=False),
)

# One answer of a batch evaluation: a row of a set, a column (template x model x sampling), a repeat.
grid_cells = Table(
    "grid_cells",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("column", Integer, nullable=False),
    Column("row", Integer, nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("output", Text, nullable=False),
    Column("answer", Text, nullable=False),  # what the technique's rule took from the output
    Column("is_strict", Boolean, nullable=False),  # the rule's own marker was there
    Column("finish", Text, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("calls", Integer, nullable=False, default=1),
    Column("is_cached", Boolean, nullable=False),
    Column("scores", JSON, nullable=False),  # by metric; null where it is not defined
    Column("examples", JSON, nullable=False),  # ids of the examples this row was shown
    UniqueConstraint("job_id", "column", "row", "repeat"),
)

# A chat is a tree of turns: editing or asking again makes a sibling.
chats = Table(
    "chats",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("title", Text, nullable=False, default=""),
    Column("model", Text, nullable=False),
    Column("system", Text, nullable=False, default=""),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

turns = Table(
    "turns",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("chat_id", Integer, ForeignKey("chats.id"), nullable=False),
    Column("parent_id", Integer, ForeignKey("turns.id")),
    Column("role", Text, nullable=False),  # user | assistant
    Column("content", Text, nullable=False),
    Column("completion_id", Integer, ForeignKey("completions.id")),  # of an answer, with all that made it
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "chat_id", "id"),
)
