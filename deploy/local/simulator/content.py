"""What an agent says and leaves behind, made up from the seed: the same request gives the same content."""

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from deploy.local.simulator.behaviour import without_markers

_TITLE_LIMIT = 80
_SLUG_LIMIT = 40
# Cents per million tokens: input, output, cache written, cache read.
_PRICES = (300, 1500, 375, 30)
_CHARGED_PER_RAW = 1.2


@dataclass(frozen=True, slots=True)
class Usage:
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(mine + its for mine, its in zip(self.counts(), other.counts(), strict=True)))

    def counts(self) -> tuple[int, int, int, int]:
        return self.input_tokens, self.output_tokens, self.cache_write_tokens, self.cache_read_tokens

    def raw_cents(self) -> float:
        return round(sum(n * price for n, price in zip(self.counts(), _PRICES, strict=True)) / 1e6, 4)

    def charged_cents(self) -> float:
        return round(self.raw_cents() * _CHARGED_PER_RAW, 4)


def number(*parts: object) -> int:
    """A number that looks random and depends on the parts alone."""
    text = "\x00".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def first_line(prompt: str) -> str:
    """The first line that says anything."""
    return prompt.lstrip().partition("\n")[0].rstrip()


def title_of(prompt: str) -> str:
    """The task in a few words: the first line of the prompt without markers and decoration."""
    title = " ".join(without_markers(first_line(prompt)).lstrip("#*- ").split())
    return title[:_TITLE_LIMIT].rstrip() or "Untitled task"


def branch_name(title: str, token: int) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower())[:_SLUG_LIMIT].strip("-")
    return f"cursor/{slug or 'task'}-{token % 0x10000:04x}"


def pull_request_url(repository: str, token: int) -> str:
    """A pull request of the repository; the range is wide so that two agents hardly ever share a number."""
    page = repository.removesuffix("/").removesuffix(".git")
    return f"{page}/pull/{1_000 + number(token, page) % 900_000}"


def without_scheme(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}".removesuffix("/").removesuffix(".git")


def reply(title: str, token: int, *, changed: bool) -> str:
    """The agent's closing words after a run that finished."""
    if not changed:
        return f'Looked into "{title}": nothing had to be changed.'
    files, tests = 2 + token % 7, 2 + token // 7 % 5
    return f'Completed "{title}": {files} files changed, {tests} tests added, all checks pass.'


def usage_of(token: int) -> Usage:
    return Usage(
        input_tokens=4_000 + token % 9_000,
        output_tokens=800 + token // 9_000 % 3_000,
        cache_write_tokens=5_000 + token // 27_000_000 % 8_000,
        cache_read_tokens=15_000 + token // 216_000_000_000 % 30_000,
    )
