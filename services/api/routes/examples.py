"""What the OpenAPI document shows as answers: views of an orchestration that is told here, so they are never old."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationEvent
from shared.domain.evolve import evolve
from shared.domain.ids import derive_id
from shared.domain.state import Orchestration
from shared.views import View, orchestration_view, task_views

_ID: Final = "0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11"
_TASK, _NEXT_TASK = (derive_id("task", _ID, index) for index in range(2))
_ATTEMPT: Final = derive_id("attempt", _TASK, 1)
_AGENT: Final = f"bc-{_ATTEMPT}"
_URL: Final = f"https://cursor.com/agents?id={_AGENT}"
_BEGIN: Final = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def _events() -> Sequence[OrchestrationEvent]:
    spec = ev.OrchestrationSpec(repository="https://github.com/acme/shop", name="Checkout clean-up", tags=("checkout",))
    tasks = (
        ev.TaskSpec(
            task_id=_TASK,
            title="Add input validation",
            description="Validate every field of the checkout form and answer 400 with the field's name.",
            priority="high",
            order_index=0,
        ),
        ev.TaskSpec(
            task_id=_NEXT_TASK,
            title="Write the tests",
            description="Cover the new validation with unit tests, one for each field.",
            complexity="simple",
            depends_on=(_TASK,),
            order_index=1,
        ),
    )
    agent: dict[str, Any] = {"task_id": _TASK, "attempt_id": _ATTEMPT, "agent_id": _AGENT}
    return (
        ev.OrchestrationCreated(
            orchestration_id=_ID, team="default", created_by="operator", spec=spec, tasks=tasks, warnings=()
        ),
        ev.OrchestrationActivated(),
        ev.TaskQueued(task_id=_TASK, attempt_id=_ATTEMPT, number=1, priority="high", base_ref="main"),
        ev.AttemptStarted(
            **agent, api_version="v1", branch_name="cursor/validation", deadline_at=_BEGIN + timedelta(hours=2)
        ),
        ev.AgentCreated(
            **agent, status=AgentStatus.RUNNING, provider_status="RUNNING", run_id=f"run-{_ATTEMPT}", url=_URL
        ),
    )


def _told() -> Orchestration:
    state: Orchestration | None = None
    for minute, event in enumerate(_events()):
        state = evolve(state, event, _BEGIN + timedelta(minutes=minute))
    assert state is not None
    return state


ORCHESTRATION_EXAMPLE: Final[View] = orchestration_view(_told())
TASK_EXAMPLES: Final[list[View]] = task_views(_told())
