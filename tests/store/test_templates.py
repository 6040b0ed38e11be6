"""Templates of one's own keep every version; drafts survive until they are dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError, NotFound
from studio.store import Store

BODY: dict[str, Any] = {"name": "reply", "title": "Reply 🏕️", "user": "{{ instruction }}", "labels": ["yes"], "shots": 0}
LOUD = BODY | {"user": "{{ instruction }}!"}


def _at_once(count: int, do: Callable[[int], Any]) -> list[Any]:
    barrier = threading.Barrier(count)

    def act(number: int) -> Any:
        barrier.wait()
        return do(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(act, range(count)))


# -- versions ------------------------------------------------------------------------------------------------


def test_versions_count_up_and_come_back_newest_first(store: Store) -> None:
    first = store.add_template_version("reply", BODY, author="ann", note="First")
    second = store.add_template_version("reply", LOUD, author="ben", note="Louder")
    assert (first.ref, first.body, first.author, first.note) == ("reply@1", BODY, "ann", "First")
    assert (second.ref, second.body, second.author, second.note) == ("reply@2", LOUD, "ben", "Louder")
    assert store.template_versions("reply") == [second, first]
    assert store.template_version("reply") == second
    assert store.template_version("reply", 1) == first
    assert first.digest != second.digest


def test_an_unchanged_body_makes_no_version(store: Store) -> None:
    first = store.add_template_version("reply", BODY, author="ann")
    again = store.add_template_version("reply", dict(reversed(BODY.items())), author="ben", note="Once more")
    assert again == first
    assert store.template_versions("reply") == [first]


def test_going_back_to_an_earlier_body_is_a_new_version(store: Store) -> None:
    for body in (BODY, LOUD, BODY):
        store.add_template_version("reply", body, author="ann")
    assert [v.body for v in store.template_versions("reply")] == [BODY, LOUD, BODY]


def test_a_list_shows_the_newest_of_each_name(store: Store) -> None:
    store.add_template_version("reply", BODY, author="ann", tags=["support"])
    newest = store.add_template_version("reply", LOUD | {"title": "Louder"}, author="ben")
    store.add_template_version("about", BODY, author="ben")
    about, reply = store.prompt_templates()
    assert (about.name, about.version, about.author) == ("about", 1, "ben")
    assert (reply.ref, reply.title, reply.author, reply.digest) == ("reply@2", "Louder", "ann", newest.digest)
    assert reply.saved_at == newest.created_at >= reply.created_at
    assert reply.tags == ("support",)


def test_everybody_who_saves_at_once_gets_a_version_of_their_own(store: Store) -> None:
    saved = _at_once(4, lambda n: store.add_template_version("reply", BODY | {"shots": n}, author=f"p{n}"))
    assert sorted(v.version for v in saved) == [1, 2, 3, 4]
    assert [v.author for v in sorted(saved, key=lambda v: -v.version)] == [
        v.author for v in store.template_versions("reply")
    ]


def test_tags_are_tidied_and_replaced(store: Store) -> None:
    store.add_template_version("reply", BODY, author="ann", tags=["support", " house  style ", "", "support"])
    store.add_template_version("about", BODY, author="ann", tags=["support"])
    assert store.prompt_templates()[1].tags == ("house style", "support")
    store.tag_template("reply", ["new"])
    store.add_template_version("reply", LOUD, author="ben")
    assert [one.name for one in store.prompt_templates(tag="new")] == ["reply"]
    assert [one.name for one in store.prompt_templates(tag="support")] == ["about"]
    store.add_template_version("reply", LOUD, author="ben", tags=[])
    assert store.prompt_templates(tag="new") == []


@pytest.mark.parametrize("tags", [["a,b"], ["x" * 41], [str(n) for n in range(21)]])
def test_tags_that_cannot_be_are_refused_and_nothing_is_saved(store: Store, tags: list[str]) -> None:
    with pytest.raises(InputError, match="tag"):
        store.add_template_version("reply", BODY, author="ann", tags=tags)
    assert store.prompt_templates() == []


def test_an_archived_template_leaves_the_list_and_keeps_its_versions(store: Store) -> None:
    kept = store.add_template_version("reply", BODY, author="ann")
    store.archive_template("reply")
    assert store.prompt_templates() == []
    (archived,) = store.prompt_templates(archived=True)
    assert archived.archived_at is not None
    assert store.template_version("reply") == kept
    store.restore_template("reply")
    assert store.prompt_templates()[0].archived_at is None


def test_saving_an_archived_template_brings_it_back(store: Store) -> None:
    store.add_template_version("reply", BODY, author="ann")
    store.archive_template("reply")
    store.add_template_version("reply", LOUD, author="ann")
    assert [one.ref for one in store.prompt_templates()] == ["reply@2"]


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(lambda s: s.template_version("nobody"), id="version"),
        pytest.param(lambda s: s.template_versions("nobody\x00"), id="versions, with NUL"),
        pytest.param(lambda s: s.tag_template("nobody", ["x"]), id="tag"),
        pytest.param(lambda s: s.archive_template("nobody"), id="archive"),
        pytest.param(lambda s: s.restore_template("nobody"), id="restore"),
    ],
)
def test_a_name_that_nobody_saved_is_told(store: Store, verb: Callable[[Store], Any]) -> None:
    with pytest.raises(NotFound, match="no template 'nobody"):
        verb(store)


def test_a_version_that_is_not_there_says_which_are(store: Store) -> None:
    store.add_template_version("reply", BODY, author="ann")
    with pytest.raises(NotFound, match="Template 'reply' has no version 7. It has 1 to 1."):
        store.template_version("reply", 7)


# -- drafts --------------------------------------------------------------------------------------------------


def test_the_last_writer_of_a_draft_wins(store: Store) -> None:
    store.save_draft("ann", "playground", {"user": "one", "columns": [{"model": "echo:"}]})
    store.save_draft("ann", "playground", {"user": "two"})
    assert store.draft("ann", "playground") == {"user": "two"}


def test_a_draft_belongs_to_one_person_and_one_place(store: Store) -> None:
    for owner, key in (("ann", "playground"), ("ann", "chat:7"), ("ben", "playground")):
        store.save_draft(owner, key, {"of": f"{owner} {key}"})
    store.drop_draft("ann", "playground")
    assert store.draft("ann", "playground") == {}
    assert store.draft("ann", "chat:7") == {"of": "ann chat:7"}
    assert store.draft("ben", "playground") == {"of": "ben playground"}


def test_a_draft_that_is_not_there_is_empty_and_can_be_dropped(store: Store) -> None:
    assert store.draft("ann", "playground") == {}
    store.drop_draft("ann", "playground")


def test_drafts_written_at_once_leave_one_of_them(store: Store) -> None:
    _at_once(4, lambda n: store.save_draft("ann", "playground", {"n": n}))
    assert store.draft("ann", "playground")["n"] in range(4)


def test_a_draft_survives_a_restart(sqlite_store: Store) -> None:
    sqlite_store.save_draft("ann", "playground", {"user": "half a sen"})
    sqlite_store.close()
    again = Store.open(f"sqlite:///{Path(sqlite_store.place)}")
    assert again.draft("ann", "playground") == {"user": "half a sen"}
    again.close()


@pytest.mark.parametrize("text", ["a\x00b", "ä 🏕️ \u2028", "{{ unclosed", ""])
def test_a_draft_keeps_what_was_typed(store: Store, text: str) -> None:
    store.save_draft("ann", "key\x00", {"user": text})
    assert store.draft("ann", "key\x00") == {"user": text}


def test_a_draft_that_is_too_long_leaves_the_one_before(store: Store) -> None:
    store.save_draft("ann", "playground", {"user": "short"})
    with pytest.raises(InputError, match=r"draft has 4,000,\d+ characters, and 4,000,000 are kept"):
        store.save_draft("ann", "playground", {"user": "x" * 4_000_000})
    assert store.draft("ann", "playground") == {"user": "short"}
