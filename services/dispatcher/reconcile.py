"""Reconcile: after each commit, what ought to be under way is brought under way.

Everything here may be done twice without harm, so nothing is lost when a process dies in between: the commit is
delivered again and the plan is carried out again. What was done already is remembered only to save the work.
"""

import logging
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from services.dispatcher.slots import SlotPool
from shared.command_handler import CommandHandler
from shared.cursor.errors import ProviderError
from shared.cursor.provider import Provider
from shared.domain.plan import Action, FreeSlot, Launch, StopAgent, WakeAt, Watch, plan
from shared.domain.state import Orchestration
from shared.envelope import Stored, decode
from shared.jetstream.consumer import Delivery
from shared.jetstream.errors import AlreadyThereError
from shared.jetstream.publish import Publisher
from shared.jetstream.timers import Timers
from shared.jetstream.topology import QUEUE, WATCH, queue_subject, watch_subject
from shared.messages import Ticket, Wake, Watched
from shared.observability.logging import log_context

_log = logging.getLogger(__name__)

_REMEMBERED = 50_000


@dataclass(slots=True)
class Reconciler:
    handler: CommandHandler
    publisher: Publisher
    timers: Timers
    slots: SlotPool
    provider: Provider
    _done: OrderedDict[Hashable, None] = field(default_factory=OrderedDict)

    async def on_commit(self, delivery: Delivery) -> None:
        """Carry out the plan of the state that a commit of EVENTS led to."""
        decided = await self.handler.learn(Stored(delivery.sequence, decode(delivery.data)))
        if decided.state is None:
            return
        with log_context(orchestration=decided.state.id):
            await self.reconcile(decided.state)

    async def reconcile(self, state: Orchestration) -> None:
        for action in plan(state):
            key = (state.id, action)
            if key in self._done:
                continue
            await self._carry_out(state, action)
            self._remember(key)

    async def _carry_out(self, state: Orchestration, action: Action) -> None:
        match action:
            case Launch():
                await self._launch(state, action)
            case Watch():
                await self._watch(state, action)
            case WakeAt(due_at=due_at):
                await self._wake_at(state, due_at)
            case StopAgent():
                await self._stop(action)
            case FreeSlot():
                await self.slots.release(Ticket(state.team, state.id, action.attempt_id))
            case _:
                assert_never(action)

    async def _launch(self, state: Orchestration, action: Launch) -> None:
        ticket = Ticket(state.team, state.id, action.attempt_id)
        subject = queue_subject(action.priority, action.attempt_id)
        await self._put(subject, ticket.encode(), QUEUE)

    async def _watch(self, state: Orchestration, action: Watch) -> None:
        found = state.find_attempt(action.attempt_id)
        if found is None or found[1].started_at is None or found[1].api_version is None:
            return
        watched = Watched(state.team, state.id, action.attempt_id, since=found[1].started_at.isoformat())
        await self._put(watch_subject(found[1].api_version, action.attempt_id), watched.encode(), WATCH)

    async def _put(self, subject: str, data: bytes, stream: str) -> None:
        """The stream takes one message a subject: the second of the same attempt is refused."""
        try:
            await self.publisher.publish(subject, data, stream=stream)
        except AlreadyThereError:
            _log.debug("%s is in %s already", subject, stream)

    async def _wake_at(self, state: Orchestration, due_at: datetime) -> None:
        """Each moment has its own timer: a name for all would let a later one, or an older plan, undo an earlier."""
        payload = Wake(state.team, state.id, due_at.isoformat()).encode()
        moment = str(round(due_at.timestamp() * 1000))
        await self.timers.set(state.team, state.id, moment, due_at=due_at, payload=payload)

    async def _stop(self, action: StopAgent) -> None:
        """The first request; whoever follows the agent asks again until it is seen to have stopped."""
        try:
            await self.provider.stop(action.agent_id, action.run_id)
        except ProviderError as exc:
            _log.warning("Could not stop %s yet: %s", action.agent_id, exc)

    def _remember(self, key: Hashable) -> None:
        self._done[key] = None
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
