"""`python -m deploy.local.up` on real servers and toy services: what it gives, refuses and leaves."""

import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.local.ports import COUNTER, free_port
from deploy.local.settings import LocalSettings, LocalSettingsError
from tests.support.eventually import eventually
from tests.support.servers import temporary_folder
from tests.support.toy_system import make_toy_system

Run = subprocess.Popen[str]


@pytest.fixture
def system() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield make_toy_system(folder)


@pytest.fixture
def up(system: Path) -> Iterator[Callable[..., Run]]:
    """Starts `up` in the toy system, with its output readable; what still runs at the end is killed."""
    with ExitStack() as runs:

        def start(**settings: str) -> Run:
            return runs.enter_context(_up(system, settings))

        yield start


@contextmanager
def _up(system: Path, settings: dict[str, str]) -> Iterator[Run]:
    # Any key but none: the toy system has no use for the simulator.
    environment = {
        "PATH": os.environ["PATH"],
        COUNTER: os.environ[COUNTER],
        "CURSOR_API_KEY": "toy",
        "API_PORT": "0",
        **settings,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.local.up"],
        cwd=system,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            yield run
        finally:
            run.kill()


def _ready(run: Run) -> str:
    """Waits for the line that says so and gives the address in it."""
    assert run.stdout is not None
    assert run.stderr is not None
    line = run.stdout.readline()
    assert line.startswith("ready http://127.0.0.1:"), run.stderr.read()
    return line.split()[1]


def _ended(run: Run) -> tuple[int, str, str]:
    out, err = run.communicate(timeout=120)
    return run.returncode, out, err


def _processes(system: Path) -> dict[str, dict[str, Any]]:
    record = json.loads((system / ".data" / "processes.json").read_text())
    processes: dict[str, dict[str, Any]] = record["processes"]
    return processes


def _environment_of(system: Path, name: str) -> dict[str, str]:
    """What the toy service was given; it answers every request with that."""
    with urllib.request.urlopen(_processes(system)[name]["health_url"], timeout=30) as answer:
        environment: dict[str, str] = json.load(answer)
    return environment


def _status_of(url: str) -> int:
    with urllib.request.urlopen(url, timeout=30) as answer:
        status: int = answer.status
    return status


def _lock_is_free(system: Path) -> bool:
    # Every child holds the lock, so that a free one means that all are gone.
    with (system / ".data" / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


async def test_it_says_one_line_when_ready_serves_and_stops_with_exit_code_0(
    up: Callable[..., Run], system: Path
) -> None:
    run = up()
    url = _ready(run)
    assert _status_of(url) == 200
    assert list(_processes(system)) == ["nats", "postgres", "api", "dispatcher", "monitor", "notifier"]

    run.send_signal(signal.SIGTERM)
    code, out, err = _ended(run)
    assert (code, out) == (0, "")
    assert "API key: in " in err
    assert _processes(system) == {}
    await eventually(lambda: _lock_is_free(system))


def test_the_services_are_given_all_they_need(up: Callable[..., Run], system: Path) -> None:
    url = _ready(up(MONTHLY_BUDGET_USD="7"))
    given = _environment_of(system, "dispatcher")
    assert given["APP_URL"] == url
    assert given["MONTHLY_BUDGET_USD"] == "7"
    assert (given["ENVIRONMENT"], given["CURSOR_API_VERSION"]) == ("local", "v1")
    assert given["ORCHESTRATOR_API_KEY"] == (system / ".data" / "api-key").read_text().strip()
    assert len(given["WEBHOOK_SECRET"]) >= 32
    # The pace of the simulator is not for the real API.
    assert "POLL_INTERVAL_SECONDS" not in given
    with psycopg.connect(given["DATABASE_URL"]) as connection:
        assert connection.info.dbname == "orchestrator"
    assert _status_of(f"{given['NATS_MONITOR_URL']}/healthz") == 200


def test_secrets_are_said_nowhere_and_kept_from_others(up: Callable[..., Run], system: Path) -> None:
    run = up()
    _ready(run)
    given = _environment_of(system, "api")
    command_lines = [Path(f"/proc/{process['pid']}/cmdline").read_text() for process in _processes(system).values()]
    run.send_signal(signal.SIGINT)
    _, _, err = _ended(run)
    for secret in (given["ORCHESTRATOR_API_KEY"], given["WEBHOOK_SECRET"], given["DATABASE_URL"]):
        assert secret not in err
        assert not any(secret in line for line in command_lines)
    for name in ("api-key", "webhook-secret"):
        assert stat.S_IMODE((system / ".data" / name).stat().st_mode) == 0o600


async def test_every_process_that_is_killed_is_started_again_on_its_port(up: Callable[..., Run], system: Path) -> None:
    _ready(up())
    before = _processes(system)
    for process in before.values():
        os.kill(process["pid"], signal.SIGKILL)

    def all_again() -> bool:
        now = _processes(system)
        return all(process["restarts"] > 0 for process in now.values())

    await eventually(all_again, timeout=60)
    assert {name: p["port"] for name, p in _processes(system).items()} == {
        name: p["port"] for name, p in before.items()
    }

    def postgres_lets_us_in() -> bool:
        try:
            psycopg.connect(_environment_of(system, "api")["DATABASE_URL"]).close()
        except (psycopg.OperationalError, OSError):
            return False
        return True

    await eventually(postgres_lets_us_in, timeout=60)


async def test_nothing_outlives_kill_9_of_it_and_the_next_one_starts_on_the_same_data(
    up: Callable[..., Run], system: Path
) -> None:
    first = up()
    _ready(first)
    key = (system / ".data" / "api-key").read_text()
    with psycopg.connect(_environment_of(system, "api")["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    first.kill()
    first.wait()

    # At once, while the children of the first may still be about to end.
    second = up()
    _ready(second)
    assert (system / ".data" / "api-key").read_text() == key
    with psycopg.connect(_environment_of(system, "api")["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)

    second.kill()
    await eventually(lambda: _lock_is_free(system))


def test_a_second_one_on_the_same_data_is_refused(up: Callable[..., Run], system: Path) -> None:
    _ready(up())
    code, out, err = _ended(up())
    assert (code, out) == (2, "")
    assert "is in use by another run" in err
    assert "ORCHESTRATOR_DATA_DIR" in err


def test_a_taken_port_is_refused_by_the_name_of_its_setting(up: Callable[..., Run]) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = _ended(up(API_PORT=port))
        assert code == 2
        assert f"API_PORT: port {port} is in use" in err
        code, _, err = _ended(up(SIMULATOR_PORT=port, CURSOR_API_KEY=""))
        assert code == 2
        assert f"SIMULATOR_PORT: port {port} is in use" in err


def test_what_is_given_is_not_embedded(up: Callable[..., Run], system: Path, nats_url: str, database_url: str) -> None:
    _ready(up(NATS_URL=nats_url, DATABASE_URL=database_url))
    assert list(_processes(system)) == ["api", "dispatcher", "monitor", "notifier"]
    given = _environment_of(system, "api")
    assert (given["NATS_URL"], given["DATABASE_URL"]) == (nats_url, database_url)


async def test_a_service_that_cannot_start_ends_it_all_with_the_reason(up: Callable[..., Run], system: Path) -> None:
    (system / "services" / "monitor.py").write_text("raise SystemExit('toy: MONTHLY_BUDGET_USD is wrong')")
    code, out, err = _ended(up())
    assert (code, out) == (1, "")
    assert "MONTHLY_BUDGET_USD is wrong" in err
    await eventually(lambda: _lock_is_free(system))


def test_a_setting_that_a_service_refuses_is_one_of_ours(up: Callable[..., Run], system: Path) -> None:
    (system / "services" / "monitor.py").write_text("raise SystemExit(2)")
    code, out, _ = _ended(up())
    assert (code, out) == (2, "")


async def test_a_stop_during_the_start_ends_it_all(up: Callable[..., Run], system: Path) -> None:
    (system / "shared" / "postgres" / "migrate.py").write_text("import time; time.sleep(600)")
    run = up()
    assert run.stderr is not None
    while "Postgres" not in run.stderr.readline():
        pass
    run.send_signal(signal.SIGTERM)
    code, out, _ = _ended(run)
    assert (code, out) == (0, "")
    await eventually(lambda: _lock_is_free(system))


def test_every_wrong_setting_is_named_in_one_message() -> None:
    wrong = {"API_PORT": "eighty", "SIMULATOR_PORT": "70000", "CURSOR_API_URL": "http://127.0.0.1"}
    with pytest.raises(LocalSettingsError) as refused:
        LocalSettings.from_environment(wrong)
    named = [line.split(":")[0] for line in str(refused.value).splitlines()]
    assert named == ["API_PORT", "SIMULATOR_PORT", "CURSOR_API_KEY"]


def test_an_empty_setting_counts_as_unset() -> None:
    settings = LocalSettings.from_environment({"CURSOR_API_KEY": "", "NATS_URL": "", "API_PORT": ""})
    assert settings.simulates
    assert settings.embeds_nats
    assert settings.api_port == 8080
