"""What a run will do and take, in plain words, before anybody starts it; and what stands in its way.

    found = preflight(workspace.store, workspace.path, task, workspace.settings, engine=workspace.engine)
    found.sentence; found.figures; found.blocks; found.licence

Nothing here loads weights or imports torch. Every figure says where it comes from: `exact` ones are counted, `measured`
ones come from a dry run of this configuration here, `last run` ones are judged by the newest run like it, `about` ones
rest on tokens guessed from letters, and `rough` ones on a rule of thumb. Without an `engine` nothing is counted anew, so
the call is quick; with one, up to COUNTED_AT_ONCE records are counted while it lasts, and kept.
"""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from studio.backends import LocalBackend
from studio.engine.client import EngineClient
from studio.errors import InputError, StudioError
from studio.models import Weights, resolve
from studio.models.licences import Gate
from studio.models.shapes import shapes_of
from studio.recipes.dry_run import Measured, measured
from studio.recipes.lengths import Lengths, Rows, count, guessed, known, rows_of
from studio.recipes.licensing import licence_gate
from studio.recipes.prices import gpu_seconds, money, prices
from studio.recipes.tuning import Tuning, tuning_methods
from studio.settings import Settings
from studio.specs import ModelRef, SnapshotRef
from studio.store import Job, Snapshot, Store
from studio.training.sizes import (
    ANSWERS_SHARE,
    Batch,
    Machine,
    Needs,
    machine,
    needs,
    new_parameters,
    recomputes,
    refusal,
)
from studio.words import duration

__all__ = ["COUNTED_AT_ONCE", "Block", "Confidence", "Figure", "Preflight", "count_now", "look_steps", "preflight"]

Confidence = Literal["exact", "measured", "last run", "about", "rough", "unknown"]

COUNTED_AT_ONCE = 2000  # records; more are a job of its own (CountTokens)

_SPARE = 0.5e9  # bytes of disk that have to stay free
_FEWEST_LOOKS, _STEPS_PER_LOOK = 4, 5  # as studio/training/sft.py has them
_SPEED_OF_A_CORE = {2: 90e9, 4: 22e9}  # operations a second in training, by the bytes of a number
_SPREADS = 200_000_000  # bytes that the C allocator comes to hold in a whole run beyond what it held after 20 steps
_FORGIVEN = 0.7  # a rule of thumb has to be so far above what is there before it stops a run


@dataclass(frozen=True)
class Figure:
    """One figure of a run: `words` for people, `value` in the base unit (bytes, seconds, one) where it is a number."""

    name: str
    words: str
    confidence: Confidence
    why: str
    value: float | None = None


@dataclass(frozen=True)
class Block:
    """Something in the way, and what to do about it ('' where the sentence says it already)."""

    sentence: str
    cure: str = ""

    @property
    def words(self) -> str:
        return f"{self.sentence} {self.cure}".strip()


