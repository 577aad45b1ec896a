"""The sweep: agents at work that belong to no attempt under way are stopped, and attempts without news are settled.

Nothing here is needed as long as everything else does what it should: each agent is launched by one attempt and
followed until its end. It finds what escaped that: a create that took effect after it was given up, an agent that was
lost and came back, a message that nobody has any more.

An agent is touched only if the log says that it is ours, and only if what it works on was asked for by us: the account
has other users, and a person may tell an agent of ours more. Two looks, a while apart, must find the same.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

import psycopg

from services.monitor.census import Census
from services.monitor.orphans import Case, case_of, is_at_work
from services.monitor.ownership import Claim, Ownership
from services.monitor.quiet import UNREADABLE, QuietAttempts
from services.monitor.turns import Turns
from shared.command_handler import CommandHandler
from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentSnapshot, ListedAgent, Provider
from shared.cursor.refusals import is_gone
from shared.jetstream.errors import PublishRefusedError, PublishUnavailableError
from shared.observability.metrics import ORPHANED_AGENTS
from shared.ports import LogUnavailableError
from shared.sweeping import Orphan, OrphanAction, SweepReport

_log = logging.getLogger(__name__)

# Between the two looks that must find the same; longer than what is under way at the first takes to show.
_APART_SECONDS: Final = 15.0
# What was told to stop is looked at so often before the report says that it has not stopped yet.
_LOOKS: Final = 3
_LOOK_PAUSE_SECONDS: Final = 3.0
# So many agents in a row that cannot be read are not to blame for it.
_MOST_UNREAD: Final = 3
# The pause after a sweep that failed, or left something to be done.
_SOON: Final = timedelta(minutes=2)
_TURN_SHARE: Final = 0.05
_LONGEST_TURN_PAUSE_SECONDS: Final = 60.0

OUTSIDE: Final = (
    ProviderError,
    LogUnavailableError,
    PublishUnavailableError,
    PublishRefusedError,
    psycopg.Error,
)
"""What a sweep raises when something that it needs is away."""


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A listed agent that may be at work, and the claims of our rows on it."""

    agent: ListedAgent
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class _Suspect:
    """An agent at work for no attempt under way. `case` is None if rows claim it and the log knows nothing of it."""

    claimed: _Claimed
    snapshot: AgentSnapshot
    case: Case | None
    is_our_work: bool

    @property
    def agent_id(self) -> str:
        return self.snapshot.agent_id

    def report(self, action: OrphanAction) -> Orphan:
        return Orphan(
            agent_id=self.agent_id,
            url=self.claimed.agent.url or self.snapshot.url,
            status=self.snapshot.provider_status,
            orchestration_id=self.case.orchestration.id if self.case else self.claimed.claims[0].orchestration_id,
            attempt_id=self.case.last.attempt_id if self.case else None,
            action=action,
        )


