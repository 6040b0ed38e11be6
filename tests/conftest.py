"""Fixtures that every test may use."""

pytest_plugins = ["tests.fixtures_models", "tests.fixtures_store", "tests.fixtures_journeys"]
