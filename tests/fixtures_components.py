"""Handlers called straight off a page, without a server: what a listener does, not how it travels."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import gradio as gr
from gradio.helpers import special_args

__all__ = ["call"]


def call(demo: gr.Blocks, api_name: str, *args: Any, user: str | None = "owner") -> Any:
    """What the listener of that name returns. `demo.fns` is not documented, so nothing else reads it."""
    found = [fn for fn in demo.fns.values() if fn.api_name == api_name]
    assert len(found) == 1, f"{len(found)} listeners are called {api_name}"
    fn = found[0].fn
    assert fn is not None
    inputs, *_ = special_args(fn, inputs=list(args), request=gr.Request(username=user))
    answer = fn(*inputs)
    return asyncio.run(answer) if inspect.iscoroutine(answer) else answer
