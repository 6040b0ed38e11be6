"""Tasks are found, built from what was stored, and refused by name."""

from __future__ import annotations

import pytest

from studio.errors import InputError, RunError
from studio.jobs import recipes, task_from, task_kinds
from tests.jobs.tasks_for_tests import Count, MakeModel


@pytest.fixture(autouse=True)
def _door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDER_EXTRA_TASKS", "tests.jobs.tasks_for_tests")


def test_tasks_of_ones_own_are_found(monkeypatch):
    assert task_kinds()["count"] is Count
    monkeypatch.delenv("LADDER_EXTRA_TASKS")
    assert "count" not in task_kinds()


def test_recipes_are_the_tasks_that_make_models():
    assert recipes()["make-model"] is MakeModel
    assert "count" not in recipes()


def test_every_task_says_what_its_fields_mean(monkeypatch):
    monkeypatch.delenv("LADDER_EXTRA_TASKS")
    silent = [
        f"{kind}.{name}"
        for kind, task in task_kinds().items()
        for name, field in task.model_fields.items()
        if not field.description
    ]
    assert silent == []


def test_a_task_survives_being_stored():
    task = MakeModel(base="echo:")
    assert task_from("make-model", task.model_dump(mode="json")) == task


@pytest.mark.parametrize(
    ("kind", "fields", "sentence"),
    [
        ("nonsense", {}, "There is no task 'nonsense'"),
        ("count", {"steps": "many"}, "count: steps cannot be 'many'"),
        ("count", {"stepz": 1}, "count: stepz cannot be 1"),
        ("make-model", {"base": "what"}, "make-model: base cannot be 'what'"),
    ],
)
def test_what_does_not_fit_is_named(kind, fields, sentence):
    with pytest.raises(InputError, match=sentence):
        task_from(kind, fields)


def test_a_module_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("LADDER_EXTRA_TASKS", "no.such.module")
    with pytest.raises(RunError, match=r"LADDER_EXTRA_TASKS names the module 'no\.such\.module'"):
        task_kinds()
