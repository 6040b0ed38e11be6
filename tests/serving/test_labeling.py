"""The labeling desk over HTTP: what a page may know, what it may send, and what is kept of it."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from studio.serving import create_app
from studio.store import Store
from studio.store import tables as t
from studio.workspace import Workspace
from tests.preferences.items import BATCH, new_item, put, put_items

HERE = "http://127.0.0.1:7860"
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)> ${1+1} {{x}}"


def by_header(connection: HTTPConnection) -> str | None:
    """As an accounts system would: the name comes with the connection."""
    return connection.headers.get("x-test-user")


@pytest.fixture
def client_of(workspace: Workspace) -> Callable[[str], TestClient]:
    app = create_app(workspace, by_header)
    return lambda user: TestClient(app, base_url=HERE, headers={"x-test-user": user}, raise_server_exceptions=False)


@pytest.fixture
def ann(client_of: Callable[[str], TestClient]) -> TestClient:
    return client_of("ann")


@pytest.fixture
def ben(client_of: Callable[[str], TestClient]) -> TestClient:
    return client_of("ben")


def _items(http: TestClient, count: int = 2) -> list[dict[str, Any]]:
    return http.get(f"/api/v1/labeling/{BATCH}/items", params={"count": count}).json()["items"]


def _body(item: dict[str, Any], **changes: Any) -> dict[str, Any]:
    groups = [[answer["id"]] for answer in item["answers"]]
    return {"client_id": str(uuid.uuid4()), "assignment": item["assignment"], "groups": groups, **changes}


def _judgements(workspace: Workspace) -> int:
    with workspace.store._read() as c:
        return c.execute(sa.select(sa.func.count()).select_from(t.judgements)).scalar_one()


# -- getting items -------------------------------------------------------------------------------------------


def test_items_come_with_all_that_a_page_shows_and_nothing_that_it_may_not_know(
    workspace: Workspace, ann: TestClient
) -> None:
    put(workspace.store, [new_item(1, "two kilos", SCRIPT), new_item(2, "light", "heavy")])
    answer = ann.get(f"/api/v1/labeling/{BATCH}/items?count=1")
    assert answer.status_code == 200
    (item,) = answer.json()["items"]
    assert sorted(item.pop("answers"), key=lambda a: a["id"]) == [
        {"id": 1, "text": "two kilos"},
        {"id": 2, "text": SCRIPT},
    ]
    assert item == {"assignment": 1, "item": 1, "prompt": [{"role": "user", "content": "How heavy is tent 1?"}]}
    assert answer.json()["progress"] == {"mine": 0, "judged": 0, "items": 2, "left": 2}
    assert answer.headers["content-type"] == "application/json"
    assert "echo" not in answer.text


def test_a_reload_gives_the_same_items_in_the_same_order(workspace: Workspace, ann: TestClient) -> None:
    put_items(workspace.store, 5)
    assert _items(ann, 3) == _items(ann, 3)
    assert len(_items(ann)) == 2


def test_two_people_get_different_items(workspace: Workspace, ann: TestClient, ben: TestClient) -> None:
    put_items(workspace.store, 4)
    assert {i["item"] for i in _items(ann)} | {i["item"] for i in _items(ben)} == {1, 2, 3, 4}


# -- giving judgements ---------------------------------------------------------------------------------------


def test_a_judgement_is_stored_under_the_name_of_the_connection(workspace: Workspace, ann: TestClient) -> None:
    put_items(workspace.store, 2)
    (item, _) = _items(ann)
    answer = ann.post("/api/v1/judgements", json=_body(item, tie_kind="", wall_ms=9000.4, active_ms=7000))
    assert answer.status_code == 201
    assert answer.json() == {"judgement": 1, "progress": {"mine": 1, "judged": 1, "items": 2, "left": 1}}
    (stored,) = workspace.store.judgements(BATCH)
    assert stored.annotator == "ann"
    assert stored.groups == [[a["id"]] for a in item["answers"]]
    (row,) = workspace.store.judgement_history(item["assignment"])
    assert (row.wall_ms, row.active_ms) == (9000, 7000)


def test_a_judgement_sent_again_is_the_same_judgement(workspace: Workspace, ann: TestClient) -> None:
    put_items(workspace.store, 1)
    body = _body(_items(ann)[0])
    first = ann.post("/api/v1/judgements", json=body)
    again = [ann.post("/api/v1/judgements", json=sent) for sent in (body, {**body, "groups": []})]
    assert [a.status_code for a in (first, *again)] == [201, 200, 200]
    assert all(a.json() == first.json() for a in again)
    assert _judgements(workspace) == 1


def test_a_judgement_sent_five_times_at_once_is_one_row(workspace: Workspace, ann: TestClient) -> None:
    put_items(workspace.store, 1)
    body = _body(_items(ann)[0])
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: ann.post("/api/v1/judgements", json=body), range(5)))
    assert sorted(a.status_code for a in answers) == [200, 200, 200, 200, 201]
    assert len({a.json()["judgement"] for a in answers}) == _judgements(workspace) == 1


def test_skipping_leaves_the_item_to_others_and_undo_brings_it_back(workspace: Workspace, ann: TestClient) -> None:
    put_items(workspace.store, 1)
    (item,) = _items(ann)
    skipped = ann.post(f"/api/v1/labeling/{BATCH}/skip", json={"assignment": item["assignment"]})
    assert (skipped.status_code, skipped.json()) == (
        200,
        {"progress": {"mine": 0, "judged": 0, "items": 1, "left": 0}},
    )
    assert _items(ann) == []
    undone = ann.post(f"/api/v1/labeling/{BATCH}/undo", json={})
    assert undone.json() == {**item, "progress": {"mine": 0, "judged": 0, "items": 1, "left": 1}}
    assert _items(ann) == [item]


def test_undo_and_another_ranking_make_a_second_revision(workspace: Workspace, ann: TestClient) -> None:
    put_items(workspace.store, 1)
    (item,) = _items(ann)
    ann.post("/api/v1/judgements", json=_body(item))
    undone = ann.post(f"/api/v1/labeling/{BATCH}/undo", json={}).json()
    assert {name: undone[name] for name in item} == item
    everything = [[answer["id"] for answer in item["answers"]]]
    answer = ann.post("/api/v1/judgements", json=_body(undone, groups=everything, tie_kind="both_bad"))
    assert (answer.status_code, answer.json()["progress"]["mine"]) == (201, 1)
    assert [j.revision for j in workspace.store.judgement_history(item["assignment"])] == [1, 2]
    assert [j.tie_kind for j in workspace.store.judgements(BATCH)] == ["both_bad"]


# -- what is refused -----------------------------------------------------------------------------------------


def _spoil(item: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return _body(item) | {name: value}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        pytest.param("groups", [], "Put each answer into exactly one group", id="untouched"),
        pytest.param("groups", [[1], [2]], "Item 1 has the answers 1, 2, 3", id="partial"),
        pytest.param("groups", [[1], [2], [3], []], "leave no group empty", id="an empty group"),
        pytest.param("groups", [[1], [2], [3, 3]], "exactly one group", id="twice"),
        pytest.param("groups", [[1], [2], [4]], "the ranking is [[1], [2], [4]]", id="another item's"),
        pytest.param("groups", [["A"], ["B"], ["C"]], "groups.0.0: input should be a valid integer", id="letters"),
        pytest.param("groups", [[True], [2], [3]], "groups.0.0: input should be a valid integer", id="true is not 1"),
        pytest.param("groups", "best", "groups: input should be a valid array", id="words"),
        pytest.param("tie_kind", "equal", "answers that all share one group", id="a tie that is none"),
        pytest.param("tie_kind", "so-so", "tie_kind: input should be '', 'equal' or 'both_bad'", id="a new tie"),
        pytest.param("client_id", "again", "client_id: input should be a valid UUID", id="no uuid"),
        pytest.param("assignment", "1", "assignment: input should be a valid integer", id="a text"),
        pytest.param("assignment", 2**40, "assignment: input should be less than", id="a huge number"),
        pytest.param("annotator", "ben", "annotator: extra inputs are not permitted", id="in another's name"),
        pytest.param("wall_ms", "slow", "wall_ms: input should be a valid number", id="no number"),
    ],
)
def test_a_judgement_that_says_too_little_or_too_much_is_refused_with_a_sentence(
    workspace: Workspace, ann: TestClient, name: str, value: Any, sentence: str
) -> None:
    put_items(workspace.store, 2)
    item = _items(ann)[0]
    answer = ann.post("/api/v1/judgements", json=_spoil(item, name, value))
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
    assert answer.json()["detail"].endswith("Nothing was stored.")
    assert (_judgements(workspace), _items(ann)[0]) == (0, item)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"assignment": 1}', b"\xff\xfe", b"null"])
def test_what_is_no_judgement_at_all_is_a_sentence(workspace: Workspace, ann: TestClient, body: bytes) -> None:
    put_items(workspace.store, 1)
    for path in ("judgements", f"labeling/{BATCH}/skip"):
        answer = ann.post(f"/api/v1/{path}", content=body)
        if path == "judgements" or body != b'{"assignment": 1}':
            assert answer.status_code == 422
            assert isinstance(answer.json()["detail"], str)


def _pieces(size: int) -> Iterator[bytes]:
    yield from (b" " * 1024 for _ in range(size // 1024))


@pytest.mark.parametrize("path", ["judgements", f"labeling/{BATCH}/skip", f"labeling/{BATCH}/undo"])
@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "without a length"])
def test_a_body_over_64_kb_is_refused(workspace: Workspace, ann: TestClient, path: str, streamed: bool) -> None:
    put_items(workspace.store, 1)
    _items(ann)
    content: Any = _pieces(65 * 1024) if streamed else b" " * 65 * 1024
    answer = ann.post(f"/api/v1/{path}", content=content)
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        "The request is longer than 64 KB. A judgement needs 1 KB.",
    )


def test_an_unknown_batch_is_told_with_the_known_ones(workspace: Workspace, ann: TestClient) -> None:
    put_items(workspace.store, 1)
    answers = [
        ann.get("/api/v1/labeling/geer/items"),
        ann.get("/api/v1/labeling/g%00r/items"),
        ann.post("/api/v1/labeling/geer/undo", json={}),
    ]
    assert [a.status_code for a in answers] == [404] * 3
    assert answers[0].json() == {"detail": "There is no batch 'geer'. Known batches: gear."}


def test_an_assignment_that_is_not_there_or_of_another_batch_is_named(workspace: Workspace, ann: TestClient) -> None:
    put_items(workspace.store, 1)
    (item,) = _items(ann)
    gone = ann.post("/api/v1/judgements", json=_body(item, assignment=9))
    assert (gone.status_code, gone.json()["detail"][:27]) == (404, "There is no assignment 9. R")
    elsewhere = ann.post("/api/v1/labeling/boots/skip", json={"assignment": item["assignment"]})
    assert elsewhere.status_code == 404
    assert "is not in the batch 'boots'" in elsewhere.json()["detail"]


def test_nobody_judges_or_skips_for_somebody_else(workspace: Workspace, ann: TestClient, ben: TestClient) -> None:
    put_items(workspace.store, 1)
    (item,) = _items(ann)
    answers = [
        ben.post("/api/v1/judgements", json=_body(item)),
        ben.post(f"/api/v1/labeling/{BATCH}/skip", json={"assignment": item["assignment"]}),
    ]
    assert [a.status_code for a in answers] == [403, 403]
    assert "somebody else's" in answers[0].json()["detail"]
    assert (_judgements(workspace), _items(ann)) == (0, [item])


def test_undoing_with_nothing_done_is_a_sentence(workspace: Workspace, ann: TestClient) -> None:
    put_items(workspace.store, 1)
    answer = ann.post(f"/api/v1/labeling/{BATCH}/undo", json={})
    assert answer.status_code == 409
    assert answer.json()["detail"].endswith("so there is nothing to undo.")


@pytest.mark.parametrize("count", ["0", "21", "many", ""])
def test_a_count_out_of_bounds_is_a_sentence(workspace: Workspace, ann: TestClient, count: str) -> None:
    put_items(workspace.store, 1)
    answer = ann.get(f"/api/v1/labeling/{BATCH}/items", params={"count": count})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("count: ")


def test_a_stranger_and_a_foreign_page_reach_nothing(workspace: Workspace, ann: TestClient) -> None:
    put_items(workspace.store, 1)
    body = _body(_items(ann)[0])
    foreign = ann.post("/api/v1/judgements", json=body, headers={"origin": "https://evil.example"})
    stranger = TestClient(create_app(workspace, lambda connection: None), base_url=HERE)
    answers = [
        stranger.get(f"/api/v1/labeling/{BATCH}/items"),
        stranger.post("/api/v1/judgements", json=body),
        stranger.post(f"/api/v1/labeling/{BATCH}/undo", json={}),
    ]
    assert (foreign.status_code, [a.status_code for a in answers]) == (403, [401] * 3)
    assert _judgements(workspace) == 0


def test_a_database_that_refuses_is_a_503_and_the_same_judgement_goes_through_later(workspace: Workspace) -> None:
    put_items(workspace.store, 1)
    path = workspace.store.url.database or ""
    workspace.store.close()
    workspace.store = Store(f"sqlite:///{path}", busy_seconds=0.05)
    http = TestClient(create_app(workspace), base_url=HERE)
    body = _body(_items(http)[0])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = http.post("/api/v1/judgements", json=body)
        other.execute("ROLLBACK")
    assert refused.status_code == 503
    assert "Nothing was changed" in refused.json()["detail"]
    assert http.post("/api/v1/judgements", json=body).status_code == 201
    assert _judgements(workspace) == 1


def test_an_owner_needs_no_name(workspace: Workspace) -> None:
    put_items(workspace.store, 1)
    http = TestClient(create_app(workspace), base_url=HERE)
    assert http.post("/api/v1/judgements", json=_body(_items(http)[0])).status_code == 201
    assert [j.annotator for j in workspace.store.judgements(BATCH)] == ["owner"]


def test_a_served_studio_takes_judgements(served: tuple[str, Workspace]) -> None:
    url, workspace = served
    put_items(workspace.store, 1)
    answer = httpx.get(f"{url}/api/v1/labeling/{BATCH}/items")
    (item,) = json.loads(answer.text)["items"]
    assert httpx.post(f"{url}/api/v1/judgements", json=_body(item)).status_code == 201
