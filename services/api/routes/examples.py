"""What the OpenAPI document shows as answers: views of an orchestration that is told here, so they are never old."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from shared.domain import events as ev
from shared.domain.events import AgentStatus, OrchestrationEvent
from shared.domain.evolve import evolve
from shared.domain.ids import derive_id
from shared.domain.state import Orchestration
from shared.views import View, orchestration_view, statistics, task_views

ORCHESTRATION_ID: Final = "0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11"
_TASK, _NEXT_TASK = (derive_id("task", ORCHESTRATION_ID, index) for index in range(2))
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
            orchestration_id=ORCHESTRATION_ID,
            team="default",
            created_by="operator",
            spec=spec,
            tasks=tasks,
            warnings=(),
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

_AT: Final = "2026-11-20T09:35:00Z"
_TO_COME: Final = {"id": ORCHESTRATION_ID, "status": "PENDING", "message": "Accepted; not decided yet"}
_CHECK: Final = {"status": "pass", "responseTime": 1.5, "message": ""}

SHAPES: Final[dict[str, Any]] = {
    "ActionShape": _TO_COME,
    "TaskActionShape": {**_TO_COME, "id": _TASK, "status": None},
    "AgentActionShape": {**_TO_COME, "id": _AGENT, "status": "RUNNING"},
    "DeletedShape": {"id": ORCHESTRATION_ID, "status": "DELETED", "message": "Deleted"},
    "OrchestrationShape": ORCHESTRATION_EXAMPLE,
    "CreatedShape": {**ORCHESTRATION_EXAMPLE, "tasks": TASK_EXAMPLES},
    "DetailShape": {
        "orchestration": ORCHESTRATION_EXAMPLE,
        "tasks": TASK_EXAMPLES,
        "statistics": statistics(ORCHESTRATION_EXAMPLE, TASK_EXAMPLES, _BEGIN + timedelta(minutes=5)),
    },
    "StatisticsShape": statistics(ORCHESTRATION_EXAMPLE, TASK_EXAMPLES, _BEGIN + timedelta(minutes=5)),
    "TaskShape": TASK_EXAMPLES[0],
    "TasksPage": {"items": TASK_EXAMPLES},
    "BulkShape": {
        "items": [
            {"repository": "acme/shop", "status": 201, "id": ORCHESTRATION_ID, "orchestration": ORCHESTRATION_EXAMPLE},
            {
                "repository": "acme",
                "status": 400,
                "error": {
                    "code": "INVALID_REPOSITORY",
                    "message": "repositories[1]: must be owner/repo or https://github.com/owner/repo",
                    "statusCode": 400,
                    "metadata": {"fields": [{"field": "repositories[1]", "message": "must be owner/repo …"}]},
                },
            },
        ],
        "created": 1,
        "failed": 1,
        "undecided": 0,
    },
    "CloudAgentShape": {
        "id": _AGENT,
        "run_id": f"run-{_ATTEMPT}",
        "status": "RUNNING",
        "provider_status": "RUNNING",
        "url": _URL,
        "api_version": "v1",
        "model": None,
        "branch": "cursor/validation",
        "orchestration_id": ORCHESTRATION_ID,
        "task_id": _TASK,
        "attempt_id": _ATTEMPT,
        "attempt_number": 1,
        "started_at": "2026-11-20T09:33:00Z",
        "ended_at": None,
    },
    "AgentStatusShape": {
        "id": _AGENT,
        "status": "FINISHED",
        "provider_status": "FINISHED",
        "run_id": f"run-{_ATTEMPT}",
        "url": _URL,
        "branch": "cursor/validation",
        "pr_url": "https://github.com/acme/shop/pull/7",
        "summary": "Added validation to every field",
        "as_of": _AT,
    },
    "ConversationShape": {
        "id": _AGENT,
        "messages": [
            {"id": "msg-1", "author": "user", "text": "Validate every field of the checkout form."},
            {"id": "msg-2", "author": "assistant", "text": "Every field is validated now, and named in the error."},
        ],
    },
    "ArtifactsShape": {
        "id": _AGENT,
        "items": [{"path": "artifacts/screenshot.png", "size_bytes": 12345, "updated_at": _AT}],
    },
    "ArtifactLinkShape": {
        "id": _AGENT,
        "path": "artifacts/screenshot.png",
        "url": "https://files.example/screenshot.png?signature=5f3a9c",
        "expires_at": _AT,
    },
    "ReceivedShape": {"received": True},
    "HealthShape": {
        "status": "healthy",
        "timestamp": _AT,
        "uptime": 86400.5,
        "checks": {"database": _CHECK, "queue": _CHECK, "cursorApi": _CHECK, "worker": _CHECK},
    },
    "LivenessShape": {"status": "live"},
    "ReadinessShape": {"status": "ready", "checks": {"database": {"status": "pass", "message": ""}}},
}
"""An example of each shape, for answers whose route shows none of its own."""
