"""The `ladder` command: what the pages do, for scripts and terminals.

Flags of a recipe come from its fields (studio/fields.py), like the form on the page. Exit 0: done; 1: failed;
2: bad input, with one line on stderr. Every reading command takes `--json`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import click
from pydantic import BaseModel, TypeAdapter, ValidationError

from studio import __version__
from studio.demo import Progress, demo, table, tell
from studio.errors import InputError, StorageError, StudioError
from studio.example import load_example
from studio.fields import Field, describe, fill_in
from studio.instructions import FIELDS, freeze, preview
from studio.instructions.card import card, facts_now
from studio.instructions.checking import checks_of, run_check
from studio.instructions.exporting import export_folder, export_records
from studio.instructions.formats import formats
from studio.instructions.import_task import import_in_parts
from studio.instructions.records import is_ready
from studio.instructions.shapes import shapes
from studio.instructions.statistics import Summary, summary
from studio.jobs import (
    again,
    app_holder,
    manifest_of,
    read_manifest,
    recipes,
    repeat,
    resume,
    run_folder,
    run_here,
    set_webhook,
)
from studio.jobs.actions import hold_job, move_job, note_job, release_job
from studio.models import catalogue
from studio.models.exporting import Form, Kind, Precision, export_model
from studio.offline import forbid_outbound_calls
from studio.preferences import SampleAnswers, SimulateJudgements, freeze_judgements
from studio.prompts import Compare, comparison
from studio.prompts.distil import Distil
from studio.prompts.reproduce import Replay, replay
from studio.recipes.preflight import Preflight, preflight
from studio.recipes.round_trip import RoundTrip
from studio.recipes.tuning import Tuning
from studio.recipes.tuning_state import ready
from studio.recipes.verdict import Verdict
from studio.settings import Settings
from studio.specs import ModelRef
from studio.store import Dataset, Job, Place, Record, Store
from studio.tasks import Lane, Task
from studio.workspace import Workspace

__all__ = ["main"]

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; errors become one line on stderr."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        ladder.main(args=argv, prog_name="ladder", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        _end(error.format_message(), 2)
    except (click.Abort, KeyboardInterrupt):
        _end("Interrupted. A run that was started goes on; see `ladder jobs list`.", 1)
    except (InputError, StorageError) as error:
        _end(str(error), 2)
    except StudioError as error:
        _end(str(error), 1)
    except ValidationError as error:
        _end("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()), 2)


def _end(sentence: str, code: int) -> None:
    print(" ".join(sentence.split()), file=sys.stderr)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--workspace", type=click.Path(path_type=Path), help="Folder that holds your work.  [default: workspace]")
@click.option("--database-url", help="PostgreSQL URL; SQLite in the workspace when left out.")
@click.pass_context
def ladder(context: click.Context, workspace: Path | None, database_url: str | None) -> None:
    """Build your own language model, one rung at a time."""
    if Settings().offline:
        forbid_outbound_calls()
    # Opened when a command first asks for it, so that --help makes no folder.
    context.obj = lambda: Workspace.open(workspace, database_url)


_Open = Callable[[], Workspace]


@ladder.command("demo")
@click.pass_obj
def demo_command(open_workspace: _Open) -> None:
    """Prompt, tune, align and compare the embedded model on the example project."""
    print(table(demo(open_workspace(), tell)))


# -- models -------------------------------------------------------------------------------------------------------


@ladder.group()
def models() -> None:
    """What answers here, and where it came from."""


@models.command("list")
@_AS_JSON
@click.pass_obj
def models_list(open_workspace: _Open, as_json: bool) -> None:
    """Models that come with the studio and models made here."""
    made = open_workspace().store.models()
    rows = [{"ref": e.ref, "title": e.title, "licence": e.licence, "base": "", "snapshot": ""} for e in catalogue()]
    rows += [
        {"ref": m.ref, "title": m.title, "licence": m.licence, "base": m.base, "snapshot": m.snapshot} for m in made
    ]
    _show(rows, as_json)


@models.command("export")
@click.argument("ref")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--with-base", "kind", flag_value="with-base", help="An adapter with its base beside it.")
@click.option("--merged", "kind", flag_value="merged", help="Whole weights, the adapter merged into its base.")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="float32",
    show_default=True,
    help="Of merged weights; bfloat16 takes half the disk and rounds once more.",
)
@_AS_JSON
@click.pass_obj
def models_export(
    open_workspace: _Open, ref: str, folder: Path, kind: Kind | None, precision: Precision, as_json: bool
) -> None:
    """Write a model into a folder that plain peft and transformers load; its README.md has the lines for that.

    Without a flag an adapter leaves as an adapter that names its base, and whole weights as they are.
    """
    if precision != "float32" and kind != "merged":
        raise InputError(f"--precision {precision} is of merged weights. Add --merged, or leave it out.")
    workspace = open_workspace()
    done = export_model(
        ModelRef(ref),
        folder,
        Form(kind or "made", precision),
        settings=workspace.settings,
        store=workspace.store,
        workspace=workspace.path,
    )
    if as_json:
        print(json.dumps({**asdict(done), "folder": str(done.folder)}))
        return
    print(f"{done.folder}: {done.holds} {done.size / 1e6:,.1f} MB. README.md has the lines that load it.")


# -- data ---------------------------------------------------------------------------------------------------------


@ladder.group()
def data() -> None:
    """Instruction datasets and their snapshots."""


@data.command("list")
@_AS_JSON
@click.pass_obj
def data_list(open_workspace: _Open, as_json: bool) -> None:
    """Datasets and snapshots."""
    store = open_workspace().store
    rows = [{"name": d.name, "rows": store.count_records(d.id), "licence": d.licence} for d in store.datasets()]
    rows += [{"name": str(s.ref), "rows": s.rows, "licence": s.licence} for s in store.snapshots()]
    _show(rows, as_json)


@data.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--into", required=True, help="Dataset to add to; made when it is not there.")
@click.option("--licence", default="", help="Licence of the rows, for a new dataset.")
@click.option("--map", "mapping", multiple=True, metavar="FIELD=COLUMN", help="Which column fills which field.")
@_AS_JSON
@click.pass_obj
def data_import(
    open_workspace: _Open, file: Path, into: str, licence: str, mapping: tuple[str, ...], as_json: bool
) -> None:
    """Add the rows of a file: CSV, TSV, Excel, JSON, JSON Lines, Parquet, or a zip of one.

    Rows that cannot be used wait in the studio to be mended; Undo there takes all of the file back.
    """
    seen = preview(file)
    reading = seen.mapped({**seen.mapping, **dict(_pair(m) for m in mapping)}) if mapping else seen.reading
    report = import_in_parts(open_workspace().store, into, file, reading, author="owner", licence=licence)
    rejected = [asdict(r) for r in report.rejected]
    if as_json:
        print(json.dumps({"added": report.added, "left_out": report.left_out, "rejected": rejected}))
        return
    print(f"{report.added} records added to {into}; {report.left_out} rows left out.")
    for row in rejected[:20]:
        print(f"  row {row['row']}, column '{row['column']}': {row['reason']}")


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not equals or field not in FIELDS:
        raise InputError(f"--map {text} is not FIELD=COLUMN. The fields are: {', '.join(FIELDS)}.")
    return field, column


@data.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--shape", default="dolly", show_default=True, help=f"One of {', '.join(shapes())}.")
@click.option("--format", "form", default="", help=f"One of {', '.join(formats())}; by the file's name if not given.")
@click.option("--folder", "is_folder", is_flag=True, help="FILE is a folder to make, for `datasets.load_dataset`.")
@_AS_JSON
@click.pass_obj
def data_export(
    open_workspace: _Open, name: str, file: Path, shape: str, form: str, is_folder: bool, as_json: bool
) -> None:
    """Write a dataset's records to a file that other tools read.

    With --folder: a Parquet file for each split and the dataset card, without records that are rejected or not filled in.
    """
    store = open_workspace().store
    dataset = store.dataset(name)
    if is_folder:
        if form:
            raise InputError(f"A folder holds Parquet files. Leave out --format {form}, or --folder.")
        _show([_exported_folder(store, dataset, file, shape)], as_json)
        return
    form = form or next((f.name for f in formats().values() if file.suffix.casefold() in f.suffixes), "")
    if not form:
        raise InputError(f"{file.name} does not say a format. Give one with --format: {', '.join(formats())}.")
    count = export_records(store.all_records(dataset.id), file, form, shape)
    _show([{"file": str(file), "records": count, "format": form, "shape": shape}], as_json)


def _exported_folder(store: Store, dataset: Dataset, folder: Path, shape: str) -> dict[str, Any]:
    def kept() -> Iterator[Record]:
        return (record for record in store.all_records(dataset.id) if is_ready(record))

    told = card(facts_now(store, dataset, kept(), author="owner", at=time.time()))
    counts = export_folder(kept(), folder, card=told, shape=shape)
    return {"folder": str(folder), "records": sum(counts.values()), **counts, "shape": shape}


@data.command("check")
@click.argument("name")
@click.option("--check", "names", multiple=True, help="Only these checks; all that need no model if not given.")
@_AS_JSON
@click.pass_obj
def data_check(open_workspace: _Open, name: str, names: tuple[str, ...], as_json: bool) -> None:
    """Look for what would teach a model something wrong; later runs look only at what changed."""
    workspace = open_workspace()
    dataset = workspace.store.dataset(name)
    memory = workspace.path / "checks" / str(dataset.id)
    runs = [run_check(workspace.store, dataset, check, memory) for check in checks_of(names)]
    rows = [{"check": run.check, "flagged": run.flagged, "seconds": round(run.seconds, 2)} for run in runs]
    _show(rows, as_json)


@data.command("stats")
@click.argument("name")
@_AS_JSON
@click.pass_obj
def data_stats(open_workspace: _Open, name: str, as_json: bool) -> None:
    """Records, lengths, categories, languages and vocabulary of a dataset."""
    store = open_workspace().store
    told = TypeAdapter(Summary).dump_python(summary(store.all_records(store.dataset(name).id)), mode="json")
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    for figure, value in told.items():
        shown = value if not isinstance(value, (list, dict)) else json.dumps(value, ensure_ascii=False)
        print(f"{figure}: {shown}")


@data.command("snapshot")
@click.argument("name")
@_AS_JSON
@click.pass_obj
def data_snapshot(open_workspace: _Open, name: str, as_json: bool) -> None:
    """Freeze a dataset as it is now."""
    workspace = open_workspace()
    snapshot = freeze(workspace.store, workspace.path, workspace.store.dataset(name), author="owner")
    _show([{"ref": str(snapshot.ref), "rows": snapshot.rows, "digest": snapshot.digest}], as_json)


@ladder.group()
def prefs() -> None:
    """Batches of answers to rank, and the judgements on them."""


@prefs.command("list")
@_AS_JSON
@click.pass_obj
def prefs_list(open_workspace: _Open, as_json: bool) -> None:
    """Batches: items, how many are judged, and how many judgements people and rules (simulated) gave."""
    rows = [
        {"batch": b.name, "items": b.items, "judged": b.judged, "human": b.human, "simulated": b.simulated}
        for b in open_workspace().store.batches()
    ]
    _show(rows, as_json)


@prefs.command("snapshot")
@click.argument("batch")
@_AS_JSON
@click.pass_obj
def prefs_snapshot(open_workspace: _Open, batch: str, as_json: bool) -> None:
    """Freeze the judgements of a batch as they are now."""
    workspace = open_workspace()
    snapshot = freeze_judgements(workspace.store, workspace.path, batch, author="owner")
    _show([{"ref": str(snapshot.ref), "rows": snapshot.rows, "digest": snapshot.digest}], as_json)


# -- prompts ------------------------------------------------------------------------------------------------------


@ladder.group()
def prompt() -> None:
    """Prompts, and the answers they were given."""


@prompt.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@_AS_JSON
@click.pass_obj
def prompt_replay(open_workspace: _Open, file: Path, as_json: bool) -> None:
    """Ask again what a reproduce file asked; exit 1 when the answer is another one."""
    found = asyncio.run(_replayed(open_workspace(), file))
    print(json.dumps({**asdict(found), "sentence": found.sentence}) if as_json else found.sentence)
    if not found.is_equal:
        sys.exit(1)


async def _replayed(workspace: Workspace, file: Path) -> Replay:
    try:
        return await replay(workspace, file)
    finally:
        await workspace.close()


# -- runs and jobs ------------------------------------------------------------------------------------------------


def _options(task: type[Task]) -> list[click.Parameter]:
    return [_option(field) for field in describe(task)]


def _option(field: Field) -> click.Option:
    return click.Option(
        [field.flag, field.name],
        required=field.is_required,
        multiple=field.kind == "list",
        type=click.Choice([value for _, value in field.choices]) if field.kind == "choice" else str,
        metavar={"int": "N", "float": "X", "text": "TEXT", "list": "TEXT"}.get(field.kind),
        help=f"{field.hint}{f'  [default: {field.default}]' if field.default not in (None, '', ()) else ''}",
    )


def _command(task: type[Task]) -> click.Command:
    """One command made from a task's fields."""

    @click.pass_obj
    def start(open_workspace: _Open, /, detach: bool, as_json: bool, plan: bool = False, **flags: Any) -> None:
        given = {k: v for k, v in flags.items() if v not in (None, ())}
        made = fill_in(task, given)
        workspace = open_workspace()
        _check_detach(workspace, detach)
        if isinstance(made, Tuning):
            if plan:
                _show_plan(_planned(workspace, made), as_json)
                return
            made.check(workspace.store)  # a choice that is not there is another kind of mistake than a full disk
            tell(ready(workspace.store, workspace.path, made, workspace.settings).sentence)
        job = workspace.queue(made, author="owner")
        _see_through(workspace, job, detach, as_json)

    flags: list[click.Parameter] = [
        *_options(task),
        click.Option(["--detach"], is_flag=True, help="Leave the run to the studio that is running."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of a table."),
    ]
    if issubclass(task, Tuning):
        flags.append(click.Option(["--plan"], is_flag=True, help="Only say what the run would take; start nothing."))
    help_text = (task.__doc__ or "").strip().splitlines()[0]
    return click.Command(task.kind, params=flags, callback=start, help=help_text)


def _planned(workspace: Workspace, task: Tuning) -> Preflight:
    """With the engine's tokenizer, so that what a few records hold is counted and not guessed."""
    try:
        return preflight(workspace.store, workspace.path, task, workspace.settings, engine=workspace.engine)
    finally:
        asyncio.run(workspace.close())


def _show_plan(found: Preflight, as_json: bool) -> None:
    """What a run would take; exit 1 when something stands in its way."""
    if as_json:
        print(json.dumps({"sentence": found.sentence, "can_start": found.can_start, **asdict(found)}))
    else:
        print(found.sentence)
        for figure in found.figures:
            print(f"{figure.name:16} {figure.words}  ({figure.confidence})")
        if found.figures:  # else nothing could be looked at, and there is a sentence that says why
            print(f"{'Licence':16} {found.licence.sentence}")
        for caution in found.cautions:
            print(f"{'Caution':16} {caution.words}")
    if not found.can_start:
        sys.exit(1)


def _check_detach(workspace: Workspace, detach: bool) -> None:
    if detach and app_holder(workspace.path) is None:
        raise InputError("No studio is running that could take the run. Start one, or leave out --detach.")


def _see_through(workspace: Workspace, job: Job, detach: bool, as_json: bool) -> None:
    """Wait for a queued job and say how it ended, or leave it to the studio that is running."""
    if not detach:
        job = run_here(workspace.store, workspace.path, workspace.settings, job.id, tell=Progress(workspace, tell))
    _report(workspace, job, as_json)


def _report(workspace: Workspace, job: Job, as_json: bool) -> None:
    if job.kind == "compare" and job.state == "done" and not as_json:
        print(table(comparison(workspace.store, job.id)))
    else:
        _show([_job_row(job)], as_json)
    if job.state in ("failed", "lost", "cancelled"):
        _end(job.error or f"Job {job.id} was {job.state}.", 1)


class _Recipes(click.Group):
    """`ladder run RECIPE`: one sub-command a recipe, found when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(recipes())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        known = recipes()
        if cmd_name not in known:
            raise InputError(f"There is no recipe '{cmd_name}'. Known recipes: {', '.join(sorted(known))}.")
        return _command(known[cmd_name])


@click.pass_context
def _run_manifest(
    context: click.Context, manifest: Path | None, snapshot_files: tuple[Path, ...], detach: bool, as_json: bool
) -> None:
    if context.invoked_subcommand is not None:
        if manifest is not None or snapshot_files:
            raise InputError("A manifest says the recipe. Leave out either --manifest or the recipe.")
        return
    if manifest is None:
        print(context.get_help())
        return
    told = read_manifest(manifest)
    workspace: Workspace = context.obj()
    _check_detach(workspace, detach)
    where = (workspace.store, workspace.path, workspace.settings)
    job = repeat(*where, told, author="owner", files=snapshot_files, warn=lambda said: print(said, file=sys.stderr))
    _see_through(workspace, job, detach, as_json)


ladder.add_command(
    _Recipes(
        "run",
        help="Make a model: `ladder run lora --base REF --data REF`, or again: `ladder run --manifest FILE`.",
        invoke_without_command=True,
        callback=_run_manifest,
        params=[
            click.Option(["--manifest"], type=click.Path(path_type=Path), help="Do again what this file says."),
            click.Option(
                ["--snapshot", "snapshot_files"],
                type=click.Path(path_type=Path),
                multiple=True,
                help="With --manifest: the file of a snapshot that is not in this workspace yet.",
            ),
            click.Option(["--detach"], is_flag=True, help="Leave the run to the studio that is running."),
            click.Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of a table."),
        ],
    )
)
ladder.add_command(_command(Compare))
prompt.add_command(_command(Distil))
prefs.add_command(_command(SampleAnswers))
prefs.add_command(_command(SimulateJudgements))


@models.command(
    "check", params=[click.Argument(["ref"]), *(_option(f) for f in describe(RoundTrip) if f.name != "model")]
)
@_AS_JSON
@click.pass_obj
def models_check(open_workspace: _Open, /, ref: str, as_json: bool, **flags: Any) -> None:
    """Ask a model the same in the studio, in plain libraries and as merged weights; exit 1 when answers differ.

    In bfloat16 rounding may make answers differ: that is told, and is no failure. A different prompt is.
    """
    found = _found_of(open_workspace, RoundTrip, ref, flags, ("sentence", "not_merged"), as_json)
    if found and not found["same"] and (found["dtype"] == "float32" or not found["same_prompts"]):
        sys.exit(1)


@models.command(
    "judge", params=[click.Argument(["ref"]), *(_option(f) for f in describe(Verdict) if f.name != "model")]
)
@_AS_JSON
@click.pass_obj
def models_judge(open_workspace: _Open, /, ref: str, as_json: bool, **flags: Any) -> None:
    """Hold a tuned model against its base: test records, wins and losses, what it forgot, and a recommendation."""
    _found_of(open_workspace, Verdict, ref, flags, ("sentence", "reason"), as_json)


def _found_of(
    open_workspace: _Open, kind: type[Task], ref: str, flags: dict[str, Any], told: Sequence[str], as_json: bool
) -> dict[str, Any]:
    """Have a model looked at here and now, and print what `told` names of the result, or all of it; empty where it did not
    get there, which is told, too."""
    task = fill_in(kind, {"model": ref, **{name: value for name, value in flags.items() if value is not None}})
    workspace = open_workspace()
    job = workspace.queue(task, author="owner")
    job = run_here(workspace.store, workspace.path, workspace.settings, job.id, tell=Progress(workspace, tell))
    if job.state != "done" or job.result is None:
        _report(workspace, job, as_json)
        return {}
    print(json.dumps(job.result) if as_json else " ".join(filter(None, (job.result[name] for name in told))))
    return job.result


@ladder.command("recipes")
@_AS_JSON
def recipes_command(as_json: bool) -> None:
    """Methods and their knobs."""
    rows = [
        {"recipe": kind, "knob": f.name, "default": "" if f.default is None else str(f.default), "meaning": f.hint}
        for kind, recipe in sorted(recipes().items())
        for f in describe(recipe)
    ]
    _show(rows, as_json)


@ladder.group()
def jobs() -> None:
    """What runs, what waits, what ended."""


def _job_row(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state,
        "title": job.title,
        "progress": f"{job.step}/{job.total}" if job.total else "",
        "message": job.error or job.message,
    }


@jobs.command("list")
@_AS_JSON
@click.pass_obj
def jobs_list(open_workspace: _Open, as_json: bool) -> None:
    """The newest jobs."""
    _show([_job_row(j) for j in open_workspace().store.jobs()], as_json)


@jobs.command("show")
@click.argument("job_id", type=int)
@_AS_JSON
@click.pass_obj
def jobs_show(open_workspace: _Open, job_id: int, as_json: bool) -> None:
    """One job, its result and its latest figures."""
    store = open_workspace().store
    job = store.job(job_id)
    figures: dict[str, float | None] = {}
    for metric in store.metrics(job_id):
        figures |= metric.values
    if as_json:
        print(json.dumps({**_plain(job), "figures": figures}))
        return
    for name, value in {**_plain(job), **figures}.items():
        print(f"{name:28} {value}")


@jobs.command("log")
@click.argument("job_id", type=int)
@click.pass_obj
def jobs_log(open_workspace: _Open, job_id: int) -> None:
    """What the worker printed."""
    workspace = open_workspace()
    workspace.store.job(job_id)
    path = run_folder(workspace.path, job_id) / "log.txt"
    sys.stdout.write(path.read_text(encoding="utf-8", errors="replace") if path.exists() else "")


def _stop(workspace: Workspace, job_id: int, intent: Literal["pause", "cancel"]) -> None:
    job = workspace.store.request_job(job_id, intent, by="owner")
    if app_holder(workspace.path) is None:  # nobody else would enforce the deadlines
        job = run_here(workspace.store, workspace.path, workspace.settings, job.id)
    print(f"Job {job.id} is {job.state}.")


@jobs.command("cancel")
@click.argument("job_id", type=int)
@click.pass_obj
def jobs_cancel(open_workspace: _Open, job_id: int) -> None:
    """Stop a job; a run saves a checkpoint first."""
    _stop(open_workspace(), job_id, "cancel")


@jobs.command("pause")
@click.argument("job_id", type=int)
@click.pass_obj
def jobs_pause(open_workspace: _Open, job_id: int) -> None:
    """Stop a run at its next step; it can be resumed."""
    _stop(open_workspace(), job_id, "pause")


@jobs.command("hold")
@click.argument("job_id", type=int)
@click.pass_obj
def jobs_hold(open_workspace: _Open, job_id: int) -> None:
    """Keep a queued job from starting."""
    job = hold_job(open_workspace().store, job_id, by="owner")
    print(f"Job {job.id} is {job.state}.")


@jobs.command("release")
@click.argument("job_id", type=int)
@click.pass_obj
def jobs_release(open_workspace: _Open, job_id: int) -> None:
    """Let a held job start when its turn comes."""
    job = release_job(open_workspace().store, job_id, by="owner")
    print(f"Job {job.id} is {job.state}.")


@jobs.command("move")
@click.argument("job_id", type=int)
@click.argument("to", type=click.Choice(get_args(Place)))
@click.pass_obj
def jobs_move(open_workspace: _Open, job_id: int, to: Place) -> None:
    """Move a waiting job in its queue."""
    store = open_workspace().store
    job = move_job(store, job_id, to, by="owner")
    line = store.waiting_jobs(job.lane)
    print(f"Job {job.id} is number {[one.id for one in line].index(job.id) + 1} of {len(line)} that wait.")


@jobs.command("queue")
@click.argument("lane", type=click.Choice(get_args(Lane)), default="train")
@click.option("--on-failure", type=click.Choice(["go-on", "stop"]), help="What the queue does when a job of it fails.")
@click.option("--stop", "is_stopped", flag_value=True, default=None, help="Start nothing more.")
@click.option("--go-on", "is_stopped", flag_value=False, help="Let a stopped queue move again.")
@_AS_JSON
@click.pass_obj
def jobs_queue(
    open_workspace: _Open, lane: Lane, on_failure: str | None, is_stopped: bool | None, as_json: bool
) -> None:
    """What waits in a queue, in order, and whether it moves. The training queue when LANE is left out."""
    store = open_workspace().store
    if on_failure is not None:
        store.set_queue(lane, stops_on_failure=on_failure == "stop")
    if is_stopped is not None:
        _ = store.stop_queue(lane, by="owner") if is_stopped else store.start_queue(lane)
    queue, rows = store.queue_of(lane), [_job_row(job) for job in store.waiting_jobs(lane)]
    if as_json:
        print(json.dumps({**asdict(queue), "waiting": rows}))
        return
    print(f"Stopped: {queue.stopped}" if queue.stopped else "It moves.", end=" ")
    print("It stops when a job fails." if queue.stops_on_failure else "It goes on when a job fails.")
    _show(rows, as_json)


@jobs.command("note")
@click.argument("job_id", type=int)
@click.argument("text", nargs=-1)
@_AS_JSON
@click.pass_obj
def jobs_note(open_workspace: _Open, job_id: int, text: tuple[str, ...], as_json: bool) -> None:
    """Write a note beside a job; without TEXT, read its notes."""
    store = open_workspace().store
    if text:
        note_job(store, job_id, " ".join(text), by="owner")
    else:
        store.job(job_id)
    rows = [{"author": n.author, "time": _at(n.created_at), "text": n.text} for n in store.notes(job_id)]
    _show(rows, as_json)


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


@jobs.command("again")
@click.argument("job_id", type=int)
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Another value for a field of the run.")
@click.option("--goes-on", is_flag=True, help="Begin at the run's newest checkpoint, with another learning rate, say.")
@click.option("--detach", is_flag=True, help="Leave the run to the studio that is running.")
@_AS_JSON
@click.pass_obj
def jobs_again(
    open_workspace: _Open, job_id: int, changes: tuple[str, ...], goes_on: bool, detach: bool, as_json: bool
) -> None:
    """Run a job again as it was, or with changes, as a new one."""
    workspace = open_workspace()
    _check_detach(workspace, detach)
    told = dict(_change(change) for change in changes)
    job = again(workspace.store, workspace.path, job_id, told, by="owner", goes_on=goes_on)
    _see_through(workspace, job, detach, as_json)


def _change(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise InputError(f"--set {text} is not FIELD=VALUE. Example: --set learning_rate=0.0005.")
    return field, None if value == "" else value


@jobs.command("manifest")
@click.argument("job_id", type=int)
@click.pass_obj
def jobs_manifest(open_workspace: _Open, job_id: int) -> None:
    """Print what a run was told and what it stands on, for `ladder run --manifest` on any machine."""
    workspace = open_workspace()
    print(manifest_of(workspace.store, workspace.path, job_id).model_dump_json(indent=2))


@jobs.command("webhook")
@click.argument("url", required=False)
@click.option("--off", is_flag=True, help="Tell nobody any more.")
@click.pass_obj
def jobs_webhook(open_workspace: _Open, url: str | None, off: bool) -> None:
    """Where a message is sent when a training run ends. Without URL: say where that is.

    The address may be inside your own network, a chat server's, say. It gets JSON: run, kind, state, title, seconds
    and error. Redirects are not followed.
    """
    workspace = open_workspace()
    if url and off:
        raise InputError("Give an address, or --off, and not both.")
    if url or off:
        set_webhook(workspace.store, workspace.path, workspace.settings, url or "", by="owner")
    hook = workspace.store.webhook()
    print(f"Ends of training runs are told to {hook.host}." if hook else "Ends of training runs are told to nobody.")


@jobs.command("resume")
@click.argument("job_id", type=int)
@click.option("--detach", is_flag=True, help="Leave the run to the studio that is running.")
@_AS_JSON
@click.pass_obj
def jobs_resume(open_workspace: _Open, job_id: int, detach: bool, as_json: bool) -> None:
    """Go on from the last checkpoint."""
    workspace = open_workspace()
    job = resume(workspace.store, workspace.path, job_id, by="owner")
    if not detach:
        job = run_here(workspace.store, workspace.path, workspace.settings, job.id, tell=Progress(workspace, tell))
    _report(workspace, job, as_json)


@ladder.command("example")
@click.pass_obj
def example_command(open_workspace: _Open) -> None:
    """Load the example project into an empty workspace."""
    workspace = open_workspace()
    done = load_example(workspace.store, workspace.path)
    print(f"Example {'loaded into' if done else 'left out: there is data already in'} {workspace.path}.")


# -- output -------------------------------------------------------------------------------------------------------


def _plain(row: Any) -> dict[str, Any]:
    found = asdict(row) if is_dataclass(row) and not isinstance(row, type) else dict(row)
    return {k: v.model_dump(mode="json") if isinstance(v, BaseModel) else v for k, v in found.items()}


def _show(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        print("Nothing yet.")
        return
    names = list(rows[0])
    lines = [names, *([str(row[n]) for n in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
