"""The sweep for agents that nobody follows, on demand."""

import logging
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.api.agent_responses import SweepShape
from services.api.auth import Admin
from services.api.parts import TheParts
from services.api.responses import Json
from services.api.routes.answers import refuse_unknown_parameters
from services.api.routes.carrying_out import json_body, optional_json
from services.api.routes.documented import AUTH_CODES, BODY_CODES, errors, good
from services.api.sweeps import read_sweep, sweep_view
from shared.sweeping import SweepRequest

router = APIRouter(prefix="/api/cloud-agents", tags=["agents"])

_log = logging.getLogger(__name__)

_BODY: Final = json_body("SweepOrder", {"look": {"dryRun": True}}, required=False)
_EXAMPLE: Final = {
    "checked": 240,
    "ours": 12,
    "unread": 0,
    "dryRun": False,
    "orphans": [
        {
            "agentId": "bc-0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11",
            "url": "https://cursor.com/agents/bc-0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11",
            "status": "RUNNING",
            "orchestrationId": "7f6d1c1e-53d7-4b7e-b0a3-0a7c1c8f9a10",
            "attemptId": "f1f4c7a2-5f0e-5b0c-8d7e-0e6c2b1a9d55",
            "action": "stopped",
        }
    ],
    "settled": [],
}


@router.post(
    "/sweep",
    operation_id="sweepAgents",
    summary="Stop cloud agents that nobody follows",
    responses={
        200: good(SweepShape, "What was found, and done about it.", _EXAMPLE),
        **errors(*BODY_CODES, *AUTH_CODES, "CURSOR_API_ERROR"),
    },
    openapi_extra=_BODY,
)
async def sweep(request: Request, principal: Admin, parts: TheParts) -> Response:
    """Does at once what a monitor does every hour, for the agents of the key's team, with the operator's key for those
    of all teams: whatever is at work though no attempt under way has it is stopped, and attempts without news are read.
    `checked` counts all that the account at the provider has; nobody else's agents are touched. Where something is to
    be stopped the answer takes 20 s; without one within 60 s it is 503, and the sweep goes on by itself.
    """
    refuse_unknown_parameters(request, set())
    dry_run = read_sweep(await optional_json(request))
    _log.info("A sweep was asked for", extra={"team": principal.team, "actor": principal.name, "dry_run": dry_run})
    team = None if principal.operator else principal.team
    return Json(sweep_view(await parts.sweeps.ask(SweepRequest(team=team, dry_run=dry_run))))
