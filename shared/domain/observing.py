"""What is seen of agents, by whomever: twice, late and in any order; and when the last of it has been seen."""

from datetime import datetime
from typing import Final

from shared.domain import commands as cmd
from shared.domain import events as ev
from shared.domain.attempts import record_agent
from shared.domain.draft import Draft
from shared.domain.endings import end, fail
from shared.domain.events import AgentStatus
from shared.domain.state import Attempt, Phase, Task

AGENT_LOST: Final = "AGENT_LOST"
"""Code of the failure of an attempt whose agent the provider does not know any more."""
_LOOKS_FOR_LOST: Final = 3


def observe(draft: Draft, command: cmd.ObserveAgent) -> None:
    _, attempt = draft.attempt(command.attempt_id)
    if attempt.phase is Phase.STARTED and _may_be_its_agent(attempt, command.agent_id):
        record_agent(draft, command)
    task, attempt = draft.attempt(command.attempt_id)
    if attempt.phase is not Phase.CREATED or attempt.agent_id != command.agent_id:
        return
    if _is_news(draft, attempt, command):
        draft.emit(
            ev.AgentStatusChanged(
                task_id=task.task_id,
                attempt_id=attempt.attempt_id,
                agent_id=command.agent_id,
                status=command.status,
                provider_status=command.provider_status,
                source=command.source,
                run_id=None if attempt.run_id else command.run_id,
            )
        )
    if command.status.is_terminal or _is_over_all_the_same(draft, attempt, command.status):
        _end_or_await(draft, task, attempt, command)


def _may_be_its_agent(attempt: Attempt, agent_id: str) -> bool:
    """Before the create's reply: v1 takes the id that was chosen for the agent, v0 chooses one itself.

    An agent that is to go on was there before, and what is seen of it may be how its last run ended.
    """
    if attempt.continues is not None:
        return False
    return attempt.api_version != "v1" or attempt.agent_id == agent_id


def _is_news(draft: Draft, attempt: Attempt, command: cmd.ObserveAgent) -> bool:
    """A status never goes back to CREATING, nor from an end: such an observation is old.

    But an agent that is RUNNING when its result was to be there has been set to work again, by a person, or its end
    was that of an earlier run: it has its deadline back. Of an agent that was missed it is news that it is there.
    """
    if command.status is AgentStatus.CREATING and attempt.status is not AgentStatus.CREATING:
        return False
    if attempt.awaited is not None and command.status is not AgentStatus.FINISHED:
        return command.status is AgentStatus.RUNNING and draft.now >= attempt.awaited.until
    is_new_run = attempt.run_id is None and command.run_id is not None
    was = (attempt.status, attempt.provider_status)
    return attempt.missed is not None or is_new_run or was != (command.status, command.provider_status)


def _is_over_all_the_same(draft: Draft, attempt: Attempt, status: AgentStatus) -> bool:
    """It had finished, and what is said of it since is neither an end nor work. Nothing but its time, once that is
    over, would ever end it: it counts as what it was."""
    if attempt.awaited is None or attempt.deadline_at is None or status is AgentStatus.RUNNING:
        return False
    return max(attempt.awaited.until, attempt.deadline_at) <= draft.now


def report_missing(draft: Draft, command: cmd.ReportMissing) -> None:
    """Three looks over `lost_after` make an agent lost; those that come too soon after another do not count.

    One that was told to stop has stopped then.
    """
    task, attempt = draft.attempt(command.attempt_id)
    if attempt.phase is not Phase.CREATED or attempt.agent_id != command.agent_id:
        return
    distance = draft.deciding.patience.lost_after / (_LOOKS_FOR_LOST - 1)
    if attempt.missed is not None and draft.now < attempt.missed.at + distance:
        return
    since, times = (attempt.missed.since, attempt.missed.times) if attempt.missed else (draft.now, 0)
    if times + 1 < _LOOKS_FOR_LOST:
        draft.emit(
            ev.AgentMissed(
                task_id=task.task_id,
                attempt_id=attempt.attempt_id,
                agent_id=command.agent_id,
                since=since,
                times=times + 1,
            )
        )
    elif attempt.awaited is not None:
        end(draft, task, attempt, AgentStatus.FINISHED, attempt.awaited.found)
    else:
        _lose(draft, task, attempt, command, since)


def _lose(draft: Draft, task: Task, attempt: Attempt, command: cmd.ReportMissing, since: datetime) -> None:
    status = AgentStatus.UNKNOWN if attempt.stop_reason is None else AgentStatus.STOPPED
    draft.emit(
        ev.AgentStatusChanged(
            task_id=task.task_id,
            attempt_id=attempt.attempt_id,
            agent_id=command.agent_id,
            status=status,
            provider_status=command.provider_code,
            source=command.source,
        )
    )
    found = ev.Findings(cost=command.cost)
    if status is AgentStatus.STOPPED:
        end(draft, task, attempt, status, found)
    else:
        message = f"the provider has not known the agent since {since:%Y-%m-%d %H:%M:%S} UTC"
        fail(draft, task, attempt, ev.Failure(code=AGENT_LOST, message=message, retryable=True), found)


def _end_or_await(draft: Draft, task: Task, attempt: Attempt, seen: cmd.ObserveAgent) -> None:
    """FINISHED says that the agent's turn is over, not that its work is there: what is missing is waited for."""
    found = _findings(attempt, seen)
    missing = _still_to_come(draft.state.spec, found, usage_pending=seen.usage_pending)
    until = attempt.awaited.until if attempt.awaited else draft.now + draft.deciding.patience.result_grace
    may_come = seen.status is AgentStatus.FINISHED and attempt.stop_reason is None and draft.now < until
    if not (missing and may_come):
        end(draft, task, attempt, seen.status, found)
    elif attempt.awaited is None or attempt.awaited.missing != missing:
        awaited = ev.AttemptResultAwaited(
            task_id=task.task_id, attempt_id=attempt.attempt_id, missing=missing, until=until, found=found
        )
        draft.emit(awaited)


def _findings(attempt: Attempt, seen: cmd.ObserveAgent) -> ev.Findings:
    """What is seen now, and what was seen before and is not there now: looks may come in any order."""
    before = attempt.awaited.found if attempt.awaited else ev.Findings()
    priced = before if before.usage and not seen.usage else seen
    return ev.Findings(
        branch=seen.branch or before.branch,
        pr_url=seen.pr_url or before.pr_url,
        summary=seen.summary or before.summary,
        duration_ms=before.duration_ms if seen.duration_ms is None else seen.duration_ms,
        cost=before.cost if priced.cost is None else priced.cost,
        usage=priced.usage,
    )


def _still_to_come(spec: ev.OrchestrationSpec, found: ev.Findings, *, usage_pending: bool) -> tuple[ev.ResultPart, ...]:
    is_missing: dict[ev.ResultPart, bool] = {
        "branch": not found.branch,
        "pull_request": not found.pr_url and (spec.auto_create_pr or spec.deliverable == "pr"),
        "summary": not found.summary,
        "usage": not found.usage and usage_pending,
    }
    return tuple(part for part, missing in is_missing.items() if missing)
