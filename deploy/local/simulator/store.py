"""The agents behind both versions of the API."""

import base64
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from uuid import uuid4

from deploy.local.simulator import content
from deploy.local.simulator.agents import Agent, NewAgent, Repository, Run, Status, branch_of
from deploy.local.simulator.behaviour import Behaviour, read_markers
from deploy.local.simulator.board import Board, Subject
from deploy.local.simulator.clock import Clock
from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.faults import Version
from deploy.local.simulator.journal import Entry, Journal
from deploy.local.simulator.limits import Limits
from deploy.local.simulator.lives import Lives, Task
from deploy.local.simulator.refusals import refuse_by_switch
from deploy.local.simulator.settings import SimulatorSettings
from deploy.local.simulator.stats import Stats


class AgentStore:
    """All agents, newest last. One event loop uses it.

    `on_turn(agent, run)` is called whenever a run has got a new state.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        clock: Clock,
        stats: Stats,
        board: Board,
        journal: Journal,
        limits: Limits,
        on_turn: Callable[[Agent, Run], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._stats = stats
        self._board = board
        self._journal = journal
        self._limits = limits
        self._lives = Lives(clock, stats, board, on_turn, self._vanish)
        self._by_id: dict[str, Agent] = {}
        self._by_number: dict[int, Agent] = {}
        self._last_number = 0
        self._runs_by_task: Counter[tuple[str, str]] = Counter()

    # Reading

    def get(self, agent_id: str) -> Agent:
        agent = self._by_id.get(agent_id)
        if agent is None:
            raise ApiError("agent_not_found")
        return agent

    def get_run(self, agent_id: str, run_id: str) -> tuple[Agent, Run]:
        agent = self.get(agent_id)
        run = next((run for run in agent.runs if run.id == run_id), None)
        if run is None:
            raise ApiError("run_not_found")
        return agent, run

    def page(
        self, limit: int, cursor: str | None, wanted: Callable[[Agent], bool] = lambda agent: True
    ) -> tuple[list[Agent], str | None]:
        """The next `limit` wanted agents, newest first, and the cursor of the page after them, if any."""
        newest = self._last_number if cursor is None else _number_in(cursor) - 1
        found = self._older(newest, wanted)
        agents = list(islice(found, limit))
        more = len(agents) == limit and next(found, None) is not None
        return agents, _cursor_at(agents[-1].number) if more else None

    def _older(self, newest: int, wanted: Callable[[Agent], bool]) -> Iterator[Agent]:
        for number in range(min(newest, self._last_number), 0, -1):
            agent = self._by_number.get(number)
            if agent is not None and wanted(agent):
                yield agent

    # Creating

    def subject(self, prompt: str, repositories: Sequence[Repository]) -> Subject:
        """What the prompt's markers ask for, and on which task's account.

        Raises:
            ApiError: `validation_error` for a bad marker.
        """
        return Subject(_task_key(prompt, repositories), read_markers(prompt))

    def subject_of(self, agent_id: str) -> Subject | None:
        """The subject of the agent's latest prompt; None if there is no such agent."""
        agent = self._by_id.get(agent_id)
        return None if agent is None else agent.latest.subject

    def create(self, request: NewAgent, subject: Subject) -> Agent:
        """A new agent with its first run, which begins when the create's delay has passed.

        Raises:
            ApiError: `agent_id_conflict`, or what a marker or a switch asks for.
        """
        if request.agent_id in self._by_id:
            self._stats.create_conflicts += 1
            raise ApiError("agent_id_conflict")
        self._refuse_if_asked(request.version, subject, request.model)
        self._limits.refuse_agents_beyond(self._taking_part)
        task = self._next_of_task(request.prompt, subject)
        agent = self._new_agent(request, task)
        behaviour, delay = self._behaviour(request.version, subject, task), self._settings.create_seconds
        if request.webhook is not None:
            agent.old_form = self._board.strikes("webhook_old_form", request.version, subject) is not None
            agent.early = self._board.strikes("webhook_early", request.version, subject) is not None
        if agent.early:
            behaviour, delay = replace(behaviour, run_seconds=0.0), 0.0
        self._stats.agent_created(task.line, request.attempt)
        self._lives.start(agent, request.prompt, behaviour, task, subject, delay=delay)
        return agent

    def _taking_part(self) -> int:
        return sum(not agent.archived for agent in self._by_id.values())

    def _refuse_if_asked(self, version: Version, subject: Subject, model: str | None) -> None:
        if subject.markers.refuse is not None:
            self._board.note("refuse")
            raise ApiError(subject.markers.refuse)
        refuse_by_switch(self._board, version, subject, model)

    def _behaviour(self, version: Version, subject: Subject, task: Task) -> Behaviour:
        """By the markers; where they leave something open, by the switches."""
        markers, strikes = subject.markers, partial(self._board.strikes, version=version, subject=subject)
        own = markers.behaviour(task.ordinal, self._settings.duration_seconds)
        for name in markers.of_the_run(own):
            self._board.note(name)
        if own.outcome == "FINISHED" and not markers.fail_first:
            own = own.ending("ERROR" if strikes("fail") else "EXPIRED" if strikes("expire") else "FINISHED")
        if own.pushes and strikes("nochange"):
            own = replace(own, pushes=False)
        slow = None if markers.run_seconds is not None else strikes("slow")
        return own if slow is None else replace(own, run_seconds=slow.seconds)

    def _new_agent(self, request: NewAgent, task: Task) -> Agent:
        self._last_number += 1
        now = self._clock.now()
        agent_id = request.agent_id or f"bc-{uuid4()}"
        branch = branch_of(request, task.title, task.token)
        agent = Agent(
            number=self._last_number,
            id=agent_id,
            name=request.name or task.title,
            title=task.title,
            line=task.line,
            token=task.token,
            entry=self._journal.add(Entry(agent_id, request.version, request.attempt, branch, task.line, now)),
            # The conversation keeps the prompt; a second, unbounded copy would only cost memory.
            request=replace(request, prompt=""),
            created_at=now,
            updated_at=now,
        )
        self._by_id[agent.id] = self._by_number[agent.number] = agent
        return agent

    def _next_of_task(self, prompt: str, subject: Subject) -> Task:
        """Count one more run of the prompt's task."""
        key, line = subject.task, content.first_line(prompt)
        self._runs_by_task[key] += 1
        ordinal = self._runs_by_task[key]
        return Task(line, content.title_of(line), ordinal, content.number(self._settings.seed, *key, ordinal))

    def _vanish(self, agent: Agent) -> None:
        """As if it had never been, for clients; a further prompt in between makes no difference."""
        if self._by_id.get(agent.id) is agent:
            self._remove(agent)

    # What is done to agents by hand

    def vanish(self, agent_id: str) -> None:
        """Let the agent be unknown from now on."""
        self._remove(self.get(agent_id))

    def settle(self, agent_id: str, word: str) -> None:
        """Put the agent's run into the state of this name, or show the word in its place if there is no such state.

        Raises:
            ApiError: `agent_not_found`, or `validation_error` for a state that a run cannot come to from its own.
        """
        self._lives.settle(self.get(agent_id), word)

    # What clients do to agents

    def start_run(self, agent_id: str, prompt: str, subject: Subject, version: Version) -> Run:
        """A further run.

        Raises:
            ApiError: `agent_not_found`, `agent_archived`, `agent_busy`, or by marker or switch as for a create.
        """
        agent = self.get(agent_id)
        if agent.archived:
            raise ApiError("agent_archived")
        if agent.latest.status.active:
            raise ApiError("agent_busy")
        self._refuse_if_asked(version, subject, None)
        task = self._next_of_task(prompt, subject)
        before, agent.seen_before = agent.latest, self.shown(agent)
        if subject.markers.say_nothing and before.status is Status.CANCELLED:
            behaviour, subject = before.behaviour.after(before.seconds()), before.subject
        else:
            behaviour = self._behaviour(version, subject, task)
        self._stats.followed_up(task.line)
        return self._lives.start(agent, prompt, behaviour, task, subject)

    def shown(self, agent: Agent) -> Run:
        """The run whose state v0 shows as the agent's: the latest, but for a moment after a further prompt."""
        lag = self._settings.follow_up_lag_seconds
        is_new = self._clock.elapsed() - agent.latest.created < lag
        return agent.seen_before if is_new and agent.seen_before is not None else agent.latest

    def follow_up(self, agent_id: str, prompt: str, subject: Subject) -> None:
        """The older version's further prompt: an agent at work takes it along, one at rest starts again."""
        agent = self.get(agent_id)
        if not agent.archived and agent.latest.status.active:
            agent.say(prompt, by_user=True)
            self._stats.followed_up(content.first_line(prompt))
        else:
            self.start_run(agent_id, prompt, subject, "v0")

    def stop(self, agent_id: str) -> None:
        """End the run at work, at once; `run_not_cancellable` when there is none."""
        agent = self.get(agent_id)
        if not agent.latest.status.active:
            raise ApiError("run_not_cancellable", "Agent is not running")
        self._lives.end_on_request(agent, agent.latest, "v0", 0.0)

    def cancel(self, agent_id: str, run_id: str) -> None:
        """Ask for the end of a run, which comes later, unless the run ends by itself before."""
        agent, run = self.get_run(agent_id, run_id)
        if not run.status.active:
            raise ApiError("run_not_cancellable")
        self._lives.end_on_request(agent, run, "v1", self._settings.cancel_seconds)

    def set_archived(self, agent_id: str, archived: bool) -> None:
        agent = self.get(agent_id)
        agent.archived = agent.entry.archived = archived
        agent.updated_at = self._clock.now()

    def delete(self, agent_id: str) -> None:
        self._remove(self.get(agent_id))
        self._stats.deletes += 1

    def _remove(self, agent: Agent) -> None:
        del self._by_id[agent.id], self._by_number[agent.number]
        agent.entry.gone_at = self._clock.now()
        self._abandon([agent])

    def clear(self) -> None:
        """Forget every agent and every count of earlier runs."""
        agents = list(self._by_id.values())
        self._by_id.clear()
        self._by_number.clear()
        self._runs_by_task.clear()
        self._abandon(agents)

    def _abandon(self, agents: Sequence[Agent]) -> None:
        for agent in agents:
            agent.told.set()
            self._lives.abandon(agent)


def _task_key(prompt: str, repositories: Sequence[Repository]) -> tuple[str, str]:
    """A prompt's task is known by its first line and repository.

    The first line is the same for all attempts of a task, whatever the rest of their prompts says.
    """
    return content.first_line(prompt), repositories[0].url if repositories else ""


def _cursor_at(number: int) -> str:
    return base64.urlsafe_b64encode(f"agent:{number}".encode()).decode()


def _number_in(cursor: str) -> int:
    with suppress(ValueError):  # no base64, no text, no number
        word, _, number = base64.urlsafe_b64decode(cursor.encode()).decode().partition(":")
        if word == "agent":
            return int(number)
    raise ApiError("validation_error", "cursor: not a cursor of this list")
