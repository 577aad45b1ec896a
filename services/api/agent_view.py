"""How a cloud agent is shown by itself: with the orchestration, the task and the attempt that it works for."""

from services.api.projections import agent_row
from services.api.queries import AgentRow
from shared.domain.state import Attempt, Orchestration, Task
from shared.moments import written
from shared.views import View


def is_real(agent: AgentRow) -> bool:
    """Whether the id is the provider's own: on v0 the one that we chose first means nothing to anybody else."""
    return agent.api_version == "v1" or agent.is_known


def agent_view(agent: AgentRow) -> View:
    """The agent object; times in ISO 8601."""
    return {
        "id": agent.agent_id,
        "run_id": agent.run_id,
        "status": agent.status,
        "provider_status": agent.provider_status,
        "url": agent.url,
        "api_version": agent.api_version,
        "model": agent.model,
        "branch": agent.branch,
        "orchestration_id": agent.orchestration_id,
        "task_id": agent.task_id,
        "attempt_id": agent.attempt_id,
        "attempt_number": agent.number,
        "started_at": written(agent.started_at),
        "ended_at": written(agent.ended_at),
    }


def agent_in(state: Orchestration, agent_id: str, sequence: int) -> AgentRow | None:
    """The agent as the attempt has it that it works for or, at rest, worked for last; None if no attempt has it."""
    having = [
        (task, attempt) for task in state.tasks.values() for attempt in task.attempts if attempt.agent_id == agent_id
    ]
    if not having:
        return None
    task, attempt = max(having, key=_precedence)
    is_known = any(attempt.has_had_agent for _, attempt in having)
    values = agent_row(state, task, attempt, sequence)
    return AgentRow(team=values.pop("team_id"), sequence=values.pop("seq"), is_known=is_known, **values)


def _precedence(having: tuple[Task, Attempt]) -> tuple[bool, bool, int]:
    """An attempt that was to continue the agent, but never did, says nothing of it."""
    _, attempt = having
    return attempt.is_active, attempt.has_had_agent, attempt.number
