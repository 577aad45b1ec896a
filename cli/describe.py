"""What a task does, what it waits for and what came of it, in words; pure functions on the views of the API."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cli import formats
from cli.snapshot import Snapshot

Task = Mapping[str, Any]

_NAMES_AT_ONCE = 3
_WAITS = {
    "turn": "for its turn",
    "slot": "for an agent slot",
    "rate_limit": "for the provider's rate limit",
    "budget": "because the budget of the orchestration is used up",
    "quota": "because the quota is used up",
    "pause": "because the orchestration is paused",
}


def title(task: Task) -> str:
    return formats.clean(task.get("title", "?"))


def attempt(task: Task) -> str:
    """`2/4`: the attempt under way or last made, of how many there can be."""
    attempts = task.get("attempts") or ()
    if not attempts:
        return formats.NOTHING
    number = attempts[-1].get("number", len(attempts))
    allowed = task.get("max_retries")
    return str(number) if allowed is None else f"{number}/{max(number, allowed + 1)}"


def time_taken(task: Task, now: datetime) -> str:
    """From its start to its end, or to now while it runs."""
    if task.get("duration") is not None:
        return formats.duration(timedelta(milliseconds=task["duration"]))
    started = formats.moment(task.get("started_at"))
    if started is None or task.get("status") not in ("PROCESSING", "PENDING"):
        return formats.NOTHING
    return formats.duration(now - started)


def failure(thing: Mapping[str, Any]) -> str | None:
    """`CODE: message` of a task or an orchestration that has an error."""
    if not thing.get("error_code"):
        return None
    message = formats.clean(thing.get("error_message") or "")
    return f"{formats.clean(thing['error_code'])}: {message}" if message else formats.clean(thing["error_code"])


def waits(tasks: Sequence[Task], now: datetime) -> Iterator[str]:
    """A sentence for each reason for which tasks wait now."""
    waiting: dict[str, list[Task]] = {}
    for task in tasks:
        if task.get("waiting_for"):
            waiting.setdefault(task["waiting_for"], []).append(task)
    for reason, those in waiting.items():
        if reason in ("retry", "dependency"):
            yield from (f"{title(task)} waits {why(task, tasks, now)}" for task in those[:_NAMES_AT_ONCE])
            if len(those) > _NAMES_AT_ONCE:
                yield f"and {formats.counted(len(those) - _NAMES_AT_ONCE, 'more task')} for the like"
        else:
            reasons = why(those[0], tasks, now)
            yield f"{_names(those)} waits {reasons}" if len(those) == 1 else f"{_names(those)} wait {_plural(reasons)}"


def why(task: Task, tasks: Sequence[Task], now: datetime | None = None) -> str:
    """What the task waits for; with `now`, how long that will take, else until when."""
    reason = task["waiting_for"]
    if reason == "retry":
        last = next((failed for tried in reversed(task.get("attempts") or ()) if (failed := failure(tried))), None)
        text = "to be tried again" + (f" after {last}" if last else "")
    elif reason == "dependency":
        text = f"for {_names(_missing(task, tasks)) or 'another task'}"
    else:
        text = _WAITS.get(reason, f"({formats.clean(reason)})")
    until = formats.moment(task.get("waiting_until"))
    if until is None or (now is not None and until <= now):
        return text
    return f"{text}, until {formats.clock(until)}" if now is None else f"{text}, in {formats.duration(until - now)}"


def _plural(reason: str) -> str:
    return reason.replace("for its turn", "for their turn")


def _missing(task: Task, tasks: Sequence[Task]) -> list[Task]:
    wanted = set(task.get("depends_on") or ())
    return [
        other for other in tasks if other.get("id") in wanted and other.get("status") not in ("COMPLETED", "SKIPPED")
    ]


def _names(tasks: Sequence[Task]) -> str:
    shown = ", ".join(title(task) for task in tasks[:_NAMES_AT_ONCE])
    return shown if len(tasks) <= _NAMES_AT_ONCE else f"{shown} and {len(tasks) - _NAMES_AT_ONCE} more"


def standing(task: Task, tasks: Sequence[Task]) -> str:
    """Where the task stands, in one line that changes only when the task does."""
    parts = [str(task.get("status"))]
    if task.get("status") in ("PROCESSING", "PENDING"):
        parts += _under_way(task)
        if task.get("waiting_for"):
            parts.append(f"waits {why(task, tasks)}")
    else:
        parts += _outcome(task)
    return ", ".join(parts)


def _under_way(task: Task) -> Iterator[str]:
    if task.get("attempts"):
        yield f"attempt {attempt(task)}"
    if task.get("status") == "PROCESSING" and task.get("cloud_agent_id"):
        word = task.get("cloud_agent_status")
        yield f"agent {formats.clean(task['cloud_agent_id'])}" + (f" {formats.clean(word)}" if word else "")


def _outcome(task: Task) -> Iterator[str]:
    if task.get("attempts"):
        yield f"attempt {attempt(task)}"
    if task.get("duration") is not None:
        yield formats.duration(timedelta(milliseconds=task["duration"]))
    if task.get("cost"):
        yield formats.cost(task["cost"])
    if task.get("outcome") == "NO_CHANGE":
        yield "nothing changed"
    for name, label in (("result_branch", "branch"), ("result_pr_url", "PR")):
        if task.get(name):
            yield f"{label} {formats.clean(task[name])}"
    failed = failure(task)
    if failed and task.get("status") != "COMPLETED":
        yield failed


def paused(orchestration: Mapping[str, Any]) -> str:
    """That it is paused, and how."""
    return "paused, agents at work may finish" if orchestration.get("pause_mode") == "drain" else "paused"


def changes(before: Snapshot | None, after: Snapshot) -> Iterator[str]:
    """A line for everything that is different; for all there is, when nothing was known before."""
    if before is None or before.status != after.status:
        reason = failure(after.orchestration)
        drains = after.status == "PAUSED" and after.orchestration.get("pause_mode") == "drain"
        how = ", agents at work may finish" if drains else ""
        yield f"orchestration {after.id}: {after.status}{how}" + (f", {reason}" if after.ended and reason else "")
    known = {} if before is None else {task["id"]: standing(task, before.tasks) for task in before.tasks}
    for number, task in enumerate(after.tasks, 1):
        now = standing(task, after.tasks)
        if known.get(task["id"]) != now:
            yield f"task {number}/{len(after.tasks)} {title(task)}: {now}"
    if after.deleted and not (before and before.deleted):
        yield f"orchestration {after.id}: DELETED"
    if after.note and (before is None or before.note != after.note):
        yield after.note
