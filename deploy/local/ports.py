"""TCP ports on the loopback interface: find a free one, or say that a wanted one is taken."""

import errno
import fcntl
import os
import random
import socket

LOOPBACK = "127.0.0.1"

# Below the range from which Linux and macOS take the local end of outgoing connections (32768 and up). A
# server on a port of that range can lose it while it restarts: a client that keeps reconnecting to the dead
# port may be given that very port as its own, connect to itself, and hold it.
_LOWEST, _HIGHEST = 20_000, 32_000

COUNTER = "ORCHESTRATOR_PORT_COUNTER"
"""Names the environment variable with a file by which processes that start many servers at once, as tests do, keep out
of each other's way: none is given a port that another one has just been given."""
# Hypothesis and test plugins seed the global generator, so that two test processes would draw the same ports.
_random = random.SystemRandom()


class PortTakenError(Exception):
    """Another process listens on the wanted port."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """True when a server could listen on `port` now, by the rules that servers bind by (SO_REUSEADDR)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def free_port() -> int:
    """A loopback port that nobody listens on. Nothing reserves it, so use it soon.

    Those who share a counter are given it again only after all others: time enough to restart on it, too.
    """
    counter = os.environ.get(COUNTER)
    for _ in range(200):
        port = _count(counter) if counter else _random.randint(_LOWEST, _HIGHEST)
        if is_free(port):
            return port
    raise PortTakenError(f"no free port between {_LOWEST} and {_HIGHEST}")


def _count(counter: str) -> int:
    """The port behind the one that was given last, whoever asked."""
    file = os.open(counter, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = os.pread(file, 16, 0)
        last = int(text) if text.isdigit() else _random.randint(_LOWEST, _HIGHEST)
        port = last + 1 if _LOWEST <= last < _HIGHEST else _LOWEST
        os.ftruncate(file, 0)
        os.pwrite(file, str(port).encode(), 0)
    finally:
        os.close(file)
    return port


def claim(setting: str, wanted: int, host: str = LOOPBACK) -> int:
    """The port for `setting`: `wanted`, or a free one when it is 0.

    Raises PortTakenError, naming the setting, when another process listens on it.
    """
    if wanted == 0:
        return free_port()
    if not is_free(wanted, host):
        raise PortTakenError(
            f"{setting}: port {wanted} is in use by another process; "
            f"stop it, or set {setting} to a free port (0 picks one)"
        )
    return wanted
