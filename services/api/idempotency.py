"""`Idempotency-Key`: a request that is sent again is not carried out again, and gets the first answer.

A route that creates takes `once: Once`, and says what it does in two functions:

    async def add_task(principal: Writer, parts: TheParts, once: Once, request: Request, ...) -> Response:
        body = await read_json(request)

        async def plan(ids: RequestIds) -> PlannedCommand[AddTask]:
            task = read_task(body, task_id=ids.new("task"))  # raises whatever is wrong with the request
            return PlannedCommand(orchestration_id=..., command_id=ids.new("command"), command=AddTask(task=task))

        async def carry_out(planned: PlannedCommand[AddTask]) -> Response:
            reply = await send_command(..., planned.command, command_id=planned.command_id)
            ...
            return Json(view, 201, {"Location": ...})

        return await once.answer(principal.team, body, PlannedCommand[AddTask], plan, carry_out)

`plan` only thinks: it checks the request and makes every id. It runs for the first request alone. What it refuses
leaves no trace, so a request that was refused can be put right and sent with the same key.

`carry_out` acts, and must bear being run again with the same plan, also at the same time in another process: whatever
it makes has an id of the plan. Run again it has to give the same bytes, so it shows things as of its own commit
(`OrchestrationReader.fold(until=...)`), not as of now. What becomes of its answer:

- 2xx but 202: stored, and given to every repeat from then on.
- 202, or an error from 500 on: not stored; a repeat carries the same plan out again and so learns the real answer.
- an error from 400 to 499, raised: nothing was done and nothing will be; the key is free again.

An answer that holds a secret must not lie in a table: with `store_answer=False` every repeat carries the plan out
again, so the secret has to follow from the plan and something that only the server knows.

Without the header nothing is stored and both run once. docs/decisions/0008 looks at every point at which a process
can die.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Final, Generic, TypeVar

import orjson
import psycopg
from fastapi import Depends, Header, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from services.api.commands import NOT_SENT, UNKNOWN
from services.api.errors import ApiError, unavailable
from services.api.idempotency_store import Answer, Claim, IdempotencyStore
from services.api.problems import InvalidRequestError, problem
from shared.domain.commands import Command
from shared.domain.errors import Refusal
from shared.domain.ids import derive_id
from shared.ending import end
from shared.jetstream.errors import PayloadTooLargeError
from shared.ports import Clock, Ids

_log = logging.getLogger(__name__)

_HEADER: Final = "Idempotency-Key"
_LONGEST: Final = 255
_FORM: Final = re.compile(rf"[ -~]{{1,{_LONGEST}}}")
_RETRY_SECONDS: Final = "1"
_REFUSALS: Final = (ApiError, Refusal, InvalidRequestError, PayloadTooLargeError)

C = TypeVar("C", bound=Command)
P = TypeVar("P", bound=BaseModel)


class RequestIds:
    """Makes the ids of what a request creates: the same for the same request under the same key on the same day."""

    def __init__(self, seed: str) -> None:
        self._seed = seed

    def new(self, *name: str | int) -> str:
        """The id of what the request calls `name`; another name gives another id."""
        return derive_id("request", self._seed, *name)


class PlannedCommand(BaseModel, Generic[C]):
    """A command with the id that makes sending it again harmless."""

    model_config = ConfigDict(frozen=True)

    orchestration_id: str
    command_id: str
    command: C


@dataclass(frozen=True, slots=True)
class Work(Generic[P]):
    """What a request is to do, see the module's text."""

    plan_type: type[P]
    plan: Callable[[RequestIds], Awaitable[P]]
    carry_out: Callable[[P], Awaitable[Response]]
    store_answer: bool = True


@dataclass(frozen=True, slots=True)
class Requested:
    """A request under its key. `fingerprint` tells it from every other request."""

    team: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Given:
    """What a request is answered; `replayed`: it was not the one that led to it."""

    answer: Answer
    replayed: bool


