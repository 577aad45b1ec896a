"""What was promised, held against what is seen from outside: the broker, the provider, the receiver, the log."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson

from shared.domain.state import Attempt, Orchestration
from shared.jetstream.history import HistoryReader
from shared.jetstream.topology import (
    COMMANDS,
    CONSUMERS,
    DEAD,
    DELIVERIES,
    LIMITS,
    NOTIFIER_DELIVERIES,
    QUEUE,
    SLOTS,
    TIMERS,
    WATCH,
    dead_subject,
)
from tests.chaos.points.stories import Tale
from tests.chaos.points.world import World

_REFUSED = dead_subject(DELIVERIES, NOTIFIER_DELIVERIES.name)
_WORK_QUEUES = (COMMANDS, QUEUE, WATCH, TIMERS, DELIVERIES)
# The share of calls that may come at once: so far ahead of the clock the record of a limit may be at rest.
_BURST_SECONDS = 3.0
_READ_SECONDS = 30.0


async def left_over(world: World) -> list[str]:
    """What is still under way, or was taken and not given back; empty when the system is at rest."""
    manager = world.nc.jsm()
    left: list[str] = []
    for stream in _WORK_QUEUES:
        state = (await manager.stream_info(stream, subjects_filter=">")).state
        left += [f"{stream} holds {subject}" for subject in state.subjects or {}]
    for spec in CONSUMERS:
        info = await manager.consumer_info(spec.stream, spec.name)
        if waiting := (info.num_pending or 0) + (info.num_ack_pending or 0):
            left.append(f"{waiting} messages wait for {spec.name}")
    left += [f"{key} is taken by {value.decode()}" for key, value in await _bucket(world, SLOTS)]
    return left


async def debts(world: World) -> list[str]:
    """Limits of calls that are used up beyond now."""
    now = datetime.now(UTC).timestamp()
    return [
        f"the limit of {key} is used up for {float(value) - now:.1f} s"
        for key, value in await _bucket(world, LIMITS)
        if float(value) - now > _BURST_SECONDS
    ]


async def _bucket(world: World, name: str) -> list[tuple[str, bytes]]:
    """Keys with a value; a deleted one leaves a trace that is empty."""
    state = (await world.nc.jsm().stream_info(f"KV_{name}", subjects_filter=">")).state
    messages = [await world.nc.jsm().get_last_msg(f"KV_{name}", subject) for subject in state.subjects or {}]
    return [(m.subject.rpartition(".")[2], m.data) for m in messages if m.subject and m.data]


def untold(tale: Tale) -> Iterator[str]:
    """Events that the receiver was not told of, or was told of as different ones."""
    for event, times in Counter(tale.told).items():
        found = len(set(tale.world.receiver.ids.get((tale.id, event), [])))
        if found != times:
            yield f"{event} came {times} times and was told under {found} ids"


def most_agents(created: dict[str, int], state: Orchestration) -> int:
    """Agents of the attempt that had most of them. `created`: by the attempt as the provider knows it."""
    return max((created.get(_key(attempt), 0) for attempt in _creating(state)), default=0)


def miscounted(created: dict[str, int], state: Orchestration) -> Iterator[str]:
    """Attempts that do not have the one agent that they are known for, or have one although none is known."""
    for attempt in _creating(state):
        expected, found = int(attempt.has_had_agent), created.get(_key(attempt), 0)
        if found != expected:
            yield f"attempt {attempt.attempt_id} has {found} agents instead of {expected}"


def _creating(state: Orchestration) -> Iterator[Attempt]:
    """The attempts that have started to create an agent of their own."""
    for task in state.tasks.values():
        yield from (one for one in task.attempts if one.started_at is not None and one.continues is None)


def _key(attempt: Attempt) -> str:
    return (attempt.agent_id if attempt.api_version == "v1" else attempt.branch_name) or ""


async def parked(world: World) -> list[str]:
    """What was given up that should not have been, or twice: only what its receiver refuses for good is.

    A notification that was announced twice, under the same id, may be refused twice.
    """
    refused, messages, found = set(), Counter[str](), []
    for letter in await HistoryReader(world.nc, DEAD).read("dead.>", after=0, budget=_READ_SECONDS):
        if letter.subject == _REFUSED:
            refused.add(orjson.loads(letter.data)["orchestration_id"])
            messages[letter.headers["Dead-Sequence"]] += 1
        else:
            found.append(f"{letter.subject} has {letter.headers}")
    found += [f"notification {sequence} was parked {times} times" for sequence, times in messages.items() if times > 1]
    told = {state.id for state in world.states.values() if (state.spec.webhook_url or "").endswith("/gone")}
    found += [f"the refused notification of {orchestration_id} was not parked" for orchestration_id in told - refused]
    found += [f"a notification of {orchestration_id} was parked" for orchestration_id in refused - told]
    return found
