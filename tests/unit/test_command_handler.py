"""Commands reach the log once each, whoever else writes, whatever the cache believes, and when the log falls silent."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from shared.command_handler import MAX_CONFLICTS, Cause, CommandHandler, Decided, HistoryError, TooManyConflictsError
from shared.domain.commands import ActivateOrchestration, AnyCommand, Tick
from shared.domain.errors import Refusal
from shared.domain.events import AgentStatus, OrchestrationStatus
from shared.domain.evolve import evolve
from shared.domain.state import Orchestration
from shared.envelope import Commit, Stored
from shared.memory import ManualClock, MemoryEventLog, SequentialIds
from shared.ports import ConflictError, LogUnavailableError
from shared.system import RandomIds
from tests.support.orchestrations import (
    ORCHESTRATION,
    OVERLOADED,
    T0,
    TEAM,
    create,
    finish,
    make_task,
    observe,
    record,
    reject,
    start,
)

ACTIVATE = ActivateOrchestration()


class TroubledLog(MemoryEventLog):
    """A log that counts, and that does what a test wants before an append or instead of its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.appends = 0
        self.before_append: Callable[[Commit], Awaitable[None]] | None = None
        self.silent_after_storing = False
        self.silent_before_storing = False

    async def append(self, commit: Commit, *, expected: int) -> int:
        self.appends += 1
        if self.before_append is not None:
            hook, self.before_append = self.before_append, None
            await hook(commit)
        if self.silent_before_storing:
            raise LogUnavailableError("no answer")
        sequence = await super().append(commit, expected=expected)
        if self.silent_after_storing:
            raise LogUnavailableError("no answer")
        return sequence

    async def read(self, team: str, aggregate: str, *, after: int = 0) -> list[Stored]:
        self.reads += 1
        await asyncio.sleep(0)
        return await super().read(team, aggregate, after=after)


@pytest.fixture
def log() -> TroubledLog:
    return TroubledLog()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
def handler(log: TroubledLog, clock: ManualClock) -> CommandHandler:
    return make_handler(log, clock)


def make_handler(log: TroubledLog, clock: ManualClock | None = None, *, cache_size: int = 100) -> CommandHandler:
    return CommandHandler(log, clock or ManualClock(T0), RandomIds(), cache_size=cache_size)


def cause(command_id: str) -> Cause:
    return Cause(command_id, "correlation-1", "ann")


async def do(
    handler: CommandHandler, command: AnyCommand, command_id: str | None = None, *, aggregate: str = ORCHESTRATION
) -> Decided:
    return await handler.handle(TEAM, aggregate, command, cause(command_id or RandomIds().new()))


async def history(log: MemoryEventLog, aggregate: str = ORCHESTRATION) -> list[str]:
    return [recorded.event.type for stored in await log.read(TEAM, aggregate) for recorded in stored.commit.events]


async def replayed(log: MemoryEventLog, aggregate: str = ORCHESTRATION) -> Orchestration | None:
    """The state from the first event on; the versions of the commits must follow each other."""
    state: Orchestration | None = None
    for stored in await log.read(TEAM, aggregate):
        assert stored.commit.version == (state.version if state else 0) + 1
        for recorded in stored.commit.events:
            state = evolve(state, recorded.event, recorded.occurred_at)
    return state


def status(decided: Decided) -> OrchestrationStatus | None:
    return decided.state.status if decided.state else None


# The usual case


async def test_what_one_command_leads_to_is_one_commit(handler: CommandHandler, log: TroubledLog) -> None:
    await do(handler, create("a", "b"), "command-1")
    decided = await do(handler, ACTIVATE, "command-2")
    assert [event.type for event in decided.events] == ["orchestration.activated", "task.queued"]
    first, second = await log.read(TEAM, ORCHESTRATION)
    assert (first.commit.version, second.commit.version, second.commit.last_version) == (1, 2, 3)
    assert (second.commit.command_id, second.commit.correlation_id, second.commit.actor) == (
        "command-2",
        "correlation-1",
        "ann",
    )
    assert decided.sequence == second.sequence == 2
    assert decided.state == await replayed(log)
    assert len({recorded.id for stored in (first, second) for recorded in stored.commit.events}) == 3


