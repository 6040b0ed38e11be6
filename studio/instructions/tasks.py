"""The tasks of this package, where the registry of jobs looks for them."""

from studio.instructions.checking import CheckRecords
from studio.instructions.growing import FromDocuments, Paraphrase, SelfInstruct
from studio.instructions.import_task import ImportRecords

__all__ = ["CheckRecords", "FromDocuments", "ImportRecords", "Paraphrase", "SelfInstruct"]
