"""Whatever is asked and seen, in whatever order and however often, an orchestration keeps its promises."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.command_handler import Cause
from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.attempts import AGENT_GONE
from shared.domain.commands import ActivateOrchestration, AnyCommand, Deciding, Tick
from shared.domain.errors import Refusal
from shared.domain.events import AgentStatus, OrchestrationEvent, OrchestrationStatus, TaskStatus
from shared.domain.evolve import evolve
from shared.domain.orchestration import decide
from shared.domain.patience import Patience
from shared.domain.readiness import due_times
from shared.domain.state import Attempt, Orchestration, Phase
from shared.envelope import Commit, RecordedEvent, decode, encode
from tests.support.orchestrations import (
    CANCEL,
    DELETE,
    DRAIN,
    ORCHESTRATION,
    PAUSE,
    RESUME,
    T0,
    TEAM,
    change,
    change_task,
    make_spec,
    make_task,
    restart,
    retry,
    skip,
)
from tests.support.orchestrations import add as add_task
from tests.unit.domain.promises import (
    changes_nothing_else,
    is_never_stuck,
    keeps_its_counts,
    keeps_its_limits,
    keeps_its_promises,
    keeps_its_statuses,
    plans_for_each_phase,
    puts_away_what_is_left,
)

CAUSE = Cause("command", "correlation", "ann")
REFUSALS = {"ALREADY_ACTIVE", "ALREADY_COMPLETED", "INVALID_STATE_TRANSITION", "INVALID_TASK", "AGENT_NOT_FOUND"}


@st.composite
def creations(draw: st.DrawFn) -> cmd.CreateOrchestration:
    names = draw(st.permutations("abcde"[: draw(st.integers(1, 5))]))
    tasks = []
    for place, name in enumerate(names):  # each may depend on those that come before it in this drawing
        before = st.lists(st.sampled_from(names[:place]), unique=True, max_size=2) if place else st.just([])
        depends_on = draw(st.one_of(st.just([]), before))
        task = make_task(
            name,
            depends_on=tuple(depends_on),
            max_retries=draw(st.integers(0, 2)),
            timeout_minutes=draw(st.sampled_from([5, 120])),
            priority=draw(st.sampled_from(["low", "medium", "high"])),
            order_index=ord(name),
        )
        tasks.append(task)
    mode = draw(st.sampled_from(["sequential", "parallel"]))
    spec = make_spec(
        execution_mode=mode,
        max_parallel=draw(st.sampled_from([None, 1, 2])) if mode == "parallel" else None,
        failure_policy=draw(st.sampled_from(["fail_fast", "continue"])),
        base=draw(st.sampled_from(["ref", "previous"])),
        model=draw(st.sampled_from([None, "o3"])),
        strict_model=draw(st.booleans()),
        deliverable=draw(st.sampled_from(["any", "any", "branch", "pr"])),
        priority=draw(st.sampled_from(["speed", "balanced"])),
        max_cost=draw(st.sampled_from([None, None, None, 1.0])),
        start_at=draw(st.sampled_from([None, T0 + timedelta(hours=1)])),
    )
    return cmd.CreateOrchestration(
        orchestration_id=ORCHESTRATION,
        team=TEAM,
        created_by="ann",
        spec=spec,
        tasks=tuple(tasks),
        activate=draw(st.sampled_from([True, True, True, False])),
    )


FAILURES = st.builds(
    ev.Failure,
    code=st.sampled_from(["CODE", AGENT_GONE, "QUOTA_EXCEEDED"]),
    message=st.just("why"),
    retryable=st.booleans(),
)
RESULTS = st.fixed_dictionaries(
    {
        "branch": st.sampled_from([None, "cursor/x"]),
        "pr_url": st.sampled_from([None, "https://github.com/acme/shop/pull/7"]),
        "usage_pending": st.booleans(),
        "cost": st.sampled_from([None, 0.0, 0.25]),
        "summary": st.sampled_from([None, "Did it – ✓"]),
        "duration_ms": st.sampled_from([None, 0, 61_000]),
    }
)
DELIVERED = {"branch": "cursor/x", "pr_url": "https://github.com/acme/shop/pull/7"}
VERSIONS = st.sampled_from(["v0", "v1"])
CHANGES = st.tuples(
    st.sampled_from(
        [
            {"name": "New"},
            {"max_cost": 2.0},
            {"max_cost": None},
            {"max_cost": 0.25},
            {"failure_policy": "continue"},
            {"failure_policy": "fail_fast"},
            {"deliverable": "pr"},
            {"base": "previous"},
        ]
    ),
    st.sampled_from(
        [
            {"title": "New"},
            {"priority": "high"},
            {"priority": "low"},
            {"max_retries": 0},
            {"max_retries": 2},
            {"order_index": 0},
            {"depends_on": []},
            {"metadata": {"nothing": None}},
        ]
    ),
)


class Life(RuleBasedStateMachine):
    """One orchestration, its users, the services that carry it out, and time."""

    now: datetime
    state: Orchestration | None

    def __init__(self) -> None:
        super().__init__()
        self.now = T0
        self.state = None
        self.reread: Orchestration | None = None
        self.log: list[tuple[datetime, OrchestrationEvent]] = []
        self.past: list[AnyCommand] = []
        self.looked_at = (0, T0)
        self.patience = Patience()

    @initialize(creation=creations(), result_grace=st.sampled_from([timedelta(0), timedelta(minutes=1)]))
    def create(self, creation: cmd.CreateOrchestration, result_grace: timedelta) -> None:
        self.patience = Patience(result_grace=result_grace)
        self.do(creation)

    # What users may do

    @precondition(lambda self: self.known.status is OrchestrationStatus.PENDING)
    @rule()
    def activate(self) -> None:
        self.do(ActivateOrchestration())

    @precondition(lambda self: self.known.status is not OrchestrationStatus.PENDING)
    @rule(command=st.sampled_from([PAUSE, PAUSE, DRAIN, RESUME, RESUME, RESUME]))
    def it_is_steered(self, command: AnyCommand) -> None:
        self.do(command)

    @precondition(lambda self: len(self.log) > 20)
    @rule(command=st.sampled_from([CANCEL, CANCEL, CANCEL, DELETE]))
    def it_is_given_up(self, command: AnyCommand) -> None:
        self.do(command)

    @precondition(lambda self: any(attempt.may_have_agent for attempt in self.active()))
    @rule(command=st.sampled_from([PAUSE, PAUSE, DRAIN, CANCEL]))
    def agents_at_work_are_interrupted(self, command: AnyCommand) -> None:
        self.do(command)

    @precondition(lambda self: self.known.status.is_terminal and not self.known.deleted)
    @rule(data=st.data(), command=st.sampled_from([retry, restart]))
    def it_is_taken_up_again(self, data: st.DataObject, command: Any) -> None:
        self.do(command(self.any_task(data)))

    @rule(data=st.data(), changes=CHANGES)
    def something_is_changed(self, data: st.DataObject, changes: tuple[dict[str, Any], dict[str, Any]]) -> None:
        of_all, of_task = changes
        places = [{"max_parallel": 1}, {"max_parallel": 3}] if self.known.spec.execution_mode == "parallel" else []
        task, other = self.any_task(data), self.any_task(data)
        new = add_task(
            f"n{len(self.known.tasks)}",
            depends_on=data.draw(st.sampled_from([(), (other,)])),
            max_retries=1,
            at_end=data.draw(st.booleans()),
        )
        commands: list[AnyCommand] = [
            change(**of_all),
            *(change(**place) for place in places),
            change_task(task, **of_task),
            change_task(task, depends_on=[other]),
            *([new, new] if len(self.known.tasks) < 8 else []),
        ]
        self.do(data.draw(st.sampled_from(commands)))

    @precondition(lambda self: self.tasks_in(TaskStatus.FAILED))
    @rule(data=st.data(), command=st.sampled_from([retry, retry, restart, skip]))
    def a_failed_task_is_taken_up(self, data: st.DataObject, command: Any) -> None:
        self.do(command(data.draw(st.sampled_from(self.tasks_in(TaskStatus.FAILED)))))

    @rule(data=st.data(), command=st.sampled_from([retry, restart, restart, skip]))
    def a_task_is_commanded(self, data: st.DataObject, command: Any) -> None:
        self.do(command(self.any_task(data)))

    @precondition(lambda self: self.active())
    @rule(data=st.data())
    def an_agent_is_stopped(self, data: st.DataObject) -> None:
        self.do(cmd.StopAttempt(attempt_id=data.draw(st.sampled_from(self.active())).attempt_id))

    @precondition(lambda self: any(attempt.has_had_agent for attempt in self.attempts()))
    @rule(data=st.data())
    def an_agent_is_told_more(self, data: st.DataObject) -> None:
        self.do(cmd.FollowUp(attempt_id=self.attempt_with_agent(data).attempt_id, prompt="Go on."))

    @precondition(lambda self: any(attempt.has_had_agent for attempt in self.attempts()))
    @rule(data=st.data(), is_gone=st.booleans())
    def an_agent_is_deleted(self, data: st.DataObject, is_gone: bool) -> None:
        attempt_id = self.attempt_with_agent(data).attempt_id
        self.do(cmd.DeleteAgent(attempt_id=attempt_id))
        if is_gone:
            self.do(cmd.RecordAgentDeleted(attempt_id=attempt_id))

    @precondition(lambda self: any(attempt.has_had_agent for attempt in self.attempts()))
    @rule(data=st.data(), is_archived=st.booleans())
    def an_agent_is_put_away(self, data: st.DataObject, is_archived: bool) -> None:
        attempt_id = self.attempt_with_agent(data).attempt_id
        if is_archived:
            self.do(cmd.RecordAgentArchived(attempt_id=attempt_id))
        else:
            self.do(cmd.DiscardAgent(attempt_id=attempt_id))

    # What the services may see and do

    @rule(minutes=st.sampled_from([0, 0.5, 1, 3, 10, 130]))
    def time_passes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)
        self.do(Tick())

    @precondition(lambda self: self.active())
    @rule(data=st.data(), steps=st.integers(1, 3), version=VERSIONS, result=RESULTS)
    def an_attempt_goes_its_way(self, data: st.DataObject, steps: int, version: Any, result: dict[str, Any]) -> None:
        chosen = data.draw(st.sampled_from(self.active()))
        for _ in range(steps):
            attempt = self.known_attempt(chosen)
            if attempt.is_active:
                self.do(self.next_step(attempt, result, version))

    @precondition(lambda self: self.active())
    @rule(data=st.data(), steps=st.integers(1, 2))
    def all_agents_come_up(self, data: st.DataObject, steps: int) -> None:
        for attempt in self.active():
            for _ in range(steps):
                if self.known_attempt(attempt).phase in (Phase.QUEUED, Phase.STARTED):
                    self.do(self.next_step(self.known_attempt(attempt), {}, "v1"))

    @precondition(lambda self: self.active())
    @rule(data=st.data(), status=st.sampled_from([AgentStatus.FAILED, AgentStatus.STOPPED, AgentStatus.EXPIRED]))
    def an_attempt_ends_badly(self, data: st.DataObject, status: AgentStatus) -> None:
        attempt = data.draw(st.sampled_from(self.active()))
        self.do(self.start(attempt, "v1"))
        self.do(reply_of(attempt, AgentStatus.RUNNING))
        self.do(observation(attempt, status, data.draw(RESULTS), agent_of(attempt)))

    @precondition(lambda self: any(attempt.phase is Phase.CREATED for attempt in self.active()))
    @rule(data=st.data(), minutes=st.lists(st.sampled_from([0, 2.5, 5]), min_size=1, max_size=3))
    def an_agent_is_not_found(self, data: st.DataObject, minutes: list[float]) -> None:
        attempt = data.draw(st.sampled_from([found for found in self.active() if found.phase is Phase.CREATED]))
        for pause in minutes:
            self.now += timedelta(minutes=pause)
            self.do(
                cmd.ReportMissing(
                    attempt_id=attempt.attempt_id,
                    agent_id=agent_of(attempt),
                    provider_code="agent_not_found",
                    source="poll",
                )
            )

    @precondition(lambda self: any(attempt.stop_reason for attempt in self.active()))
    @rule(data=st.data(), end=st.sampled_from([AgentStatus.STOPPED, AgentStatus.FINISHED, AgentStatus.FAILED, None]))
    def an_agent_has_stopped(self, data: st.DataObject, end: AgentStatus | None) -> None:
        attempt = data.draw(st.sampled_from([found for found in self.active() if found.stop_reason]))
        if end is None:
            self.do(cmd.RejectAttempt(attempt_id=attempt.attempt_id, failure=data.draw(FAILURES)))
        else:
            self.do(reply_of(attempt, AgentStatus.RUNNING))
            self.do(observation(attempt, end, data.draw(RESULTS), agent_of(attempt)))

    @precondition(lambda self: self.attempts())
    @rule(data=st.data(), failure=FAILURES)
    def a_create_is_refused(self, data: st.DataObject, failure: ev.Failure) -> None:
        attempt = self.any_attempt(data)
        self.do(self.start(attempt, "v1"))
        self.do(cmd.RejectAttempt(attempt_id=attempt.attempt_id, failure=failure))

    @precondition(lambda self: self.attempts())
    @rule(data=st.data(), model=st.sampled_from(["o3", "o9"]))
    def its_model_is_refused(self, data: st.DataObject, model: str) -> None:
        attempt = self.any_attempt(data)
        self.do(self.start(attempt, "v1"))
        self.do(cmd.DropModel(attempt_id=attempt.attempt_id, model=model, reason="why"))

    @precondition(lambda self: self.active())
    @rule(data=st.data(), reason=st.sampled_from(["slot", "rate_limit", "budget", "quota"]))
    def a_wait_is_noted(self, data: st.DataObject, reason: ev.LaunchWait) -> None:
        until = data.draw(st.sampled_from([None, T0 + timedelta(minutes=3)]))
        attempt = data.draw(st.sampled_from(self.active()))
        self.do(cmd.NoteWaiting(attempt_id=attempt.attempt_id, reason=reason, until=until))

    @precondition(lambda self: self.attempts())
    @rule(data=st.data(), status=st.sampled_from(AgentStatus), what=st.sampled_from(["start", "reply", "see", "other"]))
    def something_late_comes(self, data: st.DataObject, status: AgentStatus, what: str) -> None:
        attempt = self.any_attempt(data)
        match what:
            case "start":
                self.do(self.start(attempt, data.draw(VERSIONS)))
            case "reply":
                self.do(reply_of(attempt, status))
            case "see":
                self.do(observation(attempt, status, data.draw(RESULTS), agent_of(attempt)))
            case _:
                self.do(observation(attempt, status, data.draw(RESULTS), "bc-stranger"))

    @precondition(lambda self: self.attempts())
    @rule(data=st.data(), is_due=st.booleans())
    def a_deadline_is_looked_at(self, data: st.DataObject, is_due: bool) -> None:
        attempt = self.any_attempt(data)
        if is_due and attempt.deadline_at is not None:
            self.now = max(self.now, attempt.deadline_at)
        self.do(cmd.ExpireAttempt(attempt_id=attempt.attempt_id))

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def something_comes_again(self, data: st.DataObject) -> None:
        self.do(data.draw(st.sampled_from(self.past)))

    # What must hold

    @invariant()
    def promises(self) -> None:
        if self.state is None or (self.state.version, self.now) == self.looked_at:
            return
        self.looked_at = (self.state.version, self.now)
        keeps_its_limits(self.state)
        keeps_its_statuses(self.state)
        keeps_its_counts(self.state, self.now)
        is_never_stuck(self.state)
        plans_for_each_phase(self.state)
        puts_away_what_is_left(self.state)
        assert self.state.version == len(self.log)
        assert self.reread == self.state, "written and read again, it is another"

    def teardown(self) -> None:
        if self.state is None:
            return
        if not self.state.deleted:
            self.brings_itself_to_an_end()
        again: Orchestration | None = None
        for at, event in self.log:
            again = evolve(again, event, at)
        assert again == self.state, "replayed from its first event, it is another"

    def brings_itself_to_an_end(self) -> None:
        """From wherever it is: once all that lives is seen to finish and time goes on, it ends."""
        self.do(change(max_cost=None))
        self.do(RESUME if self.known.status is OrchestrationStatus.PAUSED else ActivateOrchestration())
        for _ in range(300):
            if self.known.status.is_terminal:
                return
            active = [attempt for _, attempt in self.known.active_attempts()]
            if active:
                self.now = max(self.now, active[0].awaited.until if active[0].awaited else self.now)
                self.do(self.next_step(active[0], DELIVERED, "v1"))
            else:
                due = due_times(self.known)
                assert due, "it never ends"
                # What was due before may have to wait for what is due next.
                self.now = next((moment for moment in due if moment > self.now), self.now)
                self.do(Tick())
            self.promises()
        raise AssertionError("it never ends")

    # How it is done

    @property
    def known(self) -> Orchestration:
        assert self.state is not None
        return self.state

    def attempts(self) -> list[Attempt]:
        return [attempt for task in self.state.tasks.values() for attempt in task.attempts] if self.state else []

    def active(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts() if attempt.is_active]

    def known_attempt(self, attempt: Attempt) -> Attempt:
        """The attempt as it is now."""
        return next(found for found in self.attempts() if found.attempt_id == attempt.attempt_id)

    def any_attempt(self, data: st.DataObject) -> Attempt:
        return data.draw(st.sampled_from(self.attempts()))

    def attempt_with_agent(self, data: st.DataObject) -> Attempt:
        return data.draw(st.sampled_from([attempt for attempt in self.attempts() if attempt.has_had_agent]))

    def tasks_in(self, status: TaskStatus) -> list[str]:
        return [task.task_id for task in self.known.tasks.values() if task.status is status]

    def any_task(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.known.tasks)))

    def next_step(self, attempt: Attempt, result: dict[str, Any], version: Any) -> AnyCommand:
        match attempt.phase:
            case Phase.QUEUED:
                return self.start(attempt, version)
            case Phase.STARTED:
                return reply_of(attempt, AgentStatus.RUNNING)
            case _:
                return observation(attempt, AgentStatus.FINISHED, result, agent_of(attempt))

    def start(self, attempt: Attempt, api_version: Any) -> cmd.StartAttempt:
        return cmd.StartAttempt(
            attempt_id=attempt.attempt_id, agent_id=agent_of(attempt), api_version=api_version, branch_name="cursor/x"
        )

    def do(self, command: AnyCommand) -> None:
        """Decide, commit, and decide the same again, which must lead to nothing or be refused."""
        if not isinstance(command, cmd.CreateOrchestration):
            self.past.append(command)
        events = self.decided(command)
        if events:
            self.commit(command, events)
            if not isinstance(command, cmd.CreateOrchestration):
                assert self.decided(command) == [], "the same again led to something"

    def decided(self, command: AnyCommand) -> list[OrchestrationEvent]:
        try:
            return decide(self.state, command, Deciding(self.now, jitter=0.5, patience=self.patience))
        except Refusal as refusal:
            if refusal.code not in REFUSALS and not self.known.deleted:
                raise
            return []

    def commit(self, command: AnyCommand, events: list[OrchestrationEvent]) -> None:
        version = self.state.version if self.state else 0
        recorded = tuple(RecordedEvent(f"e-{version}-{n}", self.now, event) for n, event in enumerate(events))
        commit = Commit("c", CAUSE.command_id, "x", "ann", TEAM, ORCHESTRATION, version + 1, self.now, recorded)
        for event in events:
            before, self.state = self.state, evolve(self.state, event, self.now)
            if before is not None:
                keeps_its_promises(before, event, command, self.now)
                changes_nothing_else(before, event, self.state)
            self.log.append((self.now, event))
        for entry in decode(encode(commit)).events:
            self.reread = evolve(self.reread, entry.event, entry.occurred_at)


def agent_of(attempt: Attempt) -> str:
    if attempt.agent_id is None and attempt.continues is not None:
        return attempt.continues.agent_id
    return attempt.agent_id or f"bc-{attempt.attempt_id}"


def reply_of(attempt: Attempt, status: AgentStatus) -> cmd.RecordAgent:
    return cmd.RecordAgent(
        attempt_id=attempt.attempt_id,
        agent_id=agent_of(attempt),
        status=status,
        provider_status=status.value,
        run_id=f"run-{attempt.attempt_id}",
    )


def observation(attempt: Attempt, status: AgentStatus, result: dict[str, Any], agent_id: str) -> cmd.ObserveAgent:
    return cmd.ObserveAgent(
        attempt_id=attempt.attempt_id,
        agent_id=agent_id,
        status=status,
        provider_status=status.value,
        source="poll",
        **(result if status.is_terminal else {}),
    )


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
