"""One look at an agent: what the provider says now becomes a command, and a stop that is due is asked for."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from services.monitor.old_ends import OldEnds
from shared.command_handler import Cause, CommandHandler
from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentSnapshot, AgentUsage, Provider
from shared.cursor.refusals import is_gone
from shared.domain.commands import AnyCommand, ExpireAttempt, ObserveAgent, ReportMissing
from shared.domain.events import AgentStatus, Source, Usage
from shared.domain.pricing import estimated_cost
from shared.domain.state import Attempt, Orchestration, Phase, Task, milliseconds
from shared.jetstream.consumer import Delivery, Later, Poison
from shared.messages import LOG_LAG
from shared.observability.logging import log_context
from shared.ports import Clock, Ids

_log = logging.getLogger(__name__)

_LAG_PAUSE_SECONDS = 1.0


class AttemptRef(Protocol):
    """Which attempt: a watched one, or the one of a receipt."""

    @property
    def team(self) -> str: ...
    @property
    def orchestration_id(self) -> str: ...
    @property
    def attempt_id(self) -> str: ...


class UnknownAttemptError(Exception):
    """The log has no such attempt."""


@dataclass(frozen=True, slots=True)
class Observer:
    handler: CommandHandler
    provider: Provider
    clock: Clock
    ids: Ids
    old_ends: OldEnds

    @contextmanager
    def attending(self, ref: AttemptRef, delivery: Delivery) -> Iterator[None]:
        """Around whatever a message about an attempt leads to.

        Raises:
            Later: the log does not show the attempt yet, as far as one can tell.
            Poison: there is no such attempt.
        """
        with log_context(orchestration=ref.orchestration_id, attempt=ref.attempt_id):
            try:
                yield
            except UnknownAttemptError as exc:
                if self.clock.now() - delivery.published_at < LOG_LAG:
                    raise Later(_LAG_PAUSE_SECONDS, "the log does not show the attempt yet") from exc
                raise Poison(str(exc)) from exc

    async def look(self, ref: AttemptRef, source: Source, *, agent_id: str | None = None) -> Attempt:
        """Read the agent of the attempt at the provider and commit what is new.

        Args:
            agent_id: the agent's id as a receipt names it, for one that overtook the reply to its create.

        Returns:
            The attempt as it is now; it has ended if it is not active any more.

        Raises:
            UnknownAttemptError: there is no such attempt.
            ProviderError: the provider could not be asked; nothing is known that was not known before.
        """
        task, attempt = await self._found(ref)
        if not attempt.is_active or not self._can_read(attempt, agent_id):
            return attempt
        try:
            snapshot = await self._read(attempt, agent_id)
            is_old = await self.old_ends.may_be(task, attempt, snapshot)
        except ProviderError as error:
            if is_gone(error) and attempt.phase is Phase.CREATED:
                return await self._keep_deadline(ref, await self._report_missing(ref, attempt, error, source))
            # An agent that cannot be read has its deadline all the same; nothing else would ever end it.
            await self._keep_deadline(ref, attempt)
            raise
        if not is_old:
            attempt = await self._handle(ref, await self._observation(attempt, snapshot, source))
        return await self._keep_deadline(ref, attempt)

    async def attempt(self, ref: AttemptRef) -> Attempt:
        """The attempt as the log has it now.

        Raises:
            UnknownAttemptError: there is no such attempt.
        """
        return (await self._found(ref))[1]

    async def at_work(self, ref: AttemptRef) -> str:
        """The id of the attempt whose agent is at work for `ref`: a later one, where that continues its agent.

        Raises:
            UnknownAttemptError: there is no such attempt.
        """
        task, attempt = await self._found(ref)
        current = task.current or attempt
        continued = current.continues.agent_id if current.continues else None
        return current.attempt_id if continued and continued == attempt.agent_id else attempt.attempt_id

    async def _found(self, ref: AttemptRef) -> tuple[Task, Attempt]:
        return _known((await self.handler.load(ref.team, ref.orchestration_id)).state, ref)

    def _can_read(self, attempt: Attempt, agent_id: str | None) -> bool:
        """Before the create's reply only a receipt (v0) or our own choice (v1) tells the agent's id.

        What is to be continued is not read before it is: it would be seen as it was left.
        """
        if attempt.phase is Phase.STARTED:
            return agent_id is not None and attempt.continues is None
        return attempt.phase is Phase.CREATED

    async def _read(self, attempt: Attempt, told_id: str | None) -> AgentSnapshot:
        if attempt.phase is Phase.STARTED:
            return await self.provider.get(told_id or attempt.agent_id or "", None)
        return await self.provider.get(attempt.agent_id or "", attempt.run_id)

    async def _report_missing(self, ref: AttemptRef, attempt: Attempt, error: ProviderError, source: Source) -> Attempt:
        _log.warning("The provider does not find %s: %s", attempt.agent_id, error)
        command = ReportMissing(
            attempt_id=attempt.attempt_id,
            agent_id=attempt.agent_id or "",
            provider_code=error.code,
            source=source,
            cost=estimated_cost(attempt.model, self._worked_ms(attempt)),
        )
        return await self._handle(ref, command)

    async def _observation(self, attempt: Attempt, snapshot: AgentSnapshot, source: Source) -> ObserveAgent:
        ended = snapshot.status.is_terminal
        usage, usage_pending = await self._usage(attempt, snapshot) if ended else (None, False)
        return ObserveAgent(
            attempt_id=attempt.attempt_id,
            agent_id=snapshot.agent_id,
            status=snapshot.status,
            provider_status=snapshot.provider_status,
            source=source,
            run_id=snapshot.run_id,
            url=snapshot.url,
            branch=snapshot.branch,
            pr_url=snapshot.pr_url,
            summary=snapshot.summary,
            duration_ms=snapshot.duration_ms,
            cost=self._cost(attempt, snapshot, usage) if ended else None,
            usage=_tokens(usage),
            usage_pending=usage_pending,
        )

    async def _usage(self, attempt: Attempt, snapshot: AgentSnapshot) -> tuple[AgentUsage | None, bool]:
        """What the provider reports, and whether that is still to come.

        A result is worth more than its exact price: without usage the cost is estimated.
        """
        if attempt.awaited is not None and attempt.awaited.found.usage is not None:
            return None, False  # it is known from an earlier look
        try:
            usage = await self.provider.usage(snapshot.agent_id, snapshot.run_id)
        except ProviderError as error:
            _log.warning("No usage for %s, its cost is estimated: %s", snapshot.agent_id, error)
            return None, error.retryable
        return usage, usage is not None and not usage.total_tokens

    def _cost(self, attempt: Attempt, snapshot: AgentSnapshot, usage: AgentUsage | None) -> float:
        if usage is not None and usage.cost:
            return usage.cost
        if snapshot.duration_ms is not None:
            return estimated_cost(attempt.model, snapshot.duration_ms)
        return estimated_cost(attempt.model, self._worked_ms(attempt))

    def _worked_ms(self, attempt: Attempt) -> int:
        """As far as our own clock can tell."""
        finished = attempt.awaited.since if attempt.awaited else self.clock.now()
        return milliseconds(finished - (attempt.started_at or attempt.queued_at))

    async def _keep_deadline(self, ref: AttemptRef, attempt: Attempt) -> Attempt:
        """Stop what is to be stopped, again at every look until it has."""
        overdue = attempt.deadline_at is not None and attempt.deadline_at <= self.clock.now()
        if attempt.is_active and overdue and attempt.awaited is None and attempt.stop_reason is None:
            _log.warning("The attempt is over its time, stopping %s", attempt.agent_id)
            attempt = await self._handle(ref, ExpireAttempt(attempt_id=ref.attempt_id))
        if attempt.phase is Phase.CREATED and attempt.stop_reason is not None and attempt.agent_id:
            return await self._stop(ref, attempt)
        return attempt

    async def _stop(self, ref: AttemptRef, attempt: Attempt) -> Attempt:
        """Ask for the stop. Its answer ends what no read would: an agent in a state whose name we do not know, where
        there is nothing to stop, and one that neither the read found nor the stop. A read alone may only lag behind."""
        agent_id = attempt.agent_id or ""
        try:
            was_at_work = await self.provider.stop(agent_id, attempt.run_id)
        except ProviderError as error:
            if attempt.missed is None or not is_gone(error):
                raise
            word = error.code
        else:
            if was_at_work or attempt.status is not AgentStatus.UNKNOWN:
                return attempt
            word = attempt.provider_status or ""
        _log.warning("%s is %s and cannot be stopped: it counts as stopped", agent_id, word)
        stopped = AgentSnapshot(agent_id, AgentStatus.STOPPED, word, run_id=attempt.run_id)
        return await self._handle(ref, await self._observation(attempt, stopped, "poll"))

    async def _handle(self, ref: AttemptRef, command: AnyCommand) -> Attempt:
        command_id = self.ids.new()
        cause = Cause(command_id, ref.attempt_id, "monitor")
        decided = await self.handler.handle(ref.team, ref.orchestration_id, command, cause)
        return _known(decided.state, ref)[1]


def _known(state: Orchestration | None, ref: AttemptRef) -> tuple[Task, Attempt]:
    found = state.find_attempt(ref.attempt_id) if state else None
    if found is None:
        raise UnknownAttemptError(f"no attempt {ref.attempt_id} in {ref.orchestration_id}")
    return found


def _tokens(usage: AgentUsage | None) -> Usage | None:
    if usage is None or not usage.total_tokens:
        return None
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
    )
