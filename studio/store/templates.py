"""Prompt templates that people wrote, in versions that never change; and drafts."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from studio.errors import InputError, NotFound
from studio.store import tables as t
from studio.store.database import Database, now

__all__ = ["PromptTemplate", "TemplateVerbs", "TemplateVersion"]

# PostgreSQL advisory locks: versions are numbered one at a time, and so is one person's draft written.
_VERSION_KEY = 0x1ADDF0
_DRAFT_KEY = 0x1ADD00000000

_LARGEST_DRAFT = 4_000_000  # characters of JSON
_MOST_TAGS = 20
_LONGEST_TAG = 40


@dataclass(frozen=True)
class PromptTemplate:
    """A name people gave, with what its newest version is called and when it was saved."""

    id: int
    name: str
    title: str
    tags: tuple[str, ...]
    version: int
    digest: str
    author: str
    created_at: float
    saved_at: float
    archived_at: float | None = None

    @property
    def ref(self) -> str:
        """Names the newest version."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class TemplateVersion:
    """What a template was at one time; `digest` is the start of its body's SHA-256."""

    name: str
    version: int
    body: dict[str, Any]
    digest: str
    note: str
    author: str
    created_at: float

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"


class TemplateVerbs(Database):
    def add_template_version(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        author: str,
        note: str = "",
        tags: Sequence[str] | None = None,
    ) -> TemplateVersion:
        """Append a version, or return the newest where the body is the same; an archived name comes back.

        `tags` replaces the tags; None leaves them.
        """
        given = None if tags is None else _tags(tags)
        digest, number = _digest(body), 1
        with self._write() as c:
            self._take_turns(c, _VERSION_KEY)
            key = _key_of(c, name) or _add_name(c, name, author)
            change: dict[str, Any] = {"archived_at": None} | ({"tags": given} if given is not None else {})
            c.execute(t.prompt_templates.update().where(t.prompt_templates.c.id == key).values(change))
            newest = _newest(c, key)
            if newest is not None:
                number = newest["version"] + (newest["digest"] != digest)
            if newest is None or newest["version"] != number:
                row = {"template_id": key, "version": number, "body": dict(body), "digest": digest}
                more = {"note": _clean(note), "author": _clean(author), "created_at": now()}
                c.execute(t.template_versions.insert().values(row | more))
        return self.template_version(name, number)

    def prompt_templates(self, *, tag: str = "", archived: bool = False) -> list[PromptTemplate]:
        """By name; with a tag only those that bear it, and the archived ones only when asked for."""
        names, versions = t.prompt_templates, t.template_versions
        last = sa.select(versions.c.template_id, sa.func.max(versions.c.version).label("version"))
        newest = last.group_by(versions.c.template_id).subquery()
        query = (
            sa.select(
                *(names.c[column] for column in ("id", "name", "tags", "author", "created_at", "archived_at")),
                *(versions.c.version, versions.c.digest, versions.c.created_at.label("saved_at")),
                versions.c.body["title"].as_string().label("title"),
            )
            .join(newest, newest.c.template_id == names.c.id)
            .join(versions, (versions.c.template_id == names.c.id) & (versions.c.version == newest.c.version))
            .order_by(names.c.name)
        )
        if not archived:
            query = query.where(names.c.archived_at.is_(None))
        with self._read() as c:
            found = [PromptTemplate(**{**row, "tags": tuple(row["tags"])}) for row in c.execute(query).mappings()]
        return [one for one in found if not tag or tag in one.tags]

    def template_version(self, name: str, version: int | None = None) -> TemplateVersion:
        """One version of a template, the newest unless a number is given. Raises NotFound that says which there are."""
        wanted = [] if version is None else [t.template_versions.c.version == version]
        with self._read() as c:
            found = _versions(c, name, *wanted, limit=1)
            newest = found or _versions(c, name, limit=1)
        if not newest:
            raise _unknown(name)
        if not found:
            raise NotFound(f"Template '{name}' has no version {version}. It has 1 to {newest[0].version}.")
        return found[0]

    def template_versions(self, name: str) -> list[TemplateVersion]:
        """All versions of a template, newest first."""
        with self._read() as c:
            found = _versions(c, name)
        if not found:
            raise _unknown(name)
        return found

    def tag_template(self, name: str, tags: Sequence[str]) -> None:
        """Give a template these tags instead of those it has."""
        self._change_template(name, tags=_tags(tags))

    def archive_template(self, name: str) -> None:
        """Take a template off the lists; its versions stay where they are."""
        self._change_template(name, archived_at=now())

    def restore_template(self, name: str) -> None:
        """Put an archived template back on the lists."""
        self._change_template(name, archived_at=None)

    def _change_template(self, name: str, **values: Any) -> None:
        with self._write() as c:
            changed = c.execute(
                t.prompt_templates.update().where(t.prompt_templates.c.name == _clean(name)).values(values)
            )
            if changed.rowcount == 0:
                raise _unknown(name)

    # -- drafts -------------------------------------------------------------------------------------------------

    def save_draft(self, owner: str, key: str, body: Mapping[str, Any]) -> None:
        """Keep what somebody is in the middle of writing; the last writer wins."""
        size = len(json.dumps(body))
        if size > _LARGEST_DRAFT:
            raise InputError(
                f"This draft has {size:,} characters, and {_LARGEST_DRAFT:,} are kept. "
                "The one kept before is still there; shorten this one, or import long texts as documents."
            )
        where = {"owner": _clean(owner), "key": _clean(key)}
        what = {"body": dict(body), "updated_at": now()}
        with self._write() as c:
            self._take_turns(c, _DRAFT_KEY + zlib.crc32(json.dumps(where).encode()))
            if c.execute(t.drafts.update().where(*_these(where)).values(what)).rowcount == 0:
                c.execute(t.drafts.insert().values(where | what))

    def draft(self, owner: str, key: str) -> dict[str, Any]:
        """What was kept last, or an empty dict."""
        where = _these({"owner": _clean(owner), "key": _clean(key)})
        with self._read() as c:
            return c.execute(sa.select(t.drafts.c.body).where(*where)).scalar_one_or_none() or {}

    def drop_draft(self, owner: str, key: str) -> None:
        """Forget a draft; one that is not there is forgotten already."""
        with self._write() as c:
            c.execute(t.drafts.delete().where(*_these({"owner": _clean(owner), "key": _clean(key)})))


