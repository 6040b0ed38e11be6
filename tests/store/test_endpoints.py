"""Servers that answer for us: what is remembered of them, and what a copied database tells of their keys."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import Conflict, NotFound, StorageError
from studio.store import Price, ServedModel, Store
from studio.store import tables as t
from studio.store.secret import Vault

URL = "http://127.0.0.1:8000/v1"
KEY = "sk-not-for-anybodys-eyes"


def add(store: Store, name: str = "office", **more):
    return store.add_endpoint(name, URL, author="ann", timeout=60.0, **more)


def test_an_endpoint_comes_back_as_it_was_added(store):
    models = [ServedModel("llama3.2:1b", "library"), ServedModel("Qwen/Qwen3-0.6B", "vllm", 8192)]
    price = Price(0.15, 0.6, "USD")
    made = add(store, locked_key="locked", models=models, price=price)
    assert store.endpoint("office") == made
    assert store.endpoints() == [made]
    assert (made.models, made.price, made.has_key, made.timeout) == (tuple(models), price, True, 60.0)
    assert (made.host, made.is_here) == ("127.0.0.1:8000", True)
    assert made.served("Qwen/Qwen3-0.6B").window == 8192
    assert made.served("unlisted") == ServedModel("unlisted")


def test_what_comes_out_of_the_store_holds_no_key(store):
    made = add(store, locked_key="the locked key")
    assert "the locked key" not in f"{made!r} {asdict(made)}"
    assert store.locked_key("office") == "the locked key"


def test_a_name_is_taken_once(store):
    add(store)
    with pytest.raises(Conflict, match="There is an endpoint 'office' already. Choose another name, or remove it"):
        store.add_endpoint("office", "http://127.0.0.1:1/v1", author="ann", timeout=1.0)
    assert store.endpoint("office").url == URL


def test_a_removed_endpoint_is_gone_with_its_key_and_its_name_is_free(store):
    add(store, locked_key="locked")
    store.remove_endpoint("office")
    assert store.endpoints() == []
    with store._read() as c:
        assert c.execute(sa.select(t.endpoints.c.key)).scalar() == ""
    for verb in (store.endpoint, store.locked_key, store.remove_endpoint):
        with pytest.raises(NotFound, match="There is no endpoint 'office'. Add it in Models"):
            verb("office")
    again = add(store)
    assert (again.has_key, store.locked_key("office")) == (False, "")


def test_models_and_price_change_and_the_rest_stays(store):
    made = add(store, locked_key="locked", price=Price(1.0, 2.0, "EUR"))
    store.set_endpoint_models("office", [ServedModel("a")])
    changed = store.set_endpoint_price("office", Price())
    assert asdict(changed) == asdict(made) | {"models": ({"name": "a", "server": "", "window": None},)} | {
        "price": asdict(Price())
    }
    for change in (lambda: store.set_endpoint_models("x", []), lambda: store.set_endpoint_price("x", Price())):
        with pytest.raises(NotFound):
            change()


@pytest.mark.parametrize(
    ("price", "tokens", "amount"),
    [
        (Price(1.0, 2.0), (1000, 500), 2.0),
        (Price(0.0, 0.0), (1000, 500), 0.0),
        (Price(None, 2.0), (1000, 500), None),
        (Price(1.0, None), (1000, 500), None),
        (Price(1.0, 2.0), (0, 0), None),
    ],
    ids=["both", "free", "no price in", "no price out", "no counts"],
)
def test_a_cost_is_computed_or_not_defined_and_never_a_zero_in_its_place(price, tokens, amount):
    assert price.of_calls(1000, *tokens) == amount


# -- keys ----------------------------------------------------------------------------------------------------


def test_a_copied_database_gives_no_key_away(sqlite_store, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    add(sqlite_store, locked_key=Vault(ours).lock(KEY, URL))
    files = list(Path(sqlite_store.url.database).parent.glob("studio.db*"))
    assert files
    assert all(KEY.encode() not in file.read_bytes() for file in files)
    with pytest.raises(StorageError, match="locked with another secret than the one in .*theirs/session.key"):
        Vault(theirs).unlock(sqlite_store.locked_key("office"), URL)
    assert Vault(ours).unlock(sqlite_store.locked_key("office"), URL) == KEY


@given(text=st.text(min_size=1), place=st.text())
def test_what_was_locked_opens_again_in_its_place_only(tmp_path_factory, text, place):
    folder = tmp_path_factory.getbasetemp()
    locked = Vault(folder).lock(text, place)
    assert Vault(folder).unlock(locked, place) == text
    with pytest.raises(StorageError):
        Vault(folder).unlock(locked, place + "x")


def test_the_same_key_is_locked_in_another_way_each_time(tmp_path):
    assert Vault(tmp_path).lock(KEY, URL) != Vault(tmp_path).lock(KEY, URL)


@pytest.mark.parametrize("locked", ["", "no base64 §", "YWJj", "A" * 80], ids=["empty", "letters", "short", "forged"])
def test_what_was_never_locked_is_a_sentence(tmp_path, locked):
    with pytest.raises(StorageError, match="session.key"):
        Vault(tmp_path).unlock(locked, URL)


def test_a_secret_that_was_replaced_locks_the_old_keys_for_good(tmp_path):
    locked = Vault(tmp_path).lock(KEY, URL)
    (tmp_path / "session.key").unlink()
    with pytest.raises(StorageError, match="another secret") as refused:
        Vault(tmp_path).unlock(locked, URL)
    assert KEY not in str(refused.value)
