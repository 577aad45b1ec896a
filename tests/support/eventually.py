"""Waits for facts instead of for time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

Fact = TypeVar("Fact")


@overload
async def eventually(check: Callable[[], Awaitable[Fact]], *, timeout: float = 30, interval: float = 0.02) -> Fact: ...


@overload
async def eventually(check: Callable[[], Fact], *, timeout: float = 30, interval: float = 0.02) -> Fact: ...


async def eventually(check: Callable[[], Any], *, timeout: float = 30, interval: float = 0.02) -> Any:
    """Calls `check`, plain or async, until it answers something true; gives that answer.

    A check that is declared `-> None` consists of assertions alone and has passed when none fails; from any
    other one None means "not yet", like False, 0 and empty. Raises AssertionError after `timeout` seconds,
    with the last answer or failed assertion in it. An AssertionError before that means "not yet" as well; any
    other error of the check passes through at once.
    """
    only_asserts = getattr(check, "__annotations__", {}).get("return", "unknown") in (None, "None")
    deadline = time.monotonic() + timeout
    while True:
        failure: AssertionError | None = None
        try:
            outcome = check()
            fact = await outcome if inspect.isawaitable(outcome) else outcome
            if fact or only_asserts:
                return fact
            said = f"answered {fact!r}"
        except AssertionError as error:
            failure, said = error, f"failed: {error}"
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s; the last check {said}") from failure
        await asyncio.sleep(interval)
