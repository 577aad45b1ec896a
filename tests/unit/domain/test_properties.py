"""Whatever is asked and seen, in whatever order and however often, an orchestration keeps its promises."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.command_handler import Cause
from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.commands import ActivateOrchestration, AnyCommand, Deciding, Tick
from shared.domain.errors import Refusal
from shared.domain.events import AgentStatus, OrchestrationEvent, OrchestrationStatus, TaskStatus
from shared.domain.evolve import evolve
from shared.domain.orchestration import decide
from shared.domain.plan import FreeSlot, Launch, StopAgent, Watch, plan
from shared.domain.prompt import build_prompt
from shared.domain.readiness import SATISFIED, next_due, waiting_for
from shared.domain.state import Attempt, Orchestration, Phase, Task, statistics_of
from shared.envelope import Commit, RecordedEvent, decode, encode
from shared.views import orchestration_view, statistics, task_views
from tests.support.orchestrations import ORCHESTRATION, T0, TEAM, make_spec, make_task

CAUSE = Cause("command", "correlation", "ann")
EndOfTask = ev.TaskCompleted | ev.TaskFailed | ev.TaskCancelled
ENDS = (ev.OrchestrationCompleted, ev.OrchestrationFailed)
REFUSALS = {"ALREADY_COMPLETED", "INVALID_STATE_TRANSITION"}


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
    spec = make_spec(
        execution_mode=draw(st.sampled_from(["sequential", "parallel"])),
        max_parallel=draw(st.sampled_from([None, 1, 2])),
        failure_policy=draw(st.sampled_from(["fail_fast", "continue"])),
        base=draw(st.sampled_from(["ref", "previous"])),
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


FAILURES = st.builds(ev.Failure, code=st.just("CODE"), message=st.just("why"), retryable=st.booleans())
RESULTS = st.fixed_dictionaries(
    {
        "branch": st.sampled_from([None, "cursor/x"]),
        "pr_url": st.sampled_from([None, "https://github.com/acme/shop/pull/7"]),
        "cost": st.sampled_from([None, 0.0, 0.25]),
        "summary": st.sampled_from([None, "Did it – ✓"]),
        "duration_ms": st.sampled_from([None, 0, 61_000]),
    }
)
DELIVERED = {"branch": "cursor/x", "pr_url": "https://github.com/acme/shop/pull/7"}


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
        self.ended: dict[str, Task] = {}

    # What may happen

    @initialize(creation=creations())
    def create(self, creation: cmd.CreateOrchestration) -> None:
        self.do(creation)

    @precondition(lambda self: not self.attempts())
    @rule()
    def activate(self) -> None:
        self.do(ActivateOrchestration())

    @rule(minutes=st.sampled_from([0, 0.5, 1, 3, 10, 130]))
    def time_passes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)
        self.do(Tick())

    @precondition(lambda self: self.active())
    @rule(data=st.data(), steps=st.integers(1, 3))
    def an_attempt_goes_its_way(self, data: st.DataObject, steps: int) -> None:
        chosen = data.draw(st.sampled_from(self.active()))
        result = data.draw(RESULTS)
        for _ in range(steps):
            attempt = self.known_attempt(chosen)
            if attempt.is_active:
                self.do(self.next_step(attempt, result))

    @precondition(lambda self: self.active())
    @rule(data=st.data(), status=st.sampled_from([AgentStatus.FAILED, AgentStatus.STOPPED, AgentStatus.EXPIRED]))
    def an_attempt_ends_badly(self, data: st.DataObject, status: AgentStatus) -> None:
        attempt = data.draw(st.sampled_from(self.active()))
        self.do(self.start(attempt, "v1"))
        self.do(observation(attempt, status, data.draw(RESULTS), agent_of(attempt)))

    @precondition(lambda self: self.attempts())
    @rule(data=st.data(), api_version=st.sampled_from(["v0", "v1"]))
    def a_start_comes(self, data: st.DataObject, api_version: Any) -> None:
        self.do(self.start(self.any_attempt(data), api_version))

    @precondition(lambda self: self.attempts())
    @rule(data=st.data(), status=st.sampled_from(AgentStatus))
    def a_reply_comes(self, data: st.DataObject, status: AgentStatus) -> None:
        attempt = self.any_attempt(data)
        command = cmd.RecordAgent(
            attempt_id=attempt.attempt_id, agent_id=agent_of(attempt), status=status, provider_status=status.value
        )
        self.do(command)

    @precondition(lambda self: self.attempts())
    @rule(data=st.data(), failure=FAILURES)
    def a_refusal_comes(self, data: st.DataObject, failure: ev.Failure) -> None:
        self.do(cmd.RejectAttempt(attempt_id=self.any_attempt(data).attempt_id, failure=failure))

    @precondition(lambda self: self.attempts())
    @rule(data=st.data(), status=st.sampled_from(AgentStatus), stranger=st.sampled_from([False] * 9 + [True]))
    def an_observation_comes(self, data: st.DataObject, status: AgentStatus, stranger: bool) -> None:
        attempt = self.any_attempt(data)
        self.do(observation(attempt, status, data.draw(RESULTS), "bc-stranger" if stranger else agent_of(attempt)))

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
        if self.state is None:
            return
        keeps_its_limits(self.state)
        keeps_its_counts(self.state, self.now)
        is_never_stuck(self.state)
        plans_for_each_phase(self.state)
        self.keeps_its_ends()
        assert self.state.version == len(self.log)
        assert self.reread == self.state, "written and read again, it is another"

    def keeps_its_ends(self) -> None:
        ends = Counter(event.task_id for _, event in self.log if isinstance(event, EndOfTask))
        for task in self.known.tasks.values():
            assert ends[task.task_id] == int(task.status.is_terminal)
            if task.task_id in self.ended:
                assert self.ended[task.task_id] == task, "a task changed after its end"
            elif task.status.is_terminal:
                self.ended[task.task_id] = task
        over = [event for _, event in self.log if isinstance(event, ENDS)]
        assert len(over) == int(self.known.status.is_terminal)
        if over:
            assert self.log[-1][1] is over[0], "something happened after the end"
            assert all(task.status.is_terminal for task in self.known.tasks.values())
            assert not list(self.known.active_attempts())

    def teardown(self) -> None:
        if self.state is None:
            return
        self.brings_itself_to_an_end()
        again: Orchestration | None = None
        for at, event in self.log:
            again = evolve(again, event, at)
        assert again == self.state, "replayed from its first event, it is another"

    def brings_itself_to_an_end(self) -> None:
        """From wherever it is: once all that lives is seen to finish and time goes on, it ends."""
        self.do(ActivateOrchestration())
        for _ in range(200):
            if self.known.status.is_terminal:
                return
            active = [attempt for _, attempt in self.known.active_attempts()]
            if active:
                self.do(self.next_step(active[0], DELIVERED))
            elif (due := next_due(self.known)) is not None and not over_budget(self.known):
                self.now = max(self.now, due)
                self.do(Tick())
            else:
                break
            self.promises()
        assert over_budget(self.known), "it never ends"

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

    def next_step(self, attempt: Attempt, result: dict[str, Any]) -> AnyCommand:
        match attempt.phase:
            case Phase.QUEUED:
                return self.start(attempt, "v1")
            case Phase.STARTED:
                return cmd.RecordAgent(
                    attempt_id=attempt.attempt_id,
                    agent_id=agent_of(attempt),
                    status=AgentStatus.RUNNING,
                    provider_status="RUNNING",
                )
            case _:
                return observation(attempt, AgentStatus.FINISHED, result, agent_of(attempt))

    def start(self, attempt: Attempt, api_version: Any) -> cmd.StartAttempt:
        return cmd.StartAttempt(
            attempt_id=attempt.attempt_id, agent_id=agent_of(attempt), api_version=api_version, branch_name="cursor/x"
        )

    def do(self, command: AnyCommand) -> None:
        """Decide, commit, and decide the same again, which must lead to nothing."""
        if not isinstance(command, cmd.CreateOrchestration):
            self.past.append(command)
        deciding = Deciding(self.now, jitter=0.5)
        try:
            events = decide(self.state, command, deciding)
        except Refusal as refusal:
            if refusal.code not in REFUSALS:
                raise
            return
        if events:
            self.commit(events)
        if not isinstance(command, cmd.CreateOrchestration):
            assert decide(self.state, command, deciding) == [], "the same again led to something"

    def commit(self, events: list[OrchestrationEvent]) -> None:
        version = self.state.version if self.state else 0
        recorded = tuple(RecordedEvent(f"e-{version}-{n}", self.now, event) for n, event in enumerate(events))
        commit = Commit("c", CAUSE.command_id, "x", "ann", TEAM, ORCHESTRATION, version + 1, self.now, recorded)
        for event in events:
            if isinstance(event, ev.TaskQueued):
                may_be_queued(self.known, event, self.now)
            if isinstance(event, EndOfTask | ev.AttemptFailed):
                leaves_no_agent_behind(self.known, event)
            self.state = evolve(self.state, event, self.now)
            self.log.append((self.now, event))
        for entry in decode(encode(commit)).events:
            self.reread = evolve(self.reread, entry.event, entry.occurred_at)


def agent_of(attempt: Attempt) -> str:
    return attempt.agent_id or f"bc-{attempt.attempt_id}"


def observation(attempt: Attempt, status: AgentStatus, result: dict[str, Any], agent_id: str) -> cmd.ObserveAgent:
    return cmd.ObserveAgent(
        attempt_id=attempt.attempt_id,
        agent_id=agent_id,
        status=status,
        provider_status=status.value,
        source="poll",
        **(result if status.is_terminal else {}),
    )


def over_budget(state: Orchestration) -> bool:
    return state.spec.max_cost is not None and state.total_cost >= state.spec.max_cost


def limit(state: Orchestration) -> int:
    if state.spec.execution_mode == "sequential":
        return 1
    return state.spec.max_parallel or len(state.tasks)


def may_be_queued(state: Orchestration, event: ev.TaskQueued, now: datetime) -> None:
    task = state.tasks[event.task_id]
    assert state.status is OrchestrationStatus.ACTIVE
    assert task.status is TaskStatus.PENDING
    assert task.current is None
    assert task.retry_at is None or task.retry_at <= now
    assert event.number == len(task.attempts) + 1
    assert event.attempt_id not in state.attempt_index
    assert not over_budget(state)
    assert all(state.tasks[other].status in SATISFIED for other in task.spec.depends_on)
    if state.spec.execution_mode == "sequential":
        waiting = [other for other in state.tasks.values() if other.retry_at is not None and other.retry_at > now]
        assert not waiting, "it took the turn of a task that waits for its retry"


def leaves_no_agent_behind(state: Orchestration, event: ev.AttemptFailed | EndOfTask) -> None:
    attempt = state.tasks[event.task_id].current
    if attempt is None or attempt.phase is Phase.QUEUED:
        return
    assert isinstance(event, ev.AttemptFailed | ev.TaskCompleted), "an agent is let go that may still be at work"
    if attempt.phase is Phase.CREATED:
        assert attempt.status is not None
        assert attempt.status.is_terminal, "an agent is let go that was not seen to end"


def keeps_its_limits(state: Orchestration) -> None:
    for task in state.tasks.values():
        assert not any(attempt.is_active for attempt in task.attempts[:-1]), "two attempts of one task"
        assert len(task.attempts) <= 1 + task.spec.max_retries
        assert task.retry_count <= task.spec.max_retries
    in_hand = [attempt for _, attempt in state.active_attempts()]
    assert len(in_hand) <= limit(state), "more at once than asked for"


def keeps_its_counts(state: Orchestration, now: datetime) -> None:
    counts = statistics_of(state, now)
    parts = (
        counts.pending_tasks,
        counts.processing_tasks,
        counts.completed_tasks,
        counts.failed_tasks,
        counts.cancelled_tasks,
        counts.skipped_tasks,
    )
    assert sum(parts) == counts.total_tasks == len(state.tasks)
    shown = [orchestration_view(state), *task_views(state)]
    found = statistics(shown[0], shown[1:], now)
    assert (found["duration"], found["totalCost"]) == (counts.duration_ms, counts.total_cost)
    assert (found["progress"] == 100) == all(task.status.is_terminal for task in state.tasks.values())
    assert orjson.loads(orjson.dumps([*shown, found])) == [*shown, found]
    if state.statistics is not None:
        assert state.statistics == counts


def is_never_stuck(state: Orchestration) -> None:
    if state.status is not OrchestrationStatus.ACTIVE:
        return
    goes_on = list(state.active_attempts()) or next_due(state) is not None
    assert goes_on or over_budget(state), "nothing will ever happen again"
    for task in state.tasks.values():
        waits = waiting_for(state, task, state.updated_at) is not None
        assert waits == (task.status is TaskStatus.PENDING)


def plans_for_each_phase(state: Orchestration) -> None:
    planned: dict[str, set[type]] = {}
    for action in plan(state):
        if isinstance(action, Launch | Watch | StopAgent | FreeSlot):
            planned.setdefault(action.attempt_id, set()).add(type(action))
    for task in state.tasks.values():
        for attempt in task.attempts:
            stop = {StopAgent} if attempt.stop_reason is not None else set()
            wanted = {
                Phase.QUEUED: {Launch},
                Phase.STARTED: {Launch},
                Phase.CREATED: {Watch} | stop,
                Phase.ENDED: {FreeSlot},
            }
            assert planned[attempt.attempt_id] == wanted[attempt.phase]
        if current := task.current:
            place = list(state.tasks).index(task.task_id) + 1
            first = build_prompt(state, task, current).splitlines()[0]
            assert first == f"Task {place} of {len(state.tasks)}: {task.spec.title}"


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
