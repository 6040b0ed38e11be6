"""Keys at the labeling desk, pressed as fast as a person who waits for the next item."""

from __future__ import annotations

from playwright.sync_api import Page

__all__ = ["decide"]


def decide(page: Page, *keys: str) -> None:
    """Press the keys that settle this item, and wait for the next one (or the end)."""
    before = page.locator(".desk-prompt").text_content()
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_function(
        """(before) => { const seen = (s) => document.querySelector(s).checkVisibility();
             return seen('.desk-item') ? document.querySelector('.desk-prompt').textContent !== before : seen('.onward') }""",
        arg=before,
        polling="raf",
    )
