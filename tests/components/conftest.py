"""What the tests of the pages share."""

from tests.fixtures_pages import served, workspace

__all__ = ["served", "workspace"]
