"""L1: templates, example selection, and measuring what a prompt is worth."""

from studio.prompts.asking import Composed, Question, answered, composed_from, record_answer, to_dataset
from studio.prompts.bank import add_example, edit_example, fill_bank, held_out, leaks, pool_of
from studio.prompts.budget import Budget
from studio.prompts.compare import AnswerPair, Compare, Comparison, RungRow, comparison, examples_of
from studio.prompts.difference import Piece, changed_fields, word_diff
from studio.prompts.examples import choose_examples
from studio.prompts.memory import Memory
from studio.prompts.selectors import Pick, Query, Selection, Selector, choose_with, selector, selectors
from studio.prompts.templates import (
    Extraction,
    Template,
    extract,
    find_template,
    from_yaml,
    render,
    save_template,
    template,
    template_of,
    templates,
    to_yaml,
)

__all__ = [
    "AnswerPair",
    "Budget",
    "Compare",
    "Comparison",
    "Composed",
    "Extraction",
    "Memory",
    "Pick",
    "Piece",
    "Query",
    "Question",
    "RungRow",
    "Selection",
    "Selector",
    "Template",
    "add_example",
    "answered",
    "changed_fields",
    "choose_examples",
    "choose_with",
    "comparison",
    "composed_from",
    "edit_example",
    "examples_of",
    "extract",
    "fill_bank",
    "find_template",
    "from_yaml",
    "held_out",
    "leaks",
    "pool_of",
    "record_answer",
    "render",
    "save_template",
    "selector",
    "selectors",
    "template",
    "template_of",
    "templates",
    "to_dataset",
    "to_yaml",
    "word_diff",
]
