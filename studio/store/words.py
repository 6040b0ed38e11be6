"""Full-text search over records: SQLite's FTS5 and PostgreSQL's text search, asked the same question.

Words are what is asked for: all of them have to be there, the last one perhaps only begun (it is still being typed),
and "words in quotes" have to stand side by side. Case does not matter, signs between words neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from studio.store import tables as t

__all__ = ["FOUND_ID", "WORDS_FOR_POSTGRESQL", "WORDS_FOR_SQLITE", "Term", "matching", "terms"]

_SEARCHED = ("instruction", "context", "response", "talk")
_COLUMNS = ", ".join(_SEARCHED)

# The index holds no text of its own and follows the table by itself. Accents count ("für" is not "fur"), as they do in
# PostgreSQL.
WORDS_FOR_SQLITE = (
    f"CREATE VIRTUAL TABLE records_words USING fts5({_COLUMNS}, content='records', content_rowid='id', "
    "detail='full', columnsize=0, tokenize='unicode61 remove_diacritics 0')",
    f"CREATE TRIGGER records_words_added AFTER INSERT ON records BEGIN INSERT INTO records_words(rowid, {_COLUMNS}) "
    f"VALUES (new.id, {', '.join(f'new.{c}' for c in _SEARCHED)}); END",
    f"CREATE TRIGGER records_words_gone AFTER DELETE ON records BEGIN "
    f"INSERT INTO records_words(records_words, rowid, {_COLUMNS}) "
    f"VALUES ('delete', old.id, {', '.join(f'old.{c}' for c in _SEARCHED)}); END",
    f"CREATE TRIGGER records_words_changed AFTER UPDATE OF {_COLUMNS} ON records BEGIN "
    f"INSERT INTO records_words(records_words, rowid, {_COLUMNS}) "
    f"VALUES ('delete', old.id, {', '.join(f'old.{c}' for c in _SEARCHED)}); "
    f"INSERT INTO records_words(rowid, {_COLUMNS}) VALUES (new.id, {', '.join(f'new.{c}' for c in _SEARCHED)}); END",
)
# PostgreSQL takes no document above a megabyte of words; what lies behind that is not searched. It would read addresses
# and paths as one word, which FTS5 does not, so it gets them without their signs.
_SIGNS = r"""!"#$%&()*+,-./:;<=>?@[\]^_`{|}~"""
_TEXT = "left(instruction || ' ' || context || ' ' || response || ' ' || talk, 250000)"
_VECTOR = f"to_tsvector('simple'::regconfig, translate({_TEXT}, '{_SIGNS}', '{' ' * len(_SIGNS)}'))"
WORDS_FOR_POSTGRESQL = (f"CREATE INDEX records_words ON records USING gin (({_VECTOR}))",)

FOUND_ID: sa.ColumnElement[int] = sa.literal_column("records_words.rowid", sa.Integer)

# Thai, Lao, Khmer, Burmese, and the scripts of Chinese and Japanese: written without spaces, so that an index of words
# has none of theirs.
_NO_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_TERM = re.compile(r'"([^"]*)"?|(\S+)')


@dataclass(frozen=True)
class Term:
    """Words that have to stand side by side."""

    text: str
    is_begun: bool = False  # its last word may go on


def terms(text: str) -> list[Term]:
    """What a person asks for, without what holds no letter or digit."""
    found = [
        Term(m[1]) if m[1] is not None else Term(m[2], is_begun=m.end() == len(text)) for m in _TERM.finditer(text)
    ]
    return [term for term in found if any(c.isalnum() for c in term.text)]


def matching(query: sa.Select[Any], text: str, *, is_sqlite: bool) -> sa.Select[Any]:
    """The query, of the records in which all terms are found. A text without any letter or digit finds none."""
    asked = terms(text)
    if not asked:
        return query.where(sa.false())
    indexed = [term for term in asked if not _NO_SPACES.search(term.text)]
    for term in asked:
        if term not in indexed:
            columns = (t.records.c[name] for name in _SEARCHED)
            query = query.where(sa.or_(*(column.icontains(term.text, autoescape=True) for column in columns)))
    if is_sqlite:
        return _in_sqlite(query, indexed)
    for term in indexed:
        query = query.where(sa.literal_column(f"({_VECTOR})").op("@@")(_asked_of_postgresql(term)))
    return query


def _in_sqlite(query: sa.Select[Any], asked: list[Term]) -> sa.Select[Any]:
    index = sa.table("records_words", sa.column("rowid"))
    query = query.join(index, FOUND_ID == t.records.c.id)
    if not asked:
        return query
    expression = " AND ".join(
        '"' + term.text.replace('"', '""') + '"' + (" *" if term.is_begun else "") for term in asked
    )
    return query.where(sa.literal_column("records_words").op("MATCH")(expression))


def _asked_of_postgresql(term: Term) -> sa.ColumnElement[Any]:
    simple: sa.ColumnElement[Any] = sa.literal_column("'simple'::regconfig")
    words = "".join(c if c.isalnum() else " " for c in term.text).split()
    if not term.is_begun:
        return sa.func.phraseto_tsquery(simple, " ".join(words))
    return sa.func.to_tsquery(simple, " <-> ".join([*words[:-1], f"{words[-1]}:*"]))
