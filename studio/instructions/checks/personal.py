"""Personal data with a form of its own: e-mail and postal addresses, telephone, card and account numbers, IDs.

Numbers count only where they fit: cards by Luhn's digit and their maker's prefix, IBANs by mod 97, IDs by their check
digit or, where there is none, by the rules of the office that gives them out. Names of people are a check of their own.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import ClassVar, Literal

from pydantic import Field

from studio.instructions.checks.masking import MaskingCheck, Span, apart

__all__ = ["Personal"]

Kind = Literal["email", "phone", "card", "iban", "ip", "id", "address"]

_DIGIT = re.compile(r"\d")
_NUMBERS = re.compile(r"\d[ ().\-/:]{0,2}\d[ ().\-/:]{0,2}\d")  # three digits near each other


class Personal(MaskingCheck):
    name: ClassVar[str] = "personal"
    title: ClassVar[str] = "Personal data"
    explains: ClassVar[str] = (
        "E-mail addresses, telephone numbers, payment cards, bank accounts (IBAN), IP addresses, national IDs (US, UK, German, "
        "French, Spanish, Italian, Polish, Swedish, Swiss, Brazilian) and postal addresses. Numbers with check digits are "
        "verified; other forms than the usual ones are missed, so look over what matters."
    )

    kinds: tuple[Kind, ...] = Field(
        ("email", "phone", "card", "iban", "ip", "id", "address"),
        title="What to look for",
        description="Kinds of data.",
    )

    def spans(self, text: str) -> list[Span]:
        found: list[Span] = []
        if "email" in self.kinds and "@" in text:
            found += _emails(text)
        if _DIGIT.search(text):
            has_numbers = _NUMBERS.search(text) is not None
            for kind, look in _LOOKS.items():
                if kind in self.kinds and (has_numbers or kind == "address"):
                    found += look(text)
        return apart(found)


# -- addresses ------------------------------------------------------------------------------------------------------

_AT = re.compile(r"(?<=[\w+\-])@(?=[A-Za-z0-9])")
_LOCAL = re.compile(r"[A-Za-z0-9](?:[\w.+%'\-]{0,63})\Z")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![\w])")


def _emails(text: str) -> Iterator[Span]:
    last = 0
    for at in _AT.finditer(text):
        domain = _DOMAIN.match(text, at.end())
        if domain is None:
            continue
        before = text[max(last, at.start() - 64) : at.start()]
        if local := _LOCAL.search(before):
            start, last = at.start() - (len(before) - local.start()), domain.end()
            yield Span(start, last, "EMAIL", "An e-mail address.", text[start:last].casefold())


_V4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)")
_V6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_VERSION = re.compile(r"(?:\bv|version|release|build|\bsection|§)\.?\s?\Z", re.IGNORECASE)


def _ips(text: str) -> Iterator[Span]:
    for match in chain(_V4.finditer(text), _V6.finditer(text) if ":" in text else ()):
        seen = match[0]
        if ":" in seen and (sum(map(bool, seen.split(":"))) < 3 or not _DIGIT.search(seen)):
            continue
        try:
            address = ipaddress.ip_address(seen)
        except ValueError:  # 999.1.1.1, a time of day
            continue
        is_nobodys = address.is_loopback or address.is_unspecified or address.is_multicast or seen.startswith("255.")
        if not is_nobodys and not _VERSION.search(text[max(0, match.start() - 12) : match.start()]):
            yield Span(*match.span(), "IP", "An IP address.", seen.casefold())


_CAP = r"[A-ZÀ-ÖØ-Þ][\wÀ-ÿ'’\-]{1,30}"
_ROADS = "Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Crescent|Close|Terrace|Gardens|Square|Highway|Way"
_OF = r"(?:(?:de|del|du|des|di|da|do|della|dei|la|le|les|el|l['’]) ?){0,2}"
_ADDRESS = re.compile(
    rf"(?<![\w.,])\d{{1,5}}[a-zA-Z]?,? (?:{_CAP} ){{1,3}}(?:{_ROADS})\b"
    r"(?:,? (?:Apt|Apartment|Flat|Suite|Unit)\.? ?\w{1,5}\b)?"
    r"|\b[A-ZÄÖÜ][\wäöüß\-]{0,30}(?:straße|strasse|str\.|weg|platz|gasse|allee|ufer|damm) \d{1,4} ?[a-h]?\b"
    rf"(?:, \d{{5}} {_CAP})?"
    r"|(?<![\w.,])\d{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|chemin|allée|impasse|quai) "
    rf"{_OF}{_CAP}(?: {_CAP}){{0,2}}"
    r"|\b(?:[Cc]alle|[Aa]venida|[Pp]laza|[Vv]ia|[Vv]iale|[Pp]iazza|[Rr]ua) "
    rf"{_OF}{_CAP}(?: {_CAP}){{0,2}},? (?:n\.? ?º? ?)?\d{{1,4}}\b"
)


def _addresses(text: str) -> Iterator[Span]:
    for match in _ADDRESS.finditer(text):
        yield Span(*match.span(), "ADDRESS", "A postal address.", " ".join(match[0].casefold().split()))


# -- telephone ------------------------------------------------------------------------------------------------------

_STEP = r"(?:(?: ?[.\-/] ?| |\) ?| ?\()?\d)"
_INTERNATIONAL = re.compile(rf"(?<![\w+])(?<!\d )(?:\+|00)[1-9]{_STEP}{{6,14}}(?!\w)")
_AMERICAN = re.compile(r"(?<![\w.\-+])(?:1[ .\-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .\-])[2-9]\d{2}[ .\-]\d{4}(?![\w\-])")
_NATIONAL = re.compile(rf"(?<![\w.,\-/+])(?<!\d )\(?0[1-9]{_STEP}{{6,10}}(?![\w\-/])")
_DATE = re.compile(r"(?:\d{1,2}[./\-]\d{1,2}[./\-](?:\d{4}|\d{2})|\d{2} \d{2} (?:19|20)\d{2})(?: \d{1,2})?")
_CALLED = re.compile(
    r"\b(?:tel|telefon|telephone|phone|mobile|mobil|cell|fax|whatsapp|handy|téléphone|portable|teléfono|móvil|telefono|cellulare|telefone|"
    rf"call|ring|text|dial|reach)\b[^\d\n]{{0,25}}?(\+?\(?\d{_STEP}{{6,13}})(?![\w\-/])",
    re.IGNORECASE,
)


def _phones(text: str) -> Iterator[Span]:
    for pattern in (_INTERNATIONAL, _AMERICAN, _NATIONAL):
        for match in pattern.finditer(text):
            is_plain = pattern is _NATIONAL and (match[0].isdigit() or _DATE.fullmatch(match[0]))
            if not is_plain:
                yield _phone(match, 0)
    for match in _CALLED.finditer(text):
        if not _DATE.fullmatch(match[1]):
            yield _phone(match, 1)


def _phone(match: re.Match[str], group: int) -> Span:
    start, end = match.span(group)
    seen = match[group]
    if seen.startswith("(") and ")" not in seen:
        start += 1
    return Span(start, end, "PHONE", "A telephone number.", _digits(seen))


# -- numbers with check digits --------------------------------------------------------------------------------------

_CARD = re.compile(r"(?<![\w.\-])[2-6]\d{3}(?:[ \-]?\d){8,15}(?![\w\-])")
_CARD_MAKERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|"
    r"6(?:011|5\d\d|4[4-9]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?= ?[A-Z0-9])")
_IBAN_LENGTHS = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE",), 16),
    **dict.fromkeys(("DK", "FI", "NL", "FO", "GL"), 18),
    **dict.fromkeys(("SI", "MK"), 19),
    **dict.fromkeys(("AT", "LT", "LU", "EE", "BA", "XK", "KZ"), 20),
    **dict.fromkeys(("CH", "HR", "LV", "LI"), 21),
    **dict.fromkeys(("DE", "GB", "IE", "BG", "ME", "RS", "GE", "BH"), 22),
    **dict.fromkeys(("GI", "IL", "AE"), 23),
    **dict.fromkeys(("ES", "SE", "CZ", "SK", "RO", "PK", "SA", "AD", "MD", "TN"), 24),
    **dict.fromkeys(("PT",), 25),
    **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("FR", "IT", "GR", "SM", "MC"), 27),
    **dict.fromkeys(("PL", "HU", "AL", "CY", "LB", "DO", "MA"), 28),
    **dict.fromkeys(("BR",), 29),
    **dict.fromkeys(("MT",), 31),
}


def _cards(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        places = [place for place, sign in enumerate(match[0]) if sign.isdigit()]
        digits = _digits(match[0])
        for length in range(min(len(digits), 19), 12, -1):  # another number may stand right behind
            is_end = length == len(digits) or places[length] - places[length - 1] > 1
            if is_end and _CARD_MAKERS.fullmatch(digits[:length]) and _luhn(digits[:length]):
                end = match.start() + places[length - 1] + 1
                yield Span(
                    match.start(), end, "CARD", "A payment card's number; its check digit fits.", digits[:length]
                )
                break


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        end, signs = match.start(), ""
        length = _IBAN_LENGTHS.get(match[0][:2], 0)
        for sign in text[match.start() : match.start() + 2 * length]:
            if len(signs) == length or not (sign == " " or (sign.isascii() and sign.isalnum())):
                break
            signs += sign.strip()
            end += 1
        is_whole = not text[end : end + 1].isalnum() and len(signs) == length > 0
        if is_whole and int("".join(str(int(sign, 36)) for sign in signs[4:] + signs[:4])) % 97 == 1:
            yield Span(match.start(), end, "IBAN", "A bank account (IBAN); its check digits fit.", signs)


def _luhn(digits: str) -> bool:
    doubled = [sum(divmod(2 * int(d), 10)) for d in digits[-2::-2]]
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def _german_tax(seen: str) -> bool:
    """ISO 7064 mod 11,10; of the first ten digits exactly one is there twice or three times."""
    d = _digits(seen)
    if len(d) != 11 or d[0] == "0" or sorted(d[:10].count(x) for x in set(d[:10]))[-2:] not in ([1, 2], [1, 3]):
        return False
    product = 10
    for digit in d[:10]:
        product = 2 * ((product + int(digit)) % 10 or 10) % 11
    return (11 - product) % 10 == int(d[10])


def _french_nir(seen: str) -> bool:
    number = re.sub(r"\s", "", seen).upper()
    return 97 - int(number[:13].replace("2A", "19").replace("2B", "18")) % 97 == int(number[13:])


def _spanish(seen: str) -> bool:
    number = seen.replace("-", "").upper()
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number[:-1].translate(str.maketrans("XYZ", "012"))) % 23] == number[-1]


_ITALIAN_DIGITS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)
_ITALIAN_LETTERS = (*_ITALIAN_DIGITS, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_ITALIAN_ODD = {
    **dict(zip("0123456789", _ITALIAN_DIGITS, strict=True)),
    **dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", _ITALIAN_LETTERS, strict=True)),
}


def _italian(seen: str) -> bool:
    even = sum(int(c) if c.isdigit() else ord(c) - 65 for c in seen[1:15:2])
    return chr(65 + (even + sum(_ITALIAN_ODD[c] for c in seen[0:15:2])) % 26) == seen[15]


def _polish(seen: str) -> bool:
    d = [int(c) for c in seen]
    is_date = 1 <= (10 * d[2] + d[3]) % 20 <= 12 and 1 <= 10 * d[4] + d[5] <= 31
    return is_date and (10 - sum(w * x for w, x in zip((1, 3, 7, 9) * 3, d[:10], strict=False)) % 10) % 10 == d[10]


def _swedish(seen: str) -> bool:
    d = _digits(seen)[-10:]
    return 1 <= int(d[2:4]) <= 12 and 1 <= int(d[4:6]) % 60 <= 31 and _luhn(d)


def _swiss(seen: str) -> bool:
    d = [int(c) for c in _digits(seen)]
    return (10 - sum(x * (3 if n % 2 else 1) for n, x in enumerate(d[:12])) % 10) % 10 == d[12]


def _brazilian(seen: str) -> bool:
    d = [int(c) for c in _digits(seen)]
    checks = [sum(x * (n + 1 - k) for k, x in enumerate(d[:n])) * 10 % 11 % 10 for n in (9, 10)]
    return checks == d[9:] and len(set(d)) > 1


def _given_out(seen: str) -> bool:
    return True  # the pattern holds all the rules there are


# Pattern, test, and what it is. Where ten digits in a row may be anything, the word for it has to stand before.
_IDS: tuple[tuple[re.Pattern[str], Callable[[str], bool], str], ...] = (
    (
        re.compile(r"(?<![\w\-])((?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4})(?![\w\-])"),
        _given_out,
        "A US social security number.",
    ),
    (
        re.compile(
            r"(?<!\w)((?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D])(?!\w)"
        ),
        _given_out,
        "A UK national insurance number.",
    ),
    (
        re.compile(r"(?:[Ss]teuer|IdNr|Id-Nr|TIN|[Tt]ax ID)[^\d\n]{0,40}?(\d{2} ?\d{3} ?\d{3} ?\d{3})(?!\w)"),
        _german_tax,
        "A German tax ID; its check digit fits.",
    ),
    (
        re.compile(r"(?<!\w)([12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2})(?!\w)"),
        _french_nir,
        "A French social security number; its key fits.",
    ),
    (re.compile(r"(?<!\w)((?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z])(?!\w)"), _spanish, "A Spanish ID; its letter fits."),
    (
        re.compile(r"(?<!\w)([A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z])(?!\w)"),
        _italian,
        "An Italian tax code; its letter fits.",
    ),
    (re.compile(r"PESEL[^\d\n]{0,20}?(\d{11})(?!\w)", re.IGNORECASE), _polish, "A Polish PESEL; its check digit fits."),
    (
        re.compile(r"(?<![\w\-])((?:19|20)?\d{6}[-+]\d{4})(?![\w\-])"),
        _swedish,
        "A Swedish personal number; its check digit fits.",
    ),
    (
        re.compile(r"(?<![\w.])(756\.?\d{4}\.?\d{4}\.?\d{2})(?!\w)"),
        _swiss,
        "A Swiss insurance number; its check digit fits.",
    ),
    (re.compile(r"(?<![\w.])(\d{3}\.\d{3}\.\d{3}-\d{2})(?!\w)"), _brazilian, "A Brazilian CPF; its check digits fit."),
)


def _ids(text: str) -> Iterator[Span]:
    for pattern, fits, note in _IDS:
        for match in pattern.finditer(text):
            if fits(match[1]):
                yield Span(*match.span(1), "ID", note, re.sub(r"\W", "", match[1]).casefold())


def _digits(seen: str) -> str:
    return "".join(c for c in seen if c.isdigit())


# In order of certainty: where two overlap, the first stays.
_LOOKS: dict[Kind, Callable[[str], Iterator[Span]]] = {
    "iban": _ibans,
    "card": _cards,
    "id": _ids,
    "ip": _ips,
    "phone": _phones,
    "address": _addresses,
}
