"""Which examples of a bank a prompt shows: one file per way to choose. A new one is one file here."""

from studio.prompts.selectors.base import (
    Order,
    Pick,
    Query,
    Selection,
    Selector,
    choose_with,
    selector,
    selectors,
    vectors_of,
)
from studio.prompts.selectors.nearness import Vectors

__all__ = [
    "Order",
    "Pick",
    "Query",
    "Selection",
    "Selector",
    "Vectors",
    "choose_with",
    "selector",
    "selectors",
    "vectors_of",
]
