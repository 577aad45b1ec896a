"""The life of a run, from its prompt to its end, and every way in which it may leave the smooth course."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import uuid4

from deploy.local.simulator import content
from deploy.local.simulator.agents import MAX_RUNS, Agent, Hidden, Run, Status
from deploy.local.simulator.behaviour import Behaviour, Outcome
from deploy.local.simulator.board import Board, Strike, Subject
from deploy.local.simulator.clock import Clock
from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.faults import Version
from deploy.local.simulator.stats import Stats

# The part of a run that it spends in CREATING, and the most of it in seconds.
_BOOT_SHARE, _BOOT_LIMIT = 0.1, 1.0

# What v0 and v1 have no such word for.
UNKNOWN_WORD = "HIBERNATING"

_OUTCOMES: Mapping[Status, Outcome] = {
    Status.FINISHED: "FINISHED",
    Status.ERROR: "ERROR",
    Status.EXPIRED: "EXPIRED",
}
_LATE: Sequence[Hidden] = ("branch", "pr", "summary", "usage")


@dataclass(frozen=True, slots=True)
class Task:
    """What the simulator makes of a prompt: `ordinal` counts its runs from 1, `token` feeds their content."""

    line: str
    title: str
    ordinal: int
    token: int


class Lives:
    """Moves runs along. Every move is one timer, nothing polls.

    `on_turn(agent, run)` is called whenever a run has got a new state, `on_vanish(agent)` when the agent is to be gone.
    """

    def __init__(
        self,
        clock: Clock,
        stats: Stats,
        board: Board,
        on_turn: Callable[[Agent, Run], None],
        on_vanish: Callable[[Agent], None],
    ) -> None:
        self._clock = clock
        self._stats = stats
        self._board = board
        self._on_turn = on_turn
        self._on_vanish = on_vanish

    def start(
        self,
        agent: Agent,
        prompt: str,
        behaviour: Behaviour,
        task: Task,
        subject: Subject,
        *,
        delay: float = 0.0,
    ) -> Run:
        """The agent's next run, which begins after `delay` seconds."""
        now = self._clock.now()
        run = Run(
            id=f"run-{uuid4()}",
            title=task.title,
            token=task.token,
            subject=subject,
            behaviour=behaviour,
            created_at=now,
            updated_at=now,
            created=self._clock.elapsed(),
        )
        agent.runs.append(run)
        del agent.runs[:-MAX_RUNS]
        agent.updated_at = now
        agent.say(prompt, by_user=True)
        self._tell(agent, run)
        self._stats.run_began(agent.line, agent.request.attempt)
        if not self._strikes(agent, run, "creating_forever"):
            run.timer = self._clock.call_later(delay, self._boot, agent, run)
        return run

    def end_on_request(self, agent: Agent, run: Run, version: Version, seconds: float) -> None:
        """The run is to end, which it does after so many `seconds`, if it has not by then."""
        strikes = partial(self._board.strikes, version=version, subject=run.subject)
        if run.cancelling or strikes("stop_ignored"):
            return
        run.cancelling = True
        late = strikes("stop_late")
        seconds = seconds if late is None else late.seconds
        ending = self._finished_early if strikes("stop_finishes") else self._cancelled
        if seconds or version == "v1":
            self._clock.call_later(seconds, ending, agent, run)
        else:
            ending(agent, run)

    def _cancelled(self, agent: Agent, run: Run) -> None:
        if run.status.active:
            self._end(agent, run, Status.CANCELLED)

    def _finished_early(self, agent: Agent, run: Run) -> None:
        """The run takes the request to stop as its regular end, with nothing to show for it."""
        if run.status.active:
            run.behaviour = replace(run.behaviour, outcome="FINISHED", pushes=False)
            self._finish(agent, run)

    def settle(self, agent: Agent, word: str) -> None:
        """Put the agent's run into the state of this name, or show the word in its place if there is no such state.

        Raises:
            ApiError: `validation_error` for a state that a run cannot come to from its own.
        """
        run = agent.latest
        if word not in Status.__members__:
            run.words[run.status] = word
            self._tell(agent, run)
            return
        status = Status(word)
        begins = status is Status.RUNNING and run.status is Status.CREATING
        if not run.status.active or (status.active and not begins):
            raise ApiError("validation_error", f"status: a run that is {run.status} does not become {status}")
        if run.timer is not None:
            run.timer.cancel()
        if begins:
            self._work(agent, run, run.behaviour.run_seconds)
        elif status is Status.CANCELLED:
            self._end(agent, run, status)
        else:
            run.behaviour = run.behaviour.ending(_OUTCOMES[status])
            self._finish(agent, run)

    def abandon(self, agent: Agent) -> None:
        """The agent goes away: what it was at ends."""
        if agent.latest.status.active:
            self._end(agent, agent.latest, Status.CANCELLED)

    def _strikes(self, agent: Agent, run: Run, name: str) -> Strike | None:
        return self._board.strikes(name, agent.request.version, run.subject)

    def _boot(self, agent: Agent, run: Run) -> None:
        seconds = run.behaviour.run_seconds
        boot = min(seconds * _BOOT_SHARE, _BOOT_LIMIT)
        run.timer = self._clock.call_later(boot, self._work, agent, run, seconds - boot)

    def _work(self, agent: Agent, run: Run, seconds: float) -> None:
        if self._strikes(agent, run, "unknown_status"):
            run.words[Status.RUNNING] = UNKNOWN_WORD
        run.started = self._clock.elapsed()
        self._turn(agent, run, Status.RUNNING)
        run.timer = self._clock.call_later(seconds, self._finish, agent, run)
        vanishes = self._strikes(agent, run, "vanish")
        if vanishes is not None:
            self._clock.call_later(vanishes.seconds, self._on_vanish, agent)

    def _finish(self, agent: Agent, run: Run) -> None:
        status = Status(run.behaviour.outcome)
        if self._strikes(agent, run, "unknown_end"):
            run.words[status] = UNKNOWN_WORD
        if status is Status.FINISHED:
            agent.pushed = agent.pushed or (run.behaviour.pushes and bool(agent.request.repositories))
            run.result = content.reply(run.title, run.token, changed=run.behaviour.pushes)
            agent.say(run.result, by_user=False)
        self._hold_back(agent, run)
        self._end(agent, run, status)

    def _hold_back(self, agent: Agent, run: Run) -> None:
        """Let what comes late be seen later than the end."""
        for what in _LATE:
            late = self._strikes(agent, run, f"{what}_late")
            if late is not None:
                run.hidden.add(what)
                self._clock.call_later(late.seconds, run.hidden.discard, what)

    def _end(self, agent: Agent, run: Run, status: Status) -> None:
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        run.ended = self._clock.elapsed()
        self._turn(agent, run, status)
        agent.updated_at = run.updated_at
        self._stats.run_ended(agent.line, agent.request.attempt)

    def _turn(self, agent: Agent, run: Run, status: Status) -> None:
        run.status, run.updated_at = status, self._clock.now()
        self._tell(agent, run)

    def _tell(self, agent: Agent, run: Run) -> None:
        agent.entry.note(run.id, run.word, run.updated_at)
        self._on_turn(agent, run)
        _wake(run)


def _wake(run: Run) -> None:
    for event in run.watchers:
        event.set()
