"""Domain documents (L1): taken in, cut into passages, looked through, and found again for a prompt."""

from studio.prompts.documents.coverage import Coverage, DocumentSummary, coverage
from studio.prompts.documents.importing import (
    Imported,
    ImportReport,
    Refused,
    import_document,
    import_documents,
    is_quick,
)
from studio.prompts.documents.readers import ENDINGS
from studio.prompts.documents.retrieval import Citations, Hit, as_context, cited, retrieve
from studio.prompts.documents.task import ImportDocuments

__all__ = [
    "ENDINGS",
    "Citations",
    "Coverage",
    "DocumentSummary",
    "Hit",
    "ImportDocuments",
    "ImportReport",
    "Imported",
    "Refused",
    "as_context",
    "cited",
    "coverage",
    "import_document",
    "import_documents",
    "is_quick",
    "retrieve",
]
