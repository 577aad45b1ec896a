"""What both versions' request bodies have in common."""

import re
from typing import Annotated

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_REPOSITORY = re.compile(r"https://[\w.-]+(:\d+)?/[\w.-]+/[\w.-]+/?")
_PULL_REQUEST = re.compile(r"(https://[\w.-]+/[\w.-]+/[\w.-]+)/pull/\d+/?")
_BAD_IN_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|^[/.-]|[/.]$|\.lock$")


class Strict(BaseModel):
    """A body of which every key must be known and every value of the right type.

    Fields have the API's own names, so that an error names what the caller wrote.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Dimension(Strict):
    width: int = Field(ge=1)
    height: int = Field(ge=1)


def repository_of_pull_request(url: str) -> str | None:
    """The repository's URL, or None if this is no URL of a pull request."""
    match = _PULL_REQUEST.fullmatch(url)
    return match[1] if match else None


def valid_branch(name: str) -> bool:
    return not _BAD_IN_BRANCH.search(name)


def has_user(url: str) -> bool:
    """Whether a valid URL has a user's name or password before its host."""
    return bool(httpx.URL(url).userinfo)


def _repository(url: str) -> str:
    if not _REPOSITORY.fullmatch(url):
        raise ValueError("must be a full repository URL, https://github.com/owner/repo")
    return url


def _pull_request(url: str) -> str:
    if repository_of_pull_request(url) is None:
        raise ValueError("must be the URL of a pull request")
    return url


def _web_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError("must be a URL") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("must be an http or https URL")
    return url


Text = Annotated[str, Field(min_length=1)]
RepositoryUrl = Annotated[str, AfterValidator(_repository)]
PullRequestUrl = Annotated[str, AfterValidator(_pull_request)]
WebUrl = Annotated[str, Field(max_length=2048), AfterValidator(_web_url)]
