"""What the tests of the outer app share."""

from tests.fixtures_pages import served, workspace

__all__ = ["served", "workspace"]