async def test_the_time_of_a_decision_is_the_time_of_its_events(
    handler: CommandHandler, log: TroubledLog, clock: ManualClock
) -> None:
    await do(handler, create("a"))
    clock.advance(timedelta(minutes=3))
    await do(handler, ACTIVATE)
    commit = (await log.read(TEAM, ORCHESTRATION))[-1].commit
    assert {commit.recorded_at, *(recorded.occurred_at for recorded in commit.events)} == {T0 + timedelta(minutes=3)}


async def test_a_command_on_a_known_aggregate_costs_one_write_and_no_read(
    handler: CommandHandler, log: TroubledLog
) -> None:
    await do(handler, create("a"))
    log.reads = log.appends = 0
    await do(handler, ACTIVATE)
    assert (log.reads, log.appends) == (0, 1)


async def test_a_command_that_changes_nothing_writes_nothing(handler: CommandHandler, log: TroubledLog) -> None:
    await do(handler, create("a", activate=True))
    decided = await do(handler, ACTIVATE)
    assert (decided.events, decided.sequence, status(decided)) == ((), 1, OrchestrationStatus.ACTIVE)
    assert await log.last_sequence() == 1


async def test_a_refusal_changes_nothing(handler: CommandHandler, log: TroubledLog) -> None:
    with pytest.raises(Refusal) as refused:
        await do(handler, ACTIVATE)
    assert refused.value.code == "ORCHESTRATION_NOT_FOUND"
    await do(handler, create("a"))
    with pytest.raises(Refusal):
        await do(handler, create("a"))
    assert await log.last_sequence() == 1


async def test_the_teams_do_not_share_an_orchestration(handler: CommandHandler) -> None:
    await do(handler, create("a"))
    with pytest.raises(Refusal):
        await handler.handle("team-2", ORCHESTRATION, ACTIVATE, cause("x"))
    assert (await handler.load("team-2", ORCHESTRATION)).state is None


# The same command again


async def test_a_command_that_was_carried_out_is_answered_the_same_way_again(
    handler: CommandHandler, log: TroubledLog
) -> None:
    first = await do(handler, create("a"), "command-1")
    await do(handler, ACTIVATE, "command-2")
    again = await do(handler, create("a"), "command-1")
    assert (again.sequence, again.events) == (first.sequence, ())
    assert await log.last_sequence() == 2


async def test_another_handler_knows_what_was_carried_out_from_the_log(log: TroubledLog) -> None:
    first = await do(make_handler(log), create("a"), "command-1")
    again = await do(make_handler(log), create("a"), "command-1")
    assert again.sequence == first.sequence
    assert await log.last_sequence() == 1


async def test_its_own_command_found_after_a_conflict_is_done_once(handler: CommandHandler, log: TroubledLog) -> None:
    """The first delivery is still being carried out by another process when the second one is."""
    await do(handler, create("a"), "command-1")
    other = make_handler(log)

    async def first_delivery(_: Commit) -> None:
        await do(other, ACTIVATE, "command-2")

    log.before_append = first_delivery
    decided = await do(handler, ACTIVATE, "command-2")
    assert (decided.sequence, decided.events) == (2, ())
    assert await history(log) == ["orchestration.created", "orchestration.activated", "task.queued"]


async def test_the_same_command_twice_at_once_is_done_once(handler: CommandHandler, log: TroubledLog) -> None:
    await do(handler, create("a"))
    decided = await asyncio.gather(*(do(handler, ACTIVATE, "command-2") for _ in range(10)))
    assert {answer.sequence for answer in decided} == {2}
    assert sum(bool(answer.events) for answer in decided) == 1


# Others write too


async def test_after_a_conflict_it_is_decided_again_on_what_is_new(handler: CommandHandler, log: TroubledLog) -> None:
    await do(handler, create("a", "b", execution_mode="parallel", activate=True))
    other = make_handler(log)

    async def somebody_else(_: Commit) -> None:
        await do(other, start("b"))

    log.before_append = somebody_else
    decided = await do(handler, start("a"))
    assert [event.type for event in decided.events] == ["attempt.started"]
    assert decided.state == await replayed(log)
    assert await history(log) == [
        "orchestration.created",
        "orchestration.activated",
        "task.queued",
        "task.queued",
        "attempt.started",
        "attempt.started",
    ]


