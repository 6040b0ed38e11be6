"""Endpoints: what may be added, how one is opened, where text goes, and what calls cost."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from studio.backends import RemoteBackend, open_backend
from studio.errors import Conflict, InputError, ModelError, NotFound
from studio.fields import fill_in
from studio.models.endpoints import (
    NewEndpoint,
    Terms,
    add_endpoint,
    change_endpoint,
    cost_of_calls,
    endpoint_ref,
    open_endpoint,
    split_endpoint,
    whereabouts,
)
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Price, ServedModel
from studio.store import tables as t

HERE = "http://127.0.0.1:8000/v1"
AWAY = "https://models.example/v1"
KEY = "sk-not-for-anybodys-eyes"
ONLINE = Settings(offline=False)
OFFLINE = Settings(offline=True)


@pytest.fixture
def desk(sqlite_store, tmp_path):
    """Adds and opens endpoints in one workspace."""

    class Desk:
        store = sqlite_store

        def add(self, url=HERE, settings=ONLINE, **more):
            new = fill_in(NewEndpoint, {"name": "office", "url": url, **more})
            return add_endpoint(sqlite_store, tmp_path, settings, new, author="ann")

        def open(self, settings=ONLINE):
            return open_endpoint("office", store=sqlite_store, workspace=tmp_path, settings=settings)

        def backend(self, ref, settings=ONLINE):
            return open_backend(ModelRef(ref), settings=settings, store=sqlite_store, workspace=tmp_path)

    return Desk()


# -- what may be added ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" http://localhost:11434/v1/ ", "http://localhost:11434/v1"),
        ("https://models.example/v1/chat/completions", "https://models.example/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://models.example/tenant/7/v1//", "https://models.example/tenant/7/v1"),
    ],
)
def test_an_address_is_kept_as_the_client_needs_it(typed, kept):
    assert fill_in(NewEndpoint, {"name": "x", "url": typed}).url == kept


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "Address: is needed"),
        ("models.example/v1", "Address: must be like http://"),
        ("ftp://models.example", "Address: must be like http://"),
        ("file:///etc/passwd", "Address: must be like http://"),
        ("http://", "Address: must be like http://"),
        ("http://ann:secret@models.example/v1", "Address: holds a user name or a password"),
        ("https://models.example/v1?key=secret", r"Address: has a part behind \? or #"),
        ("https://models.example/v1#x", r"Address: has a part behind \? or #"),
        ("http://models.example:port/v1", "Address: is no address"),
        ("http://[::1/v1", "Address: is no address"),
        ("http://models.example/a b", "Address: holds a space"),
    ],
)
def test_an_address_that_cannot_be_is_refused_without_repeating_what_is_in_it(url, said):
    with pytest.raises(InputError, match=said) as refused:
        fill_in(NewEndpoint, {"name": "x", "url": url})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "a/b"}, "Name: may have letters"),
        ({"name": "x" * 41}, "Name: may have letters"),
        ({"name": ""}, "Name: is needed"),
        ({"key": "sk with space"}, "Key: holds a space"),
        ({"key": "ключ"}, "Key: holds a space, a line break or a letter"),
        (
            {"key_variable": "PATH"},
            "Key variable: must end with _API_KEY, in capitals, like OFFICE_API_KEY, not 'PATH'",
        ),
        ({"key_variable": "LADDER_DATABASE_URL"}, "Key variable: must end with _API_KEY"),
        ({"key": KEY, "key_variable": "OFFICE_API_KEY"}, "either the key or the variable"),
        ({"models": "a model"}, "Model names: 'a model' is no model name"),
        ({"timeout": 0}, "Patience: must be 1 or more"),
        ({"prompt_price": -1}, "Price of prompts: must be 0 or more"),
        ({"output_price": "nan"}, "Price of answers: must be"),
        ({"currency": "E\nR"}, "Currency: must be one line"),
    ],
)
def test_what_cannot_be_is_said_by_field_and_the_key_is_never_repeated(fields, said):
    with pytest.raises(InputError, match=said) as refused:
        fill_in(NewEndpoint, {"name": "x", "url": HERE, **fields})
    chain = f"{refused.value} {refused.value.__cause__}"
    assert not any(key in chain for key in (KEY, "sk with space", "ключ"))


def test_model_names_come_one_a_line_each_once():
    new = fill_in(NewEndpoint, {"name": "x", "url": HERE, "models": "llama3.2:1b\n\n Qwen/Qwen3 \nllama3.2:1b"})
    assert new.models == ("llama3.2:1b", "Qwen/Qwen3")


def test_a_described_endpoint_does_not_show_its_key():
    assert KEY not in repr(fill_in(NewEndpoint, {"name": "x", "url": HERE, "key": KEY}))


def test_a_name_that_is_taken_leaves_the_first_one_alone(desk):
    desk.add(key=KEY)
    with pytest.raises(Conflict):
        desk.add(AWAY)
    assert desk.open().key == KEY


def test_a_change_keeps_what_the_server_said_of_its_models(desk):
    desk.add()
    desk.store.set_endpoint_models("office", [ServedModel("llama", "vllm", 8192), ServedModel("qwen")])
    changed = change_endpoint(desk.store, "office", Terms(models=("new", "llama"), prompt_price=1.0))
    assert changed.models == (ServedModel("new"), ServedModel("llama", "vllm", 8192))
    assert changed.price == Price(1.0)


# -- opening -------------------------------------------------------------------------------------------------


def test_a_key_comes_back_in_its_workspace_only(desk):
    assert desk.add(key=KEY).has_key
    assert desk.open().key == KEY
    assert KEY not in repr(desk.open())


def test_a_key_does_not_follow_an_address_that_was_changed_behind_our_back(desk):
    desk.add(key=KEY)
    with desk.store._write() as c:
        c.execute(t.endpoints.update().values(url="http://127.0.0.1:1/theirs"))
    with pytest.raises(ModelError, match="The key of office cannot be opened. .* Remove the endpoint in Models"):
        desk.open()
    with desk.store._read() as c:
        assert c.execute(sa.select(t.endpoints.c.key)).scalar() != KEY


def test_a_variable_gives_the_key_when_it_is_set(desk, monkeypatch):
    desk.add(key_variable="OFFICE_API_KEY")
    monkeypatch.delenv("OFFICE_API_KEY", raising=False)
    with pytest.raises(ModelError, match="OFFICE_API_KEY, which holds the key of office, is not set. Set it"):
        desk.open()
    monkeypatch.setenv("OFFICE_API_KEY", f"{KEY}\n")
    assert desk.open().key == KEY


@pytest.mark.parametrize("url", [AWAY, "http://192.168.0.7:8000/v1", "http://127.0.0.1.nip.example/v1"])
def test_offline_no_other_machine_is_asked(desk, url):
    with pytest.raises(ModelError, match="and the studio is offline: text may not leave .* LADDER_OFFLINE=0"):
        desk.add(url, OFFLINE)
    assert desk.store.endpoints() == []
    desk.add(url)
    with pytest.raises(ModelError, match="the studio is offline"):
        desk.backend("endpoint:office/llama", OFFLINE)


@pytest.mark.parametrize("url", [HERE, "http://localhost:11434/v1", "http://[::1]:8000/v1"])
def test_offline_this_machine_is_asked(desk, url):
    desk.add(url, OFFLINE, key=KEY)
    assert desk.open(OFFLINE).key == KEY


def test_a_reference_opens_its_model_whatever_stands_in_its_name(desk):
    desk.add()
    backend = desk.backend("endpoint:office/org/llama@v2:1b")
    assert isinstance(backend, RemoteBackend)
    assert backend.served.name == "org/llama@v2:1b"
    assert split_endpoint(endpoint_ref("office", "a@b")) == ("office", "a@b")
    with pytest.raises(InputError, match="endpoint:office names no model. Write it like endpoint:office/llama"):
        desk.backend("endpoint:office")
    with pytest.raises(NotFound, match="There is no endpoint 'other'. Add it in Models"):
        desk.backend("endpoint:other/llama")


# -- where text goes, and what it costs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "leaves", "sentence"),
    [
        (HERE, False, "office runs on this machine (127.0.0.1:8000): the studio sends text nowhere else."),
        (AWAY, True, "Text that you send to office leaves this machine: models.example reads it."),
        (
            "http://10.0.0.7:8000/v1",
            True,
            "Text that you send to office leaves this machine without encryption: 10.0.0.7:8000 reads it.",
        ),
    ],
)
def test_a_mark_says_where_text_goes(desk, url, leaves, sentence):
    desk.add(url)
    where = whereabouts(ModelRef("endpoint:office/llama"), desk.store)
    assert (where.leaves, where.sentence) == (leaves, sentence)


def test_our_own_models_need_no_mark(desk):
    assert whereabouts(ModelRef("run:3"), desk.store).sentence == ""
    assert cost_of_calls(ModelRef("run:3"), desk.store, 100, 10) == ""


@pytest.mark.parametrize(
    ("prices", "tokens", "said"),
    [
        (
            {"prompt_price": 0.5, "output_price": 1.5, "currency": "EUR"},
            (420, 38),
            "0.27 EUR for 1,000 calls of 420 tokens in and 38 out",
        ),
        ({"prompt_price": 0.01, "output_price": 0.01, "currency": "EUR"}, (420, 38), "0.0046 EUR for 1,000 calls"),
        ({"prompt_price": 30, "output_price": 60}, (4000, 1000), "180.00 for 1,000 calls"),
        ({"prompt_price": 0, "output_price": 0}, (420, 38), "0.00 for 1,000 calls"),
        ({}, (420, 38), "Cost: not defined, since no price of office was given"),
        ({"prompt_price": 1}, (420, 38), "Cost: not defined"),
        ({"prompt_price": 1, "output_price": 1}, (0, 0), "Cost: not defined, since office tells no token counts"),
    ],
    ids=["cents", "less than a cent", "no currency", "free", "no price", "half a price", "no counts"],
)
def test_calls_cost_what_people_typed_or_it_is_not_defined(desk, prices, tokens, said):
    desk.add(**prices)
    assert cost_of_calls(ModelRef("endpoint:office/llama"), desk.store, *tokens).startswith(said)