class Idempotency:
    """Carries requests out once for each key of a team.

    No lock is held and no process is waited for: the claim on the key fixes what is done and under which ids, so that
    two processes may do it at once, and the answer that is stored first is everybody's. Within this process, requests
    that are the same share one run.
    """

    def __init__(self, store: IdempotencyStore, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._runs: dict[Requested, asyncio.Task[Given]] = {}

    async def aclose(self) -> None:
        """Leave what is under way to the next repeat."""
        await end(*self._runs.values())

    def fresh(self) -> RequestIds:
        """Ids for a request without a key."""
        return RequestIds(self._ids.new())

    async def answer(self, requested: Requested, work: Work[P]) -> Given:
        """See the module's text.

        Raises:
            ApiError: 422, the key was used for another request.
            psycopg.OperationalError: the table cannot be reached; nothing was done that a repeat would do again.
        """
        run = self._runs.get(requested)
        if run is not None:
            return replace(await asyncio.shield(run), replayed=True)
        run = asyncio.create_task(self._run(requested, work), name="idempotent request")
        self._runs[requested] = run
        run.add_done_callback(partial(self._ended, requested))
        # Whoever asked may go away; what was begun goes on, for the others who ask the same.
        return await asyncio.shield(run)

    def _ended(self, requested: Requested, run: "asyncio.Task[Given]") -> None:
        del self._runs[requested]
        if not run.cancelled():
            run.exception()  # seen, also where nobody waits any more

    async def _run(self, requested: Requested, work: Work[P]) -> Given:
        claim = await self._store.find(requested.team, requested.key) or await self._claim(requested, work)
        if claim.fingerprint != requested.fingerprint:
            raise _conflict()
        if claim.answer is not None:
            return Given(claim.answer, replayed=True)
        assert claim.plan is not None  # the table has one or the other
        run = work.carry_out(work.plan_type.model_validate_json(claim.plan))
        answer = await self._carry_out(requested, run, begun_before=not claim.is_new)
        if work.store_answer and answer.status != 202:
            answer = await self._settled(requested, answer)
        return Given(answer, replayed=not claim.is_new)

    async def _claim(self, requested: Requested, work: Work[P]) -> Claim:
        """Nothing is done before the plan is stored: whoever finds it does the same, under the same ids."""
        planned = await work.plan(RequestIds(self._seed(requested)))
        encoded = planned.model_dump_json().encode()
        return await self._store.claim(requested.team, requested.key, requested.fingerprint, encoded)

    def _seed(self, requested: Requested) -> str:
        """Made from the request, and not by chance, so that even who loses the table gets the same ids that day.

        The day is in it, for a key is free for something new after it has expired.
        """
        day = self._clock.now().date().isoformat()
        return derive_id("idempotency", requested.team, requested.key, requested.fingerprint.hex(), day)

    async def _carry_out(self, requested: Requested, run: Awaitable[Response], *, begun_before: bool) -> Answer:
        try:
            response = await run
        except _REFUSALS as exc:
            if not isinstance(exc, ApiError) or exc.status < 500:
                await self._forget(requested)
            elif begun_before and exc.metadata.get("outcome") == NOT_SENT:
                # This request sent nothing; what an earlier one sent may still be carried out.
                raise unavailable("the message broker does not answer", outcome=UNKNOWN) from exc
            raise
        return Answer(response.status_code, bytes(response.body), response.headers.get("Location"))

    async def _settled(self, requested: Requested, answer: Answer) -> Answer:
        """The answer to give: the first that was stored."""
        try:
            return await self._store.settle(requested.team, requested.key, requested.fingerprint, answer)
        except psycopg.Error as exc:
            # It is done and this is the answer; a repeat finds the plan and comes to the same bytes.
            _log.warning("An answer could not be stored: %s", type(exc).__name__)
            return answer

    async def _forget(self, requested: Requested) -> None:
        try:
            await self._store.forget(requested.team, requested.key, requested.fingerprint)
        except psycopg.Error as exc:
            # The same request can be sent again; only another one under this key is refused until it expires.
            _log.warning("A key could not be given back: %s", type(exc).__name__)


class OnceForRequest:
    """What a route uses, see the module's text."""

    def __init__(self, request: Request, key: str | None) -> None:
        self._request = request
        self._key = key
        self._idempotency: Idempotency = request.app.state.parts.idempotency

    async def answer(
        self,
        team: str,
        body: Any,
        plan_type: type[P],
        plan: Callable[[RequestIds], Awaitable[P]],
        carry_out: Callable[[P], Awaitable[Response]],
        *,
        store_answer: bool = True,
    ) -> Response:
        """The answer to the request.

        Args:
            team: whose key it is; the same key of another team is another one.
            body: the JSON of the request, None if it has none.
            plan_type: what `plan` gives; it is stored as JSON.
            store_answer: False where the answer holds a secret, see the module's text.

        Raises:
            ApiError: 422, the key was used for another request; and all that the functions raise.
            psycopg.OperationalError: the table cannot be reached; nothing was done.
        """
        if self._key is None:
            return await carry_out(await plan(self._idempotency.fresh()))
        work = Work(plan_type, plan, carry_out, store_answer)
        requested = Requested(team, self._key, _fingerprint(self._request, body))
        return _response(await self._idempotency.answer(requested, work))


def _fingerprint(request: Request, body: Any) -> bytes:
    """Spaces and the order of fields do not matter."""
    try:
        text = orjson.dumps([request.method, request.url.path, body], option=orjson.OPT_SORT_KEYS)
    except TypeError:  # what was read can be written, but for its depth
        raise InvalidRequestError([problem("body", "is nested too deeply")]) from None
    return hashlib.sha256(text).digest()


def _conflict() -> ApiError:
    return ApiError("IDEMPOTENCY_CONFLICT", "the Idempotency-Key was used for another request; take a new one")


def _response(given: Given) -> Response:
    headers = {}
    if given.answer.location is not None:
        headers["Location"] = given.answer.location
    if given.answer.status == 202:
        headers["Retry-After"] = _RETRY_SECONDS
    if given.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(given.answer.body, given.answer.status, headers, "application/json")


def _once(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias=_HEADER,
            description="a name of your choice for this request: sent again within 24 h it gets the first answer",
            json_schema_extra={"minLength": 1, "maxLength": _LONGEST, "pattern": "^[ -~]+$"},
        ),
    ] = None,
) -> OnceForRequest:
    given = request.headers.getlist(_HEADER)
    if len(given) > 1:
        raise InvalidRequestError([problem(_HEADER, "must be given once")])
    if given and not _FORM.fullmatch(given[0]):
        raise InvalidRequestError([problem(_HEADER, f"must be 1 to {_LONGEST} printable ASCII characters")])
    return OnceForRequest(request, given[0] if given else None)


Once = Annotated[OnceForRequest, Depends(_once)]
