"""Failpoints: every await outside the process has some, they are nothing until they are armed, and then they kill."""

import ast
import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import services
import shared
from shared import failpoints
from shared.cursor.provider import Provider

_SERVICES = Path(next(iter(services.__path__)))
_SHARED = Path(next(iter(shared.__path__)))

_OF_THE_MONITOR = ("claims.py", "crowd.py", "ownership.py", "asked.py", "progress.py")
_HANDLERS = [
    *sorted(_SERVICES.glob("dispatcher/*.py")),
    *sorted(set(_SERVICES.glob("monitor/*.py")) - {_SERVICES / "monitor" / name for name in _OF_THE_MONITOR}),
    *(_SERVICES / "notifier" / name for name in ("publish.py", "deliveries.py", "history.py", "channels/webhook.py")),
    *(_SHARED / name for name in ("command_handler.py", "following.py", "rate_limit.py")),
]
_ADAPTERS = [
    *(_SHARED / "jetstream" / name for name in ("event_log.py", "publish.py", "kv.py", "timers.py", "replies.py")),
    *(_SERVICES / "notifier" / name for name in ("records.py", "outbound.py")),
    *(_SERVICES / "monitor" / name for name in _OF_THE_MONITOR),
]
# What is awaited here waits for this process alone: a clock, a lock, a task of its own.
_WITHIN = {
    "sleep",
    "_sleep",
    "wait",
    "changed",
    "lock",
    "_lock",
    "setdefault",
    "_listening",
    "take",
    "gather",
    "aclosing",
}
# Handed over under another name: `SharedRateLimiter.wait` and `.acquire`, `Reconciler.keep_followed`,
# `Provider.stream`, `BrokerClaims._claim`, and as `call` what asks the provider.
_GIVEN = {"create_wait", "permission", "follow", "events", "held", "call"}
# Each of these is told from the provider's client, whose every request has failpoints.
_AT_PROVIDER = {name for name in vars(Provider) if not name.startswith("_")}


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm({})


def test_every_await_of_a_handler_leads_to_a_failpoint_or_waits_for_nothing_outside() -> None:
    covered = _WITHIN | _GIVEN | _AT_PROVIDER | _decorated(_ADAPTERS) | _defined(_HANDLERS)
    bare = {
        f"{file.relative_to(_SHARED.parent)}: await {name}"
        for file in _HANDLERS
        if file.name != "app.py"
        for name in _awaited(file)
        if name not in covered
    }
    assert not bare, bare


def test_every_request_to_the_provider_has_failpoints() -> None:
    tree = ast.parse((_SHARED / "cursor" / "http.py").read_text())
    with_requests = {
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.AsyncFunctionDef) and "self._client.stream" in ast.unparse(function)
    }
    with_failpoints = {
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.AsyncFunctionDef) and "failpoints." in ast.unparse(function)
    }
    assert with_requests == with_failpoints == {"_send", "events"}


def _awaited(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Await(value=awaited) | ast.AsyncFor(iter=awaited):
                yield _called(awaited)
            case ast.AsyncWith(items=items):
                yield from (_called(item.context_expr) for item in items)


def _called(node: ast.expr) -> str:
    while isinstance(node, ast.Call):
        node = node.func
    if not isinstance(node, ast.Attribute):
        return ast.unparse(node)
    # What is asked of the broker's client itself must not pass for what an adapter does under the same name.
    of = ast.unparse(node.value).rpartition(".")[2]
    return f"{of}.{node.attr}" if of in ("nc", "_nc") else node.attr


def _defined(files: list[Path]) -> set[str]:
    return {function.name for function in _functions(files)}


def _decorated(files: list[Path]) -> set[str]:
    return {
        function.name
        for function in _functions(files)
        if any(ast.unparse(decorator).startswith("failpoints.around") for decorator in function.decorator_list)
    }


def _functions(files: list[Path]) -> Iterator[ast.AsyncFunctionDef]:
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.AsyncFunctionDef):
                yield node


@failpoints.around(lambda what, **_: f"work.{what}")
async def work(what: str, *, fails: bool = False) -> str:
    if fails:
        raise LookupError(what)
    return what


async def test_they_change_nothing_until_they_are_armed() -> None:
    assert not failpoints.are_armed()
    assert await work("a") == "a"
    with pytest.raises(LookupError):
        await work("b", fails=True)
    failpoints.reached("anything")
    assert failpoints.when_sent("anything") == {}


async def test_what_is_reached_is_recorded_in_order_by_scope_and_how_far_it_got(tmp_path: Path) -> None:
    failpoints.arm({"FAILPOINT_RECORD": str(tmp_path / "record")})
    with failpoints.scope("launcher"):
        assert await work("a") == "a"
        with pytest.raises(LookupError):
            await work("b", fails=True)
    await asyncio.create_task(work("c"), name="audit:7")
    assert (tmp_path / "record").read_text().split() == [
        "launcher/work.a.before",
        "launcher/work.a.after",
        "launcher/work.b.before",
        "launcher/work.b.failed",
        "audit/work.c.before",
        "audit/work.c.after",
    ]


async def test_a_request_is_sent_once_its_body_is_out(tmp_path: Path) -> None:
    failpoints.arm({"FAILPOINT_RECORD": str(tmp_path / "record")})
    trace = failpoints.when_sent("create")["trace"]
    with failpoints.scope("launcher"):
        for event in ("connection.connect_tcp.complete", "http11.send_request_body.started"):
            await trace(event, {})
        assert (tmp_path / "record").read_text() == ""
        await trace("http11.send_request_body.complete", {})
    assert (tmp_path / "record").read_text() == "launcher/create.sent\n"


@pytest.mark.parametrize(("fatal", "survived"), [("here/a", 0), ("here/a:1", 0), ("here/a:3", 2), ("here/b", 5)])
def test_the_process_dies_when_it_is_there_for_the_nth_time(fatal: str, survived: int) -> None:
    program = """
import os
from shared import failpoints
failpoints.arm(os.environ)
with failpoints.scope("here"):
    for number in range(5):
        failpoints.reached("a")
        print(number, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FAILPOINT": fatal},
        capture_output=True,
        text=True,
        cwd=_SHARED.parent,
        timeout=120,
    )
    assert len(done.stdout.split()) == survived
    assert done.returncode == (0 if survived == 5 else -signal.SIGKILL), done.stderr


@pytest.mark.parametrize("fatal", [":1", "a:0", "a:-1", "a:b", "a:1:2"])
def test_what_is_no_failpoint_is_refused(fatal: str) -> None:
    with pytest.raises(ValueError, match="FAILPOINT"):
        failpoints.arm({"FAILPOINT": fatal})
