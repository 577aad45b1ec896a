"""nats-server as a child process: one durable node, or a cluster of three on one machine."""

import json
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.local.child import Child, ChildFailedError, ProcessSpec
from deploy.local.ports import LOOPBACK, free_port

READY_SECONDS = 30.0  # it takes 30 ms; a machine that is busy or has to read a large store takes longer
_CLUSTER_READY_SECONDS = 60.0  # three nodes elect a leader among themselves first


def find_binary() -> str:
    """The nats-server of this virtual environment, else the one on the PATH. Raises FileNotFoundError."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("no nats-server in the virtual environment or on the PATH; run `make setup`")
    return found


class NatsServer:
    """One node on the loopback interface, its configuration, log and store all below `folder`.

    The port stays the same over restarts, so that clients find their server again. `sync_interval` is
    "always", which makes an acknowledged message survive a power cut; None leaves the server's default of two
    minutes, which does not, and is there to test that services refuse such a broker.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        sync_interval: str | None = "always",
        name: str = "nats",
        cluster: str = "",
        ready_seconds: float = READY_SECONDS,
        log: Path | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.name = name
        self.port = port or free_port()
        self.monitor_port = free_port()
        self._sync_interval = sync_interval
        self._cluster = cluster
        self._ready_seconds = ready_seconds
        self._log = log or self.folder / "nats.log"
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self.port}"

    @property
    def monitor_url(self) -> str:
        return f"http://{LOOPBACK}:{self.monitor_port}"

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.alive

    def configuration(self) -> str:
        """The text of the server's configuration file."""
        sync = f", sync_interval: {self._sync_interval}" if self._sync_interval else ""
        return "\n".join(
            line
            for line in (
                f"server_name: {json.dumps(self.name)}",
                f'listen: "{LOOPBACK}:{self.port}"',
                f'http: "{LOOPBACK}:{self.monitor_port}"',
                "max_payload: 1MB",
                f"jetstream {{ store_dir: {json.dumps(str(self.folder / 'jetstream'))}{sync} }}",
                self._cluster,
                "",
            )
        )

    def prepare(self) -> ProcessSpec:
        """Writes the configuration file and says how to run the server on it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self.folder / "nats.conf"
        file.write_text(self.configuration())
        return ProcessSpec(
            name=self.name,
            argv=[find_binary(), "--config", str(file)],
            log=self._log,
            probe=self.is_healthy,
            death_signal=signal.SIGTERM,
            port=self.port,
            health_url=f"{self.monitor_url}/healthz",
        )

    def is_healthy(self) -> bool:
        """Whether the server and its JetStream say that they are well."""
        try:
            with urllib.request.urlopen(f"{self.monitor_url}/healthz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def monitor(self, path: str) -> Any:
        """What the monitoring port answers to `path`, such as "/jsz?config=true"."""
        with urllib.request.urlopen(f"{self.monitor_url}{path}", timeout=5) as answer:
            return json.load(answer)

    def launch(self) -> None:
        """Starts the server without waiting for it."""
        self._child = Child(self.prepare())
        self._child.start()

    def wait_ready(self) -> None:
        """Blocks until it is healthy. Raises ChildFailedError with the end of the log."""
        if self._child is None:
            raise ChildFailedError(f"{self.name} was not started")
        self._child.wait_ready(self._ready_seconds)

    def start(self) -> None:
        """Starts the server and blocks until it is healthy."""
        self.launch()
        try:
            self.wait_ready()
        except ChildFailedError:
            self.kill()
            raise

    def stop(self) -> None:
        """Lets it end in order; what it stored stays."""
        if self._child:
            self._child.signal(signal.SIGCONT)
            self._child.stop()

    def kill(self) -> None:
        """Ends it as a crash would; what it acknowledged stays."""
        if self._child:
            self._child.kill()

    def pause(self) -> None:
        """Freezes it: connections stay open and nothing is answered, as on a hung machine."""
        if self._child:
            self._child.freeze()

    def resume(self) -> None:
        """Lets a frozen server go on."""
        if self._child:
            self._child.signal(signal.SIGCONT)


class NatsCluster:
    """Several nodes on one machine, each with a folder below `folder`; a stream may have as many replicas."""

    def __init__(self, folder: Path, *, size: int = 3, sync_interval: str | None = "always") -> None:
        route_ports = [free_port() for _ in range(size)]
        routes = ", ".join(f'"nats-route://{LOOPBACK}:{port}"' for port in route_ports)
        self.nodes = [
            NatsServer(
                folder / f"node-{index}",
                name=f"node-{index}",
                sync_interval=sync_interval,
                cluster=f'cluster {{ name: local, listen: "{LOOPBACK}:{port}", routes: [{routes}] }}',
                ready_seconds=_CLUSTER_READY_SECONDS,
            )
            for index, port in enumerate(route_ports)
        ]

    @property
    def urls(self) -> list[str]:
        """The addresses of all nodes, for a client that is to survive the loss of one."""
        return [node.url for node in self.nodes]

    def start(self) -> None:
        """Starts every node and blocks until all are healthy together."""
        try:
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.wait_ready()
        except ChildFailedError:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops every node that runs."""
        for node in self.nodes:
            node.stop()

    def leader_of(self, stream: str) -> NatsServer:
        """The live node that leads `stream`. Raises LookupError while there is none."""
        for node in self.nodes:
            if node.alive and (name := _leader_seen_by(node, stream)):
                return _named(self.nodes, name)
        raise LookupError(f"no node knows a leader of {stream}")


def _leader_seen_by(node: NatsServer, stream: str) -> str | None:
    try:
        accounts: Sequence[dict[str, Any]] = node.monitor("/jsz?streams=true").get("account_details") or []
    except (OSError, urllib.error.URLError):
        return None
    for account in accounts:
        for detail in account.get("stream_detail") or []:
            if detail["name"] == stream:
                leader: str | None = (detail.get("cluster") or {}).get("leader")
                return leader
    return None


def _named(nodes: Sequence[NatsServer], name: str) -> NatsServer:
    for node in nodes:
        if node.name == name and node.alive:
            return node
    raise LookupError(f"the leader {name} is not running")