def _key_of(c: sa.Connection, name: str) -> int | None:
    return c.execute(sa.select(t.prompt_templates.c.id).where(t.prompt_templates.c.name == name)).scalar_one_or_none()


def _add_name(c: sa.Connection, name: str, author: str) -> int:
    row = {"name": name, "tags": [], "author": _clean(author), "created_at": now()}
    return int(c.execute(t.prompt_templates.insert().values(row)).inserted_primary_key[0])  # type: ignore[index]


def _newest(c: sa.Connection, key: int) -> sa.RowMapping | None:
    table = t.template_versions
    query = sa.select(table.c.version, table.c.digest).where(table.c.template_id == key)
    return c.execute(query.order_by(table.c.version.desc()).limit(1)).mappings().first()


def _versions(
    c: sa.Connection, name: str, *where: sa.ColumnElement[bool], limit: int | None = None
) -> list[TemplateVersion]:
    names, versions = t.prompt_templates, t.template_versions
    columns = [versions.c[column] for column in ("version", "body", "digest", "note", "author", "created_at")]
    query = sa.select(names.c.name, *columns).join(names, names.c.id == versions.c.template_id)
    query = query.where(names.c.name == _clean(name), *where).order_by(versions.c.version.desc()).limit(limit)
    return [TemplateVersion(**row) for row in c.execute(query).mappings()]


def _these(where: Mapping[str, str]) -> list[sa.ColumnElement[bool]]:
    return [t.drafts.c[name] == value for name, value in where.items()]


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def _tags(given: Sequence[str]) -> list[str]:
    """Without blanks and repeats, in the order of the alphabet."""
    tags = sorted({" ".join(_clean(tag).split()) for tag in given} - {""})
    if len(tags) > _MOST_TAGS:
        raise InputError(f"These are {len(tags)} tags. Give a template {_MOST_TAGS} at most.")
    for tag in tags:
        if len(tag) > _LONGEST_TAG or "," in tag:
            raise InputError(
                f"'{tag[:_LONGEST_TAG]}' cannot be a tag. Take up to {_LONGEST_TAG} characters without a comma."
            )
    return tags


def _clean(text: str) -> str:
    return text.replace("\x00", "")  # PostgreSQL keeps no NUL


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no template '{name}' of your own. Save one under this name, or choose another.")
