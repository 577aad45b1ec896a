"""Where the API is and which key opens it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cli.errors import UsageError

DEFAULT_URL = "http://127.0.0.1:8080"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Access:
    """The API's address, and the key, which is never shown."""

    url: str
    api_key: str = field(repr=False)

    @property
    def is_local(self) -> bool:
        return urlsplit(self.url).hostname in _LOOPBACK


def find_access(url: str | None, environment: Mapping[str, str]) -> Access:
    """The address given, or the one of a system on this machine; the key from the environment or its file.

    Raises UsageError, which never holds the key.
    """
    folder = Path(environment.get("ORCHESTRATOR_DATA_DIR") or ".data")
    return Access(
        _checked_url(url or _running_here(folder) or DEFAULT_URL), _checked_key(_find_key(environment, folder))
    )


def _running_here(folder: Path) -> str | None:
    """The address of the system that runs with this data folder, None if there is none.

    Only one on this machine: the key is not sent wherever a file that came from somewhere says.
    """
    try:
        record = json.loads((folder / "processes.json").read_text())
        os.kill(record["pid"], 0)
        parts = urlsplit(record["processes"]["api"]["health_url"])
        return f"http://{parts.netloc}" if parts.hostname in _LOOPBACK else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _find_key(environment: Mapping[str, str], folder: Path) -> str:
    given = environment.get("ORCHESTRATOR_API_KEY", "").strip()
    if given:
        return given
    file = folder / "api-key"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        raise UsageError(
            f"no API key: ORCHESTRATOR_API_KEY is not set and there is no file {file}, which `orchestrator up` makes; "
            "ORCHESTRATOR_DATA_DIR names another folder"
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"cannot read the API key from {file}: {_reason(exc)}") from None


def _reason(error: OSError | UnicodeDecodeError) -> str:
    # What can't be decoded may still be a key, so it is not quoted.
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not text"


def _checked_key(key: str) -> str:
    if not key or not key.isascii() or not key.isprintable():
        raise UsageError("the API key is empty or holds characters that no key has")
    return key


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits, parts = False, urlsplit("")
    if parts.username or parts.password:
        raise UsageError("the address of the API must not hold credentials; the key comes from ORCHESTRATOR_API_KEY")
    if not fits or parts.query or parts.fragment:
        raise UsageError(f"{url!r} is not an address of the API, such as {DEFAULT_URL}")
    return url.rstrip("/")
