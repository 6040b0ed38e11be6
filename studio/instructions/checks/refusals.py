"""Boilerplate refusals: answers in which a machine speaks of itself instead of answering."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from studio.instructions.checks.base import Finding, RecordCheck, answers
from studio.store import Record

__all__ = ["Refusals"]

_MACHINE = re.compile(
    r"\b(?:as an? (?:ai|artificial intelligence|large language model|language model)\b(?: language model| assistant| model)?"
    r"|i(?: am|['’]m) (?:just |only |merely )?an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|my (?:training data|knowledge cut-?off)\b|knowledge cut-?off\b"
    r"|als (?:eine? )?(?:ki|künstliche intelligenz|(?:ki-)?sprachmodell)\b"
    r"|en tant qu(?:e |['’])(?:modèle de langage|ia|intelligence artificielle|assistant ia)\b"
    r"|como (?:un |una |um |uma )?(?:modelo de (?:lenguaje|linguagem)|ia|inteligencia artificial|inteligência artificial)\b"
    r"|(?:come|in quanto) (?:modello linguistico|ia|intelligenza artificiale)\b)",
    re.IGNORECASE,
)
_VERBS = (
    "help|assist|fulfil|fulfill|comply|provide|answer|do that|engage|create|generate|write|respond|continue|support|"
    "discuss|participate|share"
)
# Only where an answer begins: "I cannot recommend it enough" in the middle is no refusal.
_REFUSAL = re.compile(
    r"\W{0,3}(?:"
    r"(?:(?:i['’]m|i am|we['’]re|we are) (?:very |so |really )?(?:sorry|afraid)\b[^.\n]{0,40}?|sorry,? |unfortunately,? |"
    r"i apologi[sz]e,? )?(?:but )?(?:i|we)(?:"
    r" (?:can(?:not|['’]t| not)|won['’]t|will not|am not able to|am unable to|are not able to|are unable to)"
    rf"|['’](?:m|re) (?:not able|unable) to) (?:\w+ )?(?:{_VERBS})\b"
    r"|(?:es )?tut mir leid,? (?:aber )?(?:ich kann|das kann ich)\b[^.\n]{0,60}?\bnicht\b"
    r"|(?:je suis )?désolée?,? (?:mais )?je ne peux pas\b"
    r"|lo siento,? (?:pero )?no puedo\b|mi dispiace,? (?:ma )?non posso\b|desculpe,? (?:mas )?não posso\b)",
    re.IGNORECASE,
)
# No machine speaks of itself without one of these; looking for words is much quicker than for the pattern.
_HINTS = (
    *("an ai", "an artificial", "language model", "training data", "knowledge cut"),
    *("als ki", "eine ki", "sprachmodell", "künstliche intelligenz", "en tant qu"),
    *("como ia", "como un", "como modelo", "como intelig", "come modello", "come ia", "come intellig", "in quanto"),
)
_HEAD = 200  # characters
_MOST_IN_ONE = 20


class Refusals(RecordCheck):
    name: ClassVar[str] = "refusals"
    title: ClassVar[str] = "Boilerplate refusals"
    explains: ClassVar[str] = (
        "Answers such as 'As an AI language model, I cannot ...', which another model left behind. "
        "A few of them teach a small model to refuse what it could answer; keep those that you mean."
    )

    def find(self, record: Record) -> Iterator[Finding]:
        for field, text in answers(record):
            if refusal := _REFUSAL.match(text[:_HEAD]):
                yield Finding(field, "The answer begins with a refusal.", *refusal.span())
            folded = text.lower()
            if any(hint in folded for hint in _HINTS):
                for _, match in zip(range(_MOST_IN_ONE), _MACHINE.finditer(text), strict=False):
                    yield Finding(field, "The answer speaks as a machine about itself.", *match.span())
