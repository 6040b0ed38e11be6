"""Servers that answer for us, by name. Their keys come in locked (studio/store/secret.py) and are never shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from studio.errors import Conflict, NotFound
from studio.offline import is_this_machine
from studio.store import tables as t
from studio.store.database import Database, conflict_is, now

__all__ = ["Endpoint", "EndpointVerbs", "Price", "ServedModel"]


@dataclass(frozen=True)
class ServedModel:
    """A model that a server has; `server` and `window` (tokens) are what it said of itself, if it said anything."""

    name: str
    server: str = ""  # vllm, sglang, library (Ollama), openai, ...
    window: int | None = None


@dataclass(frozen=True)
class Price:
    """What a million tokens cost, in and out; None until somebody says so."""

    prompt: float | None = None
    output: float | None = None
    currency: str = ""

    def of_calls(self, calls: int, prompt_tokens: float, output_tokens: float) -> float | None:
        """What so many calls cost at these mean token counts; None where a price or a count is not known."""
        if self.prompt is None or self.output is None or prompt_tokens <= 0:
            return None
        return calls * (prompt_tokens * self.prompt + output_tokens * self.output) / 1e6


@dataclass(frozen=True)
class Endpoint:
    """A server with an OpenAI-compatible API. It has a key in the database, in an environment variable, or none."""

    id: int
    name: str
    url: str
    has_key: bool
    key_variable: str
    models: tuple[ServedModel, ...]
    price: Price
    timeout: float  # seconds, to the first piece of an answer and between two
    author: str
    created_at: float

    @property
    def host(self) -> str:
        """Host and port, as people read them."""
        return urlsplit(self.url).netloc

    @property
    def is_here(self) -> bool:
        """Whether it listens on this machine."""
        return is_this_machine(urlsplit(self.url).hostname)

    def served(self, model: str) -> ServedModel:
        """What is known of a model; one that nobody listed is known by its name alone."""
        return next((m for m in self.models if m.name == model), ServedModel(model))


class EndpointVerbs(Database):
    def endpoints(self) -> list[Endpoint]:
        """All that were not removed, by name."""
        query = sa.select(t.endpoints).where(t.endpoints.c.removed_at.is_(None)).order_by(t.endpoints.c.name)
        with self._read() as c:
            return [_endpoint(row) for row in c.execute(query).mappings()]

    def endpoint(self, name: str) -> Endpoint:
        return _endpoint(self._row(name))

    def locked_key(self, name: str) -> str:
        """The key of an endpoint as it lies in the database; '' when it has none there."""
        return self._row(name)["key"]

    @conflict_is("Somebody else added an endpoint of this name just now. Choose another name.")
    def add_endpoint(
        self,
        name: str,
        url: str,
        *,
        author: str,
        timeout: float,
        locked_key: str = "",
        key_variable: str = "",
        models: Sequence[ServedModel] = (),
        price: Price | None = None,
    ) -> Endpoint:
        """Add a server. A name that was removed may come back; one that is there raises Conflict."""
        values = {
            "name": name,
            "url": url,
            "key": locked_key,
            "key_variable": key_variable,
            "timeout": timeout,
            "author": author,
            "created_at": now(),
            "removed_at": None,
            **_listed(models),
            **_priced(price or Price()),
        }
        table = t.endpoints
        with self._write() as c:
            old = c.execute(sa.select(table.c.id, table.c.removed_at).where(table.c.name == name)).first()
            if old is not None and old.removed_at is None:
                raise Conflict(f"There is an endpoint '{name}' already. Choose another name, or remove it first.")
            if old is None:
                c.execute(table.insert().values(values))
            else:
                c.execute(table.update().where(table.c.id == old.id).values(values))
        return self.endpoint(name)

    def set_endpoint_models(self, name: str, models: Sequence[ServedModel]) -> Endpoint:
        """Replace the list of models that are offered."""
        return self._change(name, _listed(models))

    def set_endpoint_price(self, name: str, price: Price) -> Endpoint:
        return self._change(name, _priced(price))

    def remove_endpoint(self, name: str) -> None:
        """Offer it no more, and forget its key. What it answered keeps its name."""
        self.endpoint(name)
        with self._write() as c:
            c.execute(
                t.endpoints.update()
                .where(t.endpoints.c.name == name, t.endpoints.c.removed_at.is_(None))
                .values(removed_at=now(), key="", key_variable="")
            )

    def _row(self, name: str) -> Mapping[Any, Any]:
        query = sa.select(t.endpoints).where(t.endpoints.c.name == name, t.endpoints.c.removed_at.is_(None))
        with self._read() as c:
            row = c.execute(query).mappings().first()
        if row is None:
            raise NotFound(f"There is no endpoint '{name}'. Add it in Models, or choose another model.")
        return row

    def _change(self, name: str, values: Mapping[str, Any]) -> Endpoint:
        with self._write() as c:
            c.execute(
                t.endpoints.update()
                .where(t.endpoints.c.name == name, t.endpoints.c.removed_at.is_(None))
                .values(**values)
            )
        return self.endpoint(name)


def _listed(models: Sequence[ServedModel]) -> dict[str, Any]:
    return {"models": [asdict(model) for model in models]}


def _priced(price: Price) -> dict[str, Any]:
    return {"prompt_price": price.prompt, "output_price": price.output, "currency": price.currency}


def _endpoint(row: Mapping[Any, Any]) -> Endpoint:
    return Endpoint(
        id=row["id"],
        name=row["name"],
        url=row["url"],
        has_key=bool(row["key"]),
        key_variable=row["key_variable"],
        models=tuple(ServedModel(**model) for model in row["models"]),
        price=Price(row["prompt_price"], row["output_price"], row["currency"]),
        timeout=row["timeout"],
        author=row["author"],
        created_at=row["created_at"],
    )
