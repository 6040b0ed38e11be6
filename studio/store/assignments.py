"""Assignments: who has which item to rank, and every judgement that was ever given.

Judgements are append-only and name completions, never places on a screen: what stood where is the assignment's
`display_order`. There is one assignment per item and annotator; it goes

    open -> judged | skipped          undo shows a judged one again and reopens a skipped one
    open -> expired                   the lease ran out and the item went to somebody else
    expired -> open | judged          the item came free again; or a late answer arrived, which is never lost

An item is full once `target_overlap` people judged it or hold it under a lease that lives; what arrives beyond that is
kept as surplus. Machines (ai, rule) rank every item and fill none.
"""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from studio.errors import Conflict, InputError, NotFound
from studio.store import tables as t
from studio.store.database import Database, now

__all__ = [
    "Annotator",
    "AnnotatorKind",
    "AssignmentVerbs",
    "DeskItem",
    "Judged",
    "Judgement",
    "NotYours",
    "Progress",
    "RankedAnswer",
    "Ranking",
    "TieKind",
    "answers_by_id",
    "count_if",
    "pieces",
    "require_batch",
]

AnnotatorKind = Literal["human", "ai", "rule"]
TieKind = Literal["", "equal", "both_bad"]

_TIE_KINDS: tuple[TieKind, ...] = ("", "equal", "both_bad")
_LARGEST = 2**31 - 1  # what PostgreSQL's INTEGER holds
_PIECE = 500  # ids in one IN (...)
_LEASE_KEY = 0x1ADDE3  # PostgreSQL advisory lock: leases go one at a time, so that an item never gets too many


class NotYours(InputError):
    """The named thing is somebody else's."""


@dataclass(frozen=True)
class Annotator:
    """Who ranks: a person, an AI judge, or a rule whose `note` says it in words."""

    id: int
    name: str
    kind: AnnotatorKind
    note: str
    created_at: float

    @property
    def is_person(self) -> bool:
        return self.kind == "human"


@dataclass(frozen=True)
class DeskItem:
    """What an annotator gets: the prompt, and the answers (completion id, text) in the order stored for him."""

    assignment_id: int
    item_id: int
    prompt: list[dict[str, str]]
    answers: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Ranking:
    """What an annotator gives: groups of completion ids, best first; a retry carries the same `client_uuid`."""

    assignment_id: int
    client_uuid: str
    groups: Sequence[Sequence[int]]
    tie_kind: TieKind = ""
    wall_ms: int = 0
    active_ms: int = 0


@dataclass(frozen=True)
class Judgement:
    """One stored ranking. A later revision of the same assignment supersedes it; both stay."""

    id: int
    assignment_id: int
    revision: int
    supersedes_id: int | None
    client_uuid: str
    groups: list[list[int]]
    tie_kind: TieKind
    wall_ms: int
    active_ms: int
    created_at: float


@dataclass(frozen=True)
class Judged:
    """The judgement under a client's id: `is_new` if this call stored it, `is_surplus` if its item was full before."""

    judgement: Judgement
    batch: str
    is_new: bool
    is_surplus: bool


@dataclass(frozen=True)
class Progress:
    """Of one annotator in one batch: what he judged, what has its judgements, all of it, and what is left for him."""

    mine: int
    judged: int
    items: int
    left: int


@dataclass(frozen=True)
class RankedAnswer:
    id: int
    text: str
    model: str


