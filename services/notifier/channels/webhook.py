"""Webhooks: what a receiver is told, signed, and how it took it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx
import orjson
from pydantic import SecretStr

from services.notifier.notification import Notification
from services.notifier.outbound import Answer, Outbound, SendTimeoutError, UnreachableError
from services.notifier.outcome import Kind, Outcome
from services.notifier.signing import signature_headers, team_key
from shared.domain.state import Orchestration, statistics_of
from shared.receiver_address import BlockedError
from shared.views import View, orchestration_view, task_view

_GONE: Final = 410
_STATISTICS: Final = {
    "total_tasks",
    "completed_tasks",
    "failed_tasks",
    "cancelled_tasks",
    "duration_ms",
    "total_cost",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """One try, ready to be sent."""

    url: str
    headers: dict[str, str]
    body: bytes


class WebhookChannel:
    name = "webhook"

    def __init__(self, outbound: Outbound, webhook_secret: SecretStr) -> None:
        self._outbound = outbound
        self._secret = webhook_secret

    def prepare(self, notification: Notification, state: Orchestration, now: datetime) -> Prepared:
        """Body and headers of the try that is made `now`; the body depends on the state alone."""
        body = orjson.dumps(webhook_body(notification.event_type, state))
        key = team_key(self._secret.get_secret_value(), notification.team)
        signatures = signature_headers(
            key, webhook_id=notification.delivery_id, timestamp=int(now.timestamp()), body=body
        )
        headers = {
            "User-Agent": "cursor-orchestrator",
            "Accept": "*/*",
            "Content-Type": "application/json",
            **signatures,
        }
        return Prepared(notification.url, headers, body)

    async def send(self, prepared: Prepared) -> Outcome:
        try:
            answer = await self._outbound.post(prepared.url, prepared.headers, prepared.body)
        except BlockedError as exc:
            return Outcome(Kind.BLOCKED, str(exc))
        except SendTimeoutError as exc:
            return Outcome(Kind.TIMEOUT, f"no answer in time ({exc})")
        except UnreachableError as exc:
            return Outcome(Kind.UNREACHABLE, f"not reached ({exc})")
        return _judge(answer)


def _judge(answer: Answer) -> Outcome:
    """Only 2xx is success: a redirect is not followed, so whoever sends one has not got the message."""
    detail = f"answered {answer.status}"
    if 200 <= answer.status < 300:
        return Outcome(Kind.DELIVERED, detail)
    if answer.status == _GONE:
        return Outcome(Kind.GONE, detail)
    return Outcome(Kind.REJECTED, detail, answer.retry_after)


def webhook_body(event_type: str, state: Orchestration) -> dict[str, Any]:
    """What is told of an orchestration: the published form, the same for the same state."""
    view = orchestration_view(state)
    statistics = state.statistics or statistics_of(state, state.updated_at)
    return {
        "event": event_type,
        "orchestrationId": view["id"],
        "status": view["status"],
        "repository": view["repository"],
        "ref": view["ref"],
        "statistics": statistics.model_dump(include=_STATISTICS),
        "completedAt": view["completed_at"],
        "tasks": [_task(task_view(state, task)) for task in state.tasks.values()],
    }


def _task(view: View) -> dict[str, Any]:
    return {
        "id": view["id"],
        "title": view["title"],
        "status": view["status"],
        "cloudAgentId": view["cloud_agent_id"],
        "cloudAgentUrl": view["cloud_agent_url"],
        "resultBranch": view["result_branch"],
        "resultPrUrl": view["result_pr_url"],
        "resultSummary": view["result_summary"],
        "duration": view["duration"],
        "retryCount": view["retry_count"],
    }


def host_of(url: str) -> str:
    """The name by which a receiver's deliveries are counted; empty when the address is none."""
    try:
        return httpx.URL(url).host.rstrip(".").lower()
    except (httpx.InvalidURL, ValueError):
        return ""
