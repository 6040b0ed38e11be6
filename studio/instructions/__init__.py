"""L2's data: instruction records in dolly's schema, how they come in, and how they become conversations."""

from studio.instructions.importing import ImportReport, Preview, Rejected, import_file, preview
from studio.instructions.records import (
    CATEGORIES,
    FIELDS,
    add_record,
    conversation,
    edit_record,
    freeze,
    group_hash,
    question,
    split_of,
)

__all__ = [
    "CATEGORIES",
    "FIELDS",
    "ImportReport",
    "Preview",
    "Rejected",
    "add_record",
    "conversation",
    "edit_record",
    "freeze",
    "group_hash",
    "import_file",
    "preview",
    "question",
    "split_of",
]
