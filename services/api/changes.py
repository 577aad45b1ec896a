"""What a commit changes in what people see, as live messages; the same for SSE and WebSocket."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from services.api.projections import apply
from services.api.reading import Shown, shown
from shared.domain.state import Orchestration
from shared.envelope import Stored
from shared.views import View, statistics

# They change with every commit and are no news by themselves.
_NO_NEWS: Final = frozenset({"version", "updated_at"})


@dataclass(frozen=True, slots=True)
class Change:
    """The messages of one commit, in order, encoded; all of them carry its sequence as `id`.

    `ended`: the orchestration is finished after it.
    """

    sequence: int
    messages: tuple[bytes, ...]
    ended: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """An orchestration after a commit: its state and what it looks like."""

    state: Orchestration
    shown: Shown

    @property
    def sequence(self) -> int:
        return self.shown.sequence

    @property
    def ended(self) -> bool:
        return self.state.status.is_terminal


def advance(before: Picture | None, stored: Stored) -> Picture:
    """The picture after one more commit; BrokenHistoryError when the commit does not continue it."""
    state = apply(before.state if before else None, stored)
    return Picture(state, shown(state, stored.sequence))


def snapshot(picture: Picture, now: datetime) -> Change:
    """All there is to see, as the first message of a stream."""
    message = {"type": "status", "id": picture.sequence, "data": picture.shown.detail(now)}
    return Change(picture.sequence, (orjson.dumps(message),), picture.ended)


def change(before: Picture | None, after: Picture, at: datetime) -> Change:
    """What is different after a commit that was recorded `at`.

    Depends on the log alone, so that a stream that is resumed gets the same bytes.
    """
    if before is None:
        return snapshot(after, at)
    messages = [_task_updated(after.sequence, task) for task in _changed_tasks(before.shown, after.shown)]
    figures = _statistics(after.shown, at)
    if _is_news(before.shown, after.shown) or figures != _statistics(before.shown, at):
        data: View = {"orchestration": after.shown.orchestration, "statistics": figures}
        messages.append({"type": "orchestration_updated", "id": after.sequence, "data": data})
    if after.ended and not before.ended:
        end = {**after.shown.orchestration, "statistics": figures}
        messages.append({"type": "orchestration_completed", "id": after.sequence, "data": end})
    return Change(after.sequence, tuple(orjson.dumps(message) for message in messages), after.ended)


def _changed_tasks(before: Shown, after: Shown) -> list[View]:
    known = {task["id"]: task for task in before.tasks}
    return [task for task in after.tasks if known.get(task["id"]) != task]


def _task_updated(sequence: int, task: View) -> View:
    return {"type": "task_updated", "id": sequence, "task": task}


def _is_news(before: Shown, after: Shown) -> bool:
    return any(
        value != before.orchestration.get(name) for name, value in after.orchestration.items() if name not in _NO_NEWS
    )


def _statistics(picture: Shown, at: datetime) -> View:
    return statistics(picture.orchestration, picture.tasks, at)
