"""The launcher: a ticket becomes an agent, exactly one for each attempt, whatever crashes in between.

The attempt is committed as started, with the id or branch by which its agent can be found again, before the first
request leaves. From then on an answer that never came is *unknown*, not failed: with an idempotent create the same
request is repeated; without one the agent is looked for, and only after the settle time without a trace is the
attempt given up, so that the next one cannot become a second agent of the same work.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.dispatcher.slots import SlotPool
from shared.command_handler import Cause, CommandHandler, Decided
from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentRequest, AgentSnapshot, Provider, WebhookTarget
from shared.domain.commands import AnyCommand, RecordAgent, RejectAttempt, StartAttempt
from shared.domain.events import Failure, OrchestrationStatus
from shared.domain.orchestration import derive_id
from shared.domain.prompt import agent_name, branch_name, build_prompt
from shared.domain.state import Attempt, Orchestration, Phase, Task
from shared.jetstream.consumer import Delivery, Later, Poison
from shared.messages import Ticket
from shared.observability.logging import log_context
from shared.ports import Clock

_log = logging.getLogger(__name__)

_SLOT_WAIT_SECONDS = 5.0
_SLOT_PAUSE_SECONDS = 1.0
_VERSION_PAUSE_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
# The provider's clock and ours may differ by this much when its list is searched for what we created.
_CLOCK_MARGIN = timedelta(minutes=5)

_FAILURE_CODES = {
    "repository_access": "INVALID_REPOSITORY",
    "repository_required": "INVALID_REPOSITORY",
    "invalid_branch_name": "INVALID_REPOSITORY",
    "invalid_model": "INVALID_MODEL",
    "unauthorized": "INVALID_API_KEY",
}

WebhookFor = Callable[[Ticket], WebhookTarget | None]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A started attempt whose agent is not known yet, with the request that creates it."""

    attempt: Attempt
    request: AgentRequest
    is_unwanted: bool
    """It is to be stopped, or its time is over: find out whether there is an agent, create none."""


@dataclass(slots=True)
class _Certainty:
    """Whether a create may have taken effect without our knowing; `settled_at` is when its absence is proof."""

    unknown: bool = False
    settled_at: datetime | None = None
    refusal: Failure | None = None
    """Why the provider will create no agent; an earlier create may have made one nevertheless."""

    def lose(self, settled_at: datetime) -> None:
        self.unknown, self.settled_at = True, settled_at

    def is_settled(self, now: datetime) -> bool:
        return self.settled_at is None or self.settled_at <= now


