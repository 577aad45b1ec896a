"""An orchestration as seen at one moment, and what each live message makes of it. Pure: the time is an argument."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

View = dict[str, Any]

# Written out, as importing the domain would double the time that every command takes to start.
SUCCESSES = frozenset({"COMPLETED", "PARTIAL_COMPLETED"})
ENDS = SUCCESSES | {"FAILED", "CANCELLED"}
_TICKING = frozenset({"ACTIVE", "CANCELLING"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The views of the API, `sequence` to resume live messages after, and how we come by them.

    `seen_at` is when `statistics` were the latest; `note` is for people: why the picture may be old. `messages` are
    the live ones that led here from the snapshot before, all of a commit at once. `progress` is what was told last of
    each task's agent.
    """

    orchestration: View
    tasks: tuple[View, ...]
    statistics: View
    seen_at: datetime
    sequence: str | None = None
    note: str | None = None
    deleted: bool = False
    messages: tuple[View, ...] = ()
    progress: Mapping[str, View] = field(default_factory=dict)

    @classmethod
    def of(cls, view: Mapping[str, Any], now: datetime, *, sequence: str | None = None) -> "Snapshot":
        """From `{orchestration, tasks, statistics}`."""
        return cls(view["orchestration"], tuple(view.get("tasks", ())), view.get("statistics", {}), now, sequence)

    @property
    def id(self) -> str:
        return str(self.orchestration["id"])

    @property
    def status(self) -> str:
        return str(self.orchestration.get("status"))

    @property
    def ended(self) -> bool:
        """Nothing more is to come. False for a state that this version does not know."""
        return self.deleted or self.status in ENDS

    @property
    def succeeded(self) -> bool:
        """Whether it ended with something to show: COMPLETED or PARTIAL_COMPLETED."""
        return self.status in SUCCESSES and not self.deleted

    @property
    def version(self) -> int:
        return int(self.orchestration.get("version") or 0)

    def view(self) -> View:
        """As the API answers it."""
        return {"orchestration": self.orchestration, "tasks": list(self.tasks), "statistics": self.statistics}

    def status_message(self) -> View:
        """What a stream that begins here would tell first, but for its id."""
        return {"type": "status", "data": self.view()}

    def gone(self) -> "Snapshot":
        """It was deleted."""
        message = {"type": "orchestration_deleted", "data": {"id": self.id, "status": "DELETED"}}
        return replace(self, deleted=True, note=None, messages=(message,))

    def elapsed(self, now: datetime) -> timedelta:
        """Time since activation: as the API said, and what has passed since then while it is under way."""
        said = timedelta(milliseconds=self.statistics.get("duration") or 0)
        return said + max(now - self.seen_at, timedelta()) if self._is_ticking else said

    @property
    def _is_ticking(self) -> bool:
        # A pause that lets agents finish begins when the last of them has.
        draining = self.status == "PAUSED" and self.orchestration.get("paused_at") is None
        return not self.deleted and (draining or self.status in _TICKING)

    def renewed(self, view: Mapping[str, Any], now: datetime) -> "Snapshot":
        """After a read, which may be a little behind what live messages already told; then nothing changes.

        Live messages must begin anew afterwards: those from before the read would take us back.
        """
        fresh = Snapshot.of(view, now)
        if fresh.version < self.version:
            return replace(self, note=None, messages=())
        news = (fresh.status_message(),) if fresh.version > self.version else ()
        return replace(fresh, messages=news)

    def after(self, message: Mapping[str, Any], sequence: str | None, now: datetime) -> "Snapshot":
        """After a live message. Told twice is told once; a message of a kind not known here is passed over."""
        match message:
            case {"type": "status", "data": {"orchestration": dict()} as data}:
                return Snapshot.of(data, now, sequence=sequence)
            case {"type": "task_updated", "task": {"id": _} as task}:
                return replace(self, tasks=_with_task(self.tasks, task), sequence=sequence, note=None)
            case {"type": "orchestration_updated", "data": {"orchestration": dict() as orchestration} as data}:
                return self._updated(orchestration, data.get("statistics"), sequence, now)
            case {"type": "orchestration_completed", "data": {"status": _} as data}:
                fields = {name: value for name, value in data.items() if name not in ("statistics", "tasks")}
                return self._updated(fields, data.get("statistics"), sequence, now)
            case {"type": "orchestration_deleted"}:
                return replace(self, deleted=True, sequence=sequence, note=None)
            case _:
                return replace(self, sequence=sequence, note=None)

    def showing(self, message: View) -> "Snapshot":
        """After an `agent_progress`, which belongs to no commit."""
        data = message.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("taskId"), str):
            return replace(self, messages=())
        return replace(self, progress={**self.progress, data["taskId"]: data}, messages=(message,))

    def doing(self, task: Mapping[str, Any]) -> str:
        """What the agent of a task is at, empty where nothing is known of the one that works on it now."""
        told = self.progress.get(task["id"], {})
        if task.get("status") != "PROCESSING" or told.get("agentId") != task.get("cloud_agent_id"):
            return ""
        return str(told.get("tool") or told.get("text") or "")

    def _updated(self, fields: View, statistics: View | None, sequence: str | None, now: datetime) -> "Snapshot":
        return replace(
            self,
            orchestration={**self.orchestration, **fields},
            statistics=self.statistics if statistics is None else statistics,
            seen_at=self.seen_at if statistics is None else now,
            sequence=sequence,
            note=None,
        )


def _with_task(tasks: tuple[View, ...], task: View) -> tuple[View, ...]:
    """In the order in which the API shows them, which a change of a task may change."""
    if any(known["id"] == task["id"] for known in tasks):
        tasks = tuple(task if known["id"] == task["id"] else known for known in tasks)
    else:
        tasks = (*tasks, task)
    return tuple(sorted(tasks, key=lambda known: known.get("order_index", 0)))
