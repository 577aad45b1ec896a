"""Which webhooks are sent of an agent's changes, and what goes wrong with them."""

from collections.abc import Callable
from functools import partial

import orjson

from deploy.local.simulator.agents import Agent, Run, Status
from deploy.local.simulator.board import Board, Strike
from deploy.local.simulator.clock import Clock
from deploy.local.simulator.stats import Stats
from deploy.local.simulator.v0 import status_word, webhook_body
from deploy.local.simulator.webhooks import Form, WebhookSender

# A webhook that is to come out of order is sent after the next one; if none comes, after so long.
_HELD_SECONDS = 10.0


class Reports:
    """The real API tells of FINISHED and ERROR alone; the older form tells of every change."""

    def __init__(self, sender: WebhookSender, board: Board, clock: Clock, stats: Stats) -> None:
        self._sender = sender
        self._board = board
        self._clock = clock
        self._stats = stats
        self._waiting: set[Callable[[], None]] = set()
        self._to_be_overtaken: list[Callable[[], None]] = []

    def clear(self) -> None:
        """Forget what is held back."""
        self._waiting.clear()
        self._to_be_overtaken.clear()

    def turned(self, agent: Agent, run: Run) -> None:
        """Tell of the run's new state, if it is one to be told."""
        ended = run.word in (Status.FINISHED, Status.ERROR)
        if agent.request.webhook is None:
            return
        if agent.old_form:
            self._send(agent, run, _old_body(agent, run), "old")
        elif ended:
            self._send(agent, run, webhook_body(agent, run, self._clock.now()), "real")
        elif not run.status.active:
            agent.told.set()

    def _send(self, agent: Agent, run: Run, body: bytes, form: Form) -> None:
        self._stats.webhooks.sent += 1
        ending = not run.status.active
        tried = agent.told.set if ending else _nothing
        if self._strikes(agent, run, "webhook_lost"):
            tried()
            return
        badly = self._strikes(agent, run, "webhook_badly_signed") is not None
        webhook = agent.request.webhook
        assert webhook is not None
        deliver = partial(
            self._deliver, partial(self._sender.send, webhook, body, form=form, badly_signed=badly), tried
        )
        late = self._strikes(agent, run, "webhook_late")
        if late is not None:
            self._hold(deliver, late.seconds)
        elif self._strikes(agent, run, "webhook_reordered"):
            self._to_be_overtaken.append(deliver)
            self._hold(deliver, _HELD_SECONDS)
        else:
            deliver()
        if self._strikes(agent, run, "webhook_duplicated"):
            self._stats.webhooks.sent += 1
            deliver()

    def _deliver(self, send: Callable[..., None], tried: Callable[[], object]) -> None:
        """Send it, and what it was to overtake once its first try is over."""
        overtaken, self._to_be_overtaken = self._to_be_overtaken, []

        def over() -> None:
            tried()
            for deliver in overtaken:
                self._release(deliver)

        send(tried=over)

    def _hold(self, deliver: Callable[[], None], seconds: float) -> None:
        self._waiting.add(deliver)
        self._clock.call_later(seconds, self._release, deliver)

    def _release(self, deliver: Callable[[], None]) -> None:
        if deliver in self._waiting:
            self._waiting.discard(deliver)
            deliver()

    def _strikes(self, agent: Agent, run: Run, name: str) -> Strike | None:
        return self._board.strikes(name, agent.request.version, run.subject)


def _nothing() -> None:
    pass


def _old_body(agent: Agent, run: Run) -> bytes:
    return orjson.dumps({"event": _old_event(agent, run), "agentId": agent.id, "status": status_word(run)})


def _old_event(agent: Agent, run: Run) -> str:
    match run.word:
        case Status.CREATING if run is agent.runs[0]:
            return "agent.created"
        case Status.FINISHED:
            return "agent.finished"
        case Status.ERROR:
            return "agent.failed"
        case _:
            return "agent.status_changed"
