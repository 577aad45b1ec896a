"""How the log of an orchestration puts things: reasons, spans, results."""

from collections.abc import Sequence
from typing import Final, assert_never

from shared.domain import events as ev

_LONGEST: Final = 500


def reset(reason: ev.ResetReason, actor: str) -> str:
    """Why a task is PENDING again."""
    match reason:
        case "RETRY":
            return f"is to be tried again, asked for by {actor}"
        case "RESTART":
            return f"starts anew, asked for by {actor}"
        case "FOLLOW_UP":
            return f"goes on with its agent on a new prompt by {actor}"
        case "REVIVED":
            return "is PENDING again: what it was given up for is taken up again"
        case _:
            assert_never(reason)


def wait(reason: ev.LaunchWait) -> str:
    """What an attempt waits for."""
    match reason:
        case "slot":
            return "for a free slot"
        case "rate_limit":
            return "for the rate limit of the provider"
        case "budget":
            return "for room in the budget (QUOTA_EXCEEDED)"
        case "quota":
            return "for the quota of the provider (QUOTA_EXCEEDED)"
        case "pause":
            return "for the team's queue to be resumed"
        case _:
            assert_never(reason)


def why_stopped(reason: ev.StopReason, actor: str) -> str:
    match reason:
        case "TIMEOUT":
            return "it takes longer than it may (TIMEOUT)"
        case "FAIL_FAST":
            return "another task failed for good"
        case "PAUSE":
            return f"paused by {actor}"
        case "CANCEL":
            return "the orchestration is cancelled"
        case "REQUESTED":
            return f"asked for by {actor}"
        case _:
            assert_never(reason)


def why_withdrawn(reason: ev.WithdrawReason) -> str:
    match reason:
        case "PAUSE":
            return "it had not started before the pause"
        case "REQUEUE":
            return "it is queued anew"
        case "BUDGET":
            return "maxCost is spent"
        case "AGENT_GONE":
            return "the agent that it was to go on with is gone"
        case _:
            assert_never(reason)


def failure(what: ev.Failure) -> str:
    return f"{what.code}: {what.message}"


def result(left: ev.TaskResult) -> str:
    """What an agent left behind."""
    parts = [f"branch {left.branch}" if left.branch else "", left.pr_url or "", left.summary or ""]
    return ", ".join([left.outcome, *(part for part in parts if part)])


def parts(missing: Sequence[ev.ResultPart]) -> str:
    """What is missing of a result, as a list in words."""
    names = [part.replace("_", " ") for part in missing]
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def spent(milliseconds: int, dollars: float) -> str:
    """Time to the second, and the cost where it is known."""
    seconds = round(milliseconds / 1000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if hours or minutes else "", f"{seconds % 60} s"]
    return " ".join(part for part in parts if part) + (f" for ${dollars:.2f}" if dollars else "")


def one_line(text: str) -> str:
    """Texts of agents and users, so that they can neither break a line nor drive a terminal."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