@dataclass(frozen=True)
class Preflight:
    """`blocks` stop a run; `cautions` do not. `seconds` is None until a run or a dry run here has shown what to expect."""

    train_rows: int = 0
    validation_rows: int = 0
    test_rows: int = 0
    left_out: int = 0
    passes: int = 1
    steps: int = 0
    seconds: float | None = None
    new_parameters: int | None = None
    figures: tuple[Figure, ...] = ()
    blocks: tuple[Block, ...] = ()
    cautions: tuple[Block, ...] = ()
    licence: Gate = field(default_factory=lambda: Gate("unknown", "Unknown: nothing is chosen yet."))

    @property
    def can_be_counted(self) -> bool:
        """Whether they are few enough for `count_now`."""
        return self.train_rows + self.validation_rows <= COUNTED_AT_ONCE

    @property
    def refusal(self) -> str:
        """What stands in its way, in sentences; '' when nothing does. A licence is told apart: `licence`."""
        return " ".join(block.words for block in self.blocks)

    @property
    def can_start(self) -> bool:
        """Whether nothing is in the way, a licence neither. What nobody knows of a licence is not."""
        return not self.blocks and self.licence.verdict != "no"

    @property
    def sentence(self) -> str:
        """The whole in a few sentences: what stands in the way, or what will happen."""
        if self.blocks:
            return self.refusal
        checked = f"{self.validation_rows} records check it on the way" if self.validation_rows else "nothing checks it"
        passes = {1: "once", 2: "twice"}.get(self.passes, f"{self.passes} times")
        read = self.train_rows - self.left_out
        if not read:  # by guessed lengths only: what is counted is a block
            return "It would probably learn nothing. " + " ".join(caution.words for caution in self.cautions)
        return (
            f"It goes through {read} records {passes}, in {self.steps} steps; {checked}, "
            f"and {self.test_rows} stay unseen. {self._how_long}"
        )

    @property
    def _how_long(self) -> str:
        time = self.figure("Time")
        if time is None or time.value is None:
            return "How long it takes is not known yet: the first run measures it."
        end = {
            "measured": "as measured here.",
            "last run": "judged by the last run.",
            "rough": "a rough guess: the first run measures it.",
        }.get(time.confidence, "a guess.")
        return f"About {duration(time.value)} here, {end}"

    def figure(self, name: str) -> Figure | None:
        """The figure of that name."""
        return next((figure for figure in self.figures if figure.name == name), None)


def preflight(
    store: Store,
    root: Path,
    task: Tuning,
    settings: Settings | None = None,
    *,
    engine: EngineClient | None = None,
) -> Preflight:
    """Look at a run before it starts. What cannot work comes back as blocks; nothing that was chosen makes it raise."""
    settings = settings or Settings()
    try:
        task.check_choices(store)
        snapshot = store.snapshot(task.data)
        rows = rows_of(root, snapshot)
    except StudioError as error:
        return Preflight(blocks=(Block(str(error)),))
    look = _Look(store, root, task, snapshot, rows, settings)
    if why := _unusable(snapshot):
        look.blocks.append(why)
    try:
        weights = resolve(task.base, settings=settings, store=store, workspace=root, wait=False)
    except StudioError as error:
        # The model that comes with the studio is only being prepared; a run waits for that.
        (look.cautions if task.base.kind == "embedded" else look.blocks).append(Block(str(error)))
        return look.without_weights()
    try:
        return look.at(weights, engine)
    except StudioError as error:  # files that are not whole, and the like
        look.blocks.append(Block(str(error)))
        return look.without_weights()


def count_now(
    store: Store, root: Path, data: SnapshotRef, base: ModelRef, settings: Settings, engine: EngineClient
) -> None:
    """Count what is guessed until then, so that pre-flights of runs on these are exact. Raises StudioError, with what is
    the matter with the snapshot, the model or the engine."""
    snapshot = store.snapshot(data)
    weights = resolve(base, settings=settings, store=store, workspace=root, wait=False)
    if known(root, snapshot, weights) is None:
        _counted(root, snapshot, weights, engine)


def _counted(root: Path, snapshot: Snapshot, weights: Weights, engine: EngineClient) -> Lengths:
    try:
        return asyncio.run(count(root, snapshot, weights, LocalBackend(weights, engine)))
    except (StudioError, OSError) as error:
        raise InputError(f"Tokens could not be counted ({error}), so they are guessed from letters.") from error


