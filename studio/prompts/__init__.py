"""L1: templates, example selection, and measuring what a prompt is worth."""

from studio.prompts.asking import Question, record_answer, to_dataset
from studio.prompts.compare import AnswerPair, Compare, Comparison, RungRow, comparison, examples_of
from studio.prompts.examples import choose_examples
from studio.prompts.templates import Extraction, Template, extract, render, template, templates

__all__ = [
    "AnswerPair",
    "Compare",
    "Comparison",
    "Extraction",
    "Question",
    "RungRow",
    "Template",
    "choose_examples",
    "comparison",
    "examples_of",
    "extract",
    "record_answer",
    "render",
    "template",
    "templates",
    "to_dataset",
]
