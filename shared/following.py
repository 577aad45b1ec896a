"""What launches an attempt, and what follows its agent: messages on work queues, put back should they be lost."""

import logging
from dataclasses import dataclass
from typing import assert_never

from shared.domain.plan import AwaitResult, Launch, StopAgent, Watch
from shared.domain.state import Orchestration
from shared.jetstream.errors import AlreadyThereError
from shared.jetstream.publish import Publisher
from shared.jetstream.topology import QUEUE, WATCH, hurried_watch_subject, queue_subject, watch_subject
from shared.messages import Ticket, Watched

_log = logging.getLogger(__name__)

Followed = Launch | Watch | StopAgent | AwaitResult
"""Actions of a plan that are messages on work queues."""


@dataclass(frozen=True, slots=True)
class Following:
    """The streams take one message a subject, so whatever is put there twice is there once."""

    publisher: Publisher

    async def keep(self, state: Orchestration, action: Followed) -> bool:
        """See to it that the action's message is there; False if it was.

        Raises:
            PublishUnavailableError: it may be there; asking again is safe.
        """
        match action:
            case Launch():
                ticket = Ticket(state.team, state.id, action.attempt_id)
                return await self._put(queue_subject(action.priority, action.attempt_id), ticket.encode(), QUEUE)
            case Watch():
                return await self._watch(state, action.attempt_id, in_a_hurry=False)
            case StopAgent() | AwaitResult():
                return await self._watch(state, action.attempt_id, in_a_hurry=True)
            case _:
                assert_never(action)

    async def _watch(self, state: Orchestration, attempt_id: str, *, in_a_hurry: bool) -> bool:
        """An agent that is to stop, or whose result is awaited, is looked at in a hurry, by a message of its own: the
        other one may have just been put back for minutes, and nothing would call it back from there."""
        found = state.find_attempt(attempt_id)
        if found is None or found[1].started_at is None or found[1].api_version is None:
            return False
        watched = Watched(state.team, state.id, attempt_id, since=found[1].started_at.isoformat())
        subject = (hurried_watch_subject if in_a_hurry else watch_subject)(found[1].api_version, attempt_id)
        return await self._put(subject, watched.encode(), WATCH)

    async def _put(self, subject: str, data: bytes, stream: str) -> bool:
        try:
            await self.publisher.publish(subject, data, stream=stream)
        except AlreadyThereError:
            _log.debug("%s is in %s already", subject, stream)
            return False
        return True
