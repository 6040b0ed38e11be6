"""Endpoints: what may be added, how one is opened, where text goes, and what calls cost.

Whoever builds a page shows `whereabouts(ref, store)` beside a model: its sentence says when text leaves the machine.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from studio.errors import InputError, ModelError, StorageError
from studio.offline import is_this_machine
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Endpoint, Price, ServedModel, Store
from studio.store.secret import Vault

__all__ = [
    "NewEndpoint",
    "Opened",
    "Terms",
    "Whereabouts",
    "add_endpoint",
    "change_endpoint",
    "cost_of_calls",
    "endpoint_ref",
    "open_endpoint",
    "refuse_when_offline",
    "split_endpoint",
    "whereabouts",
    "whereabouts_of",
]

# A variable is sent to whoever runs the server, so it must be one that is meant for that: never PATH, never a
# password of ours.
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*_API_KEY")
_NAME = re.compile(r"[\w.-]{1,40}")
_PASTED_TAILS = ("/chat/completions", "/completions", "/embeddings", "/models")


class Terms(BaseModel):
    """What may be changed about an endpoint. Another address is another endpoint, with a key of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    models: tuple[str, ...] = Field(
        (), title="Model names", description="Leave it empty to take what the server lists when you test it."
    )
    prompt_price: float | None = Field(
        None, ge=0, allow_inf_nan=False, title="Price of prompts", description="Of a million tokens that are read."
    )
    output_price: float | None = Field(
        None, ge=0, allow_inf_nan=False, title="Price of answers", description="Of a million tokens that are written."
    )
    currency: str = Field("", max_length=12, title="Currency", description="As it stands behind a price: EUR.")

    @field_validator("models")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _checked_models(names)

    @field_validator("currency")
    @classmethod
    def _is_one_line(cls, text: str) -> str:
        if not text.isprintable():
            raise ValueError("must be one line of text")
        return text.strip()

    @property
    def price(self) -> Price:
        return Price(self.prompt_price, self.output_price, self.currency)


class NewEndpoint(Terms):
    """A server to add."""

    name: str = Field(min_length=1, title="Name", description="Its models will be called endpoint:NAME/model.")
    url: str = Field(min_length=1, title="Address", description="Of its OpenAI-compatible API; usually ends with /v1.")
    key: str = Field(
        "", max_length=4096, repr=False, title="Key", description="Kept locked in this workspace, never shown again."
    )
    key_variable: str = Field(
        "", title="Key variable", description="Instead of a key: the environment variable that holds it."
    )
    timeout: float = Field(
        60.0,
        ge=1,
        le=600,
        title="Patience",
        description="How long to wait for an answer to begin, and to go on.",
        json_schema_extra={"unit": "seconds"},
    )

    @field_validator("name", "key", "key_variable", mode="before")
    @classmethod
    def _trim(cls, text: str) -> str:
        return text.strip() if isinstance(text, str) else text

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"may have letters, digits, dots, hyphens and underscores, 40 at most, not '{name[:60]}'")
        return name

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        return _checked_url(url)

    @field_validator("key")
    @classmethod
    def _fits_a_header(cls, key: str) -> str:
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError("holds a space, a line break or a letter that no key has; copy it again")
        return key

    @field_validator("key_variable")
    @classmethod
    def _is_meant_for_this(cls, name: str) -> str:
        if name and not _VARIABLE.fullmatch(name):
            raise ValueError(f"must end with _API_KEY, in capitals, like OFFICE_API_KEY, not '{name[:60]}'")
        return name

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if self.key and self.key_variable:
            raise ValueError("Give either the key or the variable that holds it, not both")
        return self


@dataclass(frozen=True)
class Opened:
    """An endpoint that may be asked, with its key; neither `repr` nor a log shows the key."""

    endpoint: Endpoint
    key: str = field(repr=False, default="")


@dataclass(frozen=True)
class Whereabouts:
    """Where text goes that a model is asked; '' twice for models that our engine runs."""

    host: str = ""
    leaves: bool = False
    sentence: str = ""


# -- adding and opening --------------------------------------------------------------------------------------


def add_endpoint(store: Store, workspace: Path, settings: Settings, new: NewEndpoint, *, author: str) -> Endpoint:
    """Add a server, its key locked; raises Conflict for a name that is taken and ModelError when we are offline."""
    refuse_when_offline(new.name, new.url, settings)
    return store.add_endpoint(
        new.name,
        new.url,
        author=author,
        timeout=new.timeout,
        locked_key=Vault(workspace).lock(new.key, _place(new.name, new.url)) if new.key else "",
        key_variable=new.key_variable,
        models=[ServedModel(name) for name in new.models],
        price=new.price,
    )


def change_endpoint(store: Store, name: str, terms: Terms) -> Endpoint:
    """Replace the models that are offered, and the price. What the server said of a model stays known."""
    endpoint = store.set_endpoint_price(name, terms.price)
    return store.set_endpoint_models(name, [endpoint.served(model) for model in terms.models])


