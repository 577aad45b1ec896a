"""Given events, when a command, then events: the language in which the decisions of the domain are tested.

given(created("a"), activated(), queued("a")).when(start("a")).then(started("a"))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, zip_longest

from shared.domain.commands import AnyCommand, Deciding
from shared.domain.errors import Refusal
from shared.domain.events import Event, OrchestrationEvent
from shared.domain.evolve import evolve
from shared.domain.orchestration import decide
from shared.domain.patience import Patience
from shared.domain.state import Attempt, Orchestration, Task
from tests.support.orchestrations import T0

Expected = Event | type[Event]
IMPATIENT = Patience()
"""A finished agent is judged at once by what it shows."""


def given(*events: OrchestrationEvent | Sequence[OrchestrationEvent], at: datetime = T0) -> "Given":
    """What has happened, at `at`; without events there is no orchestration yet."""
    return Given(None).and_then(*events, at=at)


@dataclass(frozen=True)
class Given:
    known: Orchestration | None

    @property
    def state(self) -> Orchestration:
        assert self.known is not None, "there is no orchestration"
        return self.known

    def task(self, name: str) -> Task:
        return self.state.tasks[name]

    def attempt(self, task: str) -> Attempt:
        """The task's newest attempt."""
        return self.task(task).attempts[-1]

    def and_then(self, *events: OrchestrationEvent | Sequence[OrchestrationEvent], at: datetime = T0) -> "Given":
        """These happened too, at `at`."""
        state = self.known
        for event in chain.from_iterable([item] if isinstance(item, Event) else item for item in events):
            state = evolve(state, event, at)
        return Given(state)

    def when(
        self, command: AnyCommand, *, at: datetime = T0, jitter: float = 0.0, patience: Patience = IMPATIENT
    ) -> "When":
        deciding = Deciding(at, jitter, patience=patience)
        try:
            return When(self, command, at, tuple(decide(self.known, command, deciding)), None)
        except Refusal as refusal:
            return When(self, command, at, (), refusal)


@dataclass(frozen=True)
class When:
    before: Given
    command: AnyCommand
    at: datetime
    events: tuple[OrchestrationEvent, ...]
    refusal: Refusal | None

    def then(self, *expected: Expected) -> Given:
        """Exactly these events follow, in this order; a class stands for any event of it."""
        assert self.refusal is None, f"refused: {self.refusal}"
        pairs = zip_longest(self.events, expected[: len(self.events)])
        actual = [_form(event, wanted) for event, wanted in pairs]
        assert actual == list(expected), f"these followed: {self.events}"
        return self.outcome

    def then_nothing(self) -> Given:
        """The command is answered and changes nothing."""
        return self.then()

    def then_refused(self, code: str) -> Given:
        assert self.refusal is not None, f"not refused, but: {self.events}"
        assert self.refusal.code == code
        return self.before

    @property
    def outcome(self) -> Given:
        """What is the case afterwards, whatever it is."""
        assert self.refusal is None, f"refused: {self.refusal}"
        return self.before.and_then(*self.events, at=self.at)


def _form(event: OrchestrationEvent, wanted: Expected | None) -> Expected:
    """The event as it is compared: by its class where a class is expected."""
    return type(event) if isinstance(wanted, type) else event
