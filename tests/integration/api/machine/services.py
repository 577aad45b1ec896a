"""The services at work on what users have asked for, as the model has it."""

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from shared.domain import commands as cmd
from shared.domain.events import AgentStatus, Failure
from tests.integration.api.machine.comparing import ANY, Comparing
from tests.integration.api.machine.following import Job, Try


class Services(Comparing):
    """What the dispatcher and the monitor see and tell."""

    @precondition(lambda self: self.active())
    @rule(at=ANY, steps=st.integers(1, 3), cost=st.sampled_from([0.0, 0.25]))
    def an_attempt_goes_its_way(self, at: int, steps: int, cost: float) -> None:
        job, tried = self.attempt(at)
        for _ in range(steps):
            if tried.phase == "queued":
                self.start(job, tried)
            elif tried.phase == "started":
                self.create_agent(job, tried)
            elif tried.phase == "at work":
                self.observe(job, tried, AgentStatus.FINISHED, cost)

    @precondition(lambda self: self.active())
    @rule(at=ANY)
    def an_agent_is_at_work(self, at: int) -> None:
        job, tried = self.attempt(at)
        self.start(job, tried)
        self.create_agent(job, tried)
        self.observe(job, tried, AgentStatus.RUNNING, 0.0)

    @precondition(lambda self: self.active())
    @rule(at=ANY, status=st.sampled_from([AgentStatus.FAILED, AgentStatus.EXPIRED, AgentStatus.STOPPED]))
    def an_agent_ends_badly(self, at: int, status: AgentStatus) -> None:
        job, tried = self.attempt(at)
        self.start(job, tried)
        if tried.goes_on_with is not None:  # what is seen before it went on is how it had ended before
            self.create_agent(job, tried)
        self.observe(job, tried, status, 0.125)

    @precondition(lambda self: any(tried.stop for _, tried in self.active()))
    @rule(at=ANY, status=st.sampled_from([AgentStatus.STOPPED, AgentStatus.STOPPED, AgentStatus.FINISHED]))
    def an_agent_has_stopped(self, at: int, status: AgentStatus) -> None:
        stopping = [(job, tried) for job, tried in self.active() if tried.stop]
        job, tried = stopping[at % len(stopping)]
        self.create_agent(job, tried)
        self.observe(job, tried, status, 0.0)

    @precondition(lambda self: self.active())
    @rule(at=ANY, is_final=st.booleans())
    def a_create_is_refused(self, at: int, is_final: bool) -> None:
        job, tried = self.attempt(at)
        self.start(job, tried)
        failure = Failure(code="INVALID_MODEL" if is_final else "TIMEOUT", message="no", retryable=not is_final)
        self.serve(cmd.RejectAttempt(attempt_id=self.attempt_id(job, tried), failure=failure))
        self.model.reject(job, tried, is_final=is_final)

    @precondition(lambda self: self.active())
    @rule(at=ANY, reason=st.sampled_from(["slot", "rate_limit", "budget", "quota"]))
    def a_launch_has_to_wait(self, at: int, reason: Any) -> None:
        job, tried = self.attempt(at)
        self.serve(cmd.NoteWaiting(attempt_id=self.attempt_id(job, tried), reason=reason))
        self.model.wait(job, tried, reason)

    @precondition(lambda self: any(job.waits_for_retry or job.status == "PROCESSING" for job in self.model.jobs))
    @rule()
    def hours_pass(self) -> None:
        active = self.active()
        self.world.clock.go_on(timedelta(hours=3))
        self.serve(cmd.Tick())
        self.model.hours_pass()
        for job, tried in active:
            self.serve(cmd.ExpireAttempt(attempt_id=self.attempt_id(job, tried)))
            self.model.expire(job, tried)

    def start(self, job: Job, tried: Try) -> None:
        attempt_id = self.attempt_id(job, tried)
        agent = tried.goes_on_with or f"bc-{attempt_id}"
        command = cmd.StartAttempt(attempt_id=attempt_id, agent_id=agent, api_version="v1", branch_name="cursor/x")
        self.serve(command)
        self.model.start(job, tried, agent)

    def create_agent(self, job: Job, tried: Try) -> None:
        if tried.agent is None:
            return
        attempt_id = self.attempt_id(job, tried)
        command = cmd.RecordAgent(
            attempt_id=attempt_id,
            agent_id=tried.agent,
            status=AgentStatus.CREATING,
            provider_status="CREATING",
            run_id=f"run-{attempt_id}",
        )
        self.serve(command)
        self.model.create(job, tried)

    def observe(self, job: Job, tried: Try, status: AgentStatus, cost: float) -> None:
        if tried.agent is None:
            return
        command = cmd.ObserveAgent(
            attempt_id=self.attempt_id(job, tried),
            agent_id=tried.agent,
            status=status,
            provider_status=status.value,
            source="poll",
            cost=cost if status.is_terminal else None,
        )
        self.serve(command)
        if status is AgentStatus.FINISHED:
            self.model.finish(job, tried, cost)
        elif status.is_terminal:
            self.model.fail(job, tried, status.value, cost)

    def serve(self, command: cmd.AnyCommand) -> None:
        self.world.decide(self.id, command)
