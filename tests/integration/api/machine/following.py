"""What follows by itself in an orchestration, said once more and in another way than the domain says it.

Nothing here knows anything of `shared.domain`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

OVER = ("COMPLETED", "PARTIAL_COMPLETED", "FAILED", "CANCELLED")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "SKIPPED")
LOST = ("FAILED", "CANCELLED")
_HARDER = {"CANCEL": 3, "FAIL_FAST": 2, "REQUESTED": 1}


class Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code


def illegal() -> Refused:
    return Refused(409, "INVALID_STATE_TRANSITION")


def over() -> Refused:
    return Refused(409, "ALREADY_COMPLETED")


def busy() -> Refused:
    return Refused(409, "ALREADY_ACTIVE")


@dataclass
class Try:
    """An attempt. `phase`: queued, started (a create was sent), at work, or ended."""

    number: int
    phase: str = "queued"
    agent: str | None = None
    was_seen: bool = False
    goes_on_with: str | None = None
    is_told: bool = False
    """It goes on with words of the user, and not with the task as it is described."""
    stop: str | None = None
    delay: str | None = None
    end: str | None = None

    @property
    def may_have_agent(self) -> bool:
        return self.phase in ("started", "at work")


@dataclass
class Job:
    """A task."""

    id: str
    title: str
    order: int
    needs: list[str] = field(default_factory=list)
    priority: str = "medium"
    retries_allowed: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    status: str = "PENDING"
    retries: int = 0
    waits_for_retry: bool = False
    given_up_for: str | None = None
    tries: list[Try] = field(default_factory=list)
    goes_on_with: str | None = None
    """The agent of the next attempt; with `is_told`, it takes words of the user along."""
    is_told: bool = False
    cost: float = 0.0

    @property
    def current(self) -> Try | None:
        return self.tries[-1] if self.tries and self.tries[-1].phase != "ended" else None

    @property
    def told(self) -> str | None:
        """The agent with whose words of the user the newest attempt is at work, also after it was stopped since."""
        for tried in reversed(self.tries):
            if tried.is_told or tried.goes_on_with is None:
                return tried.goes_on_with
        return None

    @property
    def is_free(self) -> bool:
        return self.status == "PENDING" and self.current is None


@dataclass
class Following:
    """An orchestration, and what follows by itself from whatever happens to it."""

    jobs: list[Job]
    parallel: bool = False
    at_once: int | None = None
    fail_fast: bool = True
    most_cost: float | None = None
    name: str | None = None
    ref: str = "main"
    status: str = "PENDING"
    pause_mode: str | None = None
    is_to_be_deleted: bool = False
    is_deleted: bool = False
    deleted_agents: set[str] = field(default_factory=set)

    def job(self, task_id: str) -> Job:
        return next(job for job in self.jobs if job.id == task_id)

    def tries(self) -> Iterable[tuple[Job, Try]]:
        return [(job, tried) for job in self.jobs for tried in job.tries]

    def of_agent(self, agent: str) -> tuple[Job, Try] | None:
        """The attempt that the agent works for, else that it worked for last, else that was to have it."""
        having = [(job, tried) for job, tried in self.tries() if tried.agent == agent]
        return max(having, key=lambda x: (x[1].phase != "ended", x[1].was_seen, x[1].number), default=None)

    @property
    def cost(self) -> float:
        return sum(job.cost for job in self.jobs)

    @property
    def is_spent(self) -> bool:
        return self.most_cost is not None and self.cost >= self.most_cost

    def met(self, job: Job) -> bool:
        return all(self.job(other).status in ("COMPLETED", "SKIPPED") for other in job.needs)

    def waiting_for(self, job: Job) -> str | None:
        current = job.current
        if current and current.phase != "at work" and current.delay:
            return current.delay
        if job.status != "PENDING" or self.status not in ("ACTIVE", "PAUSED"):
            return None
        if self.status == "PAUSED":
            return "pause"
        if current:
            return "slot"
        if job.waits_for_retry:
            return "retry"
        if not self.met(job):
            return "dependency"
        return "budget" if self.is_spent else "turn"

    # What follows

    def _go_on(self) -> None:
        if self.status in ("ACTIVE", "PAUSED"):
            while lost := next((job for job in self.jobs if job.is_free and self._is_lost(job)), None):
                self._close(lost, "CANCELLED", "DEPENDENCY")
        if self.status == "ACTIVE":
            for job in self.jobs if self.is_spent else ():
                self._take_back(job)
            self._queue()
        if all(job.status in ENDED for job in self.jobs):
            self._conclude()

    def _is_lost(self, job: Job) -> bool:
        return any(self.job(other).status in LOST for other in job.needs)

    def _queue(self) -> None:
        if self.is_spent:
            return
        most = (self.at_once or len(self.jobs)) if self.parallel else 1
        held = sum(1 for job in self.jobs if job.current or (job.waits_for_retry and not self.parallel))
        ready = [job for job in self.jobs if job.is_free and not job.waits_for_retry and self.met(job)]
        for job in ready[: max(0, most - held)]:
            number = len(job.tries) + 1
            job.tries.append(Try(number, goes_on_with=job.goes_on_with, is_told=job.is_told))
            job.goes_on_with, job.is_told = None, False

    def _conclude(self) -> None:
        if self.status == "CANCELLING":
            self.status, self.is_deleted = "CANCELLED", self.is_to_be_deleted
        elif self.status == "ACTIVE":
            statuses = [job.status for job in self.jobs]
            if set(statuses) <= {"COMPLETED", "SKIPPED"}:
                self.status = "COMPLETED"
            elif "FAILED" in statuses and (self.fail_fast or "COMPLETED" not in statuses):
                self.status = "FAILED"
            else:
                self.status = "PARTIAL_COMPLETED"

    def _again(self, job: Job, agent: str | None = None) -> bool:
        if self._is_lost(job):
            raise illegal()
        self._reopen()
        self._reset(job)
        job.goes_on_with, job.is_told = agent, agent is not None
        for other in self.jobs:
            if job.id in other.needs:
                self._take_back(other)
        self._revive()
        self._go_on()
        return True

    def _revive(self) -> None:
        """What was given up only for a failure that is out of the way is to be done after all."""
        is_held_back = self.fail_fast and any(job.status == "FAILED" for job in self.jobs)
        causes = {"DEPENDENCY"} | (set() if is_held_back else {"FAIL_FAST"})
        hopeful = {job.id for job in self.jobs if job.status == "CANCELLED" and job.given_up_for in causes}
        while True:
            # One that needs a task which stays lost stays lost itself.
            lost = {job.id for job in self.jobs if job.status in LOST} - hopeful
            without = {task_id for task_id in hopeful if lost.intersection(self.job(task_id).needs)}
            if not without:
                break
            hopeful -= without
        for job in (self.job(task_id) for task_id in hopeful):
            again = None if job.told in self.deleted_agents else job.told
            self._reset(job)
            job.goes_on_with, job.is_told = again, again is not None

    def _reset(self, job: Job) -> None:
        job.status, job.retries, job.waits_for_retry, job.given_up_for = "PENDING", 0, False, None
        job.goes_on_with, job.is_told = None, False

    def _reopen(self) -> None:
        if self.status in OVER:
            self.status = "ACTIVE"

    def _end_all(self, cause: str) -> None:
        for job in self.jobs:
            if job.current and job.current.may_have_agent:
                self._ask_to_stop(job, cause)
            elif job.status not in ENDED:
                self._close(job, "CANCELLED", cause)

    def _close(self, job: Job, status: str, cause: str | None = None) -> None:
        """Without an agent."""
        if tried := job.current:
            tried.phase, tried.end = "ended", "WITHDRAWN"
        job.status, job.waits_for_retry, job.goes_on_with, job.is_told = status, False, None, False
        job.given_up_for = cause

    def _take_back(self, job: Job) -> None:
        """Out of the queue, if it is there."""
        tried = job.current
        if tried and tried.phase == "queued":
            tried.phase, tried.end = "ended", "WITHDRAWN"
            job.goes_on_with, job.is_told = tried.goes_on_with, tried.is_told

    def _ask_to_stop(self, job: Job, reason: str) -> bool:
        tried = job.current
        if tried is None or not tried.may_have_agent:
            return False
        if tried.stop is None or _HARDER.get(reason, 0) > _HARDER.get(tried.stop, 0):
            tried.stop = reason
            return True
        return False

    def _end(self, job: Job, tried: Try, end: str, cost: float) -> None:
        tried.phase, tried.end, tried.delay = "ended", end, None
        job.cost += cost

    def _stopped(self, job: Job, tried: Try, goes_on: str | None, cost: float, *, is_told: bool) -> None:
        """It was to be stopped, and that is no failure of its own."""
        self._end(job, tried, "STOPPED", cost)
        failed = any(other.status == "FAILED" for other in self.jobs)
        if tried.stop == "PAUSE" or (tried.stop == "FAIL_FAST" and not failed):
            job.status, job.goes_on_with, job.is_told = "PENDING", goes_on, is_told
        else:
            self._close(job, "CANCELLED", tried.stop)
        self._go_on()

    def _failed(self, job: Job, tried: Try, *, is_final: bool, cost: float) -> None:
        self._end(job, tried, "FAILED", cost)
        is_final = {"REQUESTED": True, "TIMEOUT": False}.get(tried.stop or "", is_final)
        if not is_final and job.retries < job.retries_allowed:
            job.status, job.retries, job.waits_for_retry = "PENDING", job.retries + 1, True
            job.goes_on_with, job.is_told = job.told, job.told is not None
        else:
            job.status = "FAILED"
            if self.fail_fast and self.status != "CANCELLING":
                self._end_all("FAIL_FAST")
        self._go_on()

    def _sort(self) -> None:
        self.jobs.sort(key=lambda job: job.order)
