"""The agents behind both versions of the API, and the timers that move them along."""

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from uuid import uuid4

from deploy.local.simulator import content
from deploy.local.simulator.agents import MAX_RUNS, Agent, NewAgent, Run, Status
from deploy.local.simulator.behaviour import Behaviour, Markers, read_markers
from deploy.local.simulator.clock import Clock
from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.settings import SimulatorSettings
from deploy.local.simulator.stats import Stats

# The part of a run that it spends in CREATING, and the most of it in seconds.
_BOOT_SHARE, _BOOT_LIMIT = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class _Task:
    """What the simulator makes of a prompt: `ordinal` counts its runs from 1, `token` feeds their content."""

    line: str
    title: str
    ordinal: int
    token: int


class AgentStore:
    """All agents, newest last. One event loop uses it; every move of a run is one timer, nothing polls.

    `on_outcome(agent, run)` is called when a run has ended FINISHED or ERROR by itself.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        clock: Clock,
        stats: Stats,
        on_outcome: Callable[[Agent, Run], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._stats = stats
        self._on_outcome = on_outcome
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

    def create(self, request: NewAgent) -> Agent:
        """A new agent with its first run, which begins when the create's delay has passed.

        Raises:
            ApiError: `agent_id_conflict`, `validation_error` for a bad marker, or what a marker asks for.
        """
        if request.agent_id in self._by_id:
            self._stats.create_conflicts += 1
            raise ApiError("agent_id_conflict")
        markers = _markers_unless_refused(request.prompt)
        task = self._next_of_task(request.prompt, request)
        agent = self._new_agent(request, task)
        behaviour = markers.behaviour(task.ordinal, self._settings.duration_seconds)
        self._start(agent, request.prompt, behaviour, task, delay=self._settings.create_seconds)
        self._stats.agent_created(task.line)
        return agent

    def _new_agent(self, request: NewAgent, task: _Task) -> Agent:
        self._last_number += 1
        now = self._clock.now()
        agent = Agent(
            number=self._last_number,
            id=request.agent_id or f"bc-{uuid4()}",
            name=request.name or task.title,
            title=task.title,
            token=task.token,
            # The conversation keeps the prompt; a second, unbounded copy would only cost memory.
            request=replace(request, prompt=""),
            created_at=now,
            updated_at=now,
        )
        self._by_id[agent.id] = self._by_number[agent.number] = agent
        return agent

    def _next_of_task(self, prompt: str, request: NewAgent) -> _Task:
        """Count one more run of the prompt's task, which is known by first line and repository.

        The first line is the same for all attempts of a task, whatever the rest of their prompts says.
        """
        line = content.first_line(prompt)
        key = (line, request.repositories[0].url if request.repositories else "")
        self._runs_by_task[key] += 1
        ordinal = self._runs_by_task[key]
        return _Task(line, content.title_of(line), ordinal, content.number(self._settings.seed, *key, ordinal))

    def _start(self, agent: Agent, prompt: str, behaviour: Behaviour, task: _Task, *, delay: float = 0.0) -> Run:
        now = self._clock.now()
        run = Run(
            id=f"run-{uuid4()}",
            title=task.title,
            token=task.token,
            behaviour=behaviour,
            created_at=now,
            updated_at=now,
            created=self._clock.elapsed(),
        )
        agent.runs.append(run)
        del agent.runs[:-MAX_RUNS]
        agent.updated_at = now
        agent.say(prompt, by_user=True)
        self._stats.run_began()
        run.timer = self._clock.call_later(delay, self._boot, agent, run)
        return run

    # The life of a run

    def _boot(self, agent: Agent, run: Run) -> None:
        seconds = run.behaviour.run_seconds
        boot = min(seconds * _BOOT_SHARE, _BOOT_LIMIT)
        run.timer = self._clock.call_later(boot, self._work, agent, run, seconds - boot)

    def _work(self, agent: Agent, run: Run, seconds: float) -> None:
        run.status, run.started, run.updated_at = Status.RUNNING, self._clock.elapsed(), self._clock.now()
        run.timer = self._clock.call_later(seconds, self._finish, agent, run)
        _wake(run)

    def _finish(self, agent: Agent, run: Run) -> None:
        if run.behaviour.outcome == "FINISHED":
            agent.pushed = agent.pushed or (run.behaviour.pushes and bool(agent.request.repositories))
            run.result = content.reply(run.title, run.token, changed=run.behaviour.pushes)
            agent.say(run.result, by_user=False)
        self._end(agent, run, Status(run.behaviour.outcome))
        if run.status in (Status.FINISHED, Status.ERROR):
            self._on_outcome(agent, run)

    def _end(self, agent: Agent, run: Run, status: Status) -> None:
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        run.status, run.ended = status, self._clock.elapsed()
        run.updated_at = agent.updated_at = self._clock.now()
        self._stats.run_ended()
        _wake(run)

    # What clients do to agents

    def start_run(self, agent_id: str, prompt: str) -> Run:
        """A further run.

        Raises:
            ApiError: `agent_not_found`, `agent_archived`, `agent_busy`, or by marker as for a create.
        """
        agent = self.get(agent_id)
        if agent.archived:
            raise ApiError("agent_archived")
        if agent.latest.status.active:
            raise ApiError("agent_busy")
        markers = _markers_unless_refused(prompt)
        task = self._next_of_task(prompt, agent.request)
        before, agent.seen_before = agent.latest, self.shown(agent)
        behaviour = markers.behaviour(task.ordinal, self._settings.duration_seconds)
        if markers.say_nothing and before.status is Status.CANCELLED:
            behaviour = before.behaviour.after(before.seconds())
        self._stats.followed_up(task.line)
        return self._start(agent, prompt, behaviour, task)

    def shown(self, agent: Agent) -> Run:
        """The run whose state v0 shows as the agent's: the latest, but for a moment after a further prompt."""
        lag = self._settings.follow_up_lag_seconds
        is_new = self._clock.elapsed() - agent.latest.created < lag
        return agent.seen_before if is_new and agent.seen_before is not None else agent.latest

    def follow_up(self, agent_id: str, prompt: str) -> None:
        """The older version's further prompt: an agent at work takes it along, one at rest starts again."""
        agent = self.get(agent_id)
        if not agent.archived and agent.latest.status.active:
            agent.say(prompt, by_user=True)
            self._stats.followed_up(content.first_line(prompt))
        else:
            self.start_run(agent_id, prompt)

    def stop(self, agent_id: str) -> None:
        """End the run at work, at once; `run_not_cancellable` when there is none."""
        agent = self.get(agent_id)
        if not agent.latest.status.active:
            raise ApiError("run_not_cancellable", "Agent is not running")
        self._end(agent, agent.latest, Status.CANCELLED)

    def cancel(self, agent_id: str, run_id: str) -> None:
        """Ask for the end of a run, which comes later, unless the run ends by itself before."""
        agent, run = self.get_run(agent_id, run_id)
        if not run.status.active:
            raise ApiError("run_not_cancellable")
        if not run.cancelling:
            run.cancelling = True
            self._clock.call_later(self._settings.cancel_seconds, self._cancelled, agent, run)

    def _cancelled(self, agent: Agent, run: Run) -> None:
        if run.status.active:
            self._end(agent, run, Status.CANCELLED)

    def set_archived(self, agent_id: str, archived: bool) -> None:
        agent = self.get(agent_id)
        agent.archived, agent.updated_at = archived, self._clock.now()

    def delete(self, agent_id: str) -> None:
        agent = self.get(agent_id)
        del self._by_id[agent.id], self._by_number[agent.number]
        self._stats.deletes += 1
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
            if agent.latest.status.active:
                self._end(agent, agent.latest, Status.CANCELLED)


def _markers_unless_refused(prompt: str) -> Markers:
    markers = read_markers(prompt)
    if markers.refuse is not None:
        raise ApiError(markers.refuse)
    return markers


def _wake(run: Run) -> None:
    for event in run.watchers:
        event.set()


def _cursor_at(number: int) -> str:
    return base64.urlsafe_b64encode(f"agent:{number}".encode()).decode()


def _number_in(cursor: str) -> int:
    try:
        word, _, number = base64.urlsafe_b64decode(cursor.encode()).decode().partition(":")
        if word == "agent":
            return int(number)
    except (ValueError, binascii.Error):
        pass
    raise ApiError("validation_error", "cursor: not a cursor of this list")
