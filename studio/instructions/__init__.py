"""L2's data: instruction records in dolly's schema, how they come in, and how they become conversations."""

from studio.instructions.datasets import (
    PAGE_ROWS,
    Page,
    Taken,
    dataset_named,
    name_for,
    neighbour,
    new_dataset,
    page_of,
    take_snapshot,
)
from studio.instructions.importing import ImportReport, Preview, Rejected, import_file, import_into, preview
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
    "PAGE_ROWS",
    "ImportReport",
    "Page",
    "Preview",
    "Rejected",
    "Taken",
    "add_record",
    "conversation",
    "dataset_named",
    "edit_record",
    "freeze",
    "group_hash",
    "import_file",
    "import_into",
    "name_for",
    "neighbour",
    "new_dataset",
    "page_of",
    "preview",
    "question",
    "split_of",
    "take_snapshot",
]
