"""The job that takes in many or large documents."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator

from studio.errors import InputError
from studio.prompts.documents.importing import Imported, Refused, import_document
from studio.tasks import Lane, Run, Task
from studio.uploads import checked_place, discard, parked, upload_limit

__all__ = ["ImportDocuments"]


class ImportDocuments(Task):
    """Read documents, cut them into passages and mark those that say nearly the same."""

    kind: ClassVar[str] = "documents"
    lane: ClassVar[Lane] = "light"

    files: tuple[str, ...] = Field(
        min_length=1, title="Files", description="Uploads that wait in the workspace: BATCH/NUMBER/NAME."
    )

    @field_validator("files")
    @classmethod
    def _wait_in_the_inbox(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(checked_place(file) for file in files)

    @property
    def title(self) -> str:
        names = [file.rpartition("/")[2] for file in self.files]
        return f"Import {names[0]}" if len(names) == 1 else f"Import {len(names)} documents"

    def do(self, run: Run) -> dict[str, Any]:
        root, author = run.output.parents[1], run.store.job(run.id).author
        limit = upload_limit(run.settings)
        imported: list[Imported] = []
        refused: list[Refused] = []

        def say(sentence: str) -> None:
            if run.stop_requested():
                raise _Stopped
            run.say(sentence)

        for number, file in enumerate(self.files, start=1):
            try:
                say(f"Document {number} of {len(self.files)}.")
                imported.append(
                    import_document(run.store, root, parked(root, file), author=author, limit=limit, say=say)
                )
            except InputError as error:
                refused.append(Refused(file.rpartition("/")[2], str(error)))
            except _Stopped:
                return _result(imported, refused)  # the uploads stay, so that the job can go on
            run.log(number, len(self.files))
        discard(root, self.files)
        if not imported:
            raise InputError(" ".join(r.reason for r in refused[:3]))
        return _result(imported, refused)


class _Stopped(Exception):
    pass


def _result(imported: list[Imported], refused: list[Refused]) -> dict[str, Any]:
    return {
        "documents": [i.document.id for i in imported],
        "said": [i.sentence for i in imported],
        "refused": [{"name": r.name, "reason": r.reason} for r in refused],
    }
