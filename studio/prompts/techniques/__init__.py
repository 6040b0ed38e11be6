"""Techniques of prompting as objects: how to ask, how to read the answer, what it costs. One file each."""

from studio.prompts.techniques.base import Ask, Found, Knobs, Step, Technique, Trace, at_call, draw_seed
from studio.prompts.techniques.calculator import calculate
from studio.prompts.techniques.catalogue import technique, technique_of, techniques
from studio.prompts.techniques.label import (
    CONTENT_FREE,
    calibrated,
    emptied,
    label_logprobs,
    prior,
    probabilities,
)
from studio.prompts.techniques.reading import Number, after_marker, majority, numbers, vote
from studio.prompts.techniques.together import Row, row_sampling, together

__all__ = [
    "CONTENT_FREE",
    "Ask",
    "Found",
    "Knobs",
    "Number",
    "Row",
    "Step",
    "Technique",
    "Trace",
    "after_marker",
    "at_call",
    "calculate",
    "calibrated",
    "draw_seed",
    "emptied",
    "label_logprobs",
    "majority",
    "numbers",
    "prior",
    "probabilities",
    "row_sampling",
    "technique",
    "technique_of",
    "techniques",
    "together",
    "vote",
]
