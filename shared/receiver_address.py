"""Which addresses of receivers are let through: those of the open internet, by their text and by what they lead to."""

import ipaddress
import re
import socket
from typing import Final

import httpx

_PORTS: Final = (443, 8443)
_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")

# Own tables: what `ipaddress` calls global differs between versions of Python, and takes NAT64, 6to4 and multicast
# for public, behind which the local network may be.
_NOT_PUBLIC_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, benchmarks, ORCHID and other special purposes
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",
    )
)


class BlockedError(Exception):
    """Nothing is sent there; the message says why, without showing the address."""


def is_public(address: str) -> bool:
    """Whether the IP address is one of the open internet; False too for what is no IP address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_V4)
    return ip in _PUBLIC_V6 and not any(ip in network for network in _NOT_PUBLIC_V6)


def check_address(url: str, *, allow_private: bool) -> httpx.URL:
    """Read the address of a receiver. `allow_private`: http, any port and any host are let through.

    Raises:
        BlockedError: by its text alone it is one that nothing is sent to.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as exc:
        raise BlockedError("it is not an address") from exc
    if parsed.userinfo:
        raise BlockedError("addresses with a user name or password are not allowed")
    if not parsed.raw_host:
        raise BlockedError("the address names no host")
    if parsed.scheme != "https" and not (allow_private and parsed.scheme == "http"):
        raise BlockedError("only https addresses are allowed")
    if not allow_private:
        check_port(443 if parsed.port is None else parsed.port)
        _check_host(parsed.raw_host.decode().lower().rstrip("."))
    return parsed


def check_port(port: int) -> None:
    """Raises BlockedError for one that no receiver is to have."""
    if port not in _PORTS:
        raise BlockedError(f"port {port} is not one of {', '.join(map(str, _PORTS))}")


def _check_host(host: str) -> None:
    if _is_literal(host):
        raise BlockedError("addresses must have a name, not a number")
    if not _NAME.fullmatch(host):
        raise BlockedError("the address does not name a host")
    if host == "localhost" or host.endswith(".localhost"):
        raise BlockedError("the name is that of this machine")


def _is_literal(host: str) -> bool:
    """Whether the host is an IP address, in any form that a resolver understands: 127.1 and 0x7f000001, too."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        try:
            socket.inet_aton(host)
        except OSError:
            return False
    return True
