"""The supervisor on toy processes: order, restarts with back-off, and an end for every child."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.local.child import Child, ChildFailedError, ProcessSpec
from deploy.local.supervisor import BackOff, Supervisor
from tests.support.eventually import eventually

_SLEEP = "import time; time.sleep(600)"
_WRITE_NAME_WHEN_STOPPED = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
open(sys.argv[1] + "." + sys.argv[2], "w")
signal.sigwait({signal.SIGTERM})
open(sys.argv[1], "a").write(sys.argv[2] + "\\n")
"""
_DEAF = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w")
while True:
    signal.pause()
"""

Toy = Callable[..., ProcessSpec]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """Describes a Python one-liner as a process."""

    def describe(name: str, code: str, *arguments: str, **settings: Any) -> ProcessSpec:
        argv = [sys.executable, "-S", "-c", code, *arguments]
        return ProcessSpec(name=name, argv=argv, log=tmp_path / f"{name}.log", **settings)

    return describe


@pytest.fixture
def said() -> list[str]:
    """What the supervisor told people."""
    return []


@pytest.fixture
async def supervisor(tmp_path: Path, said: list[str]) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "processes.json", say=said.append, back_off=BackOff(first=0.01))
    async with supervisor.running():
        yield supervisor


def _entry(folder: Path, name: str) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads((folder / "processes.json").read_text())["processes"][name]
    return entry


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True  # since a moment ago
    # A killed grandchild may wait for its new parent to notice; it does nothing any more.
    return state == "Z"


async def test_the_record_says_where_each_process_is(supervisor: Supervisor, toy: Toy, tmp_path: Path) -> None:
    spec = toy("one", _SLEEP, port=1234, health_url="http://127.0.0.1:1234/health/ready")
    await supervisor.start(spec, ready_seconds=60)
    entry = _entry(tmp_path, "one")
    assert not _gone(entry["pid"])
    assert (entry["port"], entry["health_url"], entry["restarts"]) == (1234, spec.health_url, 0)


async def test_a_process_that_dies_is_started_again_and_said_so(
    supervisor: Supervisor, toy: Toy, tmp_path: Path, said: list[str]
) -> None:
    await supervisor.start(toy("one", _SLEEP), ready_seconds=60)
    first = _entry(tmp_path, "one")["pid"]
    os.kill(first, signal.SIGKILL)

    await eventually(lambda: _entry(tmp_path, "one")["restarts"] == 1)
    assert _entry(tmp_path, "one")["pid"] != first
    await eventually(lambda: "one is ready again" in said)
    assert said[0] == "one ended (exit code -9), starting it again in 0.01 s"


async def test_a_process_that_cannot_be_started_again_is_tried_again(
    supervisor: Supervisor, toy: Toy, tmp_path: Path, said: list[str]
) -> None:
    spec = toy("one", _SLEEP)
    await supervisor.start(spec, ready_seconds=60)
    spec.log.unlink()
    spec.log.mkdir()  # as good as a full disk: the log cannot be opened
    os.kill(_entry(tmp_path, "one")["pid"], signal.SIGKILL)
    await eventually(lambda: any("could not be started again" in sentence for sentence in said))
    spec.log.rmdir()
    await eventually(lambda: "one is ready again" in said)
    assert _entry(tmp_path, "one")["restarts"] == 1


async def test_start_returns_when_the_probe_succeeds(supervisor: Supervisor, toy: Toy, tmp_path: Path) -> None:
    file = tmp_path / "there"
    code = "import sys, time; time.sleep(0.2); open(sys.argv[1], 'w'); time.sleep(600)"
    await supervisor.start(toy("one", code, str(file), probe=file.exists), ready_seconds=60)
    assert file.exists()


async def test_a_process_that_ends_at_its_first_start_is_an_error_with_the_end_of_its_log(
    supervisor: Supervisor, toy: Toy
) -> None:
    spec = toy("one", "raise SystemExit('no such setting')", probe=lambda: False)
    with pytest.raises(ChildFailedError, match=r"one ended while starting \(exit code 1\)[\s\S]*no such setting"):
        await supervisor.start(spec, ready_seconds=60)


async def test_a_process_that_is_not_ready_in_time_is_an_error(supervisor: Supervisor, toy: Toy) -> None:
    with pytest.raises(ChildFailedError, match=r"one was not ready after 0.1 s"):
        await supervisor.start(toy("one", _SLEEP, probe=lambda: False), ready_seconds=0.1)


async def test_a_program_that_is_run_once_has_to_succeed(supervisor: Supervisor, toy: Toy) -> None:
    await supervisor.run_once(toy("good", "pass"), timeout=60)
    with pytest.raises(ChildFailedError, match=r"bad failed \(exit code 3\)"):
        await supervisor.run_once(toy("good", "pass"), toy("bad", "raise SystemExit(3)"), timeout=60)
    with pytest.raises(ChildFailedError, match="slow took longer"):
        await supervisor.run_once(toy("slow", _SLEEP), timeout=0.1)


async def test_groups_are_stopped_in_reverse_order(supervisor: Supervisor, toy: Toy, tmp_path: Path) -> None:
    order = tmp_path / "order"
    for name in ("first", "second", "third"):
        started = Path(f"{order}.{name}")
        spec = toy(name, _WRITE_NAME_WHEN_STOPPED, str(order), name, probe=started.exists)
        await supervisor.start(spec, ready_seconds=60)
    await supervisor.stop()
    assert order.read_text().split() == ["third", "second", "first"]
    assert json.loads((tmp_path / "processes.json").read_text())["processes"] == {}


async def test_a_process_that_does_not_listen_is_killed_when_its_time_is_over(
    supervisor: Supervisor, toy: Toy, tmp_path: Path
) -> None:
    file = tmp_path / "deaf"
    spec = toy("one", _DEAF, str(file), probe=file.exists, stop_seconds=0.2)
    await supervisor.start(spec, ready_seconds=60)
    pid = _entry(tmp_path, "one")["pid"]
    await supervisor.stop()
    assert _gone(pid)


async def test_a_stop_during_a_wait_to_start_again_starts_nothing(tmp_path: Path, toy: Toy) -> None:
    told = asyncio.Event()
    supervisor = Supervisor(tmp_path / "processes.json", say=lambda _: told.set(), back_off=BackOff(first=600))
    async with supervisor.running():
        await supervisor.start(toy("one", _SLEEP), ready_seconds=60)
        pid = _entry(tmp_path, "one")["pid"]
        os.kill(pid, signal.SIGKILL)
        await told.wait()
    assert _gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tell children of their parent's death")
async def test_a_child_ends_with_its_parent_when_that_is_killed(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from deploy.local.child import Child, ProcessSpec
child = Child(ProcessSpec(name="one", argv=["sleep", "600"], log=Path(sys.argv[1])))
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    # Until it has become its program, it would find its parent gone by itself.
    await eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    parent.kill()
    await parent.wait()
    await eventually(lambda: _gone(pid))


def test_a_child_whose_program_is_missing_says_so_in_its_log(tmp_path: Path) -> None:
    child = Child(ProcessSpec(name="one", argv=["/no/such/program"], log=tmp_path / "log", probe=lambda: False))
    child.start()
    with pytest.raises(ChildFailedError, match="No such file or directory"):
        child.wait_ready(60)


@pytest.mark.parametrize(
    ("previous", "lived", "expected"),
    [(None, 0, 0.2), (0.2, 1, 0.4), (3.2, 1, 5.0), (5.0, 29.9, 5.0), (5.0, 30, 0.2)],
)
def test_the_wait_doubles_up_to_a_limit_until_a_process_lived_long(
    previous: float | None, lived: float, expected: float
) -> None:
    assert BackOff().next(previous, lived) == expected
