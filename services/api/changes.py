"""What a commit changes in what people see, as live messages; the same for SSE and WebSocket."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from services.api.projections import apply
from services.api.reading import Shown, shown
from shared.domain.state import Attempt, Orchestration, Task
from shared.envelope import Stored
from shared.messages import Progress
from shared.views import View, statistics

# They change with every commit and are no news by themselves.
_NO_NEWS: Final = frozenset({"version", "updated_at"})


class Change:
    """The messages of one commit, in order, encoded once for all who get them; each carries its sequence as `id`.

    Args:
        ended: the orchestration is finished after it.
        deleted: it is gone after it; nothing follows.
    """

    __slots__ = ("_sse", "_texts", "deleted", "ended", "holders", "messages", "sequence", "size")

    def __init__(self, sequence: int, messages: Iterable[View], *, ended: bool, deleted: bool = False) -> None:
        listed = [{"type": message["type"], "id": sequence, **message} for message in messages]
        for message in listed[:-1]:
            # Who got half of a commit must resume before it, not behind it.
            message["more"] = True
        self.sequence = sequence
        self.messages = tuple(orjson.dumps(message) for message in listed)
        self.ended = ended
        self.deleted = deleted
        self.size = sum(len(message) for message in self.messages)
        self.holders = 0
        """In how many queues it waits."""
        self._sse: bytes | None = None
        self._texts: tuple[str, ...] | None = None

    @property
    def sse(self) -> bytes:
        """One server-sent event for each message. The `id` of SSE stands on the last one only, see `more`."""
        if self._sse is None:
            events = [b"data: " + message + b"\n\n" for message in self.messages]
            place = b"id: %d\n" % self.sequence
            self._sse = b"".join([*events[:-1], place, events[-1]]) if events else place + b"\n"
        return self._sse

    @property
    def texts(self) -> tuple[str, ...]:
        """The messages as text, for WebSocket."""
        if self._texts is None:
            self._texts = tuple(message.decode() for message in self.messages)
        return self._texts


class AgentProgress:
    """What an agent is at, encoded once for all who get it. It belongs to no commit, so it has no `id`, and who
    resumes gets none that it missed.
    """

    __slots__ = ("sse", "texts")

    def __init__(self, task: Task, attempt: Attempt, progress: Progress) -> None:
        told = {"tool": progress.tool, "text": progress.text}
        data: View = {
            "taskId": task.spec.task_id,
            "attemptId": attempt.attempt_id,
            "agentId": attempt.agent_id,
            **{name: text for name, text in told.items() if text is not None},
            "at": progress.at,
        }
        message = orjson.dumps({"type": "agent_progress", "data": data})
        self.sse = b"data: " + message + b"\n\n"
        self.texts = (message.decode(),)


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

    @property
    def deleted(self) -> bool:
        return self.state.deleted


def picture_of(state: Orchestration, sequence: int) -> Picture:
    return Picture(state, shown(state, sequence))


def advance(before: Picture | None, stored: Stored) -> Picture:
    """The picture after one more commit; BrokenHistoryError when the commit does not continue it."""
    return picture_of(apply(before.state if before else None, stored), stored.sequence)


def snapshot(picture: Picture, now: datetime) -> Change:
    """All there is to see, as the first message of a stream."""
    messages: list[View] = [{"type": "status", "data": picture.shown.detail(now)}]
    if picture.deleted:
        messages.append(_deleted(picture))
    return Change(picture.sequence, messages, ended=picture.ended, deleted=picture.deleted)


def change(before: Picture | None, after: Picture, at: datetime) -> Change:
    """What is different after a commit that was recorded `at`.

    Found by comparing what is seen, not by the kinds of events: whatever shows is told. Depends on the log alone, so
    that a stream that is resumed gets the same bytes.
    """
    if before is None:
        return snapshot(after, at)
    messages = [{"type": "task_updated", "task": task} for task in _changed_tasks(before.shown, after.shown)]
    figures = _statistics(after.shown, at)
    if _is_news(before.shown, after.shown) or figures != _statistics(before.shown, at):
        data: View = {"orchestration": after.shown.orchestration, "statistics": figures}
        messages.append({"type": "orchestration_updated", "data": data})
    if after.ended and not before.ended:
        end = {**after.shown.orchestration, "statistics": figures}
        messages.append({"type": "orchestration_completed", "data": end})
    if after.deleted:
        messages.append(_deleted(after))
    return Change(after.sequence, messages, ended=after.ended, deleted=after.deleted)


def _deleted(picture: Picture) -> View:
    return {"type": "orchestration_deleted", "data": {"id": picture.state.id, "status": "DELETED"}}


def _changed_tasks(before: Shown, after: Shown) -> list[View]:
    known = {task["id"]: task for task in before.tasks}
    return [task for task in after.tasks if known.get(task["id"]) != task]


def _is_news(before: Shown, after: Shown) -> bool:
    return any(
        value != before.orchestration.get(name) for name, value in after.orchestration.items() if name not in _NO_NEWS
    )


def _statistics(picture: Shown, at: datetime) -> View:
    return statistics(picture.orchestration, picture.tasks, at)