async def test_a_conflict_that_settles_the_matter_leaves_nothing_to_do(
    handler: CommandHandler, log: TroubledLog
) -> None:
    await do(handler, create("a"))
    other = make_handler(log)

    async def somebody_else(_: Commit) -> None:
        await do(other, ACTIVATE, "of-somebody-else")

    log.before_append = somebody_else
    decided = await do(handler, ACTIVATE, "mine")
    assert (decided.events, decided.sequence, status(decided)) == ((), 2, OrchestrationStatus.ACTIVE)


async def test_a_refusal_is_never_given_on_an_old_state(handler: CommandHandler, log: TroubledLog) -> None:
    await do(handler, create("a"))
    other = make_handler(log)
    await do(other, ACTIVATE)
    decided = await do(handler, start("a"))  # of an attempt that the cache has never heard of
    assert [event.type for event in decided.events] == ["attempt.started"]


async def test_a_refusal_on_the_newest_state_is_final_and_reads_once(handler: CommandHandler, log: TroubledLog) -> None:
    await do(handler, create("a"))
    log.reads = 0
    with pytest.raises(Refusal):
        await do(handler, start("a"))
    assert log.reads == 1


async def test_nothing_to_do_is_never_answered_on_an_old_state(handler: CommandHandler, log: TroubledLog) -> None:
    await do(handler, create("a", activate=True))
    other = make_handler(log)
    await do(other, start("a"))
    decided = await do(handler, record("a"))  # on the old state, the attempt is not started yet
    assert [event.type for event in decided.events] == ["agent.created"]


async def test_it_gives_up_where_others_always_come_first(handler: CommandHandler, log: TroubledLog) -> None:
    await do(handler, create("a"))

    class AlwaysLate(TroubledLog):
        async def append(self, commit: Commit, *, expected: int) -> int:
            self.appends += 1
            raise ConflictError("somebody was first")

    late = AlwaysLate()
    with pytest.raises(TooManyConflictsError):
        await do(make_handler(late), create("a"))
    assert late.appends == MAX_CONFLICTS


async def test_fifty_commands_at_once_are_all_carried_out(handler: CommandHandler, log: TroubledLog) -> None:
    names = [f"t{number}" for number in range(50)]
    await do(handler, create(*names, execution_mode="parallel", activate=True))
    decided = await asyncio.gather(*(do(handler, start(name)) for name in names))
    assert sorted(answer.sequence for answer in decided) == list(range(2, 52))
    assert (await history(log)).count("attempt.started") == 50
    assert (await handler.load(TEAM, ORCHESTRATION)).state == await replayed(log)


async def test_two_handlers_in_each_other_s_way_lose_and_double_nothing(log: TroubledLog) -> None:
    names = [f"t{number}" for number in range(20)]
    one, two = make_handler(log), make_handler(log)
    await do(one, create(*names, execution_mode="parallel", activate=True))

    async def carry_out(handler: CommandHandler, task: str) -> None:
        steps: list[AnyCommand] = [start(task), record(task), observe(task, AgentStatus.RUNNING), finish(task)]
        for number, command in enumerate(steps):
            while True:
                try:
                    await do(handler, command, f"{task}-{number}")
                    break
                except TooManyConflictsError:
                    await asyncio.sleep(0)

    await asyncio.gather(*(carry_out(handler, name) for name in names for handler in (one, two)))
    found = await history(log)
    for type_ in ("attempt.started", "agent.created", "task.completed"):
        assert found.count(type_) == 20
    assert found.count("orchestration.completed") == 1
    states = [(await handler.load(TEAM, ORCHESTRATION)).state for handler in (one, two)]
    assert states[0] == states[1] == await replayed(log)


# The log falls silent


