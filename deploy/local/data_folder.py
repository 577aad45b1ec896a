"""The data folder of a local stack: locked by one run at a time, home of the secrets made up once."""

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

_LARGE_LOG_BYTES = 20 * 1024 * 1024
_LEFTOVER_SECONDS = 30.0  # the services may take 25 s to stop, but after kill -9 of their parent they just end


class FolderInUseError(Exception):
    """Another run works on this data folder."""


class DataFolder:
    """Where a local stack keeps everything. Others may pass it, as Postgres must when root runs us."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def prepare(self) -> None:
        """Makes the folder and the one for logs."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.logs.mkdir(exist_ok=True, mode=0o700)

    def turn_logs(self) -> None:
        """Puts logs that have grown large aside, in place of those put aside before; call it before any process."""
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > _LARGE_LOG_BYTES:
                log.replace(log.with_suffix(".log.1"))

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def processes_file(self) -> Path:
        """Which processes run, with their ports: see Supervisor."""
        return self.path / "processes.json"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def secret(self, name: str) -> str:
        """The secret kept in the file `name`, which only its owner can read; made up on the first call."""
        file = self.path / name
        if not file.exists():
            _write_once(file, secrets.token_urlsafe(32))
        return file.read_text().strip()

    @asynccontextmanager
    async def lock(self, say: Callable[[str], None]) -> AsyncIterator[int]:
        """Holds the folder for this run and gives the lock's file descriptor, which the children inherit.

        So the lock outlives a run that was killed for as long as one of its children lives, and no server is
        ever started on files that another still writes. Raises FolderInUseError at once when the other run
        lives, and after a while when its children do not end.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            await self._acquire(descriptor, say)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    async def _acquire(self, descriptor: int, say: Callable[[str], None]) -> None:
        deadline = time.monotonic() + _LEFTOVER_SECONDS
        told = False
        while not _try_lock(descriptor):
            holder = _holder(descriptor)
            if holder is None or _lives(holder):
                raise FolderInUseError(
                    f"{self.path} is in use by another run (process {holder or 'unknown'}): "
                    "stop that one, or set ORCHESTRATOR_DATA_DIR to another folder"
                )
            if time.monotonic() > deadline:
                raise FolderInUseError(
                    f"{self.path}: processes of an earlier run are still there; stop them, "
                    f"{self.processes_file} has their ids"
                )
            if not told:
                say("waiting for the processes of an earlier run to end")
                told = True
            await asyncio.sleep(0.05)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0)
    return int(text) if text.isdigit() else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_once(file: Path, secret: str) -> None:
    """Writes beside and renames, so that a crash leaves no empty secret."""
    building = file.with_name(f"{file.name}.new")
    building.unlink(missing_ok=True)
    with os.fdopen(os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secret + "\n")
    building.rename(file)
