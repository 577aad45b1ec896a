"""What each command is to do in each state: written by hand, and all of it in the two tables of this file.

A cell holds what is expected:

    ACTIVE ...   the command moves it to that state; behind a slash, where it moves the orchestration of its task to
    =            it is carried out, and the state stays
    .            it is answered, and nothing happens: it is so already
    !            INVALID_STATE_TRANSITION
    busy         ALREADY_ACTIVE
    over         ALREADY_COMPLETED
    none         AGENT_NOT_FOUND
    gone         ORCHESTRATION_NOT_FOUND
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from shared.domain import events as ev
from shared.domain.commands import ActivateOrchestration, UserCommand
from shared.domain.events import AgentStatus, OrchestrationStatus, Schedule, TaskStatus
from tests.support.given import Given, given
from tests.support.orchestrations import (
    CANCEL,
    DELETE,
    DRAIN,
    OVERLOADED,
    PAUSE,
    REFUSED,
    RESUME,
    activated,
    add,
    after,
    attempt_failed,
    attempt_stopped,
    cancel_requested,
    change,
    change_task,
    created,
    delete_agent,
    done,
    follow_up,
    make_task,
    paused,
    queued,
    restart,
    result_awaited,
    retry,
    retry_scheduled,
    running,
    skip,
    started,
    status_changed,
    stop,
    stop_requested,
    task_cancelled,
    task_failed,
    task_skipped,
    withdrawn,
)

REFUSALS: Final = {
    "!": "INVALID_STATE_TRANSITION",
    "busy": "ALREADY_ACTIVE",
    "over": "ALREADY_COMPLETED",
    "none": "AGENT_NOT_FOUND",
    "gone": "ORCHESTRATION_NOT_FOUND",
}

OF_ORCHESTRATION: Final[Mapping[str, UserCommand]] = {
    "activate": ActivateOrchestration(),
    "stop": PAUSE,
    "drain": DRAIN,
    "resume": RESUME,
    "cancel": CANCEL,
    "delete": DELETE,
    "name": change(name="New"),
    "cost": change(max_cost=9.0),
    "ref": change(ref="develop"),
    "add": add("new"),
}

ORCHESTRATIONS: Final = """
                     activate  stop    drain   resume     cancel      delete      name  cost  ref  add
pending              ACTIVE    !       !       !          CANCELLED   deleted     =     =     =    =
pending-scheduled    !         !       !       !          CANCELLED   deleted     =     =     =    =
active-queued        .         PAUSED  PAUSED  .          CANCELLED   deleted     =     =     !    =
active-started       .         PAUSED  PAUSED  .          CANCELLING  CANCELLING  =     =     !    =
active-created       .         PAUSED  PAUSED  .          CANCELLING  CANCELLING  =     =     !    =
active-finished      .         PAUSED  PAUSED  .          CANCELLED   deleted     =     =     !    =
active-retrying      .         PAUSED  PAUSED  .          CANCELLED   deleted     =     =     !    =
paused-pending       !         .       .       ACTIVE     CANCELLED   deleted     =     =     !    =
paused-draining      !         =       .       ACTIVE     CANCELLING  CANCELLING  =     =     !    =
paused-stopping      !         .       .       ACTIVE     CANCELLING  CANCELLING  =     =     !    =
paused-unanswered    !         .       .       ACTIVE     CANCELLING  CANCELLING  =     =     !    =
paused-done          !         =       .       COMPLETED  CANCELLED   deleted     =     =     !    =
cancelling           !         !       !       !          .           =           =     !     !    !
cancelling-deleted   !         !       !       !          .           .           =     !     !    !
completed            over      over    over    over       over        deleted     =     =     !    ACTIVE
partial              over      over    over    over       over        deleted     =     =     !    ACTIVE
failed               over      over    over    over       over        deleted     =     =     !    ACTIVE
cancelled            over      over    over    over       .           deleted     =     =     !    ACTIVE
deleted              gone      gone    gone    gone       gone        gone        gone  gone  gone gone
deleted-pending      gone      gone    gone    gone       gone        gone        gone  gone  gone gone
"""

OF_TASK: Final[Mapping[str, Callable[[str], UserCommand]]] = {
    "retry": retry,
    "restart": restart,
    "skip": skip,
    "notes": lambda task: change_task(task, metadata={"new": True}),
    "retries": lambda task: change_task(task, max_retries=0),
    "title": lambda task: change_task(task, title="New"),
    "stop": stop,
    "follow-up": follow_up,
    "delete": delete_agent,
}

TASKS: Final = """
                        retry           restart         skip     notes  retries  title  stop      follow-up       delete
