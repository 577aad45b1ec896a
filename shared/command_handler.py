"""The only caller of `decide`: load, decide, append at the expected sequence, again on a conflict."""

import asyncio
import random
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import islice

from shared.domain.commands import AnyCommand, Deciding
from shared.domain.errors import Refusal
from shared.domain.events import OrchestrationEvent
from shared.domain.evolve import evolve
from shared.domain.ids import derive_id
from shared.domain.orchestration import decide
from shared.domain.patience import Patience
from shared.domain.retry import RetryPolicy
from shared.domain.state import Orchestration
from shared.envelope import Commit, RecordedEvent, Stored
from shared.ports import Clock, ConflictError, EventLog, Ids

MAX_CONFLICTS = 10


class TooManyConflictsError(Exception):
    """Others kept committing first; nothing was changed, the command can be tried again."""


class HistoryError(Exception):
    """The aggregate's history has a gap or a repeat: its versions do not follow each other."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Where a command comes from; `command_id` makes repeating it harmless."""

    command_id: str
    correlation_id: str
    actor: str


@dataclass(frozen=True, slots=True)
class Decided:
    """The state after a command, the sequence of the log that shows it, and the events that it led to.

    `is_repeated`: an earlier delivery of the same command had led to its events already.
    """

    state: Orchestration | None
    sequence: int
    events: tuple[OrchestrationEvent, ...] = ()
    is_repeated: bool = False


@dataclass(slots=True)
class _Aggregate:
    """What is known of one aggregate: its state as of `sequence`, and which command led to which sequence."""

    state: Orchestration | None = None
    sequence: int = 0
    commands: dict[str, int] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def apply(self, stored: Stored) -> None:
        commit = stored.commit
        version = self.state.version if self.state else 0
        if commit.version != version + 1:
            raise HistoryError(f"{commit.aggregate}: version {commit.version} follows {version}")
        state = self.state
        for recorded in commit.events:
            state = evolve(state, recorded.event, recorded.occurred_at)
        self.state = state
        self.sequence = stored.sequence
        self.commands[commit.command_id] = stored.sequence


class CommandHandler:
    """Carries commands out against the log, with a cache of aggregates that makes the usual case a single write.

    The cache is never trusted for a refusal or for "nothing to do": before either is answered, the log is asked
    whether there is anything newer.
    """

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        ids: Ids,
        *,
        policy: RetryPolicy | None = None,
        patience: Patience | None = None,
        chance: random.Random | None = None,
        cache_size: int = 10_000,
    ) -> None:
        self._log = log
        self._clock = clock
        self._ids = ids
        self._policy = policy or RetryPolicy()
        self._patience = patience or Patience()
        self._chance = chance or random.Random()
        self._cache_size = cache_size
        self._cache: OrderedDict[tuple[str, str], _Aggregate] = OrderedDict()

    async def handle(self, team: str, aggregate_id: str, command: AnyCommand, cause: Cause) -> Decided:
        """Decide `command` and commit what it leads to.

        Raises:
            Refusal: the state does not allow it; nothing has changed.
            TooManyConflictsError: it can be tried again.
            LogUnavailableError: the outcome is unknown; trying again with the same cause is safe.
        """
        aggregate = self._aggregate(team, aggregate_id)
        async with aggregate.lock:
            if aggregate.sequence == 0:
                await self._refresh(team, aggregate_id, aggregate)
            for _ in range(MAX_CONFLICTS):
                decided = await self._try(team, aggregate_id, aggregate, command, cause)
                if decided is not None:
                    return decided
        raise TooManyConflictsError(f"{aggregate_id}: gave up after {MAX_CONFLICTS} conflicts")

    async def load(self, team: str, aggregate_id: str) -> Decided:
        """The state as the log has it now; `state` is None when there is no such aggregate."""
        aggregate = self._aggregate(team, aggregate_id)
        async with aggregate.lock:
            await self._refresh(team, aggregate_id, aggregate)
            return Decided(aggregate.state, aggregate.sequence)

    async def learn(self, stored: Stored) -> Decided:
        """Take in a commit that was read elsewhere; answers the state, which includes it and may be newer."""
        commit = stored.commit
        aggregate = self._aggregate(commit.team, commit.aggregate)
        async with aggregate.lock:
            if stored.sequence > aggregate.sequence:
                version = aggregate.state.version if aggregate.state else 0
                if commit.version == version + 1:
                    aggregate.apply(stored)
                else:
                    await self._refresh(commit.team, commit.aggregate, aggregate)
            return Decided(aggregate.state, aggregate.sequence)

    async def _try(
        self, team: str, aggregate_id: str, aggregate: _Aggregate, command: AnyCommand, cause: Cause
    ) -> Decided | None:
        """One round; None when it must be decided again on newer facts."""
        if cause.command_id in aggregate.commands:
            return Decided(aggregate.state, aggregate.commands[cause.command_id], is_repeated=True)
        now = self._clock.now()
        deciding = Deciding(now, self._chance.random(), self._policy, self._patience)
        try:
            events = decide(aggregate.state, command, deciding)
        except Refusal:
            if await self._refresh(team, aggregate_id, aggregate):
                return None
            raise
        if not events:
            if await self._refresh(team, aggregate_id, aggregate):
                return None
            return Decided(aggregate.state, aggregate.sequence)
        commit = self._commit(team, aggregate_id, aggregate, events, deciding, cause)
        try:
            sequence = await self._log.append(commit, expected=aggregate.sequence)
        except ConflictError:
            await self._refresh(team, aggregate_id, aggregate)
            return None
        aggregate.apply(Stored(sequence, commit))
        return Decided(aggregate.state, sequence, tuple(events))

    def _commit(
        self,
        team: str,
        aggregate_id: str,
        aggregate: _Aggregate,
        events: list[OrchestrationEvent],
        deciding: Deciding,
        cause: Cause,
    ) -> Commit:
        commit_id = self._ids.new()
        return Commit(
            commit_id=commit_id,
            command_id=cause.command_id,
            correlation_id=cause.correlation_id,
            actor=cause.actor,
            team=team,
            aggregate=aggregate_id,
            version=(aggregate.state.version if aggregate.state else 0) + 1,
            recorded_at=deciding.now,
            events=tuple(
                RecordedEvent(id=derive_id("event", commit_id, index), occurred_at=deciding.now, event=event)
                for index, event in enumerate(events)
            ),
        )

    async def _refresh(self, team: str, aggregate_id: str, aggregate: _Aggregate) -> bool:
        """Read what is new; True if there was anything."""
        news = await self._log.read(team, aggregate_id, after=aggregate.sequence)
        for stored in news:
            aggregate.apply(stored)
        return bool(news)

    def _aggregate(self, team: str, aggregate_id: str) -> _Aggregate:
        key = (team, aggregate_id)
        aggregate = self._cache.get(key)
        if aggregate is None:
            aggregate = self._cache[key] = _Aggregate()
            self._evict()
        self._cache.move_to_end(key)
        return aggregate

    def _evict(self) -> None:
        """Drop the longest unused, but never one that is being worked on: two of one would not share a lock."""
        for key in list(islice(self._cache, max(0, len(self._cache) - self._cache_size))):
            if not self._cache[key].lock.locked():
                del self._cache[key]