@pytest.mark.parametrize("another_process", [True, False])
async def test_an_append_that_was_stored_but_never_answered_is_not_stored_again(
    handler: CommandHandler, log: TroubledLog, another_process: bool
) -> None:
    await do(handler, create("a"))
    log.silent_after_storing = True
    with pytest.raises(LogUnavailableError):
        await do(handler, ACTIVATE, "command-2")
    log.silent_after_storing = False
    second = make_handler(log) if another_process else handler
    decided = await do(second, ACTIVATE, "command-2")
    assert (decided.sequence, status(decided)) == (2, OrchestrationStatus.ACTIVE)
    assert (await history(log)).count("orchestration.activated") == 1


async def test_a_create_that_was_stored_but_never_answered_is_no_refusal(
    handler: CommandHandler, log: TroubledLog
) -> None:
    log.silent_after_storing = True
    with pytest.raises(LogUnavailableError):
        await do(handler, create("a"), "command-1")
    log.silent_after_storing = False
    assert (await do(handler, create("a"), "command-1")).sequence == 1


async def test_an_append_that_was_not_stored_is_made_good_by_the_same_command(
    handler: CommandHandler, log: TroubledLog
) -> None:
    await do(handler, create("a"))
    log.silent_before_storing = True
    with pytest.raises(LogUnavailableError):
        await do(handler, ACTIVATE, "command-2")
    assert status(await handler.load(TEAM, ORCHESTRATION)) is OrchestrationStatus.PENDING
    log.silent_before_storing = False
    assert (await do(handler, ACTIVATE, "command-2")).sequence == 2


async def test_another_command_after_a_silent_append_builds_on_what_was_stored(
    handler: CommandHandler, log: TroubledLog
) -> None:
    await do(handler, create("a", make_task("b"), execution_mode="parallel", activate=True))
    await do(handler, start("a"))
    log.silent_after_storing = True
    with pytest.raises(LogUnavailableError):
        await do(handler, reject("a", failure=OVERLOADED), "command-3")
    log.silent_after_storing = False
    decided = await do(handler, start("b"))
    assert decided.state == await replayed(log)
    assert (await history(log))[-3:] == ["attempt.failed", "task.retry_scheduled", "attempt.started"]


async def test_a_gap_in_a_history_is_an_error_and_not_a_wrong_state(log: TroubledLog) -> None:
    await do(make_handler(log), create("a", activate=True))
    [first] = await log.read(TEAM, ORCHESTRATION)
    gap = Commit(
        commit_id="gap",
        command_id="gap",
        correlation_id="gap",
        actor="ann",
        team=TEAM,
        aggregate=ORCHESTRATION,
        version=first.commit.last_version + 2,
        recorded_at=T0,
        events=first.commit.events[1:2],
    )
    await log.append(gap, expected=first.sequence)
    with pytest.raises(HistoryError, match=ORCHESTRATION):
        await make_handler(log).load(TEAM, ORCHESTRATION)


# The cache


async def test_what_was_dropped_from_the_cache_is_read_again(log: TroubledLog) -> None:
    handler = make_handler(log, cache_size=2)
    for name in ("orc-1", "orc-2", "orc-3"):
        command = create("a").model_copy(update={"orchestration_id": name})
        await do(handler, command, f"create-{name}", aggregate=name)
    log.reads = 0
    assert (await do(handler, ACTIVATE, aggregate="orc-3")).events
    assert log.reads == 0
    assert (await do(handler, ACTIVATE, aggregate="orc-1")).events
    assert log.reads == 1
    again = create("a").model_copy(update={"orchestration_id": "orc-2"})
    assert (await do(handler, again, "create-orc-2", aggregate="orc-2")).sequence == 2


async def test_the_longest_unused_is_dropped_first(log: TroubledLog) -> None:
    handler = make_handler(log, cache_size=2)
    for name in ("orc-1", "orc-2"):
        await do(handler, create("a").model_copy(update={"orchestration_id": name}), aggregate=name)
    await do(handler, ACTIVATE, aggregate="orc-1")
    await do(handler, create("a").model_copy(update={"orchestration_id": "orc-3"}), aggregate="orc-3")
    log.reads = 0
    await do(handler, start("a"), aggregate="orc-1")
    assert log.reads == 0


