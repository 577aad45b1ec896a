"""The whole system on this machine, in the foreground, until it is told to stop."""

import asyncio
import inspect
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from deploy.local import programs
from deploy.local.child import ChildFailedError, ProcessSpec
from deploy.local.data_folder import DataFolder, FolderInUseError
from deploy.local.nats import NatsServer
from deploy.local.ports import LOOPBACK, PortTakenError, claim
from deploy.local.postgres import PostgresServer
from deploy.local.settings import LocalSettings, LocalSettingsError
from deploy.local.signals import StopOnSignal
from deploy.local.supervisor import Supervisor

EXIT_FAILED = 1
EXIT_MISCONFIGURED = 2

_DATABASE = "orchestrator"
_SERVERS_READY_SECONDS = 30.0  # Postgres replays its log first after a crash
_SERVICES_READY_SECONDS = 45.0  # a slow machine compiles every module on the first run
_SET_UP_SECONDS = 60.0

_KEY_FILE = "api-key"

Say = Callable[[str], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Stack:
    """A system that runs. `processes_file` says which processes it consists of, see Supervisor."""

    url: str
    api_key: str = field(repr=False)
    data_dir: Path
    processes_file: Path
    simulator_url: str | None


def to_stderr(sentence: str) -> None:
    """Tells people; stdout is for programs."""
    print(sentence, file=sys.stderr, flush=True)


def announce(stack: Stack) -> None:
    """The one line on stdout, for whoever waits for the system."""
    print(f"ready {stack.url}", flush=True)


async def run_up(
    settings: LocalSettings,
    *,
    on_ready: Callable[[Stack], Awaitable[object] | object] = announce,
    stop: asyncio.Event,
    say: Say = to_stderr,
) -> int:
    """Runs everything until `stop` is set; answers the exit code: 0, 1 for a failed start, 2 for a setting.

    `on_ready`, plain or async, is called once when requests can be served; the system goes on after it. When
    `stop` is set before it has ended, it is cancelled. Its errors pass through, after everything has been
    stopped.
    """
    async with AsyncExitStack() as cleanup:
        try:
            stack = await _until(stop, _start(settings, cleanup, say))
        except (PortTakenError, FolderInUseError) as error:
            say(f"orchestrator: {error}")
            return EXIT_MISCONFIGURED
        except ChildFailedError as error:
            say(f"orchestrator: {error}")
            # It has said which setting; whoever started us is to know as well that trying again is no use.
            return EXIT_MISCONFIGURED if error.exit_code == EXIT_MISCONFIGURED else EXIT_FAILED
        except OSError as error:
            say(f"orchestrator: {error}")
            return EXIT_FAILED
        if stack is not None:
            await _until(stop, _call(on_ready, stack))
            await stop.wait()
        say("stopping")
    return 0


def main() -> int:
    """What `orchestrator up` does: runs until SIGINT, SIGTERM or SIGHUP; answers the exit code.

    A second signal ends it at once; the kernel then ends the children.
    """
    try:
        settings = LocalSettings.from_environment(os.environ)
    except LocalSettingsError as error:
        to_stderr(f"orchestrator: wrong settings in the environment:\n{error}")
        return EXIT_MISCONFIGURED
    return asyncio.run(_until_signal(settings))


async def _until_signal(settings: LocalSettings) -> int:
    stop = asyncio.Event()
    with StopOnSignal(stop):
        return await run_up(settings, stop=stop)


async def _start(settings: LocalSettings, cleanup: AsyncExitStack, say: Say) -> Stack:
    """Brings everything up in order; `cleanup` takes it down again, also when this fails half-way."""
    folder = DataFolder(settings.data_dir)
    folder.prepare()
    lock = await cleanup.enter_async_context(folder.lock(say))
    folder.turn_logs()
    api_port = claim("API_PORT", settings.api_port, settings.api_host)
    simulator_port = claim("SIMULATOR_PORT", settings.simulator_port) if settings.simulates else None
    supervisor = Supervisor(folder.processes_file, say=say, keep_open=[lock])
    await cleanup.enter_async_context(supervisor.running())

    environment = _environment(settings, folder, api_port, simulator_port)
    environment |= await _start_servers(settings, folder, supervisor, say)
    await supervisor.run_once(
        programs.bootstrap(folder, environment),
        programs.migrations(folder, environment),
        timeout=_SET_UP_SECONDS,
    )
    if simulator_port is not None:
        simulator = programs.simulator(folder, environment, simulator_port)
        await supervisor.start(simulator, ready_seconds=_SERVICES_READY_SECONDS)
        say(f"simulated: Cursor's API at {environment['CURSOR_API_URL']} (CURSOR_API_KEY gives the real one)")
    await supervisor.start(
        programs.api(folder, environment, settings.reachable_host, api_port),
        *(programs.worker(name, folder, environment) for name in ("dispatcher", "monitor", "notifier")),
        ready_seconds=_SERVICES_READY_SECONDS,
    )
    say(_where_the_key_is(settings, folder))
    say(f"logs: {folder.logs}")
    return Stack(
        url=f"http://{settings.reachable_host}:{api_port}",
        api_key=environment["ORCHESTRATOR_API_KEY"],
        data_dir=folder.path,
        processes_file=folder.processes_file,
        simulator_url=environment["CURSOR_API_URL"] if settings.simulates else None,
    )


async def _start_servers(
    settings: LocalSettings, folder: DataFolder, supervisor: Supervisor, say: Say
) -> dict[str, str]:
    """Starts the broker and the database that are not given, and answers the settings that point to them."""
    specs: list[ProcessSpec] = []
    found: dict[str, str] = {}
    postgres: PostgresServer | None = None
    if settings.embeds_nats:
        nats = NatsServer(folder.path / "nats", log=folder.log("nats"))
        specs.append(nats.prepare())
        found |= {"NATS_URL": nats.url, "NATS_MONITOR_URL": nats.monitor_url}
        say(f"embedded: nats-server at {nats.url}")
    if settings.embeds_postgres:
        postgres = PostgresServer(folder.path / "postgres", log=folder.log("postgres"))
        specs.append(await asyncio.to_thread(postgres.prepare))
        say(f"embedded: Postgres at {LOOPBACK}:{postgres.port}")
    await supervisor.start(*specs, ready_seconds=_SERVERS_READY_SECONDS)
    if postgres is not None:
        found["DATABASE_URL"] = await asyncio.to_thread(postgres.ensure_database, _DATABASE)
    return found


def _environment(
    settings: LocalSettings, folder: DataFolder, api_port: int, simulator_port: int | None
) -> dict[str, str]:
    """What every process is given: what we were given, and for the rest what fits this machine."""
    given = settings.environment
    defaults = {
        "API_HOST": settings.api_host,
        "APP_URL": f"http://{settings.reachable_host}:{api_port}",
        "CURSOR_API_VERSION": "v1",
        "ENVIRONMENT": "local",
        "LOG_LEVEL": "INFO",
    }
    if simulator_port is not None:
        defaults |= programs.SIMULATOR_PACE
        # A key that no real API would take, so that none can be called by mistake.
        defaults["CURSOR_API_KEY"] = f"simulated-{secrets.token_hex(16)}"
        defaults["CURSOR_API_URL"] = f"http://{LOOPBACK}:{simulator_port}"
    kept = {"ORCHESTRATOR_API_KEY": _KEY_FILE, "WEBHOOK_SECRET": "webhook-secret"}
    made_up = {name: folder.secret(file) for name, file in kept.items() if name not in given}
    # Each service gets a health port of its own; one port for all would clash.
    return {name: value for name, value in {**defaults, **made_up, **given}.items() if name != "HEALTH_PORT"}


def _where_the_key_is(settings: LocalSettings, folder: DataFolder) -> str:
    if "ORCHESTRATOR_API_KEY" in settings.environment:
        return "API key: the one in ORCHESTRATOR_API_KEY"
    return f"API key: in {folder.path / _KEY_FILE}"


async def _call(on_ready: Callable[[Stack], Awaitable[object] | object], stack: Stack) -> None:
    outcome = on_ready(stack)
    if inspect.isawaitable(outcome):
        await outcome


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of `work`, or None when `stop` is set before it ends; then it is cancelled."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


if __name__ == "__main__":
    raise SystemExit(main())
