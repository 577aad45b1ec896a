"""The faults that can be switched on: their names, and how a switch is written."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import Field, ValidationError

from deploy.local.simulator.errors import CODES, ApiError
from deploy.local.simulator.schemas import Strict

Version = Literal["v0", "v1"]

# A change can go wrong before and after it took effect; of a read nobody can tell.
CHANGES = ("create", "follow_up", "stop", "delete", "archive")
_OF_A_CHANGE = ("reset_before", "reset_after", "error_before", "error_after", "hang", "truncated")
_OF_A_READ = ("reset", "error", "hang", "truncated")

# Seconds, where a switch or marker names none.
_LASTING: Mapping[str, float] = {
    **{f"{call}_slow": 60.0 for call in (*CHANGES, "read")},
    "rate_limited": 1.0,
    "slow": 60.0,
    "vanish": 0.0,
    "pr_late": 5.0,
    "branch_late": 5.0,
    "summary_late": 5.0,
    "usage_late": 5.0,
    "stop_late": 5.0,
    "webhook_late": 5.0,
}

FAULTS = frozenset(
    {
        *(f"{call}_{kind}" for call in CHANGES for kind in _OF_A_CHANGE),
        *(f"read_{kind}" for kind in _OF_A_READ),
        *_LASTING,
        *("rate_limited_bare", "extra_fields", "errors_as_text", "errors_flat", "errors_not_json"),
        *("usage_limit_exceeded", "plan_required", "included_usage_spent", "branch_unverified", "refuse"),
        *("model_gone", "model_gone_as_validation"),
        *("fail", "expire", "nochange", "creating_forever", "unknown_status", "unknown_end"),
        *("stop_finishes", "stop_ignored", "usage_unavailable"),
        *("webhook_lost", "webhook_duplicated", "webhook_reordered", "webhook_early"),
        *("webhook_badly_signed", "webhook_old_form"),
        *("stream_unavailable", "stream_expired", "stream_cut", "stream_silent"),
    }
)


@dataclass(frozen=True, slots=True)
class Switch:
    """How often a fault strikes: with `probability`, at most `count` times, on one `version` of the API or on both.

    `seconds` belong to the faults that last, `code` to `refuse`.
    """

    probability: float = 1.0
    count: int | None = None
    seconds: float | None = None
    version: Version | None = None
    code: str | None = None

    def view(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class _Written(Strict):
    """A switch as it is written out."""

    probability: float = Field(default=1.0, ge=0, le=1)
    count: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    version: Version | None = None
    code: str | None = None


def lasts(name: str) -> float | None:
    """How long a fault that lasts does so if nothing else is said; None for one that does not."""
    return _LASTING.get(name)


def read_switches(written: object) -> dict[str, Switch | None]:
    """Switches by fault; None for one that is to be turned off.

    Raises:
        ApiError: `validation_error` that names each fault and field that will not do.
    """
    if not isinstance(written, dict):
        raise ApiError("validation_error", "body: must be an object of faults")
    switches: dict[str, Switch | None] = {}
    problems: list[str] = []
    for name, value in written.items():
        if name not in FAULTS:
            problems.append(f"{name}: no such fault")
            continue
        try:
            switches[name] = _read(name, value)
        except ValidationError as error:
            problems += [
                ".".join((name, *map(str, problem["loc"]))) + f": {problem['msg']}" for problem in error.errors()
            ]
        except ValueError as error:
            problems.append(f"{name}{error}")
    if problems:
        raise ApiError("validation_error", "; ".join(problems))
    return switches


def _read(name: str, value: object) -> Switch | None:
    match value:
        case None | False:
            return None
        case True:
            value = {}
        case int() | float():
            value = {"seconds": value} if name in _LASTING else {"probability": value}
    written = _Written.model_validate(value)
    if written.seconds is not None and name not in _LASTING:
        raise ValueError(".seconds: this fault does not last")
    if (written.code is not None) != (name == "refuse"):
        raise ValueError(".code: Field required" if name == "refuse" else ".code: only refuse has one")
    if written.code is not None and written.code not in CODES:
        raise ValueError(f".code: no such code; known are {', '.join(CODES)}")
    return Switch(
        written.probability,
        written.count,
        _LASTING.get(name) if written.seconds is None else written.seconds,
        written.version,
        written.code,
    )


def seconds_in(text: str) -> float | None:
    """A time as a marker has it, None if it is none."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None
