"""What the tests of the pages share."""

from tests.fixtures_pages import example_folder, project, served, workspace

__all__ = ["example_folder", "project", "served", "workspace"]
