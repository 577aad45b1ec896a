"""The launcher: a ticket becomes an agent at work, exactly one for each attempt, whatever crashes in between.

The attempt is committed as started, with the id or branch by which its agent can be found again, before the first
request leaves. From then on an answer that never came is *unknown*, not failed: with an idempotent create the same
request is repeated; without one the agent is looked for, and only after the settle time without a trace is the
attempt given up, so that the next one cannot become a second agent of the same work.

An attempt that continues an agent is sent as a follow-up. None is idempotent: one that was not answered is looked for,
and sent again only after the settle time without a trace, so that no agent is told the same thing twice.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.dispatcher.bringing_up import Certainty, Create, GoOn
from services.dispatcher.holding import HeldTickets
from services.dispatcher.slots import SlotPool
from shared.command_handler import Cause, CommandHandler, Decided
from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentRequest, AgentSnapshot, Provider, WebhookTarget
from shared.cursor.refusals import PROVIDER_UNAVAILABLE, RATE_LIMIT_EXCEEDED, is_gone
from shared.domain.attempts import may_drop_model
from shared.domain.commands import AnyCommand, DropModel, NoteWaiting, RecordAgent, RejectAttempt, StartAttempt
from shared.domain.events import Continuation, Failure, OrchestrationStatus
from shared.domain.ids import derive_id
from shared.domain.prompt import agent_name, branch_name, build_prompt, follow_up_mark, follow_up_prompt
from shared.domain.state import Attempt, Orchestration, Phase, Task
from shared.jetstream.consumer import Delivery, Later, Poison
from shared.jetstream.topology import ACK_WAIT
from shared.messages import LOG_LAG, Ticket
from shared.observability.logging import log_context
from shared.ports import Clock

_log = logging.getLogger(__name__)

_SLOT_WAIT_SECONDS = 5.0
_SLOT_PAUSE_SECONDS = 1.0
_VERSION_PAUSE_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
# About seven minutes of pauses, for an agent that nobody wants.
_STOP_TRIES = 12
# A shorter wait for the rate limit is not worth telling, and neither is that one changed by less.
_WAIT_SECONDS = 1.0
_WAIT_CHANGE_SECONDS = 15.0
# While the rate limit is waited for, how often it is looked whether the attempt is still wanted.
_LOOK_SECONDS = 5.0
_LAG_PAUSE_SECONDS = 1.0
_HELD_BACK = (RATE_LIMIT_EXCEEDED, PROVIDER_UNAVAILABLE)

WebhookFor = Callable[[Ticket], WebhookTarget | None]


def _not_held(_team: str) -> bool:
    return False


async def _no_limit() -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class Launcher:
    """Launches the attempts of tickets.

    Args:
        settle: how long after an unknown outcome a create may still take effect at the provider; must be longer
            than the create's own time limit.
        webhook_for: where the provider is to report to, None where it has no webhooks.
        create_wait: seconds until a create may leave, by the shared rate limit and the breaker; 0 for none.
        is_held: whether nothing of a team is to be launched now.
        ack_wait: away from the broker for so long, the ticket may have been given to another process.
    """

    handler: CommandHandler
    slots: SlotPool
    provider: Provider
    clock: Clock
    settle: timedelta
    webhook_for: WebhookFor
    create_wait: Callable[[], Awaitable[float]] = _no_limit
    is_held: Callable[[str], bool] = _not_held
    ack_wait: timedelta = timedelta(seconds=ACK_WAIT)
    held: HeldTickets = field(default_factory=HeldTickets)
    chance: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def on_ticket(self, delivery: Delivery) -> None:
        """Bring up the agent of one ticket of QUEUE; returns once it is known, or known that there is none."""
        try:
            ticket = Ticket.decode(delivery.data)
        except ValueError as exc:
            raise Poison(str(exc)) from exc
        with log_context(orchestration=ticket.orchestration_id, attempt=ticket.attempt_id):
            await self._launch(ticket, age=self.clock.now() - delivery.published_at)

    async def _launch(self, ticket: Ticket, *, age: timedelta) -> None:
        state = await self._load(ticket)
        if age < LOG_LAG and (state is None or state.find_attempt(ticket.attempt_id) is None):
            raise Later(_LAG_PAUSE_SECONDS, "the log does not show the attempt yet")
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
        await self._respect_hold(ticket, attempt)
        if not await self.slots.acquire(ticket, attempt.priority, attempt.queued_at, within=_SLOT_WAIT_SECONDS):
            raise Later(_SLOT_PAUSE_SECONDS, "no slot is free")
        found = await self._wait_for_limit(ticket, found)
        if found is None:
            await self.slots.release(ticket)
            return
        task, attempt = found
        certainty, known_at = Certainty(self.clock, self.settle), self.clock.now()
        started = await self._start(ticket, task, attempt) if attempt.phase is Phase.QUEUED else None
        # Whoever did not start the attempt itself has to assume that a create is on its way.
        if started is None or not started.events:
            _log.info("The attempt was started before, the outcome of its request is unknown")
            certainty.lose()
            state = await self._load(ticket)  # it may have ended while a slot was waited for
        else:
            state = started.state
        await self._bring_up(ticket, state, certainty, known_at)

    async def _load(self, ticket: Ticket) -> Orchestration | None:
        return (await self.handler.load(ticket.team, ticket.orchestration_id)).state

    async def _respect_hold(self, ticket: Ticket, attempt: Attempt) -> None:
        """What has not been started is left in the queue while its team holds it, and shows that."""
        if attempt.phase is not Phase.QUEUED:
            return
        shown = attempt.delay is not None and attempt.delay.reason == "pause"
        if self.is_held(ticket.team):
            if not shown:
                await self._note(ticket, NoteWaiting(attempt_id=ticket.attempt_id, reason="pause"))
            raise Later(self.held.pause(ticket.attempt_id), "the team's queue is held")
        if shown:
            await self._note(ticket, NoteWaiting(attempt_id=ticket.attempt_id, reason="slot"))

    async def _note(self, ticket: Ticket, command: NoteWaiting) -> None:
        """Such a note is new each time, for a queue may be held more than once."""
        await self._handle(ticket, command, command.reason, self.clock.now().isoformat())

    async def _wait_for_limit(self, ticket: Ticket, found: tuple[Task, Attempt] | None) -> tuple[Task, Attempt] | None:
        """The attempt once the rate limit lets a create through, None when it is not to be launched any more.

        Until then it is not started, so that it shows what it waits for, and a pause costs nothing.
        """
        while found is not None and found[1].phase is Phase.QUEUED:
            if self.is_held(ticket.team):
                await self.slots.release(ticket)  # the hold came while a slot or the limit was waited for
                raise Later(0.0, "the team's queue is held")
            wait = await self.create_wait()
            if wait <= _WAIT_SECONDS:
                break
            await self._note_waiting(ticket, found[1], wait)
            await self.sleep(min(wait, _LOOK_SECONDS))
            found = _open(await self._load(ticket), ticket)
        return found

    async def _note_waiting(self, ticket: Ticket, attempt: Attempt, wait: float) -> None:
        """Tell why there is no agent yet, unless that is known; what changes every second would fill the log.

        Where many wait, each that is let through shifts the wait of all others: the longer it has been, the less a
        shift is worth telling.
        """
        until = self.clock.now() + timedelta(seconds=wait)
        delay = attempt.delay if attempt.delay and attempt.delay.reason == "rate_limit" else None
        if delay is not None and delay.until is not None:
            worth_telling = max(timedelta(seconds=_WAIT_CHANGE_SECONDS), (self.clock.now() - delay.since) / 2)
            if abs(until - delay.until) <= worth_telling:
                return
        command = NoteWaiting(attempt_id=ticket.attempt_id, reason="rate_limit", until=until)
        await self._handle(ticket, command, until.isoformat())

    async def _start(self, ticket: Ticket, task: Task, attempt: Attempt) -> Decided:
        """Commit the attempt as started; there are events if this call did it, and not another with the same ticket."""
        command = StartAttempt(
            attempt_id=attempt.attempt_id,
            agent_id=attempt.continues.agent_id if attempt.continues else _new_agent_id(attempt),
            api_version=self.provider.version,
            branch_name=_branch_name(task, attempt),
        )
        return await self._handle(ticket, command)

    async def _bring_up(
        self, ticket: Ticket, state: Orchestration | None, certainty: Certainty, known_at: datetime
    ) -> None:
        """`known_at`: the state is not older than this."""
        pause = _FIRST_PAUSE_SECONDS
        while (wanted := self._wanted(ticket, state)) is not None:
            if self.clock.now() - known_at > self.ack_wait:
                # It was away so long that another process may have got the ticket, and asked or given up since.
                if not certainty.unknown:
                    certainty.lose()
                known_at, state = self.clock.now(), await self._load(ticket)
                continue
            # As of before the look: what it finds no trace of could still appear while it is under way.
            is_settled = certainty.is_settled
            wait: float | None = None
            try:
                snapshot = await wanted.ask(self.provider, certainty)
            except ProviderError as error:
                _log.info("The agent is not at work yet: %s", error, extra={"code": error.code})
                wait = error.retry_after
                if error.code in _HELD_BACK and (wait or 0.0) > _WAIT_SECONDS:
                    await self._note_waiting(ticket, wanted.attempt, wait or 0.0)
            else:
                if snapshot is not None:
                    state = await self._record(ticket, wanted, snapshot)
                    continue
                if is_settled and (failure := certainty.refusal or wanted.after_no_trace()):
                    state = await self._refused(ticket, wanted, certainty, failure)
                    continue
                if is_settled:
                    certainty.regain()  # it had no effect, and will have none: it may be sent again
            if not wait:  # who is told how long to wait has not failed again
                wait = pause * (0.5 + self.chance.random() / 2)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            known_at, state = await self._wait(ticket, wanted, wait)
        if _open(state, ticket) is None:
            await self.slots.release(ticket)

    async def _wait(
        self, ticket: Ticket, before: Create | GoOn, seconds: float
    ) -> tuple[datetime, Orchestration | None]:
        """The state after so long, and from when it is. A throttle may take a quarter of an hour: one that is to be
        stopped meanwhile does not wait for it."""
        while True:
            await self.sleep(min(seconds, _LONGEST_PAUSE_SECONDS))
            seconds -= _LONGEST_PAUSE_SECONDS
            known_at, state = self.clock.now(), await self._load(ticket)
            wanted = self._wanted(ticket, state)
            if seconds <= 0 or wanted is None or wanted.is_unwanted is not before.is_unwanted:
                return known_at, state

    def _wanted(self, ticket: Ticket, state: Orchestration | None) -> Create | GoOn | None:
        """What is to be asked of the provider, None when the attempt is past that."""
        found = state.find_attempt(ticket.attempt_id) if state else None
        if state is None or found is None or found[1].phase is not Phase.STARTED:
            return None
        task, attempt = found
        overdue = attempt.deadline_at is not None and attempt.deadline_at <= self.clock.now()
        is_unwanted = overdue or attempt.stop_reason is not None
        if attempt.continues is not None:
            return _go_on(task, attempt, attempt.continues, is_unwanted=is_unwanted)
        request = self._request(ticket, state, task, attempt)
        return Create(attempt, request, is_unwanted, may_drop_model(state, attempt))

    def _request(self, ticket: Ticket, state: Orchestration, task: Task, attempt: Attempt) -> AgentRequest:
        return AgentRequest(
            agent_id=attempt.agent_id or "",
            name=agent_name(task),
            prompt=build_prompt(state, task, attempt),
            repository=state.spec.repository,
            ref=attempt.base_ref,
            branch_name=attempt.branch_name or _branch_name(task, attempt),
            auto_create_pr=state.spec.auto_create_pr,
            model=attempt.model,
            webhook=self.webhook_for(ticket),
        )

    async def _record(self, ticket: Ticket, wanted: Create | GoOn, snapshot: AgentSnapshot) -> Orchestration | None:
        _log.info("The agent is at work", extra={"agent": snapshot.agent_id})
        known_url = wanted.url if isinstance(wanted, GoOn) else None
        command = RecordAgent(
            attempt_id=ticket.attempt_id,
            agent_id=snapshot.agent_id,
            run_id=snapshot.run_id,
            url=snapshot.url or known_url,
            status=snapshot.status,
            provider_status=snapshot.provider_status,
        )
        state = (await self._handle(ticket, command)).state
        await self._stop_if_late(ticket, state, wanted, snapshot)
        return state

    async def _stop_if_late(
        self, ticket: Ticket, state: Orchestration | None, wanted: Create | GoOn, snapshot: AgentSnapshot
    ) -> None:
        """An agent that came up after its attempt was given up is followed by nobody, and another may do its work.

        It is told to stop until it has. What is left running, be it that this process dies, the sweep finds.
        """
        found = state.find_attempt(ticket.attempt_id) if state else None
        if found is None or found[1].has_had_agent:
            return
        _log.error("An agent came up after its attempt had been given up", extra={"agent": snapshot.agent_id})
        if isinstance(wanted, GoOn) and snapshot.run_id is None:
            return  # a stop could hit what the agent was told since; the sweep looks what that is
        pause = _FIRST_PAUSE_SECONDS
        for _ in range(_STOP_TRIES):
            if await self._has_stopped(snapshot):
                return
            await self.sleep(pause * (0.5 + self.chance.random() / 2))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        _log.error("It could not be stopped yet, that is left to the sweep", extra={"agent": snapshot.agent_id})

    async def _has_stopped(self, agent: AgentSnapshot) -> bool:
        """Ask for the stop, and look what came of it."""
        try:
            await self.provider.stop(agent.agent_id, agent.run_id)
            return (await self.provider.get(agent.agent_id, agent.run_id)).status.is_terminal
        except ProviderError as error:
            _log.warning("Could not stop %s yet, it is asked again: %s", agent.agent_id, error)
            return is_gone(error)

    async def _refused(
        self, ticket: Ticket, wanted: Create | GoOn, certainty: Certainty, failure: Failure
    ) -> Orchestration | None:
        """There is no agent: that is the end of the attempt, unless only its model was in the way."""
        model = wanted.model_in_the_way(failure) if isinstance(wanted, Create) else None
        if model is None:
            return await self._reject(ticket, failure)
        _log.warning("The agent is created without its model: %s", failure.message, extra={"code": failure.code})
        # The log has it before the next create leaves, so that whoever repeats that sends the same.
        command = DropModel(attempt_id=ticket.attempt_id, model=model, reason=failure.message)
        state = (await self._handle(ticket, command)).state
        certainty.refusal = None  # it was of what is not asked for any more
        return state

    async def _reject(self, ticket: Ticket, failure: Failure) -> Orchestration | None:
        _log.warning("There is no agent at work: %s", failure.message, extra={"code": failure.code})
        return (await self._handle(ticket, RejectAttempt(attempt_id=ticket.attempt_id, failure=failure))).state

    async def _handle(self, ticket: Ticket, command: AnyCommand, *which: str) -> Decided:
        """`which` tells apart commands of one type for one attempt, where there may be several."""
        cause = Cause(derive_id(command.type, ticket.attempt_id, *which), ticket.attempt_id, "launcher")
        return await self.handler.handle(ticket.team, ticket.orchestration_id, command, cause)


def _open(state: Orchestration | None, ticket: Ticket) -> tuple[Task, Attempt] | None:
    """The attempt, if it is still to be launched or just was."""
    found = state.find_attempt(ticket.attempt_id) if state else None
    if state is None or found is None or not found[1].is_active:
        return None
    if found[1].phase is Phase.QUEUED and state.status is not OrchestrationStatus.ACTIVE:
        return None
    return found


def _new_agent_id(attempt: Attempt) -> str:
    return "bc-" + derive_id("agent", attempt.attempt_id)


def _go_on(task: Task, attempt: Attempt, agent: Continuation, *, is_unwanted: bool) -> GoOn:
    return GoOn(
        attempt=attempt,
        agent=agent,
        prompt=follow_up_prompt(task, attempt),
        mark=follow_up_mark(attempt),
        is_unwanted=is_unwanted,
        url=next((a.url for a in _earlier(task, agent) if a.url), None),
    )


def _branch_name(task: Task, attempt: Attempt) -> str:
    """The branch of the attempt's agent: one that is continued goes on with its own."""
    earlier = _earlier(task, attempt.continues) if attempt.continues else []
    return next((a.branch_name for a in earlier if a.branch_name), None) or branch_name(task, attempt)


def _earlier(task: Task, agent: Continuation) -> list[Attempt]:
    """The attempts that had this agent, newest first."""
    return [attempt for attempt in reversed(task.attempts) if attempt.agent_id == agent.agent_id]