def open_endpoint(name: str, *, store: Store, workspace: Path, settings: Settings) -> Opened:
    """An endpoint and its key; raises ModelError when we are offline or the key is not where it should be."""
    endpoint = store.endpoint(name)
    refuse_when_offline(name, endpoint.url, settings)
    if endpoint.key_variable:
        key = os.environ.get(endpoint.key_variable, "").strip()
        if not key:
            raise ModelError(
                f"The environment variable {endpoint.key_variable}, which holds the key of {name}, is not set. "
                "Set it and start the studio again."
            )
        return Opened(endpoint, key)
    locked = store.locked_key(name)
    try:
        return Opened(endpoint, Vault(workspace).unlock(locked, _place(name, endpoint.url)) if locked else "")
    except StorageError as error:
        raise ModelError(
            f"The key of {name} cannot be opened. {error} Remove the endpoint in Models and add it with its key."
        ) from error


def refuse_when_offline(name: str, url: str, settings: Settings) -> None:
    """Offline, only this machine may be asked."""
    host = urlsplit(url).hostname
    if settings.offline and not is_this_machine(host):
        raise ModelError(
            f"{name} is at {host}, and the studio is offline: text may not leave this machine. "
            "Start it with LADDER_OFFLINE=0 to allow that, or choose a model on this machine."
        )


def endpoint_ref(name: str, model: str) -> ModelRef:
    return ModelRef(f"endpoint:{name}/{model}")


# -- where text goes, and what it costs ----------------------------------------------------------------------


def whereabouts(ref: ModelRef, store: Store) -> Whereabouts:
    """The mark to show beside a model, in words."""
    return whereabouts_of(store.endpoint(split_endpoint(ref)[0])) if ref.kind == "endpoint" else Whereabouts()


def whereabouts_of(endpoint: Endpoint) -> Whereabouts:
    if endpoint.is_here:
        said = f"{endpoint.name} runs on this machine ({endpoint.host}): the studio sends text nowhere else."
        return Whereabouts(endpoint.host, False, said)
    bare = " without encryption" if urlsplit(endpoint.url).scheme == "http" else ""
    said = f"Text that you send to {endpoint.name} leaves this machine{bare}: {endpoint.host} reads it."
    return Whereabouts(endpoint.host, True, said)


def cost_of_calls(ref: ModelRef, store: Store, prompt_tokens: float, output_tokens: float, calls: int = 1000) -> str:
    """What calls of these mean token counts cost at the price that people typed, in words; '' on our own engine."""
    if ref.kind != "endpoint":
        return ""
    endpoint = store.endpoint(split_endpoint(ref)[0])
    price = endpoint.price
    if price.prompt is None or price.output is None:
        return f"Cost: not defined, since no price of {endpoint.name} was given in Models."
    amount = price.of_calls(calls, prompt_tokens, output_tokens)
    if amount is None:
        return f"Cost: not defined, since {endpoint.name} tells no token counts."
    return (
        f"{_amount(amount)} {price.currency}".rstrip()
        + f" for {calls:,} calls of {prompt_tokens:,.0f} tokens in and {output_tokens:,.0f} out, the mean here."
    )


def _amount(amount: float) -> str:
    """Cents, and two digits of what is less: 12.30, 0.0042."""
    if amount == 0 or amount >= 0.1:
        return f"{amount:,.2f}"
    return f"{amount:.{1 - math.floor(math.log10(amount))}f}"


# -- rules ---------------------------------------------------------------------------------------------------


def split_endpoint(ref: ModelRef) -> tuple[str, str]:
    """(endpoint, model). Not `ref.name`: a model's name may hold an @."""
    name, _, model = str(ref).removeprefix("endpoint:").partition("/")
    if not model:
        raise InputError(f"{ref} names no model. Write it like endpoint:{name}/llama.")
    return name, model


def _place(name: str, url: str) -> str:
    """What a key is bound to: whoever changes the address in the database does not get the key sent there."""
    return f"{name}\n{url}"


def _checked_url(text: str) -> str:
    """The address without its end slash; raises ValueError with a part of a sentence."""
    url = text.strip().rstrip("/")
    for tail in _PASTED_TAILS:
        url = url.removesuffix(tail)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is no address; write it like http://127.0.0.1:8000/v1") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError("must be like http://127.0.0.1:8000/v1 or https://models.example/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user name or a password; leave them out and give the key as the key")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("has a part behind ? or #; leave it out and give a key as the key")
    if not url.isprintable() or " " in url:
        raise ValueError("holds a space or a sign that no address has; copy it again")
    return url


def _checked_models(names: tuple[str, ...]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in wanted:
        try:
            endpoint_ref("x", name)
        except InputError:
            raise ValueError(f"'{name[:60]}' is no model name; it may have letters, digits and . + / @ : -") from None
    return wanted
