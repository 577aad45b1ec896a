"""What can be used as the address of an HTTP API, and as the token that opens it."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit


def is_api_address(value: str) -> bool:
    """`http(s)://host[:port]`, perhaps with a path, without credentials and query."""
    try:
        parts = urlsplit(value)
        is_host = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False
    # What the parser drops, and what a path cannot be put behind.
    is_plain = value.isprintable() and not any(character in value for character in " ?#")
    return parts.scheme in ("http", "https") and is_host and is_plain


def is_token(value: str) -> bool:
    """What fits into a header, and into the user's place of Basic authentication, which a colon ends."""
    return re.fullmatch(r"[!-9;-~]+", value) is not None


def is_loopback(base_url: str) -> bool:
    """A proxy of the environment is for the world outside, not for a server on this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
