"""The tasks of this package, where the registry of jobs looks for them."""

from studio.prompts.compare import Compare
from studio.prompts.distil import Distil
from studio.prompts.documents.task import ImportDocuments
from studio.prompts.fragility import Fragility
from studio.prompts.grid.task import Grid
from studio.prompts.helps import Helps
from studio.prompts.search import Search

__all__ = ["Compare", "Distil", "Fragility", "Grid", "Helps", "ImportDocuments", "Search"]
