"""`python -m shared.transitions FILE` writes the page of what each command does in each state, as `decide` has it.

The states are reached by commands alone, so there is none in the page that no orchestration ever is in.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from shared.domain import commands as cmd
from shared.domain.commands import AnyCommand, Deciding, UserCommand
from shared.domain.errors import HTTP_STATUS, Refusal
from shared.domain.events import AgentStatus, Failure, OrchestrationSpec, OrchestrationStatus, TaskSpec, TaskStatus
from shared.domain.evolve import evolve
from shared.domain.orchestration import decide
from shared.domain.patience import Patience
from shared.domain.state import Orchestration

_ID: Final = "orchestration"
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_NO_ATTEMPT: Final = "none"
_IMPATIENT: Final = Patience()


class _Story:
    """An orchestration that is led from one state to the next, a second a command."""

    def __init__(self, tasks: Sequence[str], depends_on: Mapping[str, str] | None = None, **spec: str) -> None:
        self._now = _BEGIN
        self._state: Orchestration | None = None
        create = cmd.CreateOrchestration(
            orchestration_id=_ID,
            team="team",
            created_by="somebody",
            spec=OrchestrationSpec.model_validate({"repository": "https://github.com/acme/shop", **spec}),
            tasks=tuple(_task(name, place, depends_on or {}) for place, name in enumerate(tasks)),
        )
        self.do(create)

    @property
    def state(self) -> Orchestration:
        if self._state is None:
            raise LookupError("nothing has happened yet")
        return self._state

    def do(self, *commands: AnyCommand, patience: Patience = _IMPATIENT) -> "_Story":
        for command in commands:
            self._now += timedelta(seconds=1)
            for event in decide(self._state, command, Deciding(self._now, patience=patience)):
                self._state = evolve(self._state, event, self._now)
        return self

    def launch(self, *tasks: str) -> "_Story":
        """The creates of the tasks' attempts are sent; how they come out is not known."""
        for task in tasks:
            attempt = _attempt(self.state, task)
            self.do(cmd.StartAttempt(attempt_id=attempt, agent_id=f"bc-{attempt}", api_version="v1", branch_name="x"))
        return self

    def run(self, *tasks: str) -> "_Story":
        for task in tasks:
            self.launch(task).see(task, AgentStatus.RUNNING)
        return self

    def see(self, task: str, status: AgentStatus, patience: Patience = _IMPATIENT) -> "_Story":
        attempt = _attempt(self.state, task)
        return self.do(
            cmd.ObserveAgent(
                attempt_id=attempt,
                agent_id=f"bc-{attempt}",
                status=status,
                provider_status=status.value,
                source="poll",
                run_id="run",
            ),
            patience=patience,
        )

    def see_without_result(self, *tasks: str) -> "_Story":
        """The tasks' agents have finished, and what they leave is still looked for."""
        for task in tasks:
            self.see(task, _FINISHED, Patience(result_grace=timedelta(minutes=1)))
        return self

    def refuse(self, task: str) -> "_Story":
        failure = Failure(code="CURSOR_API_ERROR", message="refused")
        return self.do(cmd.RejectAttempt(attempt_id=_attempt(self.state, task), failure=failure))


def _task(name: str, place: int, depends_on: Mapping[str, str]) -> TaskSpec:
    needed = (depends_on[name],) if name in depends_on else ()
    return TaskSpec(
        task_id=name, title=name, description="Something to do.", order_index=place, depends_on=needed, max_retries=1
    )


def _attempt(state: Orchestration, task: str) -> str:
    attempts = state.tasks[task].attempts
    return attempts[-1].attempt_id if attempts else _NO_ATTEMPT


_ACTIVATE: Final = cmd.ActivateOrchestration()
_STOP: Final = cmd.PauseOrchestration()
_DRAIN: Final = cmd.PauseOrchestration(mode="drain")
_CANCEL: Final = cmd.CancelOrchestration()
_DELETE: Final = cmd.DeleteOrchestration()
_FINISHED: Final = AgentStatus.FINISHED
_STOPPED: Final = AgentStatus.STOPPED


def _busy() -> _Story:
    """Under way in parallel, with a task in each state that there is."""
    first = ["blocked", "waiting", "launching", "working", "finished", "retrying", "done"]
    tasks = [*first, "failed", "refused", "lost", "skipped", "stopping"]
    story = _Story(
        tasks,
        {"blocked": "working", "lost": "failed"},
        execution_mode="parallel",
        failure_policy="continue",
    )
    story.do(cmd.SkipTask(task_id="skipped"), _ACTIVATE)
    story.launch("launching", "refused").run("working", "finished", "retrying", "done", "failed", "stopping")
    story.refuse("refused").see_without_result("finished")
    story.see("retrying", AgentStatus.FAILED).see("failed", _STOPPED).see("done", _FINISHED)
    return story.do(cmd.StopAttempt(attempt_id=_attempt(story.state, "stopping")))


def _single() -> _Story:
    return _Story(["a"]).do(_ACTIVATE)


