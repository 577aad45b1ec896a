"""TCP ports on the loopback interface: find a free one, or say that a wanted one is taken."""

import errno
import random
import socket

LOOPBACK = "127.0.0.1"

# Below the range from which Linux and macOS take the local end of outgoing connections (32768 and up). A
# server on a port of that range can lose it while it restarts: a client that keeps reconnecting to the dead
# port may be given that very port as its own, connect to itself, and hold it.
_LOWEST, _HIGHEST = 20_000, 32_000

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
    """A loopback port that nobody listens on; nothing reserves it, so use it soon."""
    for _ in range(200):
        port = _random.randint(_LOWEST, _HIGHEST)
        if is_free(port):
            return port
    raise PortTakenError(f"no free port between {_LOWEST} and {_HIGHEST}")


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
