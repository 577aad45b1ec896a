"""Cloud agents by their own ids: what is known of one, what the provider says now, what can be asked of it."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from services.api.agent_responses import (
    AgentActionShape,
    AgentStatusShape,
    ArtifactLinkShape,
    ArtifactsShape,
    CloudAgentShape,
    ConversationShape,
)
from services.api.asking_provider import asking_provider
from services.api.auth import AgentsWriter, Principal, Reader
from services.api.bodies import read_json
from services.api.errors import ApiError
from services.api.follow_up_request import read_follow_up
from services.api.idempotency import Once, RequestIds
from services.api.parts import Parts, TheParts
from services.api.reading import ShownAgent
from services.api.responses import Json
from services.api.routes.answers import STILL_TO_COME, action, refuse_unknown_parameters
from services.api.routes.carrying_out import Outcome, carry_out, json_body, refuse_anything, to_come
from services.api.routes.documented import AUTH_CODES, errors
from shared.domain.commands import DeleteAgent, FollowUp, StopAttempt
from shared.domain.errors import Refusal
from shared.moments import written

router = APIRouter(prefix="/api/cloud-agents", tags=["agents"])

# As every id of the provider: opaque, but fit to be part of an address.
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_EXAMPLE_ID: Final = "bc-0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11"
_CODES: Final = ("INVALID_REQUEST", *AUTH_CODES, "AGENT_NOT_FOUND", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
_READ_ERRORS: Final = errors("INVALID_REQUEST", *AUTH_CODES, "AGENT_NOT_FOUND")
_ASK_ERRORS: Final = errors("INVALID_REQUEST", *AUTH_CODES, "AGENT_NOT_FOUND", "CURSOR_API_ERROR")
_LINK_ERRORS: Final = errors("INVALID_REQUEST", *AUTH_CODES, "NOT_FOUND", "AGENT_NOT_FOUND", "CURSOR_API_ERROR")
_STOP_ERRORS: Final = errors(*_CODES, "INVALID_STATE_TRANSITION", "ALREADY_COMPLETED")
_FOLLOW_UP_ERRORS: Final = errors(
    *(*_CODES, "MISSING_REQUIRED_FIELD", "INVALID_STATE_TRANSITION", "ALREADY_ACTIVE", "IDEMPOTENCY_CONFLICT")
)
_DELETE_ERRORS: Final = errors(*_CODES, "ALREADY_ACTIVE")
_FOLLOW_UP_BODY: Final = json_body("FollowUpRequest", {"more": {"prompt": "Add a test for the empty form, too."}})


def agent_not_found() -> ApiError:
    return ApiError("AGENT_NOT_FOUND", "there is no agent with this id")


def _known_form(agent_id: Annotated[str, Path(description="The agent's `id`.", examples=[_EXAMPLE_ID])]) -> str:
    """The id; what cannot be one is not found like any other."""
    if not _ID.fullmatch(agent_id):
        raise agent_not_found()
    return agent_id


AgentId = Annotated[str, Depends(_known_form)]


def agent_address(agent_id: str) -> str:
    """For `Location`."""
    return f"/api/cloud-agents/{agent_id}"


def _answers(description: str, status: int, **examples: Mapping[str, str]) -> dict[int | str, dict[str, Any]]:
    shown = {name: {"value": {"id": _EXAMPLE_ID, **example}} for name, example in examples.items()}
    answer = {"model": AgentActionShape, "description": description}
    return {status: {**answer, "content": {"application/json": {"examples": shown}}}}


@router.get(
    "/{agent_id}",
    operation_id="getAgent",
    summary="Get a cloud agent",
    responses={200: {"model": CloudAgentShape, "description": "As it was seen last."}, **_READ_ERRORS},
)
async def get(request: Request, principal: Reader, agent_id: AgentId, parts: TheParts) -> Response:
    """With the attempt that it works for or, at rest, worked for last. Asks nothing of the provider."""
    refuse_unknown_parameters(request, set())
    return Json((await _found(parts, principal, agent_id)).agent)


@router.get(
    "/{agent_id}/status",
    operation_id="getAgentStatus",
    summary="Ask the provider how a cloud agent stands",
    responses={200: {"model": AgentStatusShape, "description": "What the provider says now."}, **_ASK_ERRORS},
)
async def status(request: Request, principal: Reader, agent_id: AgentId, parts: TheParts) -> Response:
    """Nothing is recorded: what the agent comes to is recorded by whoever follows it, a moment later at most."""
    refuse_unknown_parameters(request, set())
    agent = (await _found(parts, principal, agent_id)).agent
    async with asking_provider():
        seen = await parts.provider.get(agent_id, agent["run_id"])
    return Json(
        {
            "id": agent_id,
            "status": seen.status.value,
            "provider_status": seen.provider_status,
            "run_id": seen.run_id,
            "url": seen.url or agent["url"],
            "branch": seen.branch,
            "pr_url": seen.pr_url,
            "summary": seen.summary,
            "as_of": written(parts.clock.now()),
        }
    )


@router.get(
    "/{agent_id}/conversation",
    operation_id="getAgentConversation",
    summary="Read what was said between the user and a cloud agent",
    responses={200: {"model": ConversationShape, "description": "Oldest first."}, **_ASK_ERRORS},
)
async def conversation(request: Request, principal: Reader, agent_id: AgentId, parts: TheParts) -> Response:
    """The user's words begin with the prompt that was made of the task. It is read from the provider."""
    refuse_unknown_parameters(request, set())
    await _found(parts, principal, agent_id)
    async with asking_provider():
        messages = await parts.provider.conversation(agent_id)
    said = [{"id": message.id, "author": message.author, "text": message.text} for message in messages]
    return Json({"id": agent_id, "messages": said})


