"""A decision in the making: the events decided so far and the state that they lead to."""

from datetime import datetime

from shared.domain.commands import Deciding
from shared.domain.errors import Refusal
from shared.domain.events import OrchestrationEvent, OrchestrationStatus
from shared.domain.evolve import evolve
from shared.domain.state import Attempt, Orchestration, Task


class Draft:
    def __init__(self, state: Orchestration, deciding: Deciding) -> None:
        self.state = state
        self.deciding = deciding
        self.events: list[OrchestrationEvent] = []

    @property
    def now(self) -> datetime:
        return self.deciding.now

    @property
    def status(self) -> OrchestrationStatus:
        return self.state.status

    def emit(self, event: OrchestrationEvent) -> None:
        self.events.append(event)
        self.state = evolve(self.state, event, self.now)

    def task(self, task_id: str) -> Task:
        """The task as it is now; raises Refusal if there is none."""
        task = self.state.tasks.get(task_id)
        if task is None:
            raise Refusal("TASK_NOT_FOUND", "the orchestration has no such task")
        return task

    def attempt(self, attempt_id: str) -> tuple[Task, Attempt]:
        """The attempt as it is now, with its task; raises Refusal if there is none."""
        found = self.state.find_attempt(attempt_id)
        if found is None:
            raise Refusal("AGENT_NOT_FOUND", "the orchestration has no such attempt")
        return found


def illegal(message: str, code: str = "INVALID_STATE_TRANSITION") -> Refusal:
    """A move that the state does not allow; `message` names the way out."""
    return Refusal(code, message)
