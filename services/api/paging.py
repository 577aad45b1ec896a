"""Pages of what a history consists of, its events or its log lines: as many as fit, commit by commit."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_PLACE: Final = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,6}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends and the next one begins: behind the commit `sequence`, or behind its first `given` items."""

    sequence: int = 0
    given: int | None = None

    @property
    def behind(self) -> int:
        """The sequence above which the commits are to be read."""
        return self.sequence if self.given is None else self.sequence - 1

    def __str__(self) -> str:
        return str(self.sequence) if self.given is None else f"{self.sequence}.{self.given}"


@dataclass(frozen=True, slots=True)
class Cut(Generic[T]):
    """The items of one page; `end` is None when there are no more behind it."""

    items: list[T]
    end: Place | None


def read_place(text: str) -> Place:
    """Raises ValueError for what is no place that a page gave."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ValueError("is not one that a page gave")
    sequence, given = match.groups()
    return Place(int(sequence), None if given is None else int(given))


def left(items: Sequence[T], sequence: int, begin: Place) -> Sequence[T]:
    """What is still to be given of the commit `sequence` by who begins at `begin`."""
    return items[begin.given or 0 :] if sequence == begin.sequence else items


async def cut(commits: AsyncIterator[tuple[int, Sequence[T]]], begin: Place, limit: int) -> Cut[T]:
    """A page of at most `limit` items. A commit is never in two pages, unless it is larger than a page by itself.

    Args:
        commits: the sequence and the items of each commit above `begin.behind`.
    """
    items: list[T] = []
    end = begin
    async for sequence, all_items in commits:
        rest = left(all_items, sequence, begin)
        if len(rest) > limit and not items:
            return Cut(list(rest[:limit]), Place(sequence, len(all_items) - len(rest) + limit))
        if len(items) + len(rest) > limit:
            return Cut(items, end)
        if rest:
            items += rest
            end = Place(sequence)
    return Cut(items, None)
