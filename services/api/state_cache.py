"""The states that the projector keeps in memory, the longest unused dropped first."""

from collections import OrderedDict
from collections.abc import Iterable

from services.api.projections import Key
from shared.domain.state import Orchestration


class StateCache:
    """At most `max_tasks` tasks in all: memory grows with tasks (about 2 kB each), not with orchestrations."""

    def __init__(self, max_tasks: int = 50_000) -> None:
        self._max_tasks = max_tasks
        self._tasks = 0
        self._states: OrderedDict[Key, Orchestration] = OrderedDict()

    def known(self, keys: Iterable[Key]) -> dict[Key, Orchestration]:
        """Those of `keys` that are here."""
        found = {}
        for key in keys:
            state = self._states.get(key)
            if state is not None:
                self._states.move_to_end(key)
                found[key] = state
        return found

    def put(self, key: Key, state: Orchestration) -> None:
        old = self._states.pop(key, None)
        self._tasks += len(state.tasks) - (len(old.tasks) if old else 0)
        self._states[key] = state
        while self._tasks > self._max_tasks and len(self._states) > 1:
            _, dropped = self._states.popitem(last=False)
            self._tasks -= len(dropped.tasks)

    def clear(self) -> None:
        self._states.clear()
        self._tasks = 0

    def __len__(self) -> int:
        return len(self._states)