def _ended(policy: str = "continue") -> _Story:
    """Ended with a task done, one failed, one given up for that and one skipped."""
    tasks = ["done", "skipped", "failed", "lost"]
    depends_on = {"lost": "failed"} if policy == "continue" else {"lost": "done"}
    story = _Story(tasks, depends_on, execution_mode="parallel", failure_policy=policy)
    story.do(cmd.SkipTask(task_id="skipped"), _ACTIVATE).run("done", "failed").see("done", _FINISHED)
    return story.see("failed", _STOPPED)


def _all_done() -> _Story:
    return _Story(["done", "skipped"]).do(cmd.SkipTask(task_id="skipped"), _ACTIVATE).run("done").see("done", _FINISHED)


def _cancelled() -> _Story:
    tasks = ["done", "failed", "waiting", "skipped"]
    story = _Story(tasks, execution_mode="parallel", failure_policy="continue")
    story.do(cmd.SkipTask(task_id="skipped"), _ACTIVATE).run("done", "failed")
    return story.see("done", _FINISHED).see("failed", _STOPPED).do(_CANCEL)


Make = Callable[[], _Story]

_ORCHESTRATIONS: Final[Sequence[tuple[str, Make]]] = [
    ("PENDING", lambda: _Story(["a"])),
    ("PENDING, with a schedule", lambda: _Story(["a"]).do(_change(schedule={"cron": "0 0 6 * * *"}))),
    ("ACTIVE, nothing launched", _single),
    ("ACTIVE, a create without an answer yet", lambda: _single().launch("a")),
    ("ACTIVE, an agent at work", lambda: _single().run("a")),
    ("ACTIVE, an agent finished, its result looked for", lambda: _single().run("a").see_without_result("a")),
    ("PAUSED, nothing at work", lambda: _single().do(_STOP)),
    ("PAUSED, an agent draining", lambda: _single().run("a").do(_DRAIN)),
    ("PAUSED, an agent being stopped", lambda: _single().run("a").do(_STOP)),
    ("PAUSED, everything done", lambda: _single().run("a").do(_DRAIN).see("a", _FINISHED)),
    ("CANCELLING", lambda: _single().run("a").do(_CANCEL)),
    ("CANCELLING, to be deleted", lambda: _single().run("a").do(_DELETE)),
    ("COMPLETED", _all_done),
    ("PARTIAL_COMPLETED", _ended),
    ("FAILED", lambda: _ended("fail_fast")),
    ("CANCELLED", _cancelled),
    ("deleted", lambda: _all_done().do(_DELETE)),
]

_BUSY_TASKS: Final = [
    ("PENDING, waits for its turn or dependency", "blocked"),
    ("PENDING, waits for its retry", "retrying"),
    ("PENDING, queued", "waiting"),
    ("PROCESSING, its create without an answer yet", "launching"),
    ("PROCESSING, its agent at work", "working"),
    ("PROCESSING, its agent finished, its result looked for", "finished"),
    ("PROCESSING, its agent being stopped", "stopping"),
    ("COMPLETED", "done"),
    ("FAILED", "failed"),
    ("FAILED, its create refused", "refused"),
    ("CANCELLED, for the failure of what it depends on", "lost"),
    ("SKIPPED", "skipped"),
]
_DONE_AND_FAILED: Final = [("COMPLETED", "done"), ("FAILED", "failed")]
_ENDED_TASKS: Final = [
    *_DONE_AND_FAILED,
    ("CANCELLED, for the failure of what it depends on", "lost"),
    ("SKIPPED", "skipped"),
]

_TASKS: Final[Sequence[tuple[str, Make, Sequence[tuple[str, str]]]]] = [
    (
        "PENDING",
        lambda: _Story(["waiting", "skipped"]).do(cmd.SkipTask(task_id="skipped")),
        [("PENDING", "waiting"), ("SKIPPED", "skipped")],
    ),
    ("ACTIVE", _busy, _BUSY_TASKS),
    (
        "PAUSED",
        lambda: _busy().do(_DRAIN),
        [(label.replace("PENDING, queued", "PENDING, was queued"), task) for label, task in _BUSY_TASKS],
    ),
    (
        "CANCELLING",
        lambda: _busy().do(_CANCEL),
        [
            ("PROCESSING, its agent being stopped", "working"),
            *_DONE_AND_FAILED,
            ("CANCELLED", "waiting"),
            ("SKIPPED", "skipped"),
        ],
    ),
    ("COMPLETED", _all_done, [("COMPLETED", "done"), ("SKIPPED", "skipped")]),
    ("PARTIAL_COMPLETED", _ended, _ENDED_TASKS),
    (
        "FAILED",
        lambda: _ended("fail_fast"),
        [*_DONE_AND_FAILED, ("CANCELLED, for the failure of another", "lost"), ("SKIPPED", "skipped")],
    ),
    (
        "CANCELLED",
        _cancelled,
        [*_DONE_AND_FAILED, ("CANCELLED", "waiting"), ("SKIPPED", "skipped")],
    ),
    ("deleted", lambda: _all_done().do(_DELETE), [("any", "done")]),
]


