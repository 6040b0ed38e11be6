"""The labeling desk over HTTP: the page sends judgements here by itself, so that it knows whether they were kept.

Who judges comes from the connection, never from the body. Every refusal is {"detail": a sentence}; a 5xx means that
nothing was stored and the same judgement, under the same client id, may be sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from studio.errors import Conflict, InputError, NotFound, StorageError, StudioError
from studio.preferences import judge, last_judged, next_items, progress, skip
from studio.serving.identity import Identify
from studio.store import DeskItem, NotYours, Ranking, TieKind

if TYPE_CHECKING:
    from studio.workspace import Workspace

__all__ = ["labeling_router"]

B = TypeVar("B", bound=BaseModel)

_LARGEST_BODY = 64 * 1024
_LARGEST_ID = 2**31 - 1
_STATUS: tuple[tuple[type[StudioError], int], ...] = (
    (NotYours, 403),
    (NotFound, 404),
    (Conflict, 409),
    (InputError, 422),
    (StorageError, 503),
    (StudioError, 500),
)

_Id = Annotated[StrictInt, Field(ge=1, le=_LARGEST_ID)]


class _Refused(Exception):
    """An answer other than the one hoped for, and the sentence that says why."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _SentenceRoute(APIRoute):
    """Turns what a route raises into {"detail": sentence}."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except _Refused as refused:
                return JSONResponse({"detail": str(refused)}, refused.status)
            except RequestValidationError as error:
                first = error.errors()[0]
                return JSONResponse({"detail": _complaint(first["loc"][1:], first["msg"])}, 422)
            except StudioError as error:
                status = next(status for kind, status in _STATUS if isinstance(error, kind))
                return JSONResponse({"detail": str(error)}, status)

        return handled


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _JudgementBody(_Body):
    client_id: UUID
    assignment: _Id
    groups: list[list[StrictInt]]
    tie_kind: TieKind = ""
    wall_ms: float = Field(0, allow_inf_nan=False)  # a browser's clock gives fractions
    active_ms: float = Field(0, allow_inf_nan=False)

    @property
    def ranking(self) -> Ranking:
        return Ranking(
            assignment_id=self.assignment,
            client_uuid=str(self.client_id),
            groups=self.groups,
            tie_kind=self.tie_kind,
            wall_ms=round(self.wall_ms),
            active_ms=round(self.active_ms),
        )


class _SkipBody(_Body):
    assignment: _Id


async def _small_body(request: Request) -> bytes:
    """The body, given up on as soon as it is too long."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_BODY:
            raise _Refused(413, f"The request is longer than {_LARGEST_BODY // 1024} KB. A judgement needs 1 KB.")
    return body


def labeling_router(workspace: Workspace, identify: Identify) -> APIRouter:
    """The routes under /api/v1 that a labeling page calls."""
    router = APIRouter(prefix="/api/v1", route_class=_SentenceRoute)
    store = workspace.store

    def user_of(request: Request) -> str:
        user = identify(request)
        if user is None:
            raise _Refused(401, "You are not signed in. Reload the page to sign in again.")
        return user

    @router.get("/labeling/{batch}/items")
    def items(
        batch: str, count: Annotated[int, Query(ge=1, le=20)] = 2, user: str = Depends(user_of)
    ) -> dict[str, Any]:
        found = next_items(store, batch, user, count)
        return {"items": [_shown(item) for item in found], "progress": asdict(progress(store, batch, user))}

    @router.post("/judgements")
    def judgements(user: str = Depends(user_of), body: bytes = Depends(_small_body)) -> JSONResponse:
        judged = judge(store, _read(_JudgementBody, body).ranking, user)
        answer = {"judgement": judged.judgement.id, "progress": asdict(progress(store, judged.batch, user))}
        return JSONResponse(answer, 201 if judged.is_new else 200)

    @router.post("/labeling/{batch}/skip")
    def skip_item(batch: str, user: str = Depends(user_of), body: bytes = Depends(_small_body)) -> dict[str, Any]:
        skip(store, batch, _read(_SkipBody, body).assignment, user)
        return {"progress": asdict(progress(store, batch, user))}

    @router.post("/labeling/{batch}/undo", dependencies=[Depends(_small_body)])
    def undo(batch: str, user: str = Depends(user_of)) -> dict[str, Any]:
        item = last_judged(store, batch, user)
        return {**_shown(item), "progress": asdict(progress(store, batch, user))}

    return router


def _shown(item: DeskItem) -> dict[str, Any]:
    """What the page may know: not which model gave which answer."""
    answers = [{"id": key, "text": text} for key, text in item.answers]
    return {"assignment": item.assignment_id, "item": item.item_id, "prompt": item.prompt, "answers": answers}


def _read(kind: type[B], body: bytes) -> B:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise _Refused(422, _complaint(first["loc"], first["msg"])) from error


def _complaint(where: tuple[int | str, ...], said: str) -> str:
    name = ".".join(map(str, where)) or "The request"
    return f"{name}: {said[:1].lower()}{said[1:]}. Nothing was stored."