@router.get(
    "/{agent_id}/artifacts",
    operation_id="listAgentArtifacts",
    summary="List the files that a cloud agent left",
    responses={200: {"model": ArtifactsShape, "description": "A hundred at most."}, **_ASK_ERRORS},
)
async def artifacts(request: Request, principal: Reader, agent_id: AgentId, parts: TheParts) -> Response:
    """Screenshots, logs and the like, not the work itself. It is read from the provider."""
    refuse_unknown_parameters(request, set())
    await _found(parts, principal, agent_id)
    async with asking_provider():
        found = await parts.provider.artifacts(agent_id)
    items = [
        {"path": artifact.path, "size_bytes": artifact.size_bytes, "updated_at": written(artifact.updated_at)}
        for artifact in found
    ]
    return Json({"id": agent_id, "items": items})


@router.get(
    "/{agent_id}/artifacts/link",
    operation_id="getAgentArtifactLink",
    summary="Get a link to a file that a cloud agent left",
    responses={
        200: {"model": ArtifactLinkShape, "description": "Good for some minutes, for whoever has it."},
        **_LINK_ERRORS,
    },
)
async def artifact_link(
    request: Request,
    principal: Reader,
    agent_id: AgentId,
    parts: TheParts,
    path: Annotated[
        str,
        Query(
            min_length=1,
            max_length=1024,
            description="As the list names it.",
            examples=["artifacts/screenshot.png"],
        ),
    ],
) -> Response:
    """The link is the provider's and leads to where it stores files: it is to be fetched without the API's key."""
    refuse_unknown_parameters(request, {"path"})
    await _found(parts, principal, agent_id)
    async with asking_provider():
        link = await parts.provider.artifact_link(agent_id, path)
    return Json({"id": agent_id, "path": path, "url": link.url, "expires_at": written(link.expires_at)})


@router.post(
    "/{agent_id}/stop",
    operation_id="stopAgent",
    summary="Stop a cloud agent",
    status_code=202,
    responses={
        **_answers(
            "It is told to stop; that it has stopped is seen at `Location`. 202 also where the decision is still to "
            "come.",
            202,
            stopping={"status": "RUNNING", "message": "Stopping"},
        ),
        **_answers("It was told to stop already.", 200, again={"status": "RUNNING", "message": "Already stopping"}),
        **_STOP_ERRORS,
    },
)
async def stop(request: Request, principal: AgentsWriter, agent_id: AgentId, parts: TheParts) -> Response:
    """Its task fails with AGENT_STOPPED and is not tried again by itself. No body is needed."""
    return await _asked_for(request, principal, parts, agent_id, StopAttempt, "Stopping", "Already stopping")


class _Planned(BaseModel):
    """Which attempt is continued, and the id that makes sending the command again harmless."""

    orchestration_id: str
    task_id: str
    attempt_id: str
    command_id: str