def _change(**changes: object) -> cmd.UpdateOrchestration:
    return cmd.UpdateOrchestration(changes=changes)


_NEW_TASK: Final = TaskSpec(task_id="new", title="New", description="One more thing to do.")

_OF_ORCHESTRATION: Final[Mapping[str, UserCommand]] = {
    "activate": _ACTIVATE,
    "pause (stop)": _STOP,
    "pause (drain)": _DRAIN,
    "resume": cmd.ResumeOrchestration(),
    "cancel": _CANCEL,
    "delete": _DELETE,
    "change the name": _change(name="New"),
    "change maxCost": _change(max_cost=9.0),
    "change the ref": _change(ref="develop"),
    "add a task": cmd.AddTask(task=_NEW_TASK),
}

_OF_TASK: Final[Mapping[str, Callable[[str, str], UserCommand]]] = {
    "retry": lambda task, _: cmd.RetryTask(task_id=task),
    "restart": lambda task, _: cmd.RestartTask(task_id=task),
    "skip": lambda task, _: cmd.SkipTask(task_id=task),
    "change the metadata": lambda task, _: cmd.UpdateTask(task_id=task, changes={"metadata": {"new": True}}),
    "change maxRetries": lambda task, _: cmd.UpdateTask(task_id=task, changes={"max_retries": 0}),
    "change the title": lambda task, _: cmd.UpdateTask(task_id=task, changes={"title": "New"}),
    "stop its agent": lambda _, attempt: cmd.StopAttempt(attempt_id=attempt),
    "follow up": lambda _, attempt: cmd.FollowUp(attempt_id=attempt, prompt="Go on."),
    "delete its agent": lambda _, attempt: cmd.DeleteAgent(attempt_id=attempt),
}

_INTRODUCTION = """\
# What each command does in each state

Each cell is what `decide` says, computed by `make docs`; `tests/unit/domain/test_transitions.py` holds it to a table
that is written by hand.

- **`STATE`** in bold: the command moves it there. Plain: the command is carried out and the state stays.
- **–**: answered with success, and nothing changes, because it is so already.
- A number: refused, and nothing changes; 409 without a code is `INVALID_STATE_TRANSITION`.
"""

_ON_ORCHESTRATIONS = """\
## Orchestrations

An orchestration is CANCELLING while an agent of it may be at work, and CANCELLED once all are known to have stopped.
PAUSED with everything done ends as soon as it is resumed. One that is over becomes ACTIVE again only by a task that is
added, retried, restarted or followed up. Deleted, it is found by nobody.
"""

_ON_TASKS = """\
## Tasks

By the state of the orchestration and of the task; the agent is that of the task's newest attempt. A task that is to be
done again is PENDING, and where it makes its orchestration ACTIVE again, that stands behind it. One whose dependency is
lost can be done again only after that. States that do not occur have no row: nothing is PROCESSING before activation or
after the end, nothing is PENDING while cancelling or after the end.
"""


def outcome(state: Orchestration, command: UserCommand, task: str | None = None) -> str:
    """What becomes of the orchestration, or of its task, by `command`: a cell of the page."""
    try:
        events = decide(state, command, Deciding(state.updated_at + timedelta(seconds=1)))
    except Refusal as refusal:
        return _refused(refusal.code)
    if not events:
        return "–"
    after = state
    for event in events:
        after = evolve(after, event, state.updated_at)
    own = _moved(_status(state), _status(after))
    if task is None:
        return own
    moved = _moved(state.tasks[task].status, after.tasks[task].status)
    return moved if after.status is state.status else f"{moved}, orchestration {own}"


def _refused(code: str) -> str:
    return "409" if code == "INVALID_STATE_TRANSITION" else f"{HTTP_STATUS[code]} {code}"


def _status(state: Orchestration) -> OrchestrationStatus | str:
    return "deleted" if state.deleted else state.status


def _moved(before: OrchestrationStatus | TaskStatus | str, now: OrchestrationStatus | TaskStatus | str) -> str:
    return str(now) if now == before else f"**{now}**"


def transitions_page() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, _ON_ORCHESTRATIONS, *_orchestration_rows(), "", _ON_TASKS, *_task_rows(), ""])


def _orchestration_rows() -> list[str]:
    rows = []
    for label, make in _ORCHESTRATIONS:
        state = make().state
        rows.append([label, *(outcome(state, command) for command in _OF_ORCHESTRATION.values())])
    return _table(["orchestration", *_OF_ORCHESTRATION], rows)


def _task_rows() -> list[str]:
    rows = []
    for orchestration, make, tasks in _TASKS:
        state = make().state
        for label, task in tasks:
            attempt = _attempt(state, task)
            cells = [outcome(state, command(task, attempt), task) for command in _OF_TASK.values()]
            rows.append([orchestration, label, *cells])
    return _table(["orchestration", "task", *_OF_TASK], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(transitions_page())
