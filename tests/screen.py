"""A page without a browser: it remembers what its widgets show, and presses its buttons by listener name."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
from gradio.helpers import special_args

__all__ = ["Screen"]


class Screen:
    """What a person would see: values and visibility by label, kept up to date as a browser keeps them."""

    follows = False  # whether a value that changed sets off the listeners for that, as in a browser

    def __init__(self, demo: gr.Blocks) -> None:
        self.demo = demo
        self.values: dict[int, Any] = {key: getattr(block, "value", None) for key, block in demo.blocks.items()}
        self.visible: dict[int, Any] = {key: block.visible for key, block in demo.blocks.items()}
        self.props: dict[int, dict[str, Any]] = {}
        self._changed: list[int] = []

    def __getitem__(self, label: str) -> Any:
        return self.values[self._find(label)]

    def type(self, **texts: Any) -> None:
        """Write into fields: `type(instruction="…")`."""
        for label, text in texts.items():
            self.values[self._find(label.replace("_", " ").capitalize())] = text

    def shows(self, block: gr.blocks.Block) -> bool:
        return bool(self.visible[block._id])

    def words(self, block: gr.blocks.Block) -> str:
        """The text of a piece of HTML, without its tags."""
        return re.sub(r"<[^>]+>", " ", str(self.values[block._id]))

    def do(self, name: str, key: str | int | None = None, *, user: str = "owner") -> Any:
        """What happens when the listener of that name fires; `key` is the row that was picked."""
        found = [fn for fn in self.demo.fns.values() if fn.api_name == name]
        assert len(found) == 1, f"{len(found)} listeners are called {name}"
        fn = found[0].fn
        assert fn is not None
        event = None if key is None else gr.EventData(None, {"key": str(key)})
        inputs = [self.values[block._id] for block in found[0].inputs]
        if event is not None:
            inputs.insert(0, event)
        inputs, *_ = special_args(fn, inputs=inputs, request=gr.Request(username=user))
        answer = fn(*inputs)
        self._take(found[0].outputs, answer)
        self.settle(user)
        return answer

    def settle(self, user: str = "owner") -> None:
        """Set off what listens to the values that changed, and to those that change by it."""
        while self._changed:
            changed, self._changed = set(self._changed), []
            for fn in self.demo.fns.values():
                if self.follows and fn.fn is not None and any((key, "change") in fn.targets for key in changed):
                    inputs = [self.values[block._id] for block in fn.inputs]
                    inputs, *_ = special_args(fn.fn, inputs=inputs, request=gr.Request(username=user))
                    self._take(fn.outputs, fn.fn(*inputs))

    def _take(self, outputs: list[Any], answer: Any) -> None:
        for block, value in zip(outputs, answer if len(outputs) > 1 else [answer], strict=True):
            self._update(block, value)

    def _update(self, block: Any, value: Any) -> None:
        if isinstance(value, gr.blocks.Block):
            changes = value._constructor_args[0]
        elif isinstance(value, dict) and value.get("__type__") == "update":
            changes = value
        else:
            changes = {"value": value}
        if "value" in changes:
            if self.values.get(block._id) != changes["value"]:
                self._changed.append(block._id)
            self.values[block._id] = changes["value"]
        if "visible" in changes:
            self.visible[block._id] = changes["visible"]
        self.props.setdefault(block._id, {}).update(changes)

    def _find(self, label: str) -> int:
        blocks = {key: block for key, block in self.demo.blocks.items() if not isinstance(block, gr.Tab)}
        found = [key for key, block in blocks.items() if getattr(block, "label", None) == label]
        assert len(found) == 1, f"{len(found)} widgets are called {label}"
        return found[0]