async def test_many_aggregates_at_once_in_a_small_cache_are_all_served(log: TroubledLog) -> None:
    handler = make_handler(log, cache_size=1)
    names = [f"orc-{number}" for number in range(20)]

    async def run(name: str) -> None:
        await do(handler, create("a").model_copy(update={"orchestration_id": name}), aggregate=name)
        await asyncio.gather(*(do(handler, ACTIVATE, f"activate-{name}", aggregate=name) for _ in range(3)))
        await do(handler, start("a"), aggregate=name)

    await asyncio.gather(*(run(name) for name in names))
    for name in names:
        assert await history(log, name) == [
            "orchestration.created",
            "orchestration.activated",
            "task.queued",
            "attempt.started",
        ]


async def test_what_is_being_worked_on_is_not_dropped_so_that_two_do_not_get_into_each_other_s_way(
    log: TroubledLog,
) -> None:
    handler = make_handler(log, cache_size=1)
    await do(handler, create("a", "b", execution_mode="parallel", activate=True))
    waiting: list[asyncio.Task[Decided]] = []

    async def meanwhile(_: Commit) -> None:
        await do(handler, create("a").model_copy(update={"orchestration_id": "orc-2"}), aggregate="orc-2")
        waiting.append(asyncio.create_task(do(handler, start("b"))))
        for _round in range(10):
            await asyncio.sleep(0)

    log.before_append = meanwhile
    await do(handler, start("a"))
    await asyncio.gather(*waiting)
    assert log.appends == await log.last_sequence() == 4, "some append was in vain"


# Learning from what was read elsewhere


async def filled(log: TroubledLog) -> list[Stored]:
    writer = make_handler(log)
    await do(writer, create("a"))
    await do(writer, ACTIVATE)
    await do(writer, start("a"))
    stored = await log.read(TEAM, ORCHESTRATION)
    log.reads = 0
    return stored


async def test_learning_commit_by_commit_reads_nothing(handler: CommandHandler, log: TroubledLog) -> None:
    learnt = [await handler.learn(stored) for stored in await filled(log)]
    assert [decided.sequence for decided in learnt] == [1, 2, 3]
    assert learnt[-1].state == await replayed(log)
    log.reads = 0
    assert (await do(handler, record("a"))).events
    assert log.reads == 0


async def test_a_commit_after_a_gap_makes_the_rest_be_read(handler: CommandHandler, log: TroubledLog) -> None:
    stored = await filled(log)
    decided = await handler.learn(stored[2])
    assert (decided.sequence, log.reads) == (3, 1)
    assert decided.state == await replayed(log)


async def test_an_old_commit_changes_nothing_and_answers_the_newer_state(
    handler: CommandHandler, log: TroubledLog
) -> None:
    stored = await filled(log)
    newest = await handler.learn(stored[2])
    for old in reversed(stored):
        assert await handler.learn(old) == newest
    assert log.reads == 1


async def test_a_command_that_was_learnt_of_is_not_carried_out_again(handler: CommandHandler, log: TroubledLog) -> None:
    await do(make_handler(log), create("a"), "command-1")
    for stored in await log.read(TEAM, ORCHESTRATION):
        await handler.learn(stored)
    assert (await do(handler, create("a"), "command-1")).sequence == 1
    assert await log.last_sequence() == 1


async def test_learning_and_deciding_at_once_agree(handler: CommandHandler, log: TroubledLog) -> None:
    names = [f"t{number}" for number in range(10)]
    writer = make_handler(log)
    await do(writer, create(*names, execution_mode="parallel", activate=True))

    async def write() -> None:
        for name in names:
            await do(writer, start(name))

    async def learn() -> None:
        for _ in range(50):
            for stored in await log.read(TEAM, ORCHESTRATION):
                await handler.learn(stored)
            await asyncio.sleep(0)

    async def decide() -> None:
        for name in names:
            await do(handler, record(name) if name in names[:5] else Tick())

    await asyncio.gather(write(), learn(), decide())
    assert (await handler.load(TEAM, ORCHESTRATION)).state == await replayed(log)


async def test_the_ids_of_commits_come_from_the_port(log: TroubledLog, clock: ManualClock) -> None:
    await do(CommandHandler(log, clock, SequentialIds("commit")), create("a"))
    assert (await log.read(TEAM, ORCHESTRATION))[0].commit.commit_id == "commit-1"