@dataclass(slots=True)
class Sweeper:
    handler: CommandHandler
    provider: Provider
    census: Census
    ownership: Ownership
    quiet: QuietAttempts
    chance: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self, turns: Turns) -> None:
        """Sweep for ever, as often as `turns` says."""
        pause = min(turns.every.total_seconds() * _TURN_SHARE, _LONGEST_TURN_PAUSE_SECONDS)
        while True:
            await self.sleep(pause * (0.5 + self.chance.random()))
            try:
                if await turns.take():
                    await turns.again_in(turns.every if await self._is_all_done() else _SOON)
            except (PublishUnavailableError, PublishRefusedError) as exc:
                _log.warning("Whose turn it is to sweep cannot be told, trying again later: %s", exc)

    async def _is_all_done(self) -> bool:
        """Sweep; False if something is left that the next turn should not be waited for with."""
        try:
            return (await self.sweep()).is_done
        except OUTSIDE as exc:
            _log.warning("The sweep was not finished, trying again soon: %s", exc)
        except Exception as exc:  # whatever it is, the agents that are followed must not be left for it
            _log.error("The sweep crashed, trying again soon", exc_info=exc)
        return False

    async def sweep(self, *, team: str | None = None, dry_run: bool = False) -> SweepReport:
        """Look through all agents and all attempts without news; `team` None is everybody's.

        Raises:
            ProviderError: the list could not be read to its end, nothing of it was believed; or nothing can be read.
            LogUnavailableError, PublishUnavailableError, psycopg.Error: something of ours is away.
        """
        agents = await self.census.agents()
        claimed = await self._claimed([agent for agent in agents if not agent.is_at_rest], team)
        suspects, unread = await self._suspects(claimed)
        if dry_run or not suspects:
            orphans = [suspect.report("would_stop" if suspect.is_our_work else "left") for suspect in suspects]
        else:
            orphans = await self._stop_all(suspects)
        for orphan in orphans:
            _tell(orphan)
        settled = await self.quiet.settle(team, dry_run=dry_run)
        _log.info("Swept %d agents; %d of ours may be at work", len(agents), len(claimed))
        return SweepReport(len(agents), len(claimed), unread, tuple(orphans), tuple(settled), dry_run)

    # Whose the agents are

    async def _claimed(self, agents: list[ListedAgent], team: str | None) -> list[_Claimed]:
        if not agents:
            return []
        branches = [agent.branch for agent in agents if agent.branch]
        by_trace: defaultdict[str | None, list[Claim]] = defaultdict(list)
        for claim in await self.ownership.of([agent.agent_id for agent in agents], branches):
            if team in (None, claim.team):
                by_trace[claim.agent_id or claim.branch].append(claim)
        found = (_Claimed(agent, (*by_trace[agent.agent_id], *by_trace[agent.branch])) for agent in agents)
        return [claimed for claimed in found if claimed.claims]

    async def _suspects(self, claimed: list[_Claimed]) -> tuple[list[_Suspect], int]:
        """Those of the agents, and how many could not be read."""
        suspects, unread, in_a_row = [], 0, 0
        for one in claimed:
            try:
                suspect = await self._suspect(one)
            except ProviderError as error:
                unread, in_a_row = unread + 1, in_a_row + 1
                if in_a_row >= _MOST_UNREAD:
                    raise
                _log.warning("Could not look at %s: %s", one.agent.agent_id, error)
                continue
            except UNREADABLE as exc:
                unread += 1
                _log.error("Cannot tell whether %s has an attempt: %s", one.agent.agent_id, exc)
                continue
            in_a_row = 0
            if suspect is not None:
                suspects.append(suspect)
        return suspects, unread

    async def _suspect(self, claimed: _Claimed) -> _Suspect | None:
        """The agent, if no attempt under way has it and it is at work.

        The log is read before the agent and after: what has begun to go on with it in between is seen then.
        """
        agent_id, case = claimed.agent.agent_id, await self._case(claimed)
        if case is None and not any(claim.agent_id for claim in claimed.claims):
            return None  # only its branch was claimed, and the log says that it has nothing to do with that
        if case is not None and (case.is_live or case.has_seen_the_end_of(claimed.agent.run_id)):
            return None
        try:
            snapshot = await self.census.patiently(partial(self.provider.get, agent_id, None))
            if not is_at_work(snapshot):
                return None
            is_our_work = case is not None and await self._is_our_work(case, snapshot)
        except ProviderError as error:
            if is_gone(error):
                return None
            raise
        case = await self._case(claimed)
        return None if case is not None and case.is_live else _Suspect(claimed, snapshot, case, is_our_work)

    async def _case(self, claimed: _Claimed) -> Case | None:
        """What the log says, by the first claim that it confirms."""
        for claim in claimed.claims:
            state = (await self.handler.load(claim.team, claim.orchestration_id)).state
            if state is not None and (case := case_of(state, claimed.agent)):
                return case
        return None

    async def _is_our_work(self, case: Case, snapshot: AgentSnapshot) -> bool:
        if self.provider.version == "v0":
            said = await self.census.patiently(partial(self.provider.conversation, snapshot.agent_id))
            return case.asked_for_words(said)
        if snapshot.run_id is None:
            return True  # an agent of ours that has no run yet
        # Asked for by its id, a run says when it began; an agent says only when it was created.
        run = await self.census.patiently(partial(self.provider.get, snapshot.agent_id, snapshot.run_id))
        return case.asked_for_run(run.run_id, run.created_at)

    # Stopping

    async def _stop_all(self, suspects: list[_Suspect]) -> list[Orphan]:
        """What became of each that is still one at the second look."""
        await self.sleep(_APART_SECONDS)
        orphans, told = [], []
        for first in suspects:
            try:
                second = await self._suspect(first.claimed)
            except ProviderError as error:
                _log.warning("Could not look at %s again: %s", first.agent_id, error)
                orphans.append(first.report("stopping" if first.is_our_work else "left"))
                continue
            if second is None:
                continue
            if not second.is_our_work:
                orphans.append(second.report("left"))
            elif not first.is_our_work or first.snapshot.run_id != second.snapshot.run_id:
                orphans.append(second.report("stopping"))  # this was the first look at it
            else:
                await self._stop(second)
                told.append(second)
        return orphans + [orphan async for orphan in self._stopped(told)]

    async def _stop(self, suspect: _Suspect) -> None:
        try:
            await self.provider.stop(suspect.agent_id, suspect.snapshot.run_id)
        except ProviderError as error:
            _log.warning("Could not stop %s yet, it is asked again: %s", suspect.agent_id, error)

    async def _stopped(self, told: list[_Suspect]) -> AsyncIterator[Orphan]:
        """What came of the stops. At the last look the next sweep is left to ask again."""
        for look in range(_LOOKS):
            if not told:
                return
            await self.sleep(_LOOK_PAUSE_SECONDS)
            left = []
            for suspect in told:
                if await self._has_stopped(suspect, again=look + 1 < _LOOKS):
                    yield suspect.report("stopped")
                else:
                    left.append(suspect)
            told = left
        for suspect in told:
            yield suspect.report("stopping")

    async def _has_stopped(self, suspect: _Suspect, *, again: bool) -> bool:
        """Whether it has; if not, and `again`, it is told once more.

        It is looked at as if for the first time: by now an attempt may go on with it, or a person.
        """
        try:
            now = await self._suspect(suspect.claimed)
        except ProviderError as error:
            _log.warning("Could not see whether %s has stopped: %s", suspect.agent_id, error)
            return False
        if now is None or not now.is_our_work or now.snapshot.run_id != suspect.snapshot.run_id:
            return True
        if again:
            await self._stop(now)
        return False


_WORDS: Final[dict[OrphanAction, str]] = {
    "stopped": "it was stopped",
    "stopping": "it has not stopped yet",
    "left": "what it works on was not asked for here, so it is left alone",
    "would_stop": "it would be stopped",
}


def _tell(orphan: Orphan) -> None:
    ORPHANED_AGENTS.labels(orphan.action).inc()
    _log.log(
        logging.WARNING if orphan.action == "left" else logging.ERROR,
        "An agent works for no attempt under way; %s",
        _WORDS[orphan.action],
        extra={"agent": orphan.agent_id, "url": orphan.url, "orchestration": orphan.orchestration_id},
    )
