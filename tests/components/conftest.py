"""What the tests of the pages share."""

import pytest

from studio.example import load_example
from studio.workspace import Workspace
from tests.fixtures_pages import served, workspace

__all__ = ["project", "served", "workspace"]


@pytest.fixture
def project(workspace: Workspace) -> Workspace:
    """A workspace with the example project in it."""
    load_example(workspace.store, workspace.path)
    return workspace
