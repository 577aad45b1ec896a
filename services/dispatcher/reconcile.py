"""Reconcile: after each commit, what ought to be under way is brought under way.

Everything here may be done twice without harm, so nothing is lost when a process dies in between: the commit is
delivered again and the plan is carried out again. What was done already is remembered only to save the work.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from services.dispatcher.schedules import Schedules
from services.dispatcher.slots import SlotPool
from services.dispatcher.tally import tally
from shared.command_handler import Cause, CommandHandler
from shared.cursor.errors import ProviderError
from shared.cursor.provider import Provider
from shared.cursor.refusals import RATE_LIMIT_EXCEEDED
from shared.domain import commands
from shared.domain.commands import AnyCommand
from shared.domain.ids import derive_id
from shared.domain.plan import (
    Action,
    ArchiveAgent,
    AwaitResult,
    Cleanup,
    CreateRun,
    DeleteAgent,
    DiscardAgent,
    FreeSlot,
    KeepSchedule,
    Launch,
    StopAgent,
    WakeAt,
    Watch,
    plan,
)
from shared.domain.state import Orchestration
from shared.envelope import Stored, decode
from shared.following import Followed, Following
from shared.jetstream.consumer import Delivery, Later
from shared.jetstream.publish import Publisher
from shared.jetstream.timers import Timers
from shared.messages import Ticket, Wake
from shared.observability.logging import log_context

_log = logging.getLogger(__name__)

_REMEMBERED = 10_000  # orchestrations
_AT_PROVIDER = (StopAgent, DeleteAgent, ArchiveAgent)
_AGAIN_SECONDS = 5.0
_UNDER_WAY_SECONDS = 3.0
_LONGEST_AGAIN_SECONDS = 600.0
# Putting agents away is never urgent: where the provider takes its time, the workers are kept for what is.
_PUT_AWAY_AT_ONCE = 8


@dataclass(slots=True)
class Reconciler:
    handler: CommandHandler
    publisher: Publisher
    timers: Timers
    slots: SlotPool
    provider: Provider
    cleanup: Cleanup = "keep"
    _done: OrderedDict[str, set[Action]] = field(default_factory=OrderedDict)
    _under_way: set[tuple[str, Action]] = field(default_factory=set)

    async def on_commit(self, delivery: Delivery) -> None:
        """Carry out the plan of the state that a commit of EVENTS led to."""
        commit = decode(delivery.data)
        decided = await self.handler.learn(Stored(delivery.sequence, commit))
        if decided.state is None:
            return
        if delivery.deliveries == 1:
            tally(commit, decided.state)
        with log_context(orchestration=decided.state.id):
            try:
                await self.reconcile(decided.state)
            except ProviderError as exc:
                growing = min(_AGAIN_SECONDS * 2 ** min(delivery.deliveries, 10), _LONGEST_AGAIN_SECONDS)
                pause = max(growing, exc.retry_after or 0.0)
                raise Later(pause, f"an agent is not deleted or archived yet: {exc}") from exc

    async def reconcile(self, state: Orchestration) -> None:
        """Carry out what was not carried out before. What the plan no longer has is forgotten: should it come
        back, it is to be done again.

        What is asked of the provider comes last, for it may take long, and is left to whoever asks it already: hundreds
        of agents that end one by one while they are being stopped would else be stopped hundreds of times each. Until
        that one is done this is not: it may die, and come again with an older commit that knows nothing of it.

        Raises:
            ProviderError: an agent that is to be deleted or archived may not be yet; everything else is done.
            Later: something is asked of the provider already; everything else is done.
        """
        actions = sorted(plan(state, self.cleanup), key=lambda action: isinstance(action, _AT_PROVIDER))
        done = self._remembered(state.id)
        done.intersection_update(actions)
        failure: ProviderError | None = None
        left: list[Action] = []
        for action in actions:
            if action in done:
                continue
            if (state.id, action) in self._under_way:
                left.append(action)
                continue
            try:
                with self._marked(state.id, action):
                    await self._carry_out(state, action)
            except ProviderError as exc:
                failure = exc
            else:
                done.add(action)
        if failure is not None:
            raise failure
        if not done.issuperset(left):
            raise Later(_UNDER_WAY_SECONDS, "what it asks of the provider is under way already")

    async def keep_followed(self, state: Orchestration, attempt_id: str) -> None:
        """Put back the ticket or the watches of an attempt, whatever is remembered: should one have been lost, nobody
        else would look at the attempt again, or not as soon as is due."""
        for action in plan(state):
            if isinstance(action, Followed) and action.attempt_id == attempt_id:
                await Following(self.publisher).keep(state, action)

    @contextmanager
    def _marked(self, orchestration_id: str, action: Action) -> Iterator[None]:
        """While the provider is asked; everything else is quick, and safe to do twice."""
        if not isinstance(action, _AT_PROVIDER):
            yield
            return
        self._under_way.add((orchestration_id, action))
        try:
            yield
        finally:
            self._under_way.discard((orchestration_id, action))

    async def _carry_out(self, state: Orchestration, action: Action) -> None:
        match action:
            case Launch() | Watch() | AwaitResult():
                await Following(self.publisher).keep(state, action)
            case WakeAt(due_at=due_at):
                await self._wake_at(state, due_at)
            case KeepSchedule():
                await Schedules(self.handler, self.timers).keep(state, action)
            case CreateRun():
                await Schedules(self.handler, self.timers).create_run(state, action)
            case StopAgent():
                await self._stop(state, action)
            case DiscardAgent(attempt_id=attempt_id):
                await self._handle(state, attempt_id, commands.DiscardAgent(attempt_id=attempt_id))
            case DeleteAgent():
                await self._delete(state, action)
            case ArchiveAgent():
                await self._archive(state, action)
            case FreeSlot():
                await self.slots.release(Ticket(state.team, state.id, action.attempt_id))
            case _:
                assert_never(action)

    async def _wake_at(self, state: Orchestration, due_at: datetime) -> None:
        """Each moment has its own timer: a name for all would let a later one, or an older plan, undo an earlier."""
        payload = Wake(state.team, state.id, due_at.isoformat()).encode()
        moment = str(round(due_at.timestamp() * 1000))
        await self.timers.set(state.team, state.id, moment, due_at=due_at, payload=payload)

    async def _stop(self, state: Orchestration, action: StopAgent) -> None:
        """The first request; whoever follows the agent asks again until it is seen to have stopped, soon at first.

        One that comes late must not stop what the agent was told to do since.
        """
        await Following(self.publisher).keep(state, action)
        now = (await self.handler.load(state.team, state.id)).state
        found = now.find_attempt(action.attempt_id) if now else None
        if found is None or not found[1].is_active:
            return
        try:
            await self.provider.stop(action.agent_id, action.run_id)
        except ProviderError as exc:
            _log.warning("Could not stop %s yet, it is asked again: %s", action.agent_id, exc)

    async def _delete(self, state: Orchestration, action: DeleteAgent) -> None:
        self._respect_the_urgent()
        if await _carried_out("delete", action.agent_id, self.provider.delete(action.agent_id)):
            command = commands.RecordAgentDeleted(attempt_id=action.attempt_id)
            await self._handle(state, action.attempt_id, command)

    async def _archive(self, state: Orchestration, action: ArchiveAgent) -> None:
        """Where somebody has the agent go on at this very moment, no harm is done: what it does goes on, and the next
        prompt brings it back."""
        now = (await self.handler.load(state.team, state.id)).state
        if now is None or action not in plan(now, self.cleanup):
            return
        self._respect_the_urgent()
        if await _carried_out("archive", action.agent_id, self.provider.archive(action.agent_id)):
            command = commands.RecordAgentArchived(attempt_id=action.attempt_id)
            await self._handle(state, action.attempt_id, command)

    def _respect_the_urgent(self) -> None:
        if sum(isinstance(other, DeleteAgent | ArchiveAgent) for _, other in self._under_way) > _PUT_AWAY_AT_ONCE:
            raise ProviderError(RATE_LIMIT_EXCEEDED, "enough agents are being put away already", retryable=True)

    async def _handle(self, state: Orchestration, attempt_id: str, command: AnyCommand) -> None:
        cause = Cause(derive_id(command.type, attempt_id), attempt_id, "dispatcher")
        await self.handler.handle(state.team, state.id, command, cause)

    def _remembered(self, orchestration_id: str) -> set[Action]:
        """What was done for the orchestration; one set for all that reconcile it at the same time."""
        done = self._done[orchestration_id] = self._done.pop(orchestration_id, set())
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
        return done


async def _carried_out(what: str, agent_id: str, call: Awaitable[None]) -> bool:
    """Nobody else asks again, so a failure is the caller's: only a refusal for good is left at that."""
    try:
        await call
    except ProviderError as exc:
        if exc.retryable or not exc.outcome_known:
            raise
        _log.error("The provider refuses to %s %s: %s", what, agent_id, exc, extra={"code": exc.code})
        return False
    return True
