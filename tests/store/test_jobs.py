"""The queue and the state machine, on both databases."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from studio.errors import Conflict, InputError, NotFound, RunError
from studio.store import Job, Store, model_row
from studio.store.jobs import LEGAL
from tests.jobs.tasks_for_tests import Count, LightCount

HERE, ELSEWHERE = "here/1", "elsewhere/2"


@pytest.fixture
def queue(store: Store) -> Callable[..., Job]:
    def add(steps: int = 5, **options) -> Job:
        return store.queue_job(Count(steps=steps), author="ann", **options)

    return add


def test_a_new_job_remembers_what_it_was_told(store, queue):
    job = store.job(queue(steps=3).id)
    assert (job.kind, job.title, job.lane, job.state, job.author) == (
        "count",
        "Count to 3",
        "train",
        "queued",
        "ann",
    )
    assert job.task == {"steps": 3, "gate": "", "ignores_stop": False}
    assert job.progress is None


def test_an_unknown_run_is_named(store):
    with pytest.raises(NotFound, match="no run 99"):
        store.job(99)


def test_a_double_click_starts_one_run(store, queue):
    together = threading.Barrier(8)

    def click(_: int) -> int:
        together.wait()
        return queue(client_key="the same click").id

    with ThreadPoolExecutor(8) as clicks:
        ids = set(clicks.map(click, range(8)))
    assert len(ids) == 1
    assert len(store.jobs()) == 1


def test_concurrent_claims_never_start_a_job_twice(store, queue):
    """Two supervisors and more: each job is given out once, and a lane never holds two."""
    ids = {queue().id for _ in range(4)}
    together = threading.Barrier(6)
    claimed: list[int] = []

    def supervise(_: int) -> None:
        together.wait()
        for _ in range(8):
            job = store.claim_job("train", HERE)
            if job is not None:
                assert len(store.active_jobs(HERE)) == 1
                claimed.append(job.id)
                store.finish_job(job.id, job.attempt, "failed", error="on purpose")

    with ThreadPoolExecutor(6) as supervisors:
        list(supervisors.map(supervise, range(6)))
    while (job := store.claim_job("train", HERE)) is not None:
        claimed.append(job.id)
        store.finish_job(job.id, job.attempt, "failed")
    assert sorted(claimed) == sorted(ids)


def test_jobs_start_in_order_and_one_at_a_time(store, queue):
    first, second = queue(), queue()
    claimed = store.claim_job("train", HERE)
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.attempt, claimed.host) == (first.id, "starting", 1, HERE)
    assert store.claim_job("train", HERE) is None

    _finish(store, claimed)
    assert store.claim_job("train", HERE).id == second.id


def test_the_light_lane_does_not_wait_for_the_train_lane(store, queue):
    queue()
    light = store.queue_job(LightCount(), author="ann")
    assert store.claim_job("train", HERE) is not None
    assert store.claim_job("light", HERE).id == light.id


def test_a_held_job_waits_until_it_is_released(store, queue):
    job = queue()
    store.hold_job(job.id)
    assert store.claim_job("train", HERE) is None
    store.release_job(job.id)
    assert store.claim_job("train", HERE).id == job.id


def test_a_proposed_job_waits_for_approval(store, queue):
    job = queue(state="proposed")
    assert store.claim_job("train", HERE) is None
    store.release_job(job.id, by="owner")
    assert store.claim_job("train", HERE).id == job.id
    assert store.job_events(job.id)[1].payload == {"from": "proposed", "to": "queued", "by": "owner"}


def test_a_job_can_be_moved_to_the_front(store, queue):
    first, second, third = queue(), queue(), queue()
    store.move_job(third.id, "first")
    assert [job.id for job in store.waiting_jobs("train")] == [third.id, first.id, second.id]


@pytest.mark.parametrize(
    ("which", "to", "order"),
    [
        (2, "up", "132"),
        (0, "down", "213"),
        (0, "last", "231"),
        (1, "first", "213"),
        (0, "up", "123"),
        (2, "down", "123"),
    ],
)
def test_waiting_jobs_change_places_and_start_in_the_new_order(store, queue, which, to, order):
    jobs = [queue(), queue(), queue()]
    store.move_job(jobs[which].id, to, by="ann")
    wanted = [jobs[int(n) - 1].id for n in order]
    assert [job.id for job in store.waiting_jobs("train")] == wanted
    assert store.claim_job("train", HERE).id == wanted[0]


def test_a_held_job_can_be_moved_and_one_that_started_cannot(store, queue):
    first, second = queue(), queue(state="held")
    store.move_job(second.id, "up")
    assert [job.id for job in store.waiting_jobs("train")] == [second.id, first.id]
    claimed = store.claim_job("train", HERE)
    with pytest.raises(Conflict, match=f"Run {first.id} is starting. Only a waiting run can be moved"):
        store.move_job(claimed.id, "last")


def test_the_lanes_are_moved_apart(store, queue):
    first, other, second = queue(), _light(store), queue()
    store.move_job(second.id, "up")
    assert [job.id for job in store.waiting_jobs("train")] == [second.id, first.id]
    assert [job.id for job in store.waiting_jobs("light")] == [other.id]


def test_a_queue_goes_on_after_a_failure_unless_it_was_told_to_stop(store, queue):
    first, second, third = queue(), queue(), queue()
    _fail(store, first)
    assert store.queue_of("train").stopped == ""
    store.set_queue("train", stops_on_failure=True)
    _fail(store, second)
    assert store.queue_of("train").stopped == (f"Run {second.id} failed, and this queue stops when that happens.")
    assert store.claim_job("train", HERE) is None
    assert store.job(third.id).state == "queued"  # it keeps its state and its place
    store.start_queue("train")
    assert store.claim_job("train", HERE).id == third.id


def test_a_queue_that_somebody_stopped_starts_nothing_and_the_other_goes_on(store, queue):
    waiting, other = queue(), _light(store)
    before = store.change_token()
    assert store.stop_queue("train", by="ann").stopped == "ann stopped the queue."
    assert store.change_token() > before
    assert store.claim_job("train", HERE) is None
    assert store.claim_job("train", HERE, only=waiting.id) is None
    assert store.claim_job("light", HERE).id == other.id


def test_a_cancelled_or_paused_run_does_not_stop_the_queue(store, queue):
    store.set_queue("train", stops_on_failure=True)
    for state in ("cancelled", "paused", "done"):
        job = _run(store, queue())
        store.finish_job(job.id, job.attempt, state)
    assert store.queue_of("train").stopped == ""


def test_notes_stand_beside_a_job_in_order_and_with_their_authors(store, queue):
    job = _finish(store, _run(store, queue()))
    store.note_job(job.id, " Too many epochs. ", by="ann")
    store.note_job(job.id, "Agreed.", by="ben")
    assert [(n.text, n.author) for n in store.notes(job.id)] == [("Too many epochs.", "ann"), ("Agreed.", "ben")]
    assert store.job(job.id).change > job.change
    with pytest.raises(InputError, match=f"note on run {job.id} is empty"):
        store.note_job(job.id, "  ", by="ann")
    with pytest.raises(InputError, match="has 4,001 letters; 4,000 is the most"):
        store.note_job(job.id, "x" * 4001, by="ann")


def test_work_is_measured_by_the_workers_clock_whatever_the_machines_says(store, queue, monkeypatch):
    job = _run(store, queue())
    store.beat(job.id, job.attempt, seconds=4.0)
    monkeypatch.setattr("studio.store.jobs.now", lambda: job.started_at - 3600)
    store.beat(job.id, job.attempt, seconds=8.0)
    assert store.finish_job(job.id, job.attempt, "paused", seconds=9.5).seconds == 9.5
    store.resume_job(job.id)
    assert store.claim_job("train", HERE).seconds == 0.0


def test_the_end_of_a_training_run_is_to_be_told_once_there_is_an_address(store, queue):
    _finish(store, _run(store, queue()))
    store.set_webhook("locked", "chat.example.org", author="owner")
    told, _ = queue(), _light(store)
    light = store.claim_job("light", HERE)
    _finish(store, light)
    _fail(store, told)
    (notice,) = store.notices(HERE)
    assert (notice.job_id, notice.payload["state"], notice.payload["error"]) == (told.id, "failed", "It broke.")
    assert set(notice.payload) == {"run", "kind", "state", "title", "seconds", "error"}
    assert store.notices("elsewhere") == []
    assert store.take_notice(notice)
    assert not store.take_notice(notice)  # somebody else is at it
    store.settle_notice(notice, "Told chat.example.org that it ended.", is_over=True)
    assert store.notices(HERE) == []
    assert store.job_events(told.id)[-1].payload == {"text": "Told chat.example.org that it ended."}


def test_an_address_that_was_taken_away_is_forgotten_and_nothing_waits_for_it(store, queue):
    store.set_webhook("locked", "chat.example.org", author="owner")
    _finish(store, _run(store, queue()))
    store.set_webhook("", "", author="owner")
    assert store.webhook() is None
    assert store.notices(HERE) == []


def test_one_job_can_be_claimed_out_of_turn(store, queue):
    queue()
    second = queue()
    assert store.claim_job("train", HERE, only=second.id).id == second.id


@pytest.mark.parametrize("state", ["queued", "held", "proposed"])
def test_a_waiting_job_is_cancelled_at_once(store, queue, state):
    job = queue(state=state)
    assert store.request_job(job.id, "cancel").state == "cancelled"
    assert store.claim_job("train", HERE) is None


def test_pausing_a_queued_job_holds_it(store, queue):
    assert store.request_job(queue().id, "pause").state == "held"


def test_a_running_job_is_asked_to_stop(store, queue):
    job = _run(store, queue())
    asked = store.request_job(job.id, "pause", by="ann")
    assert (asked.state, asked.intent) == ("stopping", "pause")
    assert store.job_intent(job.id, 1) == "pause"


def test_a_pause_can_become_a_cancel_but_not_the_other_way_round(store, queue):
    job = _run(store, queue())
    store.request_job(job.id, "pause")
    assert store.request_job(job.id, "cancel").intent == "cancel"
    with pytest.raises(Conflict, match="being cancelled"):
        store.request_job(job.id, "pause")
    assert store.finish_job(job.id, 1, "paused").state == "cancelled"  # the worker knew of the pause only


def test_asking_twice_does_not_prolong_the_deadline(store, queue):
    job = _run(store, queue())
    assert store.request_job(job.id, "cancel").intent_at == store.request_job(job.id, "cancel").intent_at


def test_what_is_over_cannot_be_stopped(store, queue):
    job = _finish(store, _run(store, queue()))
    with pytest.raises(Conflict, match="is done, so there is nothing to cancel"):
        store.request_job(job.id, "cancel")


def test_a_job_cancelled_while_it_starts_never_runs(store, queue):
    job = queue()
    store.claim_job("train", HERE)
    store.request_job(job.id, "cancel")
    seen = store.start_job(job.id, 1, pid=1)
    assert (seen.state, seen.intent) == ("stopping", "cancel")


def test_resuming_is_a_new_attempt_of_the_same_run(store, queue):
    job = _run(store, queue())
    store.finish_job(job.id, 1, "lost", error="The power went out.")
    resumed = store.resume_job(job.id)
    assert (resumed.id, resumed.state, resumed.error) == (job.id, "queued", "")
    assert store.claim_job("train", HERE).attempt == 2


def test_a_run_is_resumed_where_its_checkpoints_are(store, queue):
    job = _run(store, queue())
    store.finish_job(job.id, 1, "failed")
    store.resume_job(job.id)
    assert store.claim_job("train", ELSEWHERE) is None
    assert store.claim_job("train", HERE).id == job.id


def test_a_finished_run_is_not_resumed(store, queue):
    job = _finish(store, _run(store, queue()))
    with pytest.raises(Conflict, match=r"is done.*Run it again"):
        store.resume_job(job.id)


WRITES = {
    "start": lambda store, job: store.start_job(job, 1, pid=1),
    "beat": lambda store, job: store.beat(job, 1),
    "metrics": lambda store, job: store.log_metrics(job, 1, 9, 9, {"loss": 0.1}),
    "say": lambda store, job: store.say(job, 1, "still here"),
    "event": lambda store, job: store.add_event(job, 1, "note", {}),
    "finish": lambda store, job: store.finish_job(job, 1, "done", result={}),
    "intent": lambda store, job: store.job_intent(job, 1),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize("claimed_again", [False, True], ids=["after its end", "after the next began"])
def test_a_stale_attempt_is_refused_and_changes_nothing(store, queue, write, claimed_again):
    job = _run(store, queue())
    store.finish_job(job.id, 1, "lost")
    if claimed_again:
        store.resume_job(job.id)
        store.claim_job("train", HERE)
    before = store.job(job.id)
    with pytest.raises(RunError, match="stale"):
        write(store, job.id)
    assert store.job(job.id) == before


def test_metrics_are_appended_and_read_since(store, queue):
    job = _run(store, queue())
    store.log_metrics(job.id, 1, 1, 10, {"loss": 2.0})
    store.log_metrics(job.id, 1, 2, None, {"loss": float("nan"), "tokens": 7})
    first, second = store.metrics(job.id)
    assert (first.step, first.values) == (1, {"loss": 2.0})
    assert second.values == {"loss": None, "tokens": 7.0}
    assert store.metrics(job.id, since=first.id) == [second]
    assert store.job(job.id).progress == 0.2


def test_the_state_token_moves_with_states_and_rests_through_steps(store, queue):
    job = queue()
    tokens = [store.state_token()]
    for write in (
        lambda: store.claim_job("train", HERE),
        lambda: store.start_job(job.id, 1, pid=1),
        lambda: store.finish_job(job.id, 1, "done"),
    ):
        write()
        tokens.append(store.state_token())
        if store.job(job.id).state == "running":
            store.log_metrics(job.id, 1, 1, 2, {"loss": 1.0})
            store.say(job.id, 1, "Half-way")
            store.add_event(job.id, 1, "sample", {})
            assert store.state_token() == tokens[-1]
    assert len(set(tokens)) == 4


def test_the_change_token_moves_with_every_write_that_a_page_would_show(store, queue):
    job = queue()
    token = store.change_token()
    for write in (
        lambda: store.claim_job("train", HERE),
        lambda: store.start_job(job.id, 1, pid=1),
        lambda: store.log_metrics(job.id, 1, 1, 2, {}),
        lambda: store.say(job.id, 1, "Half-way"),
        lambda: store.add_event(job.id, 1, "note", {}),
        lambda: store.finish_job(job.id, 1, "done"),
        lambda: queue(),
    ):
        write()
        token, before = store.change_token(), token
        assert token > before


def test_a_heartbeat_makes_no_page_redraw(store, queue):
    job = _run(store, queue())
    token = store.change_token()
    store.beat(job.id, 1)
    assert store.change_token() == token


def test_the_model_of_a_run_comes_into_being_with_its_last_word(store, queue):
    job = _run(store, queue())
    row = model_row(f"run:{job.id}", "A model", author="ann")
    store.finish_job(job.id, 1, "done", result={"new_parameters": 3}, model=row)
    assert store.model(f"run:{job.id}").title == "A model"


def test_events_tell_the_story_in_order(store, queue):
    job = _run(store, queue())
    store.add_event(job.id, 1, "sample", {"prompt": "Hello"})
    store.finish_job(job.id, 1, "done")
    states = [event.payload["to"] for event in store.job_events(job.id, kinds=["state"])]
    assert states == ["queued", "starting", "running", "done"]
    assert [event.kind for event in store.job_events(job.id)][-2:] == ["sample", "state"]


def test_only_legal_transitions_ever_happen(migrated_sqlite):
    """Whatever people, supervisors and workers do, in whatever order."""
    Machine.template = migrated_sqlite
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


class Machine(RuleBasedStateMachine):
    """Calls verbs at random; each either makes a legal transition or refuses with a sentence."""

    template: Path

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ladder-machine-"))
        shutil.copy(self.template, self.folder / "studio.db")
        self.store = Store(f"sqlite:///{self.folder / 'studio.db'}")
        self.seen: dict[int, str] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(state=st.sampled_from(["queued", "held", "proposed"]))
    def add(self, state: str) -> None:
        job = self.store.queue_job(Count(), author="ann", state=state)
        self.seen[job.id] = job.state

    @rule(by=st.sampled_from(["hold_job", "release_job", "resume_job"]), data=st.data())
    def ask(self, by: str, data: st.DataObject) -> None:
        self._try(data, getattr(self.store, by))

    @rule(to=st.sampled_from(["up", "down", "first", "last"]), data=st.data())
    def move(self, to: str, data: st.DataObject) -> None:
        self._try(data, lambda job_id: self.store.move_job(job_id, to))

    @rule(intent=st.sampled_from(["pause", "cancel"]), data=st.data())
    def request(self, intent: str, data: st.DataObject) -> None:
        self._try(data, lambda job_id: self.store.request_job(job_id, intent))

    @rule(lane=st.sampled_from(["train", "light"]))
    def claim(self, lane: str) -> None:
        self.store.claim_job(lane, HERE)

    @rule(attempt=st.integers(1, 3), data=st.data())
    def start(self, attempt: int, data: st.DataObject) -> None:
        self._try(data, lambda job_id: self.store.start_job(job_id, attempt, pid=1))

    @rule(
        attempt=st.integers(1, 3),
        state=st.sampled_from(["paused", "done", "failed", "cancelled", "lost"]),
        data=st.data(),
    )
    def finish(self, attempt: int, state: str, data: st.DataObject) -> None:
        self._try(data, lambda job_id: self.store.finish_job(job_id, attempt, state))

    @invariant()
    def every_step_was_legal(self) -> None:
        for job in self.store.jobs():
            before = self.seen.get(job.id, job.state)
            assert job.state == before or job.state in LEGAL[before], f"{before} -> {job.state}"
            assert (job.ended_at is not None) == job.is_over
            assert not job.intent or job.state in (
                "stopping",
                "paused",
                "done",
                "failed",
                "cancelled",
                "lost",
            )
            self.seen[job.id] = job.state
        assert len(self.store.active_jobs(HERE)) <= 1

    def _try(self, data: st.DataObject, verb: Callable[[int], object]) -> None:
        if self.seen:
            try:
                verb(data.draw(st.sampled_from(sorted(self.seen))))
            except (Conflict, RunError):
                pass


# -- what follows a job ------------------------------------------------------------------------------------


def test_what_is_to_follow_a_job_is_queued_when_it_is_done_by_whoever_wished_it(store, queue):
    job = queue()
    store.follow_job(job.id, LightCount(steps=7), author="ben")
    assert store.followers(job.id) == ["light-count"]
    assert [j.id for j in store.jobs()] == [job.id]  # nothing waits in the meantime
    _finish(store, _run(store, job))
    follower = store.jobs()[0]
    assert (follower.kind, follower.task["steps"], follower.lane) == ("light-count", 7, "light")
    assert (follower.state, follower.author) == ("queued", "ben")


def test_what_was_to_follow_comes_once_however_often_it_was_said_and_however_many_attempts_it_took(store, queue):
    job = queue()
    for _ in range(2):
        store.follow_job(job.id, LightCount(steps=7), author="ben")
    _fail(store, job)
    assert len(store.jobs()) == 1
    store.resume_job(job.id)
    _finish(store, _run(store, job))
    assert len(store.jobs()) == 2


def test_nothing_can_wait_for_a_job_that_is_done(store, queue):
    job = queue()
    _finish(store, _run(store, job))
    with pytest.raises(Conflict, match="is done, so nothing can wait for it"):
        store.follow_job(job.id, LightCount(), author="ben")


def _run(store: Store, job: Job) -> Job:
    claimed = store.claim_job("train", HERE, only=job.id)
    assert claimed is not None
    return store.start_job(claimed.id, claimed.attempt, pid=4242)


def _light(store: Store) -> Job:
    return store.queue_job(LightCount(), author="ann")


def _fail(store: Store, job: Job) -> Job:
    job = _run(store, job)
    return store.finish_job(job.id, job.attempt, "failed", error="It broke.")


def _finish(store: Store, job: Job) -> Job:
    if job.state == "starting":
        job = store.start_job(job.id, job.attempt, pid=4242)
    return store.finish_job(job.id, job.attempt, "done", result={})