pending / waiting       !               !               SKIPPED  =      =        =      none      none            none
pending / skipped       !               PENDING         .        =      =        =      none      none            none

active / blocked        !               !               SKIPPED  =      =        =      none      none            none
active / retrying       !               !               SKIPPED  =      =        =      over      !               =
active / queued         !               !               SKIPPED  =      =        =      !         !               none
active / started        busy            busy            !        =      =        busy   =         busy            none
active / created        busy            busy            !        =      =        busy   =         busy            busy
active / finished       busy            busy            !        =      =        busy   over      busy            busy
active / stopping       busy            busy            !        =      =        busy   .         busy            busy
active / completed      over            PENDING         over     =      over     over   over      PENDING         =
active / failed         PENDING         PENDING         SKIPPED  =      =        =      over      PENDING         =
active / refused        PENDING         PENDING         SKIPPED  =      =        =      over      none            none
active / lost           !               !               !        =      =        =      none      none            none
active / skipped        !               PENDING         .        =      =        =      none      none            none

paused / blocked        !               !               SKIPPED  =      =        =      none      none            none
paused / retrying       !               !               SKIPPED  =      =        =      over      !               =
paused / queued         !               !               SKIPPED  =      =        =      over      !               none
paused / started        busy            busy            !        =      =        busy   =         busy            none
paused / created        busy            busy            !        =      =        busy   =         busy            busy
paused / finished       busy            busy            !        =      =        busy   over      busy            busy
paused / stopping       busy            busy            !        =      =        busy   .         busy            busy
paused / completed      over            PENDING         over     =      over     over   over      PENDING         =
paused / failed         PENDING         PENDING         SKIPPED  =      =        =      over      PENDING         =
paused / lost           !               !               !        =      =        =      none      none            none
paused / skipped        !               PENDING         .        =      =        =      none      none            none

stopped / started       busy            busy            !        =      =        busy   =         busy            none
stopped / created       busy            busy            !        =      =        busy   =         busy            busy
stopped / stopping      busy            busy            !        =      =        busy   .         busy            busy
stopped / to-continue   !               !               SKIPPED  =      =        =      over      !               =

cancelling / started    !               !               !        !      !        !      .         !               none
cancelling / created    !               !               !        !      !        !      .         !               busy
cancelling / completed  !               !               !        !      !        !      over      !               =
cancelling / failed     !               !               !        !      !        !      over      !               =
cancelling / blocked    !               !               !        !      !        !      none      none            none
cancelling / queued     !               !               !        !      !        !      over      !               none
cancelling / skipped    !               !               .        !      !        !      none      none            none

completed / completed   over            PENDING/ACTIVE  over     =      over     over   over      PENDING/ACTIVE  =
completed / skipped     !               PENDING/ACTIVE  .        =      =        =      none      none            none

partial / completed     over            PENDING/ACTIVE  over     =      over     over   over      PENDING/ACTIVE  =
partial / failed        PENDING/ACTIVE  PENDING/ACTIVE  over     =      =        =      over      PENDING/ACTIVE  =
partial / lost          !               !               over     =      =        =      none      none            none
partial / skipped       !               PENDING/ACTIVE  .        =      =        =      none      none            none

failed / completed      over            PENDING/ACTIVE  over     =      over     over   over      PENDING/ACTIVE  =
failed / failed         PENDING/ACTIVE  PENDING/ACTIVE  over     =      =        =      over      PENDING/ACTIVE  =
failed / given-up       !               PENDING/ACTIVE  over     =      =        =      over      PENDING/ACTIVE  =
failed / skipped        !               PENDING/ACTIVE  .        =      =        =      none      none            none

cancelled / completed   over            PENDING/ACTIVE  over     =      over     over   over      PENDING/ACTIVE  =
cancelled / failed      PENDING/ACTIVE  PENDING/ACTIVE  over     =      =        =      over      PENDING/ACTIVE  =
cancelled / queued      !               PENDING/ACTIVE  over     =      =        =      over      none            none
cancelled / created     !               PENDING/ACTIVE  over     =      =        =      over      PENDING/ACTIVE  =
cancelled / skipped     !               PENDING/ACTIVE  .        =      =        =      none      none            none

