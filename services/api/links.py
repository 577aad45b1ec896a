"""How the tasks of a request hang together: their order, and which depends on which."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.api.problems import Problem, problem


@dataclass(frozen=True, slots=True)
class Outline:
    """What is needed of one task of the request; None for what is absent or not of the right type.

    `field` is where its dependencies stand in the request.
    """

    title: str | None
    depends_on: Sequence[Any]
    field: str


def outline(tasks: Any) -> list[Outline]:
    """Read it from a request that may be wrong in any way, so that every problem can be told at once."""
    if not isinstance(tasks, list):
        return []
    return [_outline(index, task) for index, task in enumerate(tasks)]


def _outline(index: int, task: Any) -> Outline:
    fields: Mapping[Any, Any] = task if isinstance(task, dict) else {}
    name = "depends_on" if "depends_on" in fields else "dependsOn"
    wanted = fields.get(name)
    title = fields.get("title")
    return Outline(
        title.strip() if isinstance(title, str) else None,
        wanted if isinstance(wanted, list) else [],
        f"tasks[{index}].{name}",
    )


def dependencies(tasks: Sequence[Outline]) -> tuple[list[tuple[int, ...]], list[Problem]]:
    """For each task the indexes of the tasks that it depends on, and what is wrong with them."""
    resolved: list[tuple[int, ...]] = []
    problems: list[Problem] = []
    for index, task in enumerate(tasks):
        found: list[int] = []
        for place, wanted in enumerate(task.depends_on):
            try:
                found.append(_find(tasks, index, wanted))
            except ValueError as exc:
                problems.append(problem(f"{task.field}[{place}]", str(exc)))
        resolved.append(tuple(dict.fromkeys(found)))
    problems += [_cycle_problem(tasks, cycle) for cycle in _cycles(resolved)]
    return resolved, problems


def _find(tasks: Sequence[Outline], index: int, wanted: Any) -> int:
    if isinstance(wanted, str):
        found = [i for i, task in enumerate(tasks) if task.title == wanted.strip()]
        if len(found) > 1:
            raise ValueError(f"{len(found)} tasks have this title; use the task's index")
        if not found:
            raise ValueError("no task has this title")
        target = found[0]
    elif isinstance(wanted, int) and not isinstance(wanted, bool):
        if not 0 <= wanted < len(tasks):
            raise ValueError(f"no task has this index; they go from 0 to {len(tasks) - 1}")
        target = wanted
    else:
        raise ValueError("must be the title or the index of another task")
    if target == index:
        raise ValueError("a task cannot depend on itself")
    return target


def existing(
    tasks: Sequence[Mapping[str, Any]], wanted: Sequence[Any], field: str, own_id: str | None = None
) -> tuple[tuple[str, ...], list[Problem]]:
    """The ids of the tasks that `wanted` names by id, title or index, and what is wrong with them.

    Args:
        tasks: the views of all tasks of the orchestration, in order.
        field: where `wanted` stands in the request.
        own_id: of the task that is to depend on them, None for one that is still to be added.
    """
    ids = [task["id"] for task in tasks]
    own = ids.index(own_id) if own_id is not None else len(ids)
    outlines = [Outline(task["title"], (), field) for task in tasks]
    found: list[int] = []
    problems: list[Problem] = []
    for place, value in enumerate(wanted):
        try:
            found.append(_find(outlines, own, ids.index(value) if value in ids else value))
        except ValueError as exc:
            problems.append(problem(f"{field}[{place}]", str(exc)))
    if own_id is not None and not problems:
        links = [[ids.index(target) for target in task["depends_on"]] for task in tasks]
        links[own] = found
        if cycle := _way_back(links, own):
            problems.append(_cycle_problem(outlines, cycle))
    return tuple(dict.fromkeys(ids[index] for index in found)), problems


def _cycles(depends_on: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """One cycle for each group of tasks that wait for one another, from its first task on."""
    done: set[int] = set()
    for start in range(len(depends_on)):
        if start in done:
            continue
        cycle = _way_back(depends_on, start)
        if cycle:
            done.update(cycle)
            yield cycle


def _way_back(depends_on: Sequence[Sequence[int]], start: int) -> list[int]:
    """The shortest way from `start` to itself, without the return; empty if there is none."""
    came_from: dict[int, int] = {}
    queue = [start]
    while queue:
        index = queue.pop(0)
        for target in depends_on[index]:
            if target == start:
                way = [index]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if target not in came_from:
                came_from[target] = index
                queue.append(target)
    return []


def _cycle_problem(tasks: Sequence[Outline], cycle: Sequence[int]) -> Problem:
    names = [tasks[index].title or f"task {index}" for index in (*cycle, cycle[0])]
    return problem(tasks[cycle[0]].field, f"a cycle of tasks that wait for one another: {' → '.join(names)}")


def order(wanted: Sequence[int | None]) -> list[int]:
    """The order index of each task: as asked for, by default the task's position.

    Where two tasks would share one, all are numbered anew, those that share in the order of the request: what comes
    "before" a task must never be a matter of chance.
    """
    indexes = [position if index is None else index for position, index in enumerate(wanted)]
    if len(set(indexes)) == len(indexes):
        return indexes
    ranked = sorted(range(len(indexes)), key=lambda position: indexes[position])
    ranks = {position: rank for rank, position in enumerate(ranked)}
    return [ranks[position] for position in range(len(indexes))]
