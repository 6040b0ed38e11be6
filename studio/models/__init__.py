"""Models and their files: the catalogue, licences, the embedded model, and where the weights of a reference lie."""

from studio.models.catalogue import CatalogueEntry, Licence, catalogue, licence
from studio.models.embedded import EMBEDDED, Conversion, conversion, convert, converted, find_gguf
from studio.models.registry import Weights, resolve

__all__ = [
    "EMBEDDED",
    "CatalogueEntry",
    "Conversion",
    "Licence",
    "Weights",
    "catalogue",
    "conversion",
    "convert",
    "converted",
    "find_gguf",
    "licence",
    "resolve",
]