@dataclass(frozen=True, slots=True)
class Launcher:
    """Launches the attempts of tickets.

    Args:
        settle: how long after an unknown outcome a create may still take effect at the provider; must be longer
            than the create's own time limit.
        webhook_for: where the provider is to report to, None where it has no webhooks.
    """

    handler: CommandHandler
    slots: SlotPool
    provider: Provider
    clock: Clock
    settle: timedelta
    webhook_for: WebhookFor
    chance: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def on_ticket(self, delivery: Delivery) -> None:
        """Bring up the agent of one ticket of QUEUE; returns once it is known, or known that there is none."""
        try:
            ticket = Ticket.decode(delivery.data)
        except ValueError as exc:
            raise Poison(str(exc)) from exc
        with log_context(orchestration=ticket.orchestration_id, attempt=ticket.attempt_id):
            await self._launch(ticket)

    async def _launch(self, ticket: Ticket) -> None:
        state = await self._load(ticket)
        found = _open(state, ticket)
        if found is None:
            await self.slots.release(ticket)
            return
        task, attempt = found
        if attempt.phase is Phase.CREATED:
            return
        if attempt.api_version not in (None, self.provider.version):
            # Only the version that may have created its agent can say so; another would make a second one.
            raise Later(
                _VERSION_PAUSE_SECONDS, f"started with {attempt.api_version}, which this process does not speak"
            )
        if not await self.slots.acquire(ticket, attempt.priority, attempt.queued_at, within=_SLOT_WAIT_SECONDS):
            raise Later(_SLOT_PAUSE_SECONDS, "no slot is free")
        certainty = _Certainty()
        started = await self._start(ticket, task, attempt) if attempt.phase is Phase.QUEUED else None
        # Whoever did not start the attempt itself has to assume that a create is on its way.
        if started is None or not started.events:
            _log.info("The attempt was started before, the outcome of its create is unknown")
            certainty.lose(self.clock.now() + self.settle)
            state = await self._load(ticket)  # it may have ended while a slot was waited for
        else:
            state = started.state
        await self._bring_up(ticket, state, certainty)

    async def _load(self, ticket: Ticket) -> Orchestration | None:
        return (await self.handler.load(ticket.team, ticket.orchestration_id)).state

    async def _start(self, ticket: Ticket, task: Task, attempt: Attempt) -> Decided:
        """Commit the attempt as started; there are events if this call did it, and not another with the same ticket."""
        command = StartAttempt(
            attempt_id=attempt.attempt_id,
            agent_id="bc-" + derive_id("agent", attempt.attempt_id),
            api_version=self.provider.version,
            branch_name=branch_name(task, attempt),
        )
        return await self._handle(ticket, command)

    async def _bring_up(self, ticket: Ticket, state: Orchestration | None, certainty: _Certainty) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while (wanted := self._wanted(ticket, state)) is not None:
            # As of before the look: what it finds no trace of could still appear while it is under way.
            is_settled = certainty.is_settled(self.clock.now())
            wait: float | None = None
            try:
                snapshot = await self._ask(wanted, certainty)
            except ProviderError as error:
                _log.info("The agent is not created yet: %s", error, extra={"code": error.code})
                wait = error.retry_after
            else:
                if snapshot is not None:
                    state = await self._record(ticket, snapshot)
                    continue
                if is_settled:
                    state = await self._reject(ticket, certainty.refusal or _no_trace(wanted))
                    continue
            await self.sleep(wait or pause * (0.5 + self.chance.random() / 2))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            state = await self._load(ticket)
        if _open(state, ticket) is None:
            await self.slots.release(ticket)

    async def _ask(self, wanted: _Wanted, certainty: _Certainty) -> AgentSnapshot | None:
        """Create the agent, or look for it where creating it again could make a second one; None: no trace."""
        if self._may_create(wanted, certainty):
            try:
                return await self.provider.create(wanted.request)
            except ProviderError as error:
                if not error.outcome_known:
                    certainty.lose(self.clock.now() + self.settle)
                elif not error.retryable:
                    certainty.refusal = _refusal(error)
                if certainty.refusal is None:
                    raise
        if not certainty.unknown:
            return None
        since = (wanted.attempt.started_at or wanted.attempt.queued_at) - _CLOCK_MARGIN
        return await self.provider.find(wanted.request, since=since)

    def _may_create(self, wanted: _Wanted, certainty: _Certainty) -> bool:
        is_safe = self.provider.version == "v1" or not certainty.unknown
        return is_safe and not wanted.is_unwanted and certainty.refusal is None

    def _wanted(self, ticket: Ticket, state: Orchestration | None) -> _Wanted | None:
        """What is to be created, None when the attempt is past that."""
        found = state.find_attempt(ticket.attempt_id) if state else None
        if state is None or found is None or found[1].phase is not Phase.STARTED:
            return None
        task, attempt = found
        overdue = attempt.deadline_at is not None and attempt.deadline_at <= self.clock.now()
        return _Wanted(
            attempt=attempt,
            request=self._request(ticket, state, task, attempt),
            is_unwanted=overdue or attempt.stop_reason is not None,
        )

    def _request(self, ticket: Ticket, state: Orchestration, task: Task, attempt: Attempt) -> AgentRequest:
        return AgentRequest(
            agent_id=attempt.agent_id or "",
            name=agent_name(task),
            prompt=build_prompt(state, task, attempt),
            repository=state.spec.repository,
            ref=attempt.base_ref,
            branch_name=attempt.branch_name or branch_name(task, attempt),
            auto_create_pr=state.spec.auto_create_pr,
            model=attempt.model,
            webhook=self.webhook_for(ticket),
        )

    async def _record(self, ticket: Ticket, snapshot: AgentSnapshot) -> Orchestration | None:
        _log.info("The agent is created", extra={"agent": snapshot.agent_id})
        command = RecordAgent(
            attempt_id=ticket.attempt_id,
            agent_id=snapshot.agent_id,
            run_id=snapshot.run_id,
            url=snapshot.url,
            status=snapshot.status,
            provider_status=snapshot.provider_status,
        )
        return (await self._handle(ticket, command)).state

    async def _reject(self, ticket: Ticket, failure: Failure) -> Orchestration | None:
        _log.warning("The agent was not created: %s", failure.message, extra={"code": failure.code})
        return (await self._handle(ticket, RejectAttempt(attempt_id=ticket.attempt_id, failure=failure))).state

    async def _handle(self, ticket: Ticket, command: AnyCommand) -> Decided:
        cause = Cause(derive_id(command.type, ticket.attempt_id), ticket.attempt_id, "launcher")
        return await self.handler.handle(ticket.team, ticket.orchestration_id, command, cause)


def _open(state: Orchestration | None, ticket: Ticket) -> tuple[Task, Attempt] | None:
    """The attempt, if it is still to be launched or just was."""
    found = state.find_attempt(ticket.attempt_id) if state else None
    if state is None or found is None or not found[1].is_active:
        return None
    if found[1].phase is Phase.QUEUED and state.status is not OrchestrationStatus.ACTIVE:
        return None
    return found


def _refusal(error: ProviderError) -> Failure:
    code = "QUOTA_EXCEEDED" if error.billing else _FAILURE_CODES.get(error.code, "CURSOR_API_ERROR")
    return Failure(code=code, message=f"the provider refused the agent: {error.message}")


def _no_trace(wanted: _Wanted) -> Failure:
    if wanted.is_unwanted:
        return Failure(code="TIMEOUT", message="the agent was not created in time", retryable=True)
    return Failure(
        code="NETWORK_ERROR",
        message="the create was never answered and there is no trace of an agent",
        retryable=True,
    )