deleted / completed     gone            gone            gone     gone   gone     gone   gone      gone            gone
"""

NEVER: Final = {
    OrchestrationStatus.PENDING: {
        TaskStatus.PROCESSING,
        TaskStatus.COMPLETED,
        TaskStatus.FAILED,
        TaskStatus.CANCELLED,
    },
    OrchestrationStatus.CANCELLING: {TaskStatus.PENDING},
    OrchestrationStatus.COMPLETED: set(TaskStatus) - {TaskStatus.COMPLETED, TaskStatus.SKIPPED},
    OrchestrationStatus.PARTIAL_COMPLETED: {TaskStatus.PENDING, TaskStatus.PROCESSING},
    OrchestrationStatus.FAILED: {TaskStatus.PENDING, TaskStatus.PROCESSING},
    OrchestrationStatus.CANCELLED: {TaskStatus.PENDING, TaskStatus.PROCESSING},
}
"""States of tasks that no orchestration of this state has."""


def rows(table: str) -> list[tuple[str, dict[str, str]]]:
    """Each row by its name, with what is expected of each command."""
    head, *lines = [line for line in table.splitlines() if line.strip()]
    commands = head.split()
    found = []
    for line in lines:
        words = line.split()
        name, expected = "".join(words[: -len(commands)]), words[-len(commands) :]
        found.append((name, dict(zip(commands, expected, strict=True))))
    return found


# The situations, each by the events that lead to it


def _statistics() -> ev.Statistics:
    counts = dict.fromkeys(ev.Statistics.model_fields, 0)
    return ev.Statistics.model_validate(counts)


def _completed(status: Any = OrchestrationStatus.COMPLETED) -> ev.OrchestrationCompleted:
    return ev.OrchestrationCompleted(status=status, summary="", statistics=_statistics())


def _failed() -> ev.OrchestrationFailed:
    return ev.OrchestrationFailed(failure=REFUSED, summary="", statistics=_statistics())


def _cancelled() -> ev.OrchestrationCancelled:
    return ev.OrchestrationCancelled(summary="", statistics=_statistics())


_ONE: Final = given(created("a"))
_QUEUED: Final = _ONE.and_then(activated(), queued("a"))
_STARTED: Final = _QUEUED.and_then(started("a"))
_CREATED: Final = _ONE.and_then(activated(), running("a"))
_DONE: Final = _ONE.and_then(activated(), done("a"))
_RETRYING: Final = (attempt_failed("a", OVERLOADED), retry_scheduled("a", 1, after(1)))
_FINISHED: Final = (
    status_changed("a", AgentStatus.FINISHED),
    result_awaited("a", "pull_request", until=after(1), branch="cursor/a"),
)
_STOPPING: Final = (stop_requested("a", "CANCEL"),)

SITUATIONS: Final[Mapping[str, Given]] = {
    "pending": _ONE,
    "pending-scheduled": given(created("a", schedule=Schedule(cron="0 30 6 * * *"))),
    "active-queued": _QUEUED,
    "active-started": _STARTED,
    "active-created": _CREATED,
    "active-finished": _CREATED.and_then(_FINISHED),
    "active-retrying": _CREATED.and_then(_RETRYING),
    "paused-pending": _QUEUED.and_then(paused(), withdrawn("a")),
    "paused-draining": _CREATED.and_then(paused("drain")),
    "paused-stopping": _CREATED.and_then(paused(), stop_requested("a", "PAUSE")),
    "paused-unanswered": _STARTED.and_then(paused(), stop_requested("a", "PAUSE")),
    "paused-done": _DONE.and_then(paused("drain")),
    "cancelling": _CREATED.and_then(cancel_requested(), _STOPPING),
    "cancelling-deleted": _STARTED.and_then(cancel_requested(delete=True), _STOPPING),
    "completed": _DONE.and_then(_completed()),
    "partial": _DONE.and_then(_completed(OrchestrationStatus.PARTIAL_COMPLETED)),
    "failed": _STARTED.and_then(attempt_failed("a"), task_failed("a"), _failed()),
    "cancelled": _ONE.and_then(task_cancelled("a", "CANCEL"), _cancelled()),
    "deleted": _DONE.and_then(_completed(), ev.OrchestrationDeleted()),
    "deleted-pending": _ONE.and_then(ev.OrchestrationDeleted()),
}


def _busy() -> Given:
    """Under way, with a task in each state that there is, by its name."""
    under_way = ["queued", "started", "created", "finished", "stopping"]
    free = ["retrying", *under_way, "completed", "failed", "refused", "skipped"]
    tasks: list[str | ev.TaskSpec] = [
        make_task("blocked", depends_on=("created",)),
        *free,
        make_task("lost", depends_on=("failed",)),
    ]
    return given(
        created(*tasks, execution_mode="parallel", failure_policy="continue"),
        task_skipped("skipped"),
        activated(),
        running("retrying"),
        attempt_failed("retrying", OVERLOADED),
        retry_scheduled("retrying", 1, after(1)),
        queued("queued"),
        queued("started"),
        started("started"),
        running("created"),
        running("finished"),
        status_changed("finished", AgentStatus.FINISHED),
        result_awaited("finished", "pull_request", until=after(1), branch="cursor/finished"),
        running("stopping"),
        stop_requested("stopping", "REQUESTED"),
        done("completed"),
        running("failed"),
        attempt_failed("failed"),
        task_failed("failed"),
        queued("refused"),
        started("refused"),
        attempt_failed("refused"),
        task_failed("refused"),
        task_cancelled("lost", "DEPENDENCY"),
    )


def _stopped() -> Given:
    """Paused, with one agent stopped and others not yet."""
    return given(
        created("started", "created", "stopping", "to-continue", execution_mode="parallel"),
        activated(),
        queued("started"),
        started("started"),
        running("created"),
        running("stopping"),
        running("to-continue"),
        stop_requested("stopping", "REQUESTED"),
        paused(),
        [stop_requested(task, "PAUSE") for task in ("started", "created", "to-continue")],
        attempt_stopped("to-continue"),
    )


def _cancelling() -> Given:
    free = ("completed", "failed", "started", "created", "queued", "blocked", "skipped")
    return given(
        created(*free, execution_mode="parallel", failure_policy="continue"),
        task_skipped("skipped"),
        activated(),
        done("completed"),
        running("failed"),
        attempt_failed("failed"),
        task_failed("failed"),
        queued("started"),
        started("started"),
        running("created"),
        queued("queued"),
        cancel_requested(),
        stop_requested("started", "CANCEL"),
        stop_requested("created", "CANCEL"),
        task_cancelled("queued", "CANCEL"),
        task_cancelled("blocked", "CANCEL"),
    )


def _over(end: ev.OrchestrationEvent) -> Given:
    """At its end, with a task in each state that there can be."""
    tasks: list[str | ev.TaskSpec] = [
        "completed",
        "failed",
        "given-up",
        make_task("lost", depends_on=("failed",)),
        "skipped",
    ]
    return given(
        created(*tasks, execution_mode="parallel", failure_policy="continue"),
        task_skipped("skipped"),
        activated(),
        done("completed"),
        running("given-up"),
        running("failed"),
        attempt_failed("failed"),
        task_failed("failed"),
        stop_requested("given-up", "FAIL_FAST"),
        attempt_stopped("given-up", "FAIL_FAST"),
        task_cancelled("given-up"),
        task_cancelled("lost", "DEPENDENCY"),
        end,
    )


TASK_SITUATIONS: Final[Mapping[str, Given]] = {
    "pending": given(created("waiting", "skipped"), task_skipped("skipped")),
    "active": _busy(),
    "paused": _busy().and_then(paused("drain"), withdrawn("queued")),
    "stopped": _stopped(),
    "cancelling": _cancelling(),
    "completed": given(
        created("completed", "skipped"), task_skipped("skipped"), activated(), done("completed"), _completed()
    ),
    "partial": _over(_completed(OrchestrationStatus.PARTIAL_COMPLETED)),
    "failed": _over(_failed()),
    "cancelled": _cancelling().and_then(
        [attempt_stopped(task, "CANCEL") for task in ("started", "created")],
        [task_cancelled(task, "CANCEL") for task in ("started", "created")],
        _cancelled(),
    ),
    "deleted": given(created("completed"), activated(), done("completed"), _completed(), ev.OrchestrationDeleted()),
}
