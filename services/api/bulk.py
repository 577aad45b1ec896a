"""The same work in many repositories: checked and planned as a whole, carried out one by one, told one by one."""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, JsonValue

from services.api.commands import NOT_SENT, UNKNOWN
from services.api.created import Planned, as_created, send
from services.api.creation import create_command, read_bulk
from services.api.errors import ApiError, translate, unavailable
from services.api.idempotency import RequestIds
from services.api.parts import Parts
from services.api.problems import InvalidRequestError, Problem, problem
from services.api.schemas import BulkRepository, BulkRequest, CreateRequest, check_repository
from shared.domain.commands import CreateOrchestration
from shared.domain.ids import derive_id
from shared.jetstream.publish import check_size
from shared.views import View

_AT_ONCE: Final = 25
"""Creates of one request that are under way; each may hold half a MiB."""
_BEGIN_SECONDS: Final = 17.0
"""Nothing is begun after that. With what a single create takes at most, the answer comes within half a minute."""
_LONGEST_ECHO: Final = 300


class Target(BaseModel):
    """Where to create, and under which ids."""

    model_config = ConfigDict(frozen=True)

    orchestration_id: str
    command_id: str
    repository: str
    ref: str
    name: str | None


class BulkItem(BaseModel):
    """One repository of a bulk request as the request names it; either `target`, or `error` says what is wrong."""

    model_config = ConfigDict(frozen=True)

    given: str | None
    target: Target | None = None
    error: dict[str, JsonValue] = {}


class BulkPlan(BaseModel):
    """What a bulk request is to do. `command` is the work, in no repository yet."""

    model_config = ConfigDict(frozen=True)

    command: CreateOrchestration
    items: tuple[BulkItem, ...]


def plan_bulk(
    body: Any,
    known_models: Collection[str],
    ids: RequestIds,
    *,
    team: str,
    created_by: str,
    allow_private_webhooks: bool,
) -> BulkPlan:
    """Check a request and make all ids.

    Raises:
        InvalidRequestError: something is wrong that all repositories share.
        PayloadTooLargeError: the work is larger than what is stored of one orchestration.
    """
    request = read_bulk(body, known_models, allow_private_webhooks=allow_private_webhooks)
    nowhere = request.of(BulkRepository.model_construct(repository=""))
    command = create_command(nowhere, known_models, orchestration_id=ids.new("bulk"), team=team, created_by=created_by)
    check_size(command.model_dump_json().encode())
    return BulkPlan(command=command, items=tuple(_items(request, ids)))


def asks_for_check(body: Any) -> bool:
    """Whether a request that `plan_bulk` took asks for its repositories to be looked at first."""
    return (body.get("checkRepository") or body.get("check_repository")) is True


def _items(request: BulkRequest, ids: RequestIds) -> Iterator[BulkItem]:
    first: dict[tuple[str, str], int] = {}
    for index, value in enumerate(request.repositories):
        wanted, problems = _read(request, value, index)
        if wanted is not None:
            same = first.setdefault((wanted.repository.lower(), wanted.ref), index)
            problems = [] if same == index else [_repeated(index, same)]
        if wanted is None or problems:
            yield refused_item(_echo(value), problems)
        else:
            yield BulkItem(given=_echo(value), target=_target(wanted, ids, index))


def refused_item(given: str | None, problems: Sequence[Problem]) -> BulkItem:
    """The item as the request names it, with everything that is wrong with it."""
    return BulkItem(given=given, error=_shape(translate(InvalidRequestError(problems))))


def _read(request: BulkRequest, value: Any, index: int) -> tuple[CreateRequest | None, list[Problem]]:
    one, problems = check_repository(value, index)
    return (request.of(one) if one else None), problems


def _target(wanted: CreateRequest, ids: RequestIds, index: int) -> Target:
    return Target(
        orchestration_id=ids.new("orchestration", index),
        command_id=ids.new("command", index),
        repository=wanted.repository,
        ref=wanted.ref,
        name=wanted.name or None,
    )


def _echo(value: Any) -> str | None:
    name = value.get("repository") if isinstance(value, dict) else value
    return name[:_LONGEST_ECHO] if isinstance(name, str) else None


def _repeated(index: int, first: int) -> Problem:
    return problem(f"repositories[{index}]", f"is the same repository and ref as repositories[{first}]")


