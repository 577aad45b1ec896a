"""What a prompt asks of its agent by markers, and so every way in which an agent leaves the smooth course.

A further prompt governs its own run: by its markers, if it has any. Without any, a run that follows one that was
stopped goes on as that one would have: it ends the same way, after the time that was left. One that follows a run
that had ended by itself takes the usual time and finishes.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from deploy.local.simulator.errors import CODES, ApiError
from deploy.local.simulator.faults import FAULTS, lasts, seconds_in

Outcome = Literal["FINISHED", "ERROR", "EXPIRED"]

_MARKER = re.compile(r"\[\[sim:([^\]]*)\]\]")
_ALWAYS = math.inf
_DIGITS = 9  # of a number of occasions


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one run goes: how long it works, how it ends, and whether it pushes a branch."""

    outcome: Outcome
    pushes: bool
    run_seconds: float

    def ending(self, outcome: Outcome) -> "Behaviour":
        """The same with another end."""
        return replace(self, outcome=outcome, pushes=self.pushes and outcome == "FINISHED")

    def after(self, seconds: float) -> "Behaviour":
        """What is left of it after `seconds`."""
        return replace(self, run_seconds=max(0.0, self.run_seconds - seconds))


@dataclass(frozen=True, slots=True)
class Markers:
    """The markers of one prompt; `fail_first` is how many runs fail before one succeeds.

    `faults` has the others by name: the seconds of one that lasts, else on how many occasions it strikes.
    """

    refuse: str | None = None
    fail_first: float = 0
    expires: bool = False
    no_change: bool = False
    run_seconds: float | None = None
    faults: Mapping[str, float] = field(default_factory=dict)

    @property
    def say_nothing(self) -> bool:
        """The prompt has no marker."""
        return self == Markers()

    def of_the_run(self, behaviour: Behaviour) -> Iterator[str]:
        """The names of those that this behaviour shows."""
        if behaviour.outcome != "FINISHED":
            yield "fail" if behaviour.outcome == "ERROR" else "expire"
        if self.no_change:
            yield "nochange"
        if self.run_seconds is not None:
            yield "slow"

    def behaviour(self, ordinal: int, default_seconds: float) -> Behaviour:
        """The behaviour of the `ordinal`-th run (from 1) with this marker key."""
        outcome: Outcome = "FINISHED"
        if self.expires:
            outcome = "EXPIRED"
        elif ordinal <= self.fail_first:
            outcome = "ERROR"
        seconds = default_seconds if self.run_seconds is None else self.run_seconds
        return Behaviour(outcome, outcome == "FINISHED" and not self.no_change, seconds)


def without_markers(text: str) -> str:
    """The text without its markers: what an agent says must not steer the agents that read it later."""
    return _MARKER.sub("", text)


def read_markers(prompt: str) -> Markers:
    """The first marker of each kind counts; of `fail` and `expire`, which exclude each other, the first.

    Raises:
        ApiError: `validation_error` for a marker that is not known or whose value makes no sense.
    """
    first: dict[str, str] = {}
    for found in _MARKER.finditer(prompt):
        name, equals, value = (part.strip() for part in found[1].partition("="))
        if name not in FAULTS or bool(equals) != bool(value):
            raise _bad(name, value)
        first.setdefault(name, value)
    ending = next((name for name in first if name in ("fail", "expire")), None)
    return Markers(
        refuse=_refusal(first["refuse"]) if "refuse" in first else None,
        fail_first=_occasions("fail", first["fail"]) if ending == "fail" else 0,
        expires=ending == "expire" and _flag("expire", first["expire"]),
        no_change="nochange" in first and _flag("nochange", first["nochange"]),
        run_seconds=_seconds("slow", first["slow"]) if "slow" in first else None,
        faults={name: _extent(name, value) for name, value in first.items() if name not in _OF_A_RUN},
    )


_OF_A_RUN = frozenset({"fail", "expire", "nochange", "slow", "refuse"})


def _bad(name: str, value: str) -> ApiError:
    marker = f"{name}={value}" if value else name
    return ApiError("validation_error", f"Unknown marker [[sim:{marker}]] in prompt.text")


def _refusal(value: str) -> str:
    if value not in CODES:
        raise _bad("refuse", value)
    return value


def _occasions(name: str, value: str) -> float:
    if not value:
        return _ALWAYS
    if not value.isdecimal() or len(value) > _DIGITS:
        raise _bad(name, value)
    return int(value)


def _flag(name: str, value: str) -> bool:
    if value:
        raise _bad(name, value)
    return True


def _seconds(name: str, value: str) -> float:
    seconds = seconds_in(value)
    if seconds is None:
        raise _bad(name, value)
    return seconds


def _extent(name: str, value: str) -> float:
    usual = lasts(name)
    if usual is None:
        return _occasions(name, value)
    return _seconds(name, value) if value else usual
