"""The tasks of this package, where the registry of jobs looks for them."""

from studio.instructions.change_task import ChangeRecords
from studio.instructions.checking import CheckRecords
from studio.instructions.describing import Describe
from studio.instructions.export_task import ExportRecords
from studio.instructions.filling_in import ToFillIn
from studio.instructions.growing import FromDocuments, Paraphrase, SelfInstruct
from studio.instructions.hub_import import ImportFromHub
from studio.instructions.import_task import ImportRecords

__all__ = [
    "ChangeRecords",
    "CheckRecords",
    "Describe",
    "ExportRecords",
    "FromDocuments",
    "ImportFromHub",
    "ImportRecords",
    "Paraphrase",
    "SelfInstruct",
    "ToFillIn",
]
