"""Rules for single values of a request; each gives the value as it is stored or raises ValueError with a sentence."""

import re
from datetime import UTC, datetime
from typing import Final

from shared.receiver_address import BlockedError, check_address

_GITHUB: Final = re.compile(r"(?i:https://github\.com/)")
# A user managed by an enterprise has an underscore and the enterprise's short code behind the name.
_OWNER: Final = re.compile(r"(?=.{1,39}\Z)[A-Za-z0-9](?:-?[A-Za-z0-9])*(?:_[A-Za-z0-9]+)?")
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_REF_LENGTH: Final = 255
_REF_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_URL_LENGTH: Final = 2048
_URL_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f\\]")
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


def repository(text: str) -> str:
    """`owner/repo` or its https address, as `https://github.com/owner/repo`."""
    prefix = _GITHUB.match(text)
    path = text[prefix.end() :] if prefix else text
    owner, slash, name = path.partition("/")
    name = name.removesuffix(".git")
    if not slash or "/" in name or ":" in path:
        raise ValueError("must be owner/repo or https://github.com/owner/repo")
    if not _OWNER.fullmatch(owner):
        raise ValueError("the owner must be 1 to 39 letters and digits with single dashes between them")
    if not _REPOSITORY.fullmatch(name) or name in (".", "..") or name.endswith(".git"):
        raise ValueError("the repository's name must be 1 to 100 letters, digits, dots, dashes and underscores")
    return f"https://github.com/{owner}/{name}"


def git_ref(text: str) -> str:
    """A name that git takes for a branch or tag, by the rules of `git check-ref-format --branch`."""
    if not text or len(text.encode()) > _REF_LENGTH:
        raise ValueError(f"must have 1 to {_REF_LENGTH} bytes")
    parts = text.split("/")
    malformed = (
        _REF_FORBIDDEN.search(text)
        or text == "@"
        or text.startswith(("-", "/"))
        or text.endswith(("/", "."))
        or any(part.startswith(".") or part.endswith(".lock") for part in parts)
    )
    if malformed:
        raise ValueError("is not a valid name of a git ref")
    return text


def webhook_url(text: str, *, allow_private: bool) -> str:
    """An address to notify: https, and none that nothing would be sent to, unless the operator allows it.

    Where its name leads to is looked at with every delivery.
    """
    if len(text) > _URL_LENGTH:
        raise ValueError(f"must have at most {_URL_LENGTH} characters")
    if _URL_FORBIDDEN.search(text):
        raise ValueError("must not contain blanks, control characters or backslashes")
    try:
        check_address(text, allow_private=allow_private)
    except BlockedError as exc:
        raise ValueError(f"is no address that can be notified: {exc}") from None
    return text


def moment(text: str) -> datetime:
    """An ISO 8601 time with a time zone, in UTC."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a time in ISO 8601, such as 2030-01-31T09:00:00Z") from None
    if value.tzinfo is None:
        raise ValueError("must have a time zone, such as Z or +02:00")
    if not _EARLIEST <= value <= _LATEST:
        raise ValueError(f"must lie between {_EARLIEST:%Y} and {_LATEST:%Y}")
    return value.astimezone(UTC)