def look_steps(steps: int, epochs: int) -> list[int]:
    """After which steps the validation records are read; studio/training/sft.py says so to the run."""
    ends = {steps * epoch // epochs for epoch in range(1, epochs + 1)}
    parts = min(_FEWEST_LOOKS, max(1, steps // _STEPS_PER_LOOK))
    if epochs < parts:
        ends |= {round(steps * part / parts) for part in range(1, parts + 1)}
    return sorted(ends - {0})


def _unusable(snapshot: Snapshot) -> Block | None:
    # A file that was written anew without the purged records is named so, and may be learned from.
    if snapshot.purged_at and ".purged-" not in snapshot.path:
        return Block(
            f"{snapshot.ref} still holds records that were purged from its dataset, so nothing may be learned from it.",
            "Freeze a new snapshot.",
        )
    return None


class _Look:
    """One look at one run: collects what is found out."""

    def __init__(
        self, store: Store, root: Path, task: Tuning, snapshot: Snapshot, rows: Rows, settings: Settings
    ) -> None:
        self.store, self.root, self.task, self.snapshot, self.rows = store, root, task, snapshot, rows
        self.settings = settings
        self.blocks: list[Block] = []
        self.cautions: list[Block] = []
        self.figures: list[Figure] = []
        self.train, self.validation, self.test = (rows.splits.get(s, 0) for s in ("train", "validation", "test"))
        if not self.train:
            self.blocks.append(
                Block(
                    f"Nothing would be learned: {task.data} has {snapshot.rows} records and none of them is for training.",
                    "Add more records, or give some to the training split, and freeze again.",
                )
            )

    def without_weights(self) -> Preflight:
        """What can be said while the model's files are not there."""
        steps = self.task.steps(self.train)
        self._say("Records", self._rows_words(0), "exact", "Counted in the snapshot.", self.train)
        return self._found(left_out=0, steps=steps, seconds=None, learns=None, licence=self._gate(None))

    def at(self, weights: Weights, engine: EngineClient | None) -> Preflight:
        """The whole."""
        task, longest = self.task, min(self.task.max_length, weights.window)
        lengths = self._lengths(weights, engine)
        kept = [one for one in lengths.train if one[0] <= longest]
        self._look_at_lengths(lengths, kept, longest, weights.window)
        steps = task.steps(len(kept))
        place = machine()
        learns = self._learning(weights, steps)
        self._say("Records", self._rows_words(len(lengths.train) - len(kept)), *_source(lengths, "records"), len(kept))
        self._say_tokens(kept, lengths)
        self._say("Steps", f"{steps:,}", *_source(lengths, "records"), steps)
        if learns is None or not kept:
            return self._found(len(lengths.train) - len(kept), steps, None, learns, self._gate(weights))
        self._say_parameters(learns, weights)
        trial = measured(self.store, task, self.snapshot, weights)
        batch = Batch.of(kept, task.batch_size)
        thrifty, keeping = (
            needs(task.method(), weights, learns, batch, recomputes=saves, place=place) for saves in (True, False)
        )
        seen = trial.keeping(place) if trial is not None else None
        saves = recomputes(task.saves_memory, seen or keeping.memory, place)
        wants = thrifty if saves else keeping
        if trial is not None and trial.recomputes != saves:
            trial = None  # of a run that is not this one any more, since there is less memory now, or more
        if saves and task.saves_memory == "auto":
            self._say_it_saves(seen or keeping.memory, place)
        self._say_memory(wants, trial, place, saves)
        self._say_disk(wants)
        tokens = sum(tokens for tokens, _ in kept) * task.passes
        time = self._say_time(tokens, steps, weights, trial, place, saves)
        self._say_money(time, tokens, weights, learns, batch)
        seconds = time.value if time.confidence in ("measured", "last run") else None
        return self._found(len(lengths.train) - len(kept), steps, seconds, learns, self._gate(weights))

    def _found(self, left_out: int, steps: int, seconds: float | None, learns: int | None, licence: Gate) -> Preflight:
        return Preflight(
            train_rows=self.train,
            validation_rows=self.validation,
            test_rows=self.test,
            left_out=left_out,
            passes=self.task.passes,
            steps=steps,
            seconds=seconds,
            new_parameters=learns,
            figures=tuple(self.figures),
            blocks=tuple(self.blocks),
            cautions=tuple(self.cautions),
            licence=licence,
        )

    def _say(self, name: str, words: str, confidence: Confidence, why: str, value: float | None = None) -> Figure:
        self.figures.append(Figure(name, words, confidence, why, value))
        return self.figures[-1]

    # -- records and tokens ---------------------------------------------------------------------------------------

    def _lengths(self, weights: Weights, engine: EngineClient | None) -> Lengths:
        found = known(self.root, self.snapshot, weights)
        if found is not None:
            return found
        if engine is not None and self.train + self.validation <= COUNTED_AT_ONCE:
            try:
                return _counted(self.root, self.snapshot, weights, engine)
            except InputError as error:
                self.cautions.append(Block(str(error)))
        return guessed(self.rows)

    def _look_at_lengths(self, lengths: Lengths, kept: Sequence[object], longest: int, window: int) -> None:
        if lengths.refused:
            self.blocks.append(
                Block(
                    f"Row {lengths.refused.row} of {self.task.data} cannot be learned: {lengths.refused.why}",
                    "Mend that record, and freeze again.",
                )
            )
        left_out, n = len(lengths.train) - len(kept), len(lengths.train)
        if not left_out:
            return
        needed = max(tokens for tokens, _ in lengths.train)
        cure = (
            f"Set the longest record to {needed:,} tokens or more, or shorten them."
            if needed <= window
            else f"Shorten them: the longest has {needed:,} tokens, and the model reads {window:,}."
        )
        if kept or not lengths.is_exact:
            about = "" if lengths.is_exact else "About "
            text = f"{about}{left_out:,} of {n:,} training records are longer than {longest:,} tokens and stay out."
            self.cautions.append(Block(text, cure))
        else:
            text = f"Nothing would be learned: all {n:,} training records are longer than {longest:,} tokens."
            self.blocks.append(Block(text, cure))

    def _rows_words(self, left_out: int) -> str:
        left = f", {left_out:,} of them too long" if left_out else ""
        return f"{self.train:,} to learn from{left}; {self.validation:,} to check; {self.test:,} unseen"

    def _say_tokens(self, kept: Sequence[tuple[int, int]], lengths: Lengths) -> None:
        learned, tokens = sum(n for _, n in kept), sum(t for t, _ in kept)
        about = "" if lengths.is_exact else "about "
        passes = {1: "once", 2: "twice"}.get(self.task.passes, f"{self.task.passes} times")
        words = f"{about}{learned:,} of {tokens:,} tokens, {passes}"
        self._say("Learned tokens", words, *_source(lengths, "tokens"), learned)
        if lengths.is_exact and kept and not learned:
            self.blocks.append(
                Block("Nothing would be learned: no training record has a token of an answer.", "Write answers first.")
            )

    # -- what learns ----------------------------------------------------------------------------------------------

    def _learning(self, weights: Weights, steps: int) -> int | None:
        """How many numbers; None, with a block, where the method cannot work."""
        method = self.task.method()
        why = refusal(method, weights, steps)
        try:
            found = None if why else new_parameters(method, weights)
        except StudioError as error:
            why = str(error)
        if why:
            self.blocks.append(Block(why))
            return None
        return found

    def _say_parameters(self, learns: int, weights: Weights) -> None:
        shapes = shapes_of(weights.base)
        method = self.task.method()
        share = learns / max(1, shapes.numbers)
        words = f"{learns:,} ({share:.2%} of the model's {_short(shapes.numbers)})".replace("%", " %")
        if not method.peft:
            words = f"{learns:,} of the model's own {shapes.numbers:,}"
        if shapes.has_experts:
            self._say(
                "New parameters", f"about {words}", "about", "A model of experts: their matrices are fused.", learns
            )
        else:
            self._say("New parameters", words, "exact", "From the shapes in the model's files.", learns)

    # -- memory and disk ------------------------------------------------------------------------------------------

    def _say_it_saves(self, keeping: int, place: Machine) -> None:
        text = f"It would need about {_gb(keeping)} of memory, and {_gb(place.free)} of {_where(place)} are free now."
        cure = "If that is still so when it starts, it saves memory by itself, and takes about a third longer."
        self.cautions.append(Block(text, cure))

    def _say_memory(self, wants: Needs, trial: Measured | None, place: Machine, saves: bool) -> None:
        where = _where(place)
        if trial is not None and trial.is_gpu == place.is_gpu:
            need, confidence, why = trial.peak_bytes, "measured", "The peak of a dry run of this configuration here."
            if not trial.is_gpu:
                need, why = need + _SPREADS, f"{why[:-1]}, and {_gb(_SPREADS)} that a whole run may spread by."
        else:
            need, confidence, why = wants.memory, "rough", "A rule of thumb from the shapes of the model and the batch."
        words = f"{_gb(need)} at the peak, of {_gb(place.total)} in {where}"
        self._say("Memory", words, confidence, why, need)  # type: ignore[arg-type]
        surely = need if confidence == "measured" else need * _FORGIVEN
        if surely > place.total:
            self.blocks.append(
                Block(f"It needs about {_gb(need)} of memory, and {where} has {_gb(place.total)}.", self._lower(saves))
            )
        elif need > place.free:
            text = f"It needs about {_gb(need)} of memory, and {_gb(place.free)} of {where} are free now."
            lower = self._lower(saves)
            self.cautions.append(Block(text, f"Close what else runs, or: {lower[:1].lower()}{lower[1:]}"))

    def _lower(self, saves: bool) -> str:
        """What would need less memory, the cheapest first."""
        ways = []
        if not saves:
            ways.append("turn on 'Save memory'")
        if self.task.batch_size > 1:
            ways.append(f"take a smaller batch than {self.task.batch_size}")
        ways.append("shorten the longest record")
        if not self.task.method().peft:
            ways.append("choose LoRA")
        ways.append("choose a smaller model")
        text = ", ".join(ways[:-1]) + f", or {ways[-1]}."
        return text[:1].upper() + text[1:]

    def _say_disk(self, wants: Needs) -> None:
        free = shutil.disk_usage(self.root).free
        words = f"{_gb(wants.disk)} while it runs, {_gb(wants.left)} after; {_gb(free)} are free"
        why = "From the sizes of the model, two checkpoints and the best one."
        self._say("Disk", words, "about", why, wants.disk)
        if wants.disk + _SPARE > free:
            self.blocks.append(
                Block(
                    f"Its folder takes up to {_gb(wants.disk)} and {_gb(free)} are free where the workspace is "
                    f"({self.root}).",
                    "Free some space, or choose a method with a smaller file, such as LoRA.",
                )
            )

    # -- time and money -------------------------------------------------------------------------------------------

    def _say_time(
        self, tokens: int, steps: int, weights: Weights, trial: Measured | None, place: Machine, saves: bool
    ) -> Figure:
        looks = look_steps(steps, self.task.passes)
        may_end = " at most; it may stop early" if self.task.patience and self.validation else ""
        if trial is not None:
            learning = tokens / trial.tokens_per_second + len(looks) * trial.look_seconds
            answering = min(len(looks) * trial.sampling_seconds, learning / ANSWERS_SHARE)  # and once more at the end
            seconds = trial.start_seconds + trial.save_seconds + trial.look_seconds + learning
            seconds += answering + trial.sampling_seconds
            why = f"From a dry run of {trial.steps} steps here: {trial.tokens_per_second:,.0f} tokens a second."
            return self._say("Time", f"about {duration(seconds)}{may_end}", "measured", why, seconds)
        before = _last_like_it(self.store, self.task, weights)
        if before is not None:
            seconds = _seconds_of(before) * self.train * self.task.passes
            why = f"Judged by run {before.id}, the last one with this method on this model."
            return self._say("Time", f"about {duration(seconds)}{may_end}", "last run", why, seconds)
        numbers = shapes_of(weights.base).numbers
        each = (4 if self.task.method().peft else 6) + (1 if saves else 0)
        speed = place.cores * _SPEED_OF_A_CORE[place.number_bytes] if not place.is_gpu else 60e12
        seconds = 15 + each * numbers * tokens / speed * (1 + 0.15 * len(looks) / max(1, self.task.passes))
        why = "A rule of thumb from the size of the model and the number of cores; measure first to know better."
        return self._say("Time", f"roughly {duration(seconds)} to {duration(3 * seconds)}", "rough", why, 1.7 * seconds)

    def _say_money(self, time: Figure, tokens: int, weights: Weights, learns: int, batch: Batch) -> None:
        try:
            known_prices = prices(self.root)
        except StudioError as error:
            self.cautions.append(Block(str(error)))
            return
        parts: list[str] = []
        here, by_the_hour = None, known_prices.here
        currency, whose = known_prices.currency, f"as of {known_prices.as_of}, a guess to be edited (prices.yaml)"
        if self.settings.price_per_hour is not None:
            by_the_hour, currency = self.settings.price_per_hour, self.settings.currency or currency
            whose = f"of this machine from the settings; of others {whose}"
        if by_the_hour is not None and time.value is not None:
            here = by_the_hour * time.value / 3600
            parts.append(f"about {money(here, currency)} here")
        numbers, method = shapes_of(weights.base).numbers, self.task.method()
        for gpu in known_prices.gpus:
            total = int(gpu.memory_gb * 1e9)
            place = Machine(True, total, total, 1, 2)
            keeping, thrifty = (
                needs(method, weights, learns, batch, recomputes=saves, place=place).memory for saves in (False, True)
            )
            if (thrifty if recomputes(self.task.saves_memory, keeping, place) else keeping) > total:
                continue
            seconds = gpu_seconds(gpu, numbers, tokens, learns_all=not method.peft)
            price = money(seconds / 3600 * gpu.price_per_hour, known_prices.currency)
            parts.append(f"about {duration(seconds)} and {price} on one {gpu.name}")
            break
        words = "; ".join(parts) or "no price is known"
        why = f"Prices by the hour {whose}; a GPU's time by operations."
        self._say("Money", words, "rough" if parts else "unknown", why, here)

    # -- licences -------------------------------------------------------------------------------------------------

    def _gate(self, weights: Weights | None) -> Gate:
        task = self.task
        return licence_gate(
            self.store,
            task.base,
            self.snapshot,
            task.use,
            weights=weights,
            named=lambda snapshot: rows_of(self.root, snapshot).licences,
        )


# -- words and arithmetic ---------------------------------------------------------------------------------------------


def _source(lengths: Lengths, what: str) -> tuple[Confidence, str]:
    if lengths.is_exact:
        return "exact", f"Counted: the {what} of the snapshot, with the model's own tokenizer."
    return "about", "Guessed from letters until the tokens are counted."


def _where(place: Machine) -> str:
    return "the GPU" if place.is_gpu else "this machine"


def _last_like_it(store: Store, task: Tuning, weights: Weights) -> Job | None:
    """The newest finished run of the method on the same weights, not one that was resumed: its time has a gap."""
    for job in store.jobs(limit=20, states={"done"}, kinds={task.kind}):
        if job.result and job.attempt == 1 and job.step and job.result.get("base_digest") == weights.digest:
            return job
    return None


def _seconds_of(job: Job) -> float:
    """Of a step and record: the batch sizes may differ."""
    before = tuning_methods()[job.kind].model_validate(job.task)
    return float((job.result or {})["train_seconds"]) / (job.step * before.batch_size)


def _gb(size: float) -> str:
    """'3.9 GB', '12 MB', '40 KB'."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}" if size < 10 * unit else f"{size / unit:,.0f} {name}"
    return f"{math.ceil(size)} bytes"


def _short(numbers: int) -> str:
    """'135 million', '7.2 billion'."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if numbers >= unit:
            return f"{numbers / unit:.1f} {name}" if numbers < 10 * unit else f"{numbers / unit:,.0f} {name}"
    return f"{numbers:,}"
