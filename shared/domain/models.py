"""Which model a task gets: aliases, fallback, and the choice by complexity."""

from collections.abc import Collection
from dataclasses import dataclass

from shared.domain.events import Complexity

BY_COMPLEXITY = "by-complexity"
FALLBACK = "claude-4-sonnet-thinking"
STRONGEST = "claude-4-opus-thinking"
ALIASES = {
    "claude-sonnet-4": "claude-4-sonnet-thinking",
    "claude-4.5-opus-high-thinking": "claude-4-opus-thinking",
    "gpt-4": "o3",
}
KNOWN_WITHOUT_PROVIDER = (FALLBACK, "o3", STRONGEST)


@dataclass(frozen=True, slots=True)
class Resolution:
    """The model to send, None for the provider's own choice; `warning` when it is not the one asked for."""

    model: str | None
    warning: str | None = None


class UnknownModelError(Exception):
    """The model is not in the list and the user insisted on it."""


def resolve(asked: str | None, complexity: Complexity, known: Collection[str], *, strict: bool) -> Resolution:
    """Map what the user asked for to a model of the list.

    Args:
        asked: a name, an alias, `by-complexity`, or None for the provider's choice.
        known: the names that the provider accepts.
        strict: refuse an unknown name rather than fall back.

    Raises:
        UnknownModelError: unknown and `strict`.
    """
    if asked is None:
        return Resolution(None)
    if asked == BY_COMPLEXITY:
        wanted = STRONGEST if complexity == "complex" else FALLBACK
        return Resolution(wanted if wanted in known else None)
    model = asked if asked in known else ALIASES.get(asked, asked)
    if model in known:
        return Resolution(model)
    if strict:
        raise UnknownModelError(f"model {asked!r} is not known; known are: {', '.join(sorted(known))}")
    return Resolution(FALLBACK, f"model {asked!r} is not known, {FALLBACK} is used instead")