def _shape(error: ApiError) -> dict[str, JsonValue]:
    """Without the id of the request: a repeat has another one, and is to give the same bytes."""
    return {
        "code": error.code,
        "message": error.message,
        "statusCode": error.status,
        "metadata": error.metadata,
    }


def command_for(plan: BulkPlan, target: Target) -> CreateOrchestration:
    """The work of the plan in the target's repository, its tasks under ids of their own."""
    new = {task.task_id: derive_id("task", target.orchestration_id, i) for i, task in enumerate(plan.command.tasks)}
    tasks = tuple(
        task.model_copy(
            update={"task_id": new[task.task_id], "depends_on": tuple(new[other] for other in task.depends_on)}
        )
        for task in plan.command.tasks
    )
    spec = plan.command.spec.model_copy(
        update={"repository": target.repository, "ref": target.ref, "name": target.name}
    )
    return plan.command.model_copy(update={"orchestration_id": target.orchestration_id, "spec": spec, "tasks": tasks})


async def carry_out_bulk(parts: Parts, plan: BulkPlan, *, request_id: str) -> tuple[View, bool]:
    """Create what the plan says; what was created by an earlier run is found again.

    Returns:
        The answer, and whether every item in it is known for good.

    Raises:
        ApiError: 503, nothing was sent at all.
    """
    run = _Run(parts, plan, request_id)
    items = await asyncio.gather(*(run.item(item) for item in plan.items))
    if not run.sent and any(item.get("outcome") == NOT_SENT for item in items):
        raise unavailable("the message broker does not answer; this request has sent nothing", outcome=NOT_SENT)
    await run.show(items)
    created = sum(item["status"] == 201 for item in items)
    failed = sum(400 <= item["status"] < 500 for item in items)
    undecided = len(items) - created - failed
    unshown = any(item["status"] == 201 and "orchestration" not in item for item in items)
    return {"items": items, "created": created, "failed": failed, "undecided": undecided}, not undecided and not unshown


class _Run:
    """One run of a plan: everything is sent first, and shown when all of it is decided."""

    def __init__(self, parts: Parts, plan: BulkPlan, request_id: str) -> None:
        self._parts = parts
        self._plan = plan
        self._request_id = request_id
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._last_begin = asyncio.get_running_loop().time() + _BEGIN_SECONDS
        self._created: dict[str, int] = {}
        self.sent = False

    async def item(self, item: BulkItem) -> View:
        """What became of one item; never raises, for that would hide what became of the others."""
        answer: View = {"repository": item.given}
        if item.target is None:
            return {**answer, "status": item.error["statusCode"], "error": item.error}
        try:
            async with self._slots:
                return answer | await self._create(item.target)
        except Exception as exc:  # translated like that of any request, and logged there if nobody foresaw it
            return answer | self._failed(item.target, translate(exc))

    async def _create(self, target: Target) -> View:
        if asyncio.get_running_loop().time() > self._last_begin:
            raise unavailable("there was no time left for it", outcome=NOT_SENT)
        command = command_for(self._plan, target)
        planned = Planned(orchestration_id=target.orchestration_id, command_id=target.command_id, command=command)
        sequence = await send(self._parts, planned, request_id=self._request_id)
        self.sent = True
        if sequence is None:
            return {"status": 202, "id": target.orchestration_id, "outcome": UNKNOWN}
        self._created[target.orchestration_id] = sequence
        return {"status": 201, "id": target.orchestration_id}

    def _failed(self, target: Target, error: ApiError) -> View:
        answer = {"status": error.status, "error": _shape(error)}
        if error.status < 500:
            self.sent = True
            return answer
        outcome = error.metadata.get("outcome", UNKNOWN)
        self.sent = self.sent or outcome != NOT_SENT
        return {**answer, "id": target.orchestration_id, "outcome": outcome}

    async def show(self, items: list[View]) -> None:
        """Put into each item what was created, once everybody's reads show it or the time for it is over."""
        wait, team = self._parts.reader.wait_visible, self._plan.command.team
        await asyncio.gather(*(wait(team, *created) for created in self._created.items()))
        await asyncio.gather(*(self._show(item) for item in items if item["status"] == 201))

    async def _show(self, item: View) -> None:
        team, orchestration_id = self._plan.command.team, item["id"]
        async with self._slots:
            shown = await as_created(self._parts, team, orchestration_id, self._created[orchestration_id])
        if shown is not None:
            item["orchestration"] = shown.orchestration
