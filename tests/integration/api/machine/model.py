"""What users and services can ask of an orchestration: the model that the state machine compares the API with."""

import copy
from collections.abc import Sequence
from typing import Any

from tests.integration.api.machine.following import ENDED, LOST, OVER, Following, Job, Refused, Try, busy, illegal, over


class Model(Following):
    """Every method of users is a command: it answers whether it changed anything, or raises `Refused`.

    After a refusal the model may be half changed: ask a copy.
    """

    def copy(self) -> "Model":
        return copy.deepcopy(self)

    # Users, of the orchestration

    def activate(self) -> bool:
        if self.status == "ACTIVE":
            return False
        if self.status != "PENDING":
            raise over() if self.status in OVER else illegal()
        self.status = "ACTIVE"
        self._go_on()
        return True

    def pause(self, mode: str) -> bool:
        if self.status == "PAUSED" and (mode == "drain" or mode == self.pause_mode):
            return False
        if self.status not in ("ACTIVE", "PAUSED"):
            raise over() if self.status in OVER else illegal()
        self.status, self.pause_mode = "PAUSED", mode
        for job in self.jobs:
            self._take_back(job)
            if mode == "stop":
                self._ask_to_stop(job, "PAUSE")
        return True

    def resume(self) -> bool:
        if self.status == "ACTIVE":
            return False
        if self.status != "PAUSED":
            raise over() if self.status in OVER else illegal()
        self.status = "ACTIVE"
        self._go_on()
        return True

    def cancel(self) -> bool:
        if self.status in ("CANCELLING", "CANCELLED"):
            return False
        if self.status in OVER:
            raise over()
        self._cancel()
        return True

    def delete(self) -> bool:
        if self.status == "CANCELLING":
            changed, self.is_to_be_deleted = not self.is_to_be_deleted, True
            return changed
        if self.status in ("ACTIVE", "PAUSED"):
            self.is_to_be_deleted = True
            self._cancel()
        else:
            self.is_deleted = True
        return True

    def _cancel(self) -> None:
        self.status = "CANCELLING"
        self._end_all("CANCEL")
        self._go_on()

    def change(self, **changes: Any) -> bool:
        """Of `name`, `ref`, `most_cost`, `fail_fast`, `at_once`."""
        changed = {name: value for name, value in changes.items() if getattr(self, name) != value}
        if not changed:
            return False
        if "ref" in changed and self.status != "PENDING":
            raise illegal()
        if set(changed) - {"name"} and self.status == "CANCELLING":
            raise illegal()
        for name, value in changed.items():
            setattr(self, name, value)
        self._go_on()
        return True

    # Users, of tasks

    def add(self, job: Job, *, at_end: bool) -> bool:
        self._not_while_cancelling()
        if at_end:
            job.order = max((other.order for other in self.jobs), default=-1) + 1
        self._check_needs(job.needs)
        self._reopen()
        self.jobs.append(job)
        self._sort()
        self._go_on()
        return True

    def change_task(self, task_id: str, **changes: Any) -> bool:
        job = self.job(task_id)
        self._check_circle(task_id, changes.get("needs", ()))
        changed = {name: value for name, value in changes.items() if getattr(job, name) != value}
        if not changed:
            return False
        self._not_while_cancelling()
        if job.status == "PROCESSING" and set(changed) - {"metadata", "retries_allowed"}:
            raise busy()
        if job.status == "COMPLETED" and set(changed) - {"metadata"}:
            raise over()
        self._check_needs(changed.get("needs", ()))
        for name, value in changed.items():
            setattr(job, name, value)
        if set(changed) & {"priority", "needs", "order"}:
            self._take_back(job)
        self._sort()
        self._go_on()
        return True

    def retry(self, task_id: str) -> bool:
        job = self.job(task_id)
        self._not_while_cancelling()
        if job.status != "FAILED":
            raise {"COMPLETED": over(), "PROCESSING": busy()}.get(job.status, illegal())
        if job.told in self.deleted_agents:
            raise illegal()
        return self._again(job, job.told)

    def restart(self, task_id: str) -> bool:
        job = self.job(task_id)
        self._not_while_cancelling()
        if job.status not in ENDED:
            raise busy() if job.status == "PROCESSING" else illegal()
        return self._again(job)

    def skip(self, task_id: str) -> bool:
        job = self.job(task_id)
        if job.status == "SKIPPED":
            return False
        self._not_while_cancelling()
        if self.status in OVER or job.status == "COMPLETED":
            raise over()
        if job.status not in ("PENDING", "FAILED"):
            raise illegal()
        self._close(job, "SKIPPED")
        self._revive()
        self._go_on()
        return True

    def follow_up(self, agent: str) -> bool:
        job, _ = self._of_agent(agent)
        self._not_while_cancelling()
        if job.current and job.current.may_have_agent:
            raise busy()
        if job.status not in ENDED:
            raise illegal()
        if agent in self.deleted_agents or not self._was_seen(agent):
            raise Refused(404, "AGENT_NOT_FOUND")
        return self._again(job, agent)

    def stop_agent(self, agent: str) -> bool:
        job, tried = self._of_agent(agent)
        if tried.phase == "ended":
            raise over()
        return self._ask_to_stop(job, "REQUESTED")

    def delete_agent(self, agent: str) -> bool:
        job, tried = self._of_agent(agent)
        if not tried.was_seen:
            raise Refused(404, "AGENT_NOT_FOUND")
        if job.current and agent in (job.current.agent, job.current.goes_on_with):
            raise busy()
        if job.goes_on_with == agent and (job.is_told or job.told):
            raise busy()
        if agent in self.deleted_agents:
            return False
        self.deleted_agents.add(agent)
        if job.goes_on_with == agent:
            job.goes_on_with = None
        return True

    # Services

    def wait(self, job: Job, tried: Try, reason: str) -> None:
        if tried.phase in ("queued", "started"):
            tried.delay = reason

    def start(self, job: Job, tried: Try, agent: str) -> None:
        if tried.phase == "queued" and self.status == "ACTIVE":
            tried.phase, tried.agent, tried.delay = "started", agent, None
            job.status = "PROCESSING"

    def create(self, job: Job, tried: Try) -> None:
        if tried.phase == "started":
            tried.phase, tried.was_seen, tried.delay = "at work", True, None

    def finish(self, job: Job, tried: Try, cost: float) -> None:
        """The agent is seen FINISHED."""
        self._seen(job, tried)
        if tried.phase == "at work":
            self._end(job, tried, "COMPLETED", cost)
            job.status = "COMPLETED"
            self._go_on()

    def fail(self, job: Job, tried: Try, how: str, cost: float) -> None:
        """The agent is seen FAILED, EXPIRED or STOPPED."""
        self._seen(job, tried)
        if tried.phase != "at work":
            return
        if tried.stop in ("PAUSE", "CANCEL", "FAIL_FAST"):
            can_go_on = how == "STOPPED"
            again = tried.agent if can_go_on else job.told
            self._stopped(job, tried, again, cost, is_told=not can_go_on and again is not None)
        else:
            self._failed(job, tried, is_final=how == "STOPPED", cost=cost)

    def reject(self, job: Job, tried: Try, *, is_final: bool) -> None:
        """The provider refuses to create the agent."""
        if tried.phase != "started":
            return
        if tried.stop in ("PAUSE", "CANCEL", "FAIL_FAST"):
            self._stopped(job, tried, tried.goes_on_with, 0.0, is_told=tried.is_told)
        else:
            self._failed(job, tried, is_final=is_final, cost=0.0)

    def expire(self, job: Job, tried: Try) -> None:
        """Its deadline is over."""
        if tried.may_have_agent and tried.stop is None:
            tried.stop = "TIMEOUT"

    def hours_pass(self) -> None:
        for job in self.jobs:
            job.waits_for_retry = False
        self._go_on()

    # Checks

    def _seen(self, job: Job, tried: Try) -> None:
        """An agent that is seen exists; one that was to go on was there before."""
        if tried.goes_on_with is None:
            self.create(job, tried)

    def _of_agent(self, agent: str) -> tuple[Job, Try]:
        found = self.of_agent(agent)
        if found is None:
            raise Refused(404, "AGENT_NOT_FOUND")
        return found

    def _was_seen(self, agent: str) -> bool:
        found = self.of_agent(agent)
        return found is not None and found[1].was_seen

    def _not_while_cancelling(self) -> None:
        if self.status == "CANCELLING":
            raise illegal()

    def _check_needs(self, needs: Sequence[str]) -> None:
        if any(self.job(task_id).status in LOST for task_id in needs):
            raise Refused(400, "INVALID_TASK")

    def _check_circle(self, task_id: str, needs: Sequence[str]) -> None:
        """Whatever the state: no task needs itself, also not by way of others."""
        todo, seen = list(needs), set[str]()
        while todo:
            other = todo.pop()
            if other == task_id:
                raise Refused(400, "INVALID_TASK")
            if other not in seen:
                seen.add(other)
                todo += self.job(other).needs
