"""Secrets: keys, tokens and passwords that somebody pasted with the text.

Patterns of our own instead of a scanner for source code: those judge whole files and say in which line a secret is, and
here the span is what gets masked.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

from studio.instructions.checks.masking import MaskingCheck, Span, apart

__all__ = ["Secrets"]

# What the maker of a key put in front so that such checks can see it.
_KNOWN = (
    (r"-----BEGIN (?:[A-Z]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----", "A private key."),
    (r"\b(?:AKIA|ASIA|AGPA|AROA)[0-9A-Z]{16}\b", "A key of Amazon Web Services."),
    (r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255})\b", "A token of GitHub."),
    (r"\bglpat-[A-Za-z0-9_\-]{20,64}", "A token of GitLab."),
    (r"\bxox[abeoprs]-[A-Za-z0-9\-]{10,255}", "A token of Slack."),
    (r"\bsk-(?:proj-|ant-|or-|svcacct-)?[A-Za-z0-9_\-]{20,255}", "A key of a model provider."),
    (r"\bhf_[A-Za-z0-9]{30,64}\b", "A token of Hugging Face."),
    (r"\bAIza[0-9A-Za-z_\-]{35}", "A key of Google."),
    (r"\bya29\.[0-9A-Za-z_\-]{20,255}", "A token of Google."),
    (r"\b(?:sk|rk|pk)_(?:live|test)_[0-9A-Za-z]{16,255}\b", "A key of Stripe."),
    (r"\bSG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{32,64}", "A key of SendGrid."),
    (r"\bnpm_[A-Za-z0-9]{36}\b", "A token of npm."),
    (r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_\-]{50,255}", "A token of PyPI."),
    (r"\beyJ[A-Za-z0-9_\-]{10,2000}\.eyJ[A-Za-z0-9_\-]{10,4000}\.[A-Za-z0-9_\-]{10,2000}", "A signed web token."),
)
_ANY_KNOWN = re.compile("|".join(f"({pattern})" for pattern, _ in _KNOWN))
_KNOWN_HINTS = (
    "-----BEGIN AKIA ASIA AGPA AROA ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- xox sk- hf_ AIza ya29. "
    "sk_ rk_ pk_ SG. npm_ pypi- eyJ"
).split()
_END_OF_KEY = re.compile(r"-----END (?:[A-Z]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_LONGEST_KEY = 20_000

_IN_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.\-]{1,20}://[^\s/:@]{1,64}:([^\s/@\[\]]{3,128})@")
_ASSIGNED = re.compile(
    r"(?:password|passwd|passwort|pwd|secret|token|kennwort|mot de passe|contraseña|(?:api|access|private|auth)[_\- ]?key)"
    r"[\"']?\s{0,3}(?::=|=>|=|:|\bis\b|\bist\b|\best\b|\bes\b)\s{0,3}[\"'`]?([^\s\"'`,;<>(){}\[\]]{6,200})",
    re.IGNORECASE,
)
_ASSIGNED_HINTS = ("passw", "pwd", "secret", "token", "key", "kennwort", "mot de passe", "contraseña")
_NO_SECRET = re.compile(
    r"^(?:your|my|the|example|changeme|placeholder|x{3,}|\*{3,}|\.{3,}|none|null|true|false|process\.env|os\.environ)",
    re.IGNORECASE,
)
_LEAST_BITS = 2.8  # of entropy a sign: 'correct' has 2.5, 'hunter2x' 3.0
_SURE_LENGTH = 20


class Secrets(MaskingCheck):
    name: ClassVar[str] = "secrets"
    title: ClassVar[str] = "Keys and passwords"
    explains: ClassVar[str] = (
        "Private keys, tokens that begin as their makers mark them, passwords in web addresses, and values that look random "
        "after words such as password or API key. A model can repeat them to anybody; change those that are still valid."
    )

    def spans(self, text: str) -> list[Span]:
        return apart([*_known(text), *_in_addresses(text), *_assigned(text)])


def _known(text: str) -> Iterator[Span]:
    if not any(hint in text for hint in _KNOWN_HINTS):
        return
    last = 0
    for match in _ANY_KNOWN.finditer(text):
        if match.start() < last:
            continue
        start, last = match.span()
        if match[0].startswith("-----") and (closed := _END_OF_KEY.search(text, last, last + _LONGEST_KEY)):
            last = closed.end()
        yield Span(start, last, "SECRET", _KNOWN[match.lastindex - 1][1] if match.lastindex else "", text[start:last])


def _in_addresses(text: str) -> Iterator[Span]:
    if "://" in text and "@" in text:
        for match in _IN_ADDRESS.finditer(text):
            yield Span(*match.span(1), "SECRET", "A password in a web address.", match[1])


def _assigned(text: str) -> Iterator[Span]:
    folded = text.lower()
    if not any(hint in folded for hint in _ASSIGNED_HINTS):
        return
    for match in _ASSIGNED.finditer(text):
        value = match[1].rstrip(".:!?*_")
        if _is_random(value):
            start = match.start(1)
            yield Span(start, start + len(value), "SECRET", "Looks like a password or key.", value)


def _is_random(value: str) -> bool:
    """Signs of several kinds in no order: more than a word has, or a number."""
    if len(value) < 6 or _NO_SECRET.search(value):
        return False
    kinds = sum((any(map(str.islower, value)), any(map(str.isupper, value)), any(map(str.isdigit, value))))
    kinds += any(not sign.isalnum() for sign in value[1:-1])
    is_mixed = kinds >= 2 and (any(map(str.isdigit, value)) or kinds >= 3)
    return is_mixed and (_bits(value) >= _LEAST_BITS or (len(value) >= _SURE_LENGTH and _bits(value) >= 2.0))


def _bits(value: str) -> float:
    """Shannon entropy of a sign."""
    n = len(value)
    return -sum(count / n * math.log2(count / n) for count in Counter(value).values())