class AssignmentVerbs(Database):
    def annotator(self, name: str, kind: AnnotatorKind = "human", note: str = "") -> Annotator:
        """The annotator of that kind and name, made on first sight."""
        with self._read() as c:
            known = _annotator(c, name, kind)
        if known is not None:
            return known
        row: dict[str, Any] = {"name": name, "kind": kind, "note": note, "created_at": now()}
        try:
            with self._write() as c:
                key = c.execute(t.annotators.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
                return Annotator(id=key, **row)
        except sa.exc.IntegrityError:  # somebody of that name opened two pages at once
            with self._read() as c:
                twin = _annotator(c, name, kind)
            if twin is None:
                raise
            return twin

    def lease_items(
        self, batch: str, annotator: Annotator, count: int, *, seconds: float, guideline: str = ""
    ) -> list[DeskItem]:
        """Up to `count` items, his for `seconds`: those he has already, in the order he got them, then others.

        Never one that he judged or skipped. Raises NotFound for an unknown batch.
        """
        with self._write() as c:
            self._take_turns(c, _LEASE_KEY)
            require_batch(c, batch)
            at = now()
            held = _renew(c, batch, annotator, count, at, at + seconds)
            new = _free_items(c, batch, annotator, count - len(held), at)
            if annotator.is_person:
                _expire(c, [item.id for item in new], at)
            lease = {"annotator_id": annotator.id, "guideline": guideline, "lease_until": at + seconds}
            return _desk_items(c, held + [_assign(c, item, {**lease, "first_seen": at}) for item in new])

    def judge(self, given: Ranking, annotator: Annotator) -> Judged:
        """Append a ranking as the newest revision of its assignment.

        The same `client_uuid` gives the first judgement back, whatever else it carries. Raises InputError when the
        groups are not a partition of the item's answers, NotYours for somebody else's assignment.
        """
        try:
            with self._write() as c:
                return _told_before(c, given, annotator) or _judge(c, given, annotator)
        except sa.exc.IntegrityError:
            # A twin of this call won between our look and our insert (PostgreSQL only; SQLite has one writer).
            with self._read() as c:
                twin = _told_before(c, given, annotator)
            if twin is None:
                raise
            return twin

    def skip_item(self, batch: str, assignment_id: int, annotator: Annotator) -> None:
        """Leave an item as it is: he does not get it again. What he judged before stays judged.

        The lease lives on, so that undo finds the item where it was.
        """
        with self._write() as c:
            row = _assignment(c, assignment_id, annotator)
            if row["batch"] != batch:
                raise NotFound(f"Assignment {assignment_id} is not in the batch '{batch}'. Reload the page.")
            if row["state"] in ("open", "expired"):
                _change(c, assignment_id, was=row["state"], state="skipped", ended_at=now())

    def take_back(self, batch: str, annotator: Annotator, *, seconds: float) -> DeskItem:
        """The item he judged or skipped last, to be judged (again).

        A judgement stands until it is superseded. A skipped item is his again for `seconds`. Raises Conflict when it
        went to somebody else meanwhile, or when there is nothing to undo.
        """
        with self._write() as c:
            self._take_turns(c, _LEASE_KEY)
            require_batch(c, batch)
            last = _last_ended(c, batch, annotator)
            if last is None:
                raise Conflict(f"You have judged or skipped nothing in '{batch}' yet, so there is nothing to undo.")
            if last.state == "skipped":
                _reopen(c, last.id, annotator, seconds)
            return _desk_items(c, [last.id])[0]

    def labeling_progress(self, batch: str, annotator: Annotator) -> Progress:
        """How far a batch is, as this annotator sees it. Raises NotFound for an unknown batch."""
        a, items = t.assignments, t.items
        judged_by_him = (
            sa.select(sa.func.count())
            .select_from(a.join(items, items.c.id == a.c.item_id))
            .where(a.c.annotator_id == annotator.id, a.c.state == "judged", items.c.batch == batch)
        )
        is_full = items.c.judged >= items.c.target_overlap
        is_left: sa.ColumnElement[bool] = items.c.id.not_in(_item_ids(annotator, "judged", "skipped"))
        if annotator.is_person:
            is_left = sa.and_(sa.not_(is_full), is_left)
        counts = sa.select(count_if(is_full), sa.func.count(), count_if(is_left)).where(items.c.batch == batch)
        with self._read() as c:
            require_batch(c, batch)
            mine = c.execute(judged_by_him).scalar_one()
            return Progress(mine, *(int(n) for n in c.execute(counts).one()))

    def judgement_history(self, assignment_id: int) -> list[Judgement]:
        """Every revision of an assignment, oldest first."""
        j = t.judgements
        query = sa.select(j).where(j.c.assignment_id == assignment_id).order_by(j.c.revision)
        with self._read() as c:
            return [Judgement(**row) for row in c.execute(query).mappings()]


# -- what is shared with the items' own verbs ------------------------------------------------------------------


def require_batch(c: sa.Connection, batch: str) -> None:
    is_a_name = re.fullmatch(r"[\w.-]+", batch) is not None  # PostgreSQL cannot even look for some others
    if is_a_name and c.execute(sa.select(t.items.c.id).where(t.items.c.batch == batch).limit(1)).first():
        return
    names = c.execute(sa.select(t.items.c.batch).distinct().order_by(t.items.c.batch)).scalars()
    raise NotFound(f"There is no batch '{batch}'. Known batches: {', '.join(names) or 'none yet'}.")


def answers_by_id(c: sa.Connection, ids: Iterable[int]) -> dict[int, RankedAnswer]:
    table, found = t.completions, {}
    for piece in pieces(sorted(ids)):
        query = sa.select(table.c.id, table.c.text, table.c.model).where(table.c.id.in_(piece))
        found.update({row["id"]: RankedAnswer(**row) for row in c.execute(query).mappings()})
    return found


def pieces(ids: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (ids[start : start + _PIECE] for start in range(0, len(ids), _PIECE))


def count_if(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


# -- leases ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Free:
    """An item to be given out; `lost` is the assignment of whoever had it before and gets it again."""

    id: int
    completion_ids: list[int]
    lost: int | None


def _annotator(c: sa.Connection, name: str, kind: AnnotatorKind) -> Annotator | None:
    table = t.annotators
    row = c.execute(sa.select(table).where(table.c.kind == kind, table.c.name == name)).mappings().first()
    return Annotator(**row) if row else None


def _has_room(annotator: Annotator, at: float) -> sa.ColumnElement[bool]:
    """Whether an item of the query may be given to this annotator: people share the work, machines do all of it."""
    if not annotator.is_person:
        return sa.true()
    other, people, items = t.assignments.alias(), t.annotators, t.items
    held = (
        sa.select(sa.func.count())
        .select_from(other.join(people, people.c.id == other.c.annotator_id))
        .where(other.c.item_id == items.c.id, people.c.kind == "human")
        .where(other.c.state.in_(("open", "skipped")), other.c.lease_until > at)
        .correlate(items)
        .scalar_subquery()
    )
    # The first half says nothing new; it spares the look at the assignments of every item that is done.
    return sa.and_(items.c.judged < items.c.target_overlap, items.c.judged + held < items.c.target_overlap)


def _keeps(annotator: Annotator, at: float) -> sa.ColumnElement[bool]:
    """Whether an assignment of the query can stay his: its lease lives, or nobody filled the item since it ended."""
    return sa.or_(t.assignments.c.lease_until > at, _has_room(annotator, at))


def _item_ids(annotator: Annotator, *states: str) -> sa.Select[tuple[int]]:
    """The items that he has assignments of in these states.

    As a list it is made once; asked item by item, SQLite went through all of his for each (5 s at 5,000 items).
    """
    a = t.assignments
    return sa.select(a.c.item_id).where(a.c.annotator_id == annotator.id, a.c.state.in_(states))


def _renew(c: sa.Connection, batch: str, annotator: Annotator, count: int, at: float, until: float) -> list[int]:
    """Up to `count` assignments that he has, oldest first, their leases prolonged."""
    a = t.assignments
    query = (
        sa.select(a.c.id, _keeps(annotator, at).label("is_kept"))
        .join(t.items, t.items.c.id == a.c.item_id)
        .where(a.c.annotator_id == annotator.id, a.c.state == "open", t.items.c.batch == batch)
        .order_by(a.c.first_seen, a.c.id)
    )
    found = c.execute(query).all()
    kept = [row.id for row in found if row.is_kept][:count]
    _change(c, *(row.id for row in found if not row.is_kept), was="open", state="expired")
    _change(c, *kept, was="open", lease_until=until)
    return kept


def _free_items(c: sa.Connection, batch: str, annotator: Annotator, count: int, at: float) -> list[_Free]:
    """Up to `count` items that he may have and never had, or lost."""
    if count <= 0:
        return []
    a, items = t.assignments, t.items
    query = (
        sa.select(items.c.id, items.c.completion_ids)
        .where(items.c.batch == batch, items.c.id.not_in(_item_ids(annotator, "open", "judged", "skipped")))
        .where(_has_room(annotator, at))
        .order_by(items.c.id)
        .limit(count)
    )
    chosen = c.execute(query).all()
    his = sa.select(a.c.item_id, a.c.id).where(a.c.annotator_id == annotator.id)
    lost = dict(c.execute(his.where(a.c.item_id.in_([item.id for item in chosen]))).tuples().all())
    return [_Free(item.id, item.completion_ids, lost.get(item.id)) for item in chosen]


def _assign(c: sa.Connection, item: _Free, lease: dict[str, Any]) -> int:
    if item.lost is not None:  # in the order it had: he may remember what stood where
        _change(c, item.lost, was="expired", state="open", lease_until=lease["lease_until"])
        return item.lost
    seed = secrets.randbelow(_LARGEST)
    order = list(item.completion_ids)
    random.Random(seed).shuffle(order)
    row = {**lease, "item_id": item.id, "display_order": order, "order_seed": seed, "state": "open"}
    return int(c.execute(t.assignments.insert().values(row)).inserted_primary_key[0])  # type: ignore[index]


def _expire(c: sa.Connection, item_ids: Sequence[int], at: float) -> None:
    """Whoever let his lease of these items run out does not have them any more."""
    a = t.assignments
    people = sa.select(t.annotators.c.id).where(t.annotators.c.kind == "human")
    is_over = sa.and_(a.c.state == "open", a.c.lease_until <= at)
    if item_ids:
        his = a.c.item_id.in_(item_ids), a.c.annotator_id.in_(people), is_over
        c.execute(a.update().where(*his).values(state="expired"))


def _last_ended(c: sa.Connection, batch: str, annotator: Annotator) -> Any | None:
    """The assignment that he judged or skipped last."""
    a = t.assignments
    query = (
        sa.select(a.c.id, a.c.state)
        .join(t.items, t.items.c.id == a.c.item_id)
        .where(a.c.annotator_id == annotator.id, a.c.state.in_(("judged", "skipped")), t.items.c.batch == batch)
        .order_by(a.c.ended_at.desc(), a.c.id.desc())
        .limit(1)
    )
    return c.execute(query).first()


def _reopen(c: sa.Connection, assignment_id: int, annotator: Annotator, seconds: float) -> None:
    a, at = t.assignments, now()
    can_be_his = (
        sa.select(_keeps(annotator, at))
        .join_from(a, t.items, t.items.c.id == a.c.item_id)
        .where(a.c.id == assignment_id)
    )
    if not c.execute(can_be_his).scalar_one():
        raise Conflict("The item you skipped went to somebody else meanwhile. Go on with the next one.")
    _change(c, assignment_id, was="skipped", state="open", lease_until=at + seconds)


def _desk_items(c: sa.Connection, assignment_ids: Sequence[int]) -> list[DeskItem]:
    """What is shown of these assignments, in the order they were first given out."""
    a = t.assignments
    query = (
        sa.select(a.c.id, a.c.item_id, a.c.display_order, t.prompts.c.messages)
        .join(t.items, t.items.c.id == a.c.item_id)
        .join(t.prompts, t.prompts.c.id == t.items.c.prompt_id)
        .where(a.c.id.in_(assignment_ids))
        .order_by(a.c.first_seen, a.c.id)
    )
    rows = c.execute(query).all()
    answers = answers_by_id(c, {key for row in rows for key in row.display_order})
    return [
        DeskItem(row.id, row.item_id, row.messages, tuple((key, answers[key].text) for key in row.display_order))
        for row in rows
    ]


def _change(c: sa.Connection, *assignment_ids: int, was: str, **values: Any) -> None:
    """Change those that are still in the state they were seen in: on PostgreSQL somebody may just have judged one."""
    a = t.assignments
    if assignment_ids:
        c.execute(a.update().where(a.c.id.in_(assignment_ids), a.c.state == was).values(**values))


# -- judgements ------------------------------------------------------------------------------------------------


def _assignment(c: sa.Connection, assignment_id: int, annotator: Annotator) -> sa.RowMapping:
    """The row with its item, locked until the transaction ends (PostgreSQL; on SQLite the whole file is)."""
    a = t.assignments
    query = (
        sa.select(a, t.items.c.batch, t.items.c.completion_ids)
        .join(t.items, t.items.c.id == a.c.item_id)
        .where(a.c.id == assignment_id)
        .with_for_update(of=a)
    )
    row = c.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"There is no assignment {assignment_id}. Reload the page to get the next item.")
    if row["annotator_id"] != annotator.id:
        raise NotYours(f"Assignment {assignment_id} is somebody else's. Reload the page to get your next item.")
    return row


def _told_before(c: sa.Connection, given: Ranking, annotator: Annotator) -> Judged | None:
    """The judgement that came under this client id before."""
    j, a = t.judgements, t.assignments
    query = (
        sa.select(j, a.c.annotator_id, t.items.c.batch)
        .join(a, a.c.id == j.c.assignment_id)
        .join(t.items, t.items.c.id == a.c.item_id)
        .where(j.c.client_uuid == given.client_uuid)
    )
    row = c.execute(query).mappings().first()
    if row is None:
        return None
    if row["annotator_id"] != annotator.id:
        raise NotYours(f"The client id {given.client_uuid} is somebody else's. Reload the page and judge again.")
    judgement = Judgement(**{name: row[name] for name in Judgement.__dataclass_fields__})
    return Judged(judgement, row["batch"], is_new=False, is_surplus=_is_surplus(c, judgement, annotator))


def _judge(c: sa.Connection, given: Ranking, annotator: Annotator) -> Judged:
    row = _assignment(c, given.assignment_id, annotator)
    told = _told_before(c, given, annotator)  # the lock may have been a twin's
    if told is not None:
        return told
    _check_ranking(given, row["item_id"], row["completion_ids"])
    j, items = t.judgements, t.items
    newest = sa.select(j.c.id, j.c.revision).where(j.c.assignment_id == given.assignment_id)
    before = c.execute(newest.order_by(j.c.revision.desc()).limit(1)).first()
    values: dict[str, Any] = {
        "assignment_id": given.assignment_id,
        "revision": before.revision + 1 if before else 1,
        "supersedes_id": before.id if before else None,
        "client_uuid": given.client_uuid,
        # The same ranking is the same row, whatever order the answers stood in.
        "groups": [sorted(group) for group in given.groups],
        "tie_kind": given.tie_kind,
        "wall_ms": min(max(given.wall_ms, 0), _LARGEST),
        "active_ms": min(max(given.active_ms, 0), _LARGEST),
        "created_at": now(),
    }
    key = c.execute(j.insert().values(values)).inserted_primary_key[0]  # type: ignore[index]
    _change(c, given.assignment_id, was=row["state"], state="judged", ended_at=values["created_at"])
    if before is None and annotator.is_person:
        c.execute(items.update().where(items.c.id == row["item_id"]).values(judged=items.c.judged + 1))
    judgement = Judgement(id=key, **values)
    return Judged(judgement, row["batch"], is_new=True, is_surplus=_is_surplus(c, judgement, annotator))


def _check_ranking(given: Ranking, item_id: int, completion_ids: Sequence[int]) -> None:
    ranked = sorted(key for group in given.groups for key in group)
    if ranked != sorted(completion_ids) or not all(given.groups):
        answers, said = ", ".join(map(str, completion_ids)), str([list(group) for group in given.groups])[:200]
        raise InputError(
            f"Item {item_id} has the answers {answers}, and the ranking is {said}. "
            "Put each answer into exactly one group, and leave no group empty. Nothing was stored."
        )
    if given.tie_kind not in _TIE_KINDS:
        raise InputError(
            f"'{given.tie_kind}' is no kind of tie. Say 'equal' or 'both_bad', or leave it empty. Nothing was stored."
        )
    if given.tie_kind and len(given.groups) > 1:
        raise InputError(
            f"'{given.tie_kind}' is said of answers that all share one group, and this ranking has "
            f"{len(given.groups)}. Put them into one group, or leave the kind of tie empty. Nothing was stored."
        )


def _is_surplus(c: sa.Connection, judgement: Judgement, annotator: Annotator) -> bool:
    """Whether other people had filled the item before he first judged it."""
    if not annotator.is_person:
        return False
    j, a, people = t.judgements, t.assignments, t.annotators
    his, first = a.alias(), j.alias()
    earlier = (
        sa.select(sa.func.count())
        .select_from(j.join(a, a.c.id == j.c.assignment_id).join(people, people.c.id == a.c.annotator_id))
        .where(a.c.item_id == his.c.item_id, people.c.kind == "human", j.c.revision == 1, j.c.id < first.c.id)
        .correlate(his, first)
        .scalar_subquery()
    )
    query = (
        sa.select(earlier >= t.items.c.target_overlap)
        .join_from(his, t.items, t.items.c.id == his.c.item_id)
        .join(first, sa.and_(first.c.assignment_id == his.c.id, first.c.revision == 1))
        .where(his.c.id == judgement.assignment_id)
    )
    return bool(c.execute(query).scalar_one())
