"""Which faults are on, and whether one strikes now."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.local.simulator.behaviour import Markers
from deploy.local.simulator.content import number
from deploy.local.simulator.faults import Switch, Version, lasts
from deploy.local.simulator.stats import Stats

_FINE = 1_000_000  # of how many parts the chance is drawn


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose call or agent it is: the task, known by the first line of its prompt and its repository."""

    task: tuple[str, str]
    markers: Markers


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that strikes, and for how long; `code` is that of `refuse`."""

    seconds: float = 0.0
    code: str | None = None


class Board:
    """The switches. The same seed and the same order of occasions give the same strikes."""

    def __init__(self, seed: int, stats: Stats) -> None:
        self._seed = seed
        self._stats = stats
        self._switches: dict[str, Switch] = {}
        self._occasions: Counter[str] = Counter()
        self._struck: Counter[str] = Counter()
        self._marked: Counter[tuple[str, tuple[str, str]]] = Counter()

    def view(self) -> dict[str, object]:
        """What is on, in the form in which it can be set again."""
        return {name: switch.view() for name, switch in sorted(self._switches.items())}

    def change(self, switches: Mapping[str, Switch | None]) -> None:
        """Turn these on or off and leave the others; each that is named counts from zero again."""
        for name, switch in switches.items():
            self._occasions.pop(name, None)
            self._struck.pop(name, None)
            if switch is None:
                self._switches.pop(name, None)
            else:
                self._switches[name] = switch

    def replace(self, switches: Mapping[str, Switch | None]) -> None:
        """Turn these on and all others off."""
        self.change({**dict.fromkeys(self._switches), **switches})

    def clear_counts(self) -> None:
        """Begin anew with what is on."""
        for counter in (self._occasions, self._struck, self._marked):
            counter.clear()

    def strikes(self, name: str, version: Version, subject: Subject | None = None) -> Strike | None:
        """Whether the fault strikes on this occasion; one that does is counted.

        What the subject's markers say of a fault comes before its switch.
        """
        marked = subject is not None and name in subject.markers.faults
        if not marked and name not in self._switches:
            return None
        strike = self._by_marker(name, subject) if marked and subject is not None else self._by_switch(name, version)
        if strike is not None:
            self.note(name)
        return strike

    def note(self, name: str) -> None:
        """Count a fault that a marker has brought about by itself."""
        self._stats.faults[name] += 1

    def _by_marker(self, name: str, subject: Subject) -> Strike | None:
        value = subject.markers.faults[name]
        if lasts(name) is not None:
            return Strike(value)
        self._marked[name, subject.task] += 1
        return Strike() if self._marked[name, subject.task] <= value else None

    def _by_switch(self, name: str, version: Version) -> Strike | None:
        switch = self._switches[name]
        if switch.version not in (None, version) or self._struck[name] == switch.count:
            return None
        self._occasions[name] += 1
        if number(self._seed, name, self._occasions[name]) % _FINE >= switch.probability * _FINE:
            return None
        self._struck[name] += 1
        return Strike(switch.seconds or 0.0, switch.code)
