"""What the tests of the pages share."""

from __future__ import annotations

from types import SimpleNamespace

import gradio.blocks
import pytest

from tests.fixtures_pages import example_folder, project, served, workspace

__all__ = ["example_folder", "project", "served", "workspace"]


@pytest.fixture(autouse=True)
def no_server_for_a_page_that_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio makes a whole server twice for every layout, which takes longer than the layout. Fixtures that serve one
    outlive a test, so they are there before this."""
    monkeypatch.setattr(gradio.blocks, "App", SimpleNamespace(create_app=lambda *_, **__: None))
