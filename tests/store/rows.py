"""Rows that tests put into stores."""

from __future__ import annotations

from typing import Any

from studio.instructions.records import insertable


def record_row(
    number: int = 1, *, instruction: str = "", context: str = "", response: str = "", category: str = "open_qa"
) -> dict[str, Any]:
    """An instruction record that differs from the others by its number."""
    return insertable(
        {
            "instruction": instruction or f"How heavy is tent {number}?",
            "context": context,
            "response": response or f"You carry {number} kilos. Next step: try the pack on.",
            "category": category,
        }
    )
