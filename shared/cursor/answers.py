"""Reading the provider's answers, which are not trusted: every field is checked before it is used.

What tells which agent it is and how it stands must be right, else `ProviderError` `bad_response`. What only
adorns (a summary, a link) is dropped when it is not what it should be: no agent must be lost for a bad link.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

from shared.cursor.errors import ProviderError
from shared.domain.events import AgentStatus

JsonObject = dict[str, object]

BAD_RESPONSE = "bad_response"

SUMMARY_LIMIT = 20_000
MESSAGE_LIMIT = 100_000
NAME_LIMIT = 255  # git refuses longer branch names on the usual file systems
URL_LIMIT = 2_048

# No slash and no leading dot, so that an id can never change the path that it is put into.
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_ESCAPED_NUL_OR_SURROGATE = re.compile(r"\\u(?:0000|d[89a-f])", re.IGNORECASE)
_STATUS = {
    "CREATING": AgentStatus.CREATING,
    "RUNNING": AgentStatus.RUNNING,
    "FINISHED": AgentStatus.FINISHED,
    "ERROR": AgentStatus.FAILED,
    "EXPIRED": AgentStatus.EXPIRED,
    "CANCELLED": AgentStatus.STOPPED,
    "STOPPED": AgentStatus.STOPPED,
}
END_WORDS = frozenset(word for word, meant in _STATUS.items() if meant.is_terminal)
"""The provider's words for a run that is over."""


def bad_response(what: str, *, status: int | None = None) -> ProviderError:
    """An answer that cannot be understood. Retryable: a broken answer says nothing about the next one."""
    return ProviderError(BAD_RESPONSE, what, status=status, retryable=True)


@contextmanager
def outcome_open() -> Iterator[None]:
    """For what comes after a create took effect: whatever fails in here, the agent exists or may exist."""
    try:
        yield
    except ProviderError as error:
        error.outcome_known = False
        raise


def parse(raw: bytes) -> object:
    """The JSON value in `raw`, its strings free of NUL and lone surrogates (Postgres and UTF-8 take neither).

    Raises:
        ValueError: not UTF-8, not JSON, or nested too deeply.
    """
    document = raw.decode("utf-8-sig")
    try:
        value: object = json.loads(document, parse_constant=_no_constant)
        return _cleaned(value) if _ESCAPED_NUL_OR_SURROGATE.search(document) else value
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def parse_object(raw: bytes) -> JsonObject:
    """The JSON object in `raw`; anything else raises `bad_response`."""
    try:
        value = parse(raw)
    except ValueError as exc:
        raise bad_response("the answer is not JSON") from exc
    if not isinstance(value, dict):
        raise bad_response("the answer is not a JSON object")
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _cleaned(value: object) -> object:
    match value:
        case str():
            return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
        case list():
            return [_cleaned(item) for item in value]
        case dict():
            return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return value


def child(of: Mapping[str, object], key: str) -> JsonObject:
    value = of.get(key)
    if not isinstance(value, dict):
        raise bad_response(f"{key} is missing or not an object")
    return value


def optional_child(of: Mapping[str, object], key: str) -> JsonObject:
    """Empty where there is none, or something else."""
    value = of.get(key)
    return value if isinstance(value, dict) else {}


def children(of: Mapping[str, object], key: str) -> list[JsonObject]:
    value = of.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise bad_response(f"{key} is missing or not a list of objects")
    return value


def required_text(of: Mapping[str, object], key: str, limit: int = NAME_LIMIT) -> str:
    value = optional_text(of, key, limit)
    if value is None:
        raise bad_response(f"{key} is missing or not a text")
    return value


def identifier(of: Mapping[str, object], key: str) -> str:
    """An id of the provider: opaque, but fit to be part of a path."""
    value = of.get(key)
    if not isinstance(value, str) or not has_identifier(of, key):
        raise bad_response(f"{key} is missing or not an id")
    return value


def has_identifier(of: Mapping[str, object], key: str) -> bool:
    """For lists that hold what others made, too: what we made has a proper one."""
    value = of.get(key)
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def status(of: Mapping[str, object]) -> tuple[AgentStatus, str]:
    """The state in our words, and the provider's own word."""
    word = required_text(of, "status", 64)
    return _STATUS.get(word, AgentStatus.UNKNOWN), word


def count(of: Mapping[str, object], key: str) -> int:
    value = optional_count(of, key)
    if value is None:
        raise bad_response(f"{key} is missing or not a count")
    return value


def optional_count(of: Mapping[str, object], key: str) -> int | None:
    value = of.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        return None
    return value


def optional_amount(of: Mapping[str, object], key: str) -> float | None:
    """A finite number, not negative."""
    value = of.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    return float(value) if math.isfinite(value) else None


def optional_text(of: Mapping[str, object], key: str, limit: int = NAME_LIMIT) -> str | None:
    """A text that is not blank, cut to `limit` characters."""
    value = of.get(key)
    if not isinstance(value, str) or not value.strip():
        return None
    return value if len(value) <= limit else value[: limit - 1] + "…"


def next_cursor(page: Mapping[str, object]) -> str | None:
    """What gets the page behind this one, None behind the last. Nothing else may pass for the end of a list: that an
    agent is not in it says that there is none."""
    value = page.get("nextCursor")
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > URL_LIMIT:
        raise bad_response("nextCursor is not what gets a page")
    return value


def optional_name(of: Mapping[str, object], key: str) -> str | None:
    """A name such as a branch: one line, whole or not at all, since half a name is another name."""
    value = of.get(key)
    if not isinstance(value, str) or not value.strip() or len(value) > NAME_LIMIT or not value.isprintable():
        return None
    return value


def optional_url(of: Mapping[str, object], key: str, *, trusted: str | None = None) -> str | None:
    """A link that may be shown to people: https, with a host, without credentials, of a sane length.

    Args:
        trusted: an origin that needs no https.
    """
    value = of.get(key)
    if not isinstance(value, str) or len(value) > URL_LIMIT or not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
        is_safe = parts.scheme == "https" or f"{parts.scheme}://{parts.netloc}" == trusted
        good = is_safe and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return None
    return value if good else None


def addresses(items: Iterable[Mapping[str, object]], key: str) -> list[str]:
    """The links under `key`, each once; what is none is left out."""
    return list(dict.fromkeys(url for item in items if (url := optional_url(item, key)) is not None))


def optional_time(of: Mapping[str, object], key: str) -> datetime | None:
    """An ISO 8601 time, in UTC."""
    value = of.get(key)
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def same_repository(one: str, other: str) -> bool:
    """Whether two ways of writing a repository's address mean the same one; GitHub ignores case."""
    return _bare(one) == _bare(other)


def _bare(address: str) -> str:
    bare = re.sub(r"^(?:[a-z+]+://)?(?:[^@/]*@)?(?:www\.)?", "", address.strip().lower())
    bare = re.sub(r"^([^/:]+):(?!\d)", r"\1/", bare)  # git@github.com:owner/repo
    return bare.rstrip("/").removesuffix(".git")
