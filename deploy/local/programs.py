"""Our own programs as processes of the local stack: how each is run, and how to know that it is ready."""

import signal
import sys
import urllib.request
from collections.abc import Callable, Mapping

from deploy.local.child import ProcessSpec
from deploy.local.data_folder import DataFolder
from deploy.local.ports import LOOPBACK, free_port

# A service may take 25 s to finish what is in hand; then it is killed.
SERVICE_STOP_SECONDS = 25.0

# Nobody is to wait in a trial, and the simulator has no limits to respect. 0 is no limit.
SIMULATOR_PACE = {
    "POLL_INTERVAL_SECONDS": "1",
    "RETRY_BACKOFF_SECONDS": "1",
    "CURSOR_BREAKER_SECONDS": "1",
    "CREATE_RATE_PER_MINUTE": "0",
    "GET_RATE_PER_MINUTE": "0",
    "LIST_RATE_PER_MINUTE": "0",
    "ALLOW_PRIVATE_WEBHOOKS": "true",
    # Its creates are answered within a second, so one without an answer is settled soon.
    "CREATE_SETTLE_SECONDS": "5",
    "SLOT_AUDIT_SECONDS": "5",
    "SWEEP_SECONDS": "60",
    # Its v0 shows the old end of a continued agent for a moment only, and what an agent leaves comes soon.
    "FOLLOW_UP_GRACE_SECONDS": "2",
    "RESULT_GRACE_SECONDS": "2",
    "LOST_AFTER_SECONDS": "10",
}


def bootstrap(folder: DataFolder, environment: Mapping[str, str]) -> ProcessSpec:
    """Makes the streams; ends when they are there."""
    return _module("bootstrap", "shared.jetstream.bootstrap", folder, environment)


def migrations(folder: DataFolder, environment: Mapping[str, str]) -> ProcessSpec:
    """Brings the tables to this version; ends when they are there."""
    return _module("migrate", "shared.postgres.migrate", folder, environment)


def simulator(folder: DataFolder, environment: Mapping[str, str], port: int) -> ProcessSpec:
    """Stands in for Cursor's API on `port`; it takes the key that the services are given."""
    settings = {"SIMULATOR_PORT": str(port), "SIMULATOR_API_KEY": environment["CURSOR_API_KEY"]}
    url = f"http://{LOOPBACK}:{port}/_sim/stats"
    return _module("simulator", "deploy.local.simulator", folder, {**environment, **settings}, port, url)


def api(folder: DataFolder, environment: Mapping[str, str], host: str, port: int) -> ProcessSpec:
    """The REST service; its readiness is on its own port."""
    settings = {"API_PORT": str(port)}
    url = f"http://{host}:{port}/health/ready"
    return _module("api", "services.api", folder, {**environment, **settings}, port, url)


def worker(name: str, folder: DataFolder, environment: Mapping[str, str]) -> ProcessSpec:
    """The dispatcher, monitor or notifier, which has no public port; its readiness is on one of its own."""
    port = free_port()
    settings = {"HEALTH_PORT": str(port)}
    url = f"http://{LOOPBACK}:{port}/health/ready"
    return _module(name, f"services.{name}", folder, {**environment, **settings}, port, url)


def answers(url: str) -> Callable[[], bool]:
    """A probe: whether a GET of `url` answers 200 within a second."""

    def probe() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return probe


def _module(
    name: str,
    module: str,
    folder: DataFolder,
    environment: Mapping[str, str],
    port: int | None = None,
    health_url: str | None = None,
) -> ProcessSpec:
    return ProcessSpec(
        name=name,
        argv=[sys.executable, "-m", module],
        log=folder.log(name),
        env=environment,
        probe=answers(health_url) if health_url else None,
        stop_seconds=SERVICE_STOP_SECONDS,
        # Without broker and database, which end at the same time, a graceful stop would only wait in vain;
        # whatever was in hand is safe in the log.
        death_signal=signal.SIGKILL,
        port=port,
        health_url=health_url,
    )
