"""Names of people, by lists of common names and by what stands around a name.

No model: given and family names from assets/lexicons, titles (Dr., Frau), words that introduce somebody (my name is,
Dear), initials, and pairs of capitalised words of which one is known. The precision and recall below are computed by a test on
sentences that no rule was tuned on, by the same hand as the rules; the test fails when they are no longer true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from studio.instructions.checks.lexicons import lexicon
from studio.instructions.checks.masking import MaskingCheck, Span, apart

__all__ = ["MEASURED", "Names"]

# On tests/instructions/checks/names_held_out.txt: a find is right when it is one whole name, no more and no less.
MEASURED = {"sentences": 411, "names": 244, "precision": 0.88, "recall": 0.66}

_UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮİĴĶĹĻĽĿŁŃŅŇŌŎŐŒŔŖŘŚŜŞŠŢŤŦŨŪŬŮŰŲŴŶŸŹŻŽƠƯȘȚẞẠ-ỸΆ-ΏΑ-ΫЀ-Я"
_CAP = rf"[{_UPPER}](?:[^\W\d_]|['’\-](?=[^\W\d_]))*"
_INITIAL = rf"[{_UPPER}]\."
_PARTICLE = "(?:von|van|de|da|di|do|del|della|dos|das|du|ten|ter|al|el|bin|ibn|zu|zum|af|av)"
_PARTICLES = rf"(?:{_PARTICLE} (?:(?:der|den|het|la|las|los|le|lo) )?)?"
# Capitalised words and initials that follow each other in a line: where a name has to be, if there is one.
_RUN = re.compile(rf"(?<![\w@#/.\-])(?:{_INITIAL} ?|{_CAP}\.? {_PARTICLES}(?={_CAP}|{_INITIAL})){{0,11}}{_CAP}(?!\w)")
_WORD = re.compile(rf"{_INITIAL}(?!\w)|[^\W\d_](?:[^\W\d_]|['’\-](?=[^\W\d_]))*")
_OWNED = re.compile(r"['’][sS]$")

_AFTER_INITIALS_NOT = frozenset(
    "street road avenue box army navy air government dollar dollars states congress".split()
)
# What stands right before somebody's name; a comma or a colon after it may be there.
_CUES = frozenset(
    """my name is|his name is|her name is|their name is|my name's|his name's|her name's|their name's|i am called|signed|signed by
    |written by|hochachtungsvoll|grüße|grüßen|gruß|ich heiße|mein name ist|sie heißt|er heißt|je m'appelle|il s'appelle
    |elle s'appelle|me llamo|me llama|se llama|mi nombre es|mi chiamo|si chiama|meu nome é|chamo-me|mam na imię|jag heter
    |ik heet|name:|regards,|sincerely,|cheers,|yours,""".replace("\n", "")
    .replace("    ", "")
    .split("|")
)
_GREETINGS = frozenset(
    """dear hi hello hey liebe lieber hallo cher chère querido querida estimado estimada caro cara thanks, you, danke, merci,
    gracias, grazie, obrigado, obrigada,""".split()
)
# Who somebody is to somebody, or at work: "my sister Joy", "the mayor, Otto Weber".
_RELATIONS = frozenset(
    """sister brother mother father friend colleague neighbor neighbour wife husband son daughter boss cousin nephew niece
    girlfriend boyfriend roommate classmate ceo director mayor author founder chairman chairwoman lawyer secretary landlord
    tenant poet novelist composer painter philosopher physicist chemist mathematician actor actress singer schwester bruder
    mutter vater freund freundin kollege kollegin nachbar nachbarin tochter sohn chef chefin sœur frère ami amie voisin voisine
    collègue mari femme hermana hermano amiga amigo vecina vecino hija hijo sorella fratello amica amico figlia figlio""".split()
)
# What people do and hardly anything else: two capitalised words before it are somebody.
_DOES = re.compile(
    r" (?:(?:wrote|writes|said|says|was born|died|married|studied|studies|taught|teaches|lives|lived|asked|told|thinks|walked"
    r"|learned|retired|smiled|laughed|replied|invented|discovered|painted|composed|grew up|founded|believed|preferred"
    r"|schrieb|sagte|wurde geboren|starb|heiratete|lebte?|studierte|wohnte?|fragte|antwortete|erfand|entdeckte|malte"
    r"|écrivit|a écrit|vécut|habite|mourut|naquit|étudia|inventa|découvrit"
    r"|escribió|nació|vivió|vive|murió|estudió|inventó|descubrió"
    r"|scrisse|nacque|visse|morì|studiò|inventò|scoprì|dipinse|escreveu|nasceu|viveu|morreu)\b)"
)
# Before a word that is a name too, these say that it is the word: the will, der Ernst.
_ARTICLE = re.compile(
    r"\b(?:the|a|an|der|die|das|den|dem|des|eine?|einer|einem|einen|im|am|zum|zur|le|la|les|un|une|el|los|las|il|lo|os) \Z",
    re.IGNORECASE,
)
_NO_INITIALS = frozenset("U.S. U.K. D.C. U.N. E.U. P.O. U.S.A.".split())
_SIGNS = "\"'“”„«»‘’([*-–—"
_LOOK_BACK = 32  # letters before a name that may introduce it
_LONGEST = 6  # words of a name


class Names(MaskingCheck):
    name: ClassVar[str] = "names"
    title: ClassVar[str] = "Names of people"
    explains: ClassVar[str] = (
        "Names, by lists of common given and family names and by words around them, in Latin letters only. "
        "On {sentences} test sentences with {names} names, written for this and held apart from the rules, {precision:.0%} of what "
        "was found is a name and {recall:.0%} of the names were found: look over what matters."
    ).format(**MEASURED)

    def spans(self, text: str) -> list[Span]:
        return apart([span for match in _RUN.finditer(text) for span in _names(text, match.start(), match[0])])


def _names(text: str, start: int, run: str) -> Iterator[Span]:
    words = [_Word(start + m.start(), m[0]) for m in _WORD.finditer(run)]
    if len(words) == 1 and not words[0].could_be_one:
        # Most runs are the first word of a sentence, or a noun: looked at no further.
        if not (_introduced(text, start) and words[0].flat not in lexicon("capitalised")):
            return
    at = 0
    while at < len(words):
        end = _end_of_name(text, words, at)
        if end > at:
            yield _span(text, words[at:end])
        at = max(end, at + 1)


class _Word:
    """A word of a run, and what the lists say about it."""

    def __init__(self, start: int, seen: str) -> None:
        self.start, self.seen = start, _OWNED.sub("", seen)
        self.end = start + len(self.seen)
        self.flat = self.seen.casefold().replace("’", "'")
        self.is_owned = len(self.seen) < len(seen)

    @property
    def is_initial(self) -> bool:
        return len(self.seen) == 2 and self.seen[1] == "."

    @property
    def is_particle(self) -> bool:
        return self.seen.islower()

    @property
    def is_title(self) -> bool:
        return self.flat in lexicon("titles")

    @property
    def is_given(self) -> bool:
        return self.flat in lexicon("given_names") or self._halves("given_names")

    @property
    def is_surely_given(self) -> bool:
        return self.flat in lexicon("given_names", "") or self._halves("given_names")

    @property
    def is_family(self) -> bool:
        return self.flat in lexicon("family_names") or self._halves("family_names")

    @property
    def is_surely_family(self) -> bool:
        return self.flat in lexicon("family_names", "") or self._halves("family_names")

    @property
    def could_be_one(self) -> bool:
        return self.is_given or self.is_surely_family

    @property
    def could_follow(self) -> bool:
        """Whether it could be a further part of a name: capitalised, and no word that is so by custom."""
        return (
            len(self.seen) > 1
            and self.flat not in lexicon("capitalised")
            and self.flat not in lexicon("things_after")
            and not self.is_title
        )

    def _halves(self, name: str) -> bool:
        return "-" in self.flat and all(half in lexicon(name) for half in self.flat.split("-"))


def _end_of_name(text: str, words: list[_Word], at: int) -> int:
    """Where the name that begins with words[at] ends, `at` itself if none does."""
    word = words[at]
    before = words[at - 1] if at else None
    is_titled = before is not None and before.is_title
    run_end = words[-1].end
    if (word.is_particle and not is_titled) or (word.is_title and at + 1 < len(words) and not word.is_surely_given):
        return at
    if word.is_initial:
        return _after_initials(text, words, at)
    end = _reach(text, words, at)
    has_followers = end > at + 1
    if _is_no_person(text, words, at, end):
        return at
    if is_titled:
        return end if word.is_particle or word.flat not in lexicon("capitalised") else at
    if word.flat not in lexicon("capitalised") and _introduced(text, word.start):
        return end
    if has_followers and word.could_follow and words[end - 1].end == run_end and _DOES.match(text, run_end):
        return end
    if word.is_given:
        is_certain = word.is_surely_given
        if not has_followers:
            return end if is_certain else at
        follower = words[end - 1]
        if is_certain or follower.is_family or words[at + 1].is_initial:
            return end
        # "Will Smith" at the start of a sentence may ask whether Smith will; "I met Grace Hopper" can only be a name.
        is_word = word.flat in lexicon("given_names", "~")
        is_thing = _begins(text, word.start) or _ARTICLE.search(text[max(0, word.start - _LOOK_BACK) : word.start])
        return end if is_word and not is_thing else at
    if word.flat in lexicon("capitalised"):
        return at
    if has_followers and words[at + 1].is_surely_family and not _begins(text, word.start):
        return end
    return end if word.is_surely_family and not has_followers else at


def _reach(text: str, words: list[_Word], at: int) -> int:
    """The words from `at` on that can be one name."""
    end = at + 1
    while end < len(words) and end - at < _LONGEST:
        gap, word = text[words[end - 1].end : words[end].start], words[end]
        if words[end - 1].is_owned or gap.strip(" ") or not (word.is_initial or word.is_particle or word.could_follow):
            break
        end += 1
    while words[end - 1].is_particle or (words[end - 1].is_initial and end - at > 1):
        end -= 1
    return end


def _after_initials(text: str, words: list[_Word], at: int) -> int:
    end = at
    while end < len(words) and words[end].is_initial:
        end += 1
    is_list = end - at == 1 and _begins(text, words[at].start) and not (end < len(words) and words[end].is_family)
    if is_list or end == len(words) or not words[end].could_follow or words[end].flat in _AFTER_INITIALS_NOT:
        return at
    if text[words[at].start : words[end].start].replace(" ", "") in _NO_INITIALS:
        return at
    return _reach(text, words, end)


def _is_no_person(text: str, words: list[_Word], at: int, end: int) -> bool:
    """Whether the words around make a place, a firm or a thing of it."""
    after = words[end].flat if end < len(words) and not text[words[end - 1].end : words[end].start].strip(" ") else ""
    before = words[at - 1].flat if at else ""
    is_owner = words[end - 1].is_owned
    return (after in lexicon("things_after") and not is_owner) or before in lexicon("places_before")


def _introduced(text: str, start: int) -> bool:
    """Whether the words before say that a name follows."""
    before = text[max(0, start - _LOOK_BACK) : start]
    words = before.casefold().replace("’", "'").split()
    if not words or not before[-1].isspace():
        return False
    last = words[-1].lstrip(_SIGNS)
    if last.rstrip(",") in _RELATIONS or any(
        tail in _CUES or tail.rstrip(",:") in _CUES for tail in (" ".join(words[-n:]).lstrip(_SIGNS) for n in (1, 2, 3))
    ):
        return True
    if last not in _GREETINGS:
        return False
    head = before.rstrip()[: -len(last)].rstrip(" ")
    word = _WORD.match(text, start)
    greeted = word[0].casefold() if word else ""
    return (not head or head[-1] in '\n.!?"“' or last == "you,") and greeted not in lexicon("greeted")


def _begins(text: str, start: int) -> bool:
    """Whether a sentence or a line begins there, so that any word would be capitalised."""
    before = text[max(0, start - 4) : start].rstrip(" " + _SIGNS)
    return not before or before[-1] in ".!?:\n\r\t;•"


def _span(text: str, words: list[_Word]) -> Span:
    start, end = words[0].start, words[-1].end
    return Span(start, end, "NAME", "Looks like the name of a person.", " ".join(word.flat for word in words))
