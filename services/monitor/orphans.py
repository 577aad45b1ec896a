"""Whose an agent is, by the log alone, and whether what it works on was asked for by us. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.cursor.answers import same_repository
from shared.cursor.conversation import was_told
from shared.cursor.provider import AgentSnapshot, ListedAgent, Message
from shared.cursor.refusals import AGENT_NOT_FOUND, RUN_NOT_FOUND
from shared.domain.events import AgentStatus
from shared.domain.prompt import follow_up_mark
from shared.domain.state import Attempt, Orchestration

# By which the provider's clock and ours may differ.
_CLOCK_MARGIN: Final = timedelta(minutes=5)
# A request that was given up without a trace may still have been carried out a little later.
_LATE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Case:
    """An agent of ours, with every attempt, oldest first, that has had it or may have."""

    orchestration: Orchestration
    attempts: tuple[Attempt, ...]

    @property
    def is_live(self) -> bool:
        """Whether an attempt under way has it, may have it, or is about to go on with it."""
        return any(attempt.is_active for attempt in self.attempts)

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]

    def has_seen_the_end_of(self, run_id: str | None) -> bool:
        """Whether the provider has said of the run that it ended; a run never begins again (v1)."""
        return any(attempt.run_id == run_id is not None and _was_seen_to_end(attempt) for attempt in self.attempts)

    def asked_for_run(self, run_id: str | None, began: datetime | None) -> bool:
        """Whether a run is ours (v1): we know it, or it began when we had asked for one and never heard of it."""
        if any(attempt.run_id == run_id is not None for attempt in self.attempts):
            return True
        return began is not None and any(_was_asked_at(attempt, began) for attempt in self.attempts)

    def asked_for_words(self, said: Sequence[Message]) -> bool:
        """Whether the agent works on our words (v0, which knows no runs): on its first prompt or a follow-up of ours,
        and not on what a person told it since."""
        told = [message for message in said if message.author == "user"]
        marks = [follow_up_mark(attempt) for attempt in self.attempts if attempt.continues is not None]
        return len(told) == 1 or any(was_told(told[-1:], mark) for mark in marks)


def case_of(orchestration: Orchestration, agent: ListedAgent) -> Case | None:
    """The agent's case in this orchestration, None if it has no attempt that could have had it."""
    repository = orchestration.spec.repository
    for task in orchestration.tasks.values():
        attempts = tuple(a for a in task.attempts if _has_had(a, agent) or _may_have_made(a, agent, repository))
        if attempts:
            return Case(orchestration, attempts)
    return None


def is_at_work(snapshot: AgentSnapshot) -> bool:
    """An unknown word is taken neither for an end nor for work."""
    return snapshot.status in (AgentStatus.CREATING, AgentStatus.RUNNING)


def _was_seen_to_end(attempt: Attempt) -> bool:
    """One that was gone after we had asked for its stop was taken for stopped; it may have come back."""
    is_over = attempt.status is not None and attempt.status.is_terminal
    return is_over and attempt.provider_status not in (AGENT_NOT_FOUND, RUN_NOT_FOUND)


def _has_had(attempt: Attempt, agent: ListedAgent) -> bool:
    """On v0 the id that we chose is nobody's; on v1 nobody but us can have chosen it."""
    return agent.agent_id in (attempt.agent_id, attempt.continues.agent_id if attempt.continues else None)


def _may_have_made(attempt: Attempt, agent: ListedAgent, repository: str) -> bool:
    """Whether it is what became of a create that we never heard of again (v0): it has the attempt's branch, and was
    created when that was asked for. Who works on the branch later is somebody else."""
    if attempt.api_version != "v0" or attempt.has_had_agent or attempt.continues is not None:
        return False
    if agent.branch is None or agent.branch != attempt.branch_name or agent.created_at is None:
        return False
    is_there = agent.repository is None or same_repository(agent.repository, repository)
    return is_there and _was_asked_at(attempt, agent.created_at)


def _was_asked_at(attempt: Attempt, moment: datetime) -> bool:
    """Whether something of the attempt that we know no run of may have begun then."""
    if attempt.run_id is not None or attempt.started_at is None:
        return False
    late = timedelta(0) if attempt.has_had_agent else _LATE
    ended = attempt.ended_at
    return attempt.started_at - _CLOCK_MARGIN <= moment and (ended is None or moment <= ended + late)
