"""Failpoints: the moments at which a test has a process die, to see that nothing is lost or done twice by that.

They stand in the adapters to which every await of a handler leads: the log, the provider, the broker, the receivers. A
name says who was at it, at what, and how far: `dispatcher-queue-medium/create_agent.sent`. Without `FAILPOINT` and
`FAILPOINT_RECORD` in the environment each is a comparison with None. See docs/chaos.md.
"""

import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_NOBODY: Final = "process"

_reached: Callable[[str], None] | None = None
_scope: ContextVar[str | None] = ContextVar("failpoint_scope", default=None)


def arm(environment: Mapping[str, str]) -> None:
    """Do as the environment says, for the rest of the process.

    `FAILPOINT=name:n`: at the n-th time (the first, without n) that `name` is reached, die by SIGKILL.
    `FAILPOINT_RECORD=file`: append each name that is reached to the file, a line each, before anything else.

    Raises:
        ValueError: `FAILPOINT` is no name, or n no number above 0.
    """
    global _reached
    fatal, record = environment.get("FAILPOINT"), environment.get("FAILPOINT_RECORD")
    if not fatal and not record:
        _reached = None
        return
    _log.warning("Failpoints are armed: %s", fatal or "to be recorded")
    _reached = _Armed(*_parse(fatal), record)


def are_armed() -> bool:
    return _reached is not None


def reached(name: str) -> None:
    """The process is at the failpoint `name` of the scope that it is in."""
    if _reached is not None:
        _reached(f"{_current_scope()}/{name}")


def around(
    name: str | Callable[..., str],
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """A decorator: failpoints `name.before` and `name.after` of the method, or `name.failed` if it raises.

    `name`: or what gives it for the arguments of a call, `self` included.
    """

    def decorate(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @wraps(method)
        def with_failpoints(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
            if _reached is None:
                return method(*args, **kwargs)
            return _around(name if isinstance(name, str) else name(*args, **kwargs), method(*args, **kwargs))

        return with_failpoints

    return decorate


def when_sent(name: str) -> dict[str, Any]:
    """The `extensions` of httpx and httpcore that make `name.sent` a failpoint: the request is out, no answer is in."""
    if _reached is None:
        return {}

    async def trace(event: str, _info: Mapping[str, Any]) -> None:
        if event.endswith(".send_request_body.complete"):
            reached(f"{name}.sent")

    return {"trace": trace}


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Who is at work inside. Elsewhere it is the task, by its name up to a colon."""
    token = _scope.set(name)
    try:
        yield
    finally:
        _scope.reset(token)


async def _around(name: str, call: Awaitable[T]) -> T:
    reached(f"{name}.before")
    try:
        outcome = await call
    except Exception:
        reached(f"{name}.failed")
        raise
    reached(f"{name}.after")
    return outcome


def _current_scope() -> str:
    if (named := _scope.get()) is not None:
        return named
    task = asyncio.current_task()
    return task.get_name().partition(":")[0] if task is not None else _NOBODY


def _parse(fatal: str | None) -> tuple[str | None, int]:
    if not fatal:
        return None, 0
    name, _, number = fatal.partition(":")
    if not name or not (number or "1").isdecimal() or int(number or 1) < 1:
        raise ValueError(f"FAILPOINT must be a name, or name:n with n above 0, not {fatal!r}")
    return name, int(number or 1)


class _Armed:
    """Records what is reached, and dies where it was told to."""

    def __init__(self, fatal: str | None, number: int, record: str | None) -> None:
        self._fatal = fatal
        self._number = number
        self._record = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if record else None
        self._times: Counter[str] = Counter()

    def __call__(self, name: str) -> None:
        if self._record is not None:
            os.write(self._record, f"{name}\n".encode())
        self._times[name] += 1
        if name == self._fatal and self._times[name] == self._number:
            os.kill(os.getpid(), signal.SIGKILL)
