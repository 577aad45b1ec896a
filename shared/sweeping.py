"""What a sweep is asked for and what it reports, and their wire forms: the api asks, a monitor sweeps."""

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import orjson

SWEEP_SUBJECT: Final = "ask.monitor.sweep"
"""Where a sweep is asked for, by core NATS: whoever waits hears the answer, nobody else needs it."""
MONITORS: Final = "monitors"
"""The queue group of those who answer: one of them does."""

OrphanAction = Literal["stopped", "stopping", "left", "would_stop"]
"""`stopped`: seen to have ended. `stopping`: not seen to have ended yet, the next sweep goes on with it. `left`: at
work on what we did not ask for, or on what cannot be told; that is for people. `would_stop`: only looked at."""

SettledAction = Literal["ended", "put_back", "not_read", "would_read"]
"""`ended`: its end was seen now. `put_back`: what launches or follows it had been lost. `not_read`: it could not be
looked at. `would_read`: it was only looked for."""


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """`team`: look at its work only, None for everybody's. `dry_run`: change nothing."""

    team: str | None
    dry_run: bool

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self))

    @staticmethod
    def decode(body: bytes) -> "SweepRequest":
        """Read the wire form; fields that are not known are ignored.

        Raises:
            ValueError: not such a request.
        """
        raw: Any = orjson.loads(body)
        match raw:
            case {"team": str() | None as team, "dry_run": bool() as dry_run}:
                return SweepRequest(team, dry_run)
            case _:
                raise ValueError("not a request for a sweep")


@dataclass(frozen=True, slots=True)
class Orphan:
    """An agent at work that belongs to no attempt under way. The attempt is the last one that had it, None if the log
    does not have it; `status` is the provider's word."""

    agent_id: str
    url: str | None
    status: str
    orchestration_id: str
    attempt_id: str | None
    action: OrphanAction


@dataclass(frozen=True, slots=True)
class Settled:
    """An attempt that had been without news for long, and what was done about it."""

    attempt_id: str
    orchestration_id: str
    agent_id: str | None
    action: SettledAction


@dataclass(frozen=True, slots=True)
class SweepReport:
    """`checked`: agents that were listed. `ours`: those of them that may be at work and were launched by us. `unread`:
    those of ours of which it could not be told."""

    checked: int
    ours: int
    unread: int
    orphans: tuple[Orphan, ...]
    settled: tuple[Settled, ...]
    dry_run: bool

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do soon."""
        return not self.unread and not any(orphan.action == "stopping" for orphan in self.orphans)


@dataclass(frozen=True, slots=True)
class SweepAnswer:
    """The report, or why there is none: `error_code` is one of the product's."""

    report: SweepReport | None = None
    error_code: str | None = None
    error_message: str | None = None

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self))

    @staticmethod
    def decode(body: bytes) -> "SweepAnswer":
        """Read the wire form.

        Raises:
            ValueError: not such an answer.
        """
        try:
            raw: dict[str, Any] = orjson.loads(body)
            report = raw["report"]
            return SweepAnswer(_report(report) if report is not None else None, raw["error_code"], raw["error_message"])
        except (KeyError, TypeError) as exc:
            raise ValueError(f"not an answer to a sweep: {exc!r}") from exc


def _report(raw: dict[str, Any]) -> SweepReport:
    return SweepReport(
        checked=raw["checked"],
        ours=raw["ours"],
        unread=raw["unread"],
        orphans=tuple(Orphan(**{name: orphan[name] for name in Orphan.__slots__}) for orphan in raw["orphans"]),
        settled=tuple(Settled(**{name: one[name] for name in Settled.__slots__}) for one in raw["settled"]),
        dry_run=raw["dry_run"],
    )
