"""One child process, described as data: logs to a file, ends when we end, is stopped in time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TETHER = str(Path(__file__).with_name("tether.py"))
_LOG_TAIL_CHARACTERS = 2_000


class ChildFailedError(Exception):
    """A child process ended, or was not ready in time; the message carries the end of its log.

    `exit_code`: None unless it ended by itself.
    """

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Identity:
    """Another user to run a program as, which only root can, and the one right of root's that it keeps."""

    uid: int
    gid: int
    capability: int | None = None


@dataclass(frozen=True)
class ProcessSpec:
    """How to run one program and how to know that it works.

    `env` is the whole environment of the child. `probe` blocks for at most about a second and says whether
    the process does its job now; without one, running is enough. `death_signal` is what the kernel sends when
    our process dies without stopping it. `port` and `health_url` are only told on, to whoever watches the
    process.
    """

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    probe: Callable[[], bool] | None = None
    identity: Identity | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    port: int | None = None
    health_url: str | None = None


class Child:
    """The running side of a ProcessSpec. Start it from the main thread.

    The kernel ties a child to the *thread* that forked it: started from a worker thread, it would die with
    that one.
    """

    def __init__(self, spec: ProcessSpec, *, keep_open: Sequence[int] = ()) -> None:
        """`keep_open`: file descriptors for the child to inherit, such as a lock that is to outlive us."""
        self.spec = spec
        self._keep_open = tuple(keep_open)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs or was never started; minus the signal's number when one ended it."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Starts the program; does not wait for it to be ready."""
        if self.alive:
            raise RuntimeError(f"{self.spec.name} is already running")
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        with self.spec.log.open("ab") as log:
            self._process = subprocess.Popen(
                tethered(self.spec.argv, death_signal=self.spec.death_signal, identity=self.spec.identity),
                env=dict(self.spec.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=self._keep_open,
                # Ctrl-C in the terminal is to reach us alone: we stop the children in order.
                start_new_session=True,
            )

    def wait_ready(self, timeout: float) -> None:
        """Blocks until it is ready. Raises ChildFailedError when it ends or `timeout` seconds pass."""
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            if not self.alive:
                raise ChildFailedError(self.why("ended while starting"), self.exit_code)
            if time.monotonic() > deadline:
                raise ChildFailedError(self.why(f"was not ready after {timeout:g} s"))
            time.sleep(0.01)

    def is_ready(self) -> bool:
        """Whether the process runs and its probe, if it has one, succeeds."""
        return self.alive and (self.spec.probe is None or self.spec.probe())

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; a process that has ended gets none."""
        if self._process is not None:
            self._process.send_signal(number)

    def freeze(self) -> None:
        """Stops it with SIGSTOP, and returns when every thread of it stands still, which takes a moment."""
        self.signal(signal.SIGSTOP)
        while self._process is not None and self._process.poll() is None and not _stands_still(self._process.pid):
            time.sleep(0.001)

    def stop(self) -> None:
        """Asks it to end, waits for as long as its specification allows, then kills it."""
        if self._process is None:
            return
        self.signal(self.spec.stop_signal)
        try:
            self._process.wait(self.spec.stop_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends it at once, as a crash would (SIGKILL), and waits until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def why(self, what: str) -> str:
        """A sentence on what happened, with the exit code if there is one and the end of the log."""
        code = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        return f"{self.spec.name} {what}{code}; the end of {self.spec.log}:\n{_tail(self.spec.log)}"


def tethered(
    argv: Sequence[str], *, death_signal: signal.Signals = signal.SIGKILL, identity: Identity | None = None
) -> list[str]:
    """The command line that runs `argv` so that it ends when this process does, as `identity` if given."""
    options = [str(os.getpid()), str(int(death_signal))]
    if identity is not None:
        options += ["--user", str(identity.uid), str(identity.gid)]
        options += [] if identity.capability is None else [str(identity.capability)]
    return [sys.executable, "-I", "-S", _TETHER, *options, "--", *argv]


def _tail(log: Path) -> str:
    try:
        return log.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:].strip()
    except OSError:
        return "(no log)"


def _stands_still(pid: int) -> bool:
    """Whether all threads are stopped, as Linux tells."""
    try:
        stats = [(thread / "stat").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return all(stat.rsplit(")", 1)[1].split()[0] in "TtZX" for stat in stats)
