"""What this process has heard of the log of late: tells whether rows are as new as what somebody was told."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from shared.domain.events import AgentCreated, AttemptStarted, OrchestrationCreated, OrchestrationEvent, TaskAdded
from shared.envelope import Stored
from shared.jetstream.retry import Backoff
from shared.ports import LogUnavailableError

_K = TypeVar("_K")
_V = TypeVar("_V")

REMEMBERED: Final = 10_000
_OWNERS_REMEMBERED: Final = 50_000
_LAGGING_SECONDS: Final = 5.0
"""A replica of the broker that is further behind than this counts as away."""


class Newest:
    """The newest commit of each orchestration that changed of late, as heard from the log.

    Also which orchestration a new task or agent belongs to, which no row may tell yet.

    What was stored before this process followed the log it has not heard, and of the rest it remembers so many only:
    of commits up to `floor` it may know nothing.
    """

    def __init__(self) -> None:
        self._sequences: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._teams: OrderedDict[str, int] = OrderedDict()
        self._owners: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._floor = 0

    @property
    def floor(self) -> int:
        """Rows that are behind this sequence may lack a commit that is not remembered here."""
        return self._floor

    def begin(self, sequence: int) -> None:
        """What comes behind this sequence is heard; what the log had before is not."""
        self._floor = max(self._floor, sequence)

    def hear(self, stored: Stored) -> None:
        """A commit came with the log."""
        commit = stored.commit
        self.note(commit.team, commit.aggregate, stored.sequence)
        for recorded in commit.events:
            for part in _new_parts(recorded.event):
                _remember(self._owners, (commit.team, part), commit.aggregate, _OWNERS_REMEMBERED)

    def note(self, team: str, orchestration_id: str, sequence: int) -> None:
        key = (team, orchestration_id)
        for forgotten in (
            _remember(self._sequences, key, max(sequence, self._sequences.pop(key, 0)), REMEMBERED),
            _remember(self._teams, team, max(sequence, self._teams.pop(team, 0)), REMEMBERED),
        ):
            self.begin(forgotten or 0)

    def of(self, team: str, orchestration_id: str) -> int:
        """Its sequence, 0 when it has not changed of late."""
        return self._sequences.get((team, orchestration_id), 0)

    def of_team(self, team: str) -> int:
        """The sequence of the newest commit of all that the team has, or may have."""
        return max(self._teams.get(team, 0), self._floor)

    def owner(self, team: str, part: str) -> str | None:
        """The orchestration that the task or agent belongs to, where it came up of late."""
        return self._owners.get((team, part))


async def read_up_to(
    heard: int, read: Callable[[], Awaitable[list[Stored]]], *, after: int = 0, limit: int | None = None
) -> list[Stored]:
    """What `read` gives of the log above `after`, once the replica that answers has come to what was heard of it.

    Args:
        limit: as many as there can be; then it has come far enough.

    Raises:
        LogUnavailableError: it is too far behind.
    """
    backoff = Backoff(first=0.02, most=0.5, budget=_LAGGING_SECONDS)
    while True:
        commits = await read()
        last = commits[-1].sequence if commits else after
        if last >= heard or len(commits) == limit:
            return commits
        if backoff.remaining <= 0:
            raise LogUnavailableError(f"the log was heard to have come to {heard}, but is read up to {last} only")
        await backoff.wait()


def _remember(known: OrderedDict[_K, _V], key: _K, value: _V, most: int) -> _V | None:
    """As the youngest of at most so many. Gives what is forgotten for it."""
    known.pop(key, None)
    known[key] = value
    return known.popitem(last=False)[1] if len(known) > most else None


def _new_parts(event: OrchestrationEvent) -> list[str]:
    """The ids of the tasks and agents that come into being with it."""
    match event:
        case OrchestrationCreated(tasks=tasks):
            return [task.task_id for task in tasks]
        case TaskAdded(task=task):
            return [task.task_id]
        case AttemptStarted(agent_id=agent_id) | AgentCreated(agent_id=agent_id):
            return [agent_id]
        case _:
            return []
