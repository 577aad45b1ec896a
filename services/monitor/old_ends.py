"""Old ends: v0 may go on to show how an agent ended before, for seconds after a follow-up has set it to work again.

Taken for the end of the attempt that continues the agent, that would free its slot and start the next task while the
agent is still at work. v1 has no such trouble: there every prompt has a run of its own.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta

from shared.cursor.conversation import answered_since
from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentSnapshot, Provider
from shared.domain.events import AgentStatus
from shared.domain.prompt import follow_up_mark
from shared.domain.state import Attempt, Task
from shared.ports import Clock

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OldEnds:
    """Tells them from new ones.

    An end is believed when the agent was seen at work for this attempt, when it has answered the follow-up, or when
    nothing has changed for `grace`. The last is for agents that fail or are stopped without a word.
    """

    provider: Provider
    clock: Clock
    grace: timedelta

    async def may_be(self, task: Task, attempt: Attempt, snapshot: AgentSnapshot) -> bool:
        """Whether the end that `snapshot` shows may be older than the attempt: then it says nothing yet."""
        if not snapshot.status.is_terminal or attempt.continues is None or attempt.api_version != "v0":
            return False
        # The task changes when its agent is known to be continued, and again when a stop is asked for: either way
        # the provider needs a moment until it shows what came of it.
        is_known = attempt.status is AgentStatus.RUNNING or attempt.awaited is not None
        if is_known or self.clock.now() - task.updated_at >= self.grace:
            return False
        try:
            said = await self.provider.conversation(snapshot.agent_id)
        except ProviderError as error:
            _log.info("It is not known yet whose end %s shows: %s", snapshot.agent_id, error)
            return True
        return not answered_since(said, follow_up_mark(attempt))