@router.post(
    "/{agent_id}/followup",
    operation_id="followUpAgent",
    summary="Let a cloud agent go on with a further prompt",
    responses={
        **_answers(
            "Its task is PENDING again and goes on with this agent.",
            200,
            queued={"status": "FINISHED", "message": "Queued"},
        ),
        202: {"model": AgentActionShape, "description": STILL_TO_COME},
        **_FOLLOW_UP_ERRORS,
    },
    openapi_extra=_FOLLOW_UP_BODY,
)
async def follow_up(
    request: Request, principal: AgentsWriter, agent_id: AgentId, parts: TheParts, once: Once
) -> Response:
    """Only when its task has ended. The prompt waits for a slot like any attempt; an orchestration that had ended is
    ACTIVE again until it is done.
    """
    refuse_unknown_parameters(request, set())
    body = await read_json(request)
    prompt = read_follow_up(body)

    async def plan(ids: RequestIds) -> _Planned:
        agent = await _found(parts, principal, agent_id)
        return _Planned(
            orchestration_id=agent.orchestration_id,
            task_id=agent.task_id,
            attempt_id=agent.attempt_id,
            command_id=ids.new("command"),
        )

    async def act(planned: _Planned) -> Response:
        agent = ShownAgent(0, planned.orchestration_id, planned.task_id, planned.attempt_id, {"status": None})
        command = FollowUp(attempt_id=planned.attempt_id, prompt=prompt)
        outcome = await _carried_out(request, principal, parts, agent, command, command_id=planned.command_id)
        if outcome is None:
            return to_come(agent_id, None, agent_address(agent_id))
        return Json(action(agent_id, _status_after(outcome, agent), "Queued"))

    return await once.answer(principal.team, body, _Planned, plan, act)


@router.delete(
    "/{agent_id}",
    operation_id="deleteAgent",
    summary="Delete a cloud agent at the provider",
    status_code=202,
    responses={
        **_answers(
            "It is deleted as soon as the provider takes it. What is known of it here stays. 202 also where the "
            "decision is still to come.",
            202,
            deleting={"status": "FINISHED", "message": "Deleting"},
        ),
        **_answers("That was asked for before.", 200, again={"status": "FINISHED", "message": "Already asked for"}),
        **_DELETE_ERRORS,
    },
)
async def delete(request: Request, principal: AgentsWriter, agent_id: AgentId, parts: TheParts) -> Response:
    """Only one that is at rest: it can't be continued afterwards. No body is needed."""
    return await _asked_for(request, principal, parts, agent_id, DeleteAgent, "Deleting", "Already asked for")


async def _found(parts: Parts, principal: Principal, agent_id: str) -> ShownAgent:
    """The agent.

    Raises:
        ApiError: 404, the team has none of this id.
    """
    agent = await parts.reader.find_agent(principal.team, agent_id)
    if agent is None:
        raise agent_not_found()
    return agent


async def _asked_for(
    request: Request,
    principal: Principal,
    parts: Parts,
    agent_id: str,
    command: type[StopAttempt | DeleteAgent],
    begun: str,
    already: str,
) -> Response:
    """Ask for what the provider does only by and by: 202 with `begun`, or 200 where that was asked for before."""
    await refuse_anything(request)
    agent = await _found(parts, principal, agent_id)
    outcome = await _carried_out(request, principal, parts, agent, command(attempt_id=agent.attempt_id))
    if outcome is None:
        return to_come(agent_id, agent.agent["status"], agent_address(agent_id))
    shown = _status_after(outcome, agent)
    if outcome.reply.changed:
        return to_come(agent_id, shown, agent_address(agent_id), begun)
    return Json(action(agent_id, shown, already))


async def _carried_out(
    request: Request,
    principal: Principal,
    parts: Parts,
    agent: ShownAgent,
    command: StopAttempt | FollowUp | DeleteAgent,
    *,
    command_id: str | None = None,
) -> Outcome | None:
    """See `carry_out`; an agent whose orchestration was deleted meanwhile is not found either."""
    try:
        return await carry_out(request, principal, parts, agent.orchestration_id, command, command_id=command_id)
    except Refusal as refusal:
        if refusal.code == "ORCHESTRATION_NOT_FOUND":
            raise agent_not_found() from None
        raise


def _status_after(outcome: Outcome, agent: ShownAgent) -> str | None:
    """The agent's status as the command left it."""
    task = outcome.task(agent.task_id)
    attempts = task["attempts"] if task else []
    known = next((attempt["agent"] for attempt in attempts if attempt["id"] == agent.attempt_id), None)
    shown: str | None = known["status"] if known else agent.agent["status"]
    return shown
