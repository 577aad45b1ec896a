"""Which agents there have been, and what became of each and when: also of those that are gone."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from deploy.local.simulator.timestamps import timestamp

# The oldest are forgotten first, so that a simulator that runs for days does not fill the memory.
_LIMIT = 50_000
_RUNS_LIMIT = 1_000  # of one agent


@dataclass(frozen=True, slots=True)
class Change:
    """A run's new state, in the words of v1; `at` is the time of the simulator's clock."""

    status: str
    at: datetime

    def view(self) -> dict[str, object]:
        return {"status": self.status, "at": timestamp(self.at)}


@dataclass(slots=True)
class Entry:
    """One agent; `attempt` is what its caller marked it with, `runs` has the changes of each run."""

    id: str
    version: str
    attempt: str | None
    branch: str | None
    prompt: str
    created_at: datetime
    gone_at: datetime | None = None
    archived: bool = False
    runs: dict[str, list[Change]] = field(default_factory=dict)

    def note(self, run_id: str, status: str, at: datetime) -> None:
        self.runs.setdefault(run_id, []).append(Change(status, at))
        if len(self.runs) > _RUNS_LIMIT:
            del self.runs[next(iter(self.runs))]

    def view(self) -> dict[str, object]:
        view: dict[str, object] = {
            "id": self.id,
            "api": self.version,
            "attempt": self.attempt,
            "branch": self.branch,
            "prompt": self.prompt,
            "created_at": timestamp(self.created_at),
            "archived": self.archived,
            "runs": [
                {"id": run_id, "changes": [change.view() for change in changes]}
                for run_id, changes in self.runs.items()
            ],
        }
        if self.gone_at is not None:
            view["gone_at"] = timestamp(self.gone_at)
        return view


class Journal:
    """The entries, oldest first."""

    def __init__(self, keeps: int = _LIMIT) -> None:
        self._entries: deque[Entry] = deque(maxlen=keeps)

    def add(self, entry: Entry) -> Entry:
        self._entries.append(entry)
        return entry

    def clear(self) -> None:
        self._entries.clear()

    def view(self) -> list[dict[str, object]]:
        return [entry.view() for entry in self._entries]
