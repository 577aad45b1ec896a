"""What an agent is told: its task, its place in the orchestration, what was done before it, and how to behave."""

import re

from shared.domain.events import TaskStatus
from shared.domain.state import Attempt, Orchestration, Task

SUMMARY_CHARACTERS = 1_500

_RULES = """\
How to work:
- Do this task and nothing beyond it; other tasks have their own agents.
- Commit what you change with clear messages, and leave the repository's tests passing.
- If nothing needs to be changed, change nothing and say so.
- End with a short summary of what you did and what is left."""


_CONTINUE = """\
You were stopped before this task was done. Look at what you have already changed and committed, finish what is left, \
and do not start again. The rules that you were given at the start still hold."""


def build_prompt(state: Orchestration, task: Task, attempt: Attempt) -> str:
    """The prompt of `attempt`. Its first line is the same for every attempt of the task."""
    position = list(state.tasks).index(task.task_id) + 1
    parts = [
        f"Task {position} of {len(state.tasks)}: {task.spec.title}",
        task.spec.description,
        f"Repository: {state.spec.repository}\nStarting point: {attempt.base_ref}",
    ]
    if state.spec.description:
        parts.append(f"This task is part of: {state.spec.description}")
    if done := _done_before(state, task):
        parts.append("Done by earlier tasks:\n" + "\n".join(done))
    parts.append(_RULES)
    return "\n\n".join(parts)


def follow_up_prompt(task: Task, attempt: Attempt) -> str:
    """What the agent that `attempt` continues is told: the user's words, or to go on where it was stopped.

    It ends with `follow_up_mark`, so that no agent is ever told quite the same twice.
    """
    asked = attempt.continues.prompt if attempt.continues else None
    if asked is None:
        asked = f"Continue where you were stopped: {task.spec.title}\n\n{_CONTINUE}"
    return f"{asked}\n\n{follow_up_mark(attempt)}"


def follow_up_mark(attempt: Attempt) -> str:
    """A line by which the follow-up of `attempt` is recognised among all that its agent was told."""
    return f"(Attempt {attempt.number}, reference {attempt.attempt_id.replace('-', '')[:12]})"


def _done_before(state: Orchestration, task: Task) -> list[str]:
    return [
        _report(other)
        for other in state.tasks.values()
        if other.status is TaskStatus.COMPLETED and other.task_id != task.task_id
    ]


def _report(task: Task) -> str:
    result = task.result
    if result is None:
        return f"- {task.spec.title}"
    where = ", ".join(
        text for text in (f"branch {result.branch}" if result.branch else "", result.pr_url or "") if text
    )
    summary = (result.summary or "no summary")[:SUMMARY_CHARACTERS]
    return f"- {task.spec.title}" + (f" ({where})" if where else "") + f": {summary}"


def branch_name(task: Task, attempt: Attempt) -> str:
    """A git branch for the attempt, always the same, by which its agent can be found again."""
    slug = re.sub(r"[^a-z0-9]+", "-", task.spec.title.lower()).strip("-")[:40].rstrip("-") or "task"
    return f"cursor/{slug}-{attempt.attempt_id.replace('-', '')[:12]}"


def agent_name(task: Task) -> str:
    """What the agent is called at the provider, at most 100 characters."""
    return task.spec.title[:100]
