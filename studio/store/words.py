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

__all__ = [
    "FOUND_ID",
    "INDEX_WORDS",
    "WORDS_AT_ONCE_FOR_SQLITE",
    "WORDS_FOR_POSTGRESQL",
    "WORDS_FOR_SQLITE",
    "Term",
    "finds_of",
    "matching",
    "terms",
]

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
# A trigger that adds writes the index to disk after every row: measured 62 us a record, against 12 for all rows of a
# transaction at once. So who inserts records does this before the transaction ends, with the last id of before. For as
# long the index keeps up to 32 MB of them in memory; and pieces of it are merged eight at a time instead of four, which
# spares a fifth of the work and is not felt in a search.
INDEX_WORDS = f"INSERT INTO records_words(rowid, {_COLUMNS}) SELECT id, {_COLUMNS} FROM records WHERE id > ?"
WORDS_AT_ONCE_FOR_SQLITE = (
    "DROP TRIGGER records_words_added",
    f"INSERT INTO records_words(records_words, rank) VALUES ('hashsize', {32 << 20})",
    "INSERT INTO records_words(records_words, rank) VALUES ('automerge', 8)",
)
# PostgreSQL takes no document above a megabyte of words; what lies behind that is not searched. It would read addresses
# and paths as one word, which FTS5 does not, so it gets them without their signs.
_SIGNS = r"""!"#$%&()*+,-./:;<=>?@[\]^_`{|}~"""
_TEXT = "left(instruction || ' ' || context || ' ' || response || ' ' || talk, 250000)"
_VECTOR = f"to_tsvector('simple'::regconfig, translate({_TEXT}, '{_SIGNS}', '{' ' * len(_SIGNS)}'))"
WORDS_FOR_POSTGRESQL = (f"CREATE INDEX records_words ON records USING gin (({_VECTOR}))",)

_INDEX = sa.table("records_words", sa.column("rowid"))
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


def finds_of(text: str) -> sa.Select[Any] | None:
    """SQLite only: the ids of all records, of whichever dataset, that have the words; None where the index of words
    alone cannot tell."""
    asked = terms(text)
    if not asked or any(_NO_SPACES.search(term.text) for term in asked):
        return None
    return sa.select(FOUND_ID).select_from(_INDEX).where(_asked_of_sqlite(asked))


def _in_sqlite(query: sa.Select[Any], asked: list[Term]) -> sa.Select[Any]:
    query = query.join(_INDEX, FOUND_ID == t.records.c.id)
    return query.where(_asked_of_sqlite(asked)) if asked else query


def _asked_of_sqlite(asked: list[Term]) -> sa.ColumnElement[Any]:
    expression = " AND ".join(
        '"' + term.text.replace('"', '""') + '"' + (" *" if term.is_begun else "") for term in asked
    )
    return sa.literal_column("records_words").op("MATCH")(expression)


def _asked_of_postgresql(term: Term) -> sa.ColumnElement[Any]:
    simple: sa.ColumnElement[Any] = sa.literal_column("'simple'::regconfig")
    words = "".join(c if c.isalnum() else " " for c in term.text).split()
    if not term.is_begun:
        return sa.func.phraseto_tsquery(simple, " ".join(words))
    return sa.func.to_tsquery(simple, " <-> ".join([*words[:-1], f"{words[-1]}:*"]))
