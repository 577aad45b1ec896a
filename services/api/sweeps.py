"""Asking the monitors for a sweep, and what its report looks like."""

from dataclasses import dataclass
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from services.api.commands import NOT_SENT, UNKNOWN
from services.api.errors import ApiError, unavailable
from services.api.problems import InvalidRequestError
from services.api.schemas import Strict, check_part
from shared.sweeping import SWEEP_SUBJECT, SweepAnswer, SweepReport, SweepRequest
from shared.views import View

SWEEP_SECONDS: Final = 60.0


class SweepOrder(Strict):
    """What a sweep is to do."""

    dry_run: bool = False
    """Only look, and stop and settle nothing."""


def read_sweep(body: Any) -> bool:
    """Whether the request only wants to look.

    Raises:
        InvalidRequestError: names everything that is wrong.
    """
    order, problems = check_part(SweepOrder, body, {})
    if order is None:
        raise InvalidRequestError(problems)
    return order.dry_run


@dataclass(frozen=True, slots=True)
class Sweeps:
    """`seconds`: how long to wait for a report."""

    nc: Client
    seconds: float = SWEEP_SECONDS

    async def ask(self, request: SweepRequest) -> SweepReport:
        """The report of a sweep that one of the monitors makes.

        Raises:
            ApiError: 503 there is no monitor, or no report in time; or whatever the monitor gives as its reason.
        """
        if not self.nc.is_connected:
            raise unavailable("the message broker does not answer; nothing was asked for", outcome=NOT_SENT)
        try:
            reply = await self.nc.request(SWEEP_SUBJECT, request.encode(), timeout=self.seconds)
        except NoRespondersError as exc:
            raise unavailable("no monitor is there to sweep; nothing was done", outcome=NOT_SENT) from exc
        except (NatsError, TimeoutError) as exc:
            message = f"no report within {self.seconds:g} s; the sweep goes on, and the monitor logs what it finds"
            raise unavailable(message, outcome=UNKNOWN) from exc
        answer = SweepAnswer.decode(reply.data)
        if answer.report is None:
            raise ApiError(answer.error_code or "INTERNAL_ERROR", answer.error_message or "the sweep failed")
        return answer.report


def sweep_view(report: SweepReport) -> View:
    return {
        "checked": report.checked,
        "ours": report.ours,
        "unread": report.unread,
        "dryRun": report.dry_run,
        "orphans": [
            {
                "agentId": orphan.agent_id,
                "url": orphan.url,
                "status": orphan.status,
                "orchestrationId": orphan.orchestration_id,
                "attemptId": orphan.attempt_id,
                "action": orphan.action,
            }
            for orphan in report.orphans
        ],
        "settled": [
            {
                "attemptId": settled.attempt_id,
                "orchestrationId": settled.orchestration_id,
                "agentId": settled.agent_id,
                "action": settled.action,
            }
            for settled in report.settled
        ],
    }
