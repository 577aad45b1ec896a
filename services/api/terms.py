"""What an orchestration can be found by: the words it says, and the terms of the index that lists are read from.

A term names one property, `<kind>:<value>`. Terms only bring candidates: whether a row belongs on a list is always
decided on the row itself, so a term too many does no harm.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from shared.domain.state import Orchestration

_WORD: Final = re.compile(r"[^\W_]+")
_TOKEN: Final = re.compile(r'-?"[^"]*"?|\S+')
_LONGEST: Final = 64
"""Characters of a word that its term holds: an entry of an index has room for no more than 2.7 kB."""


def words_in(text: str) -> list[str]:
    """The words of a text in their order: runs of letters and digits of any script, without regard to case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def searchable(state: Orchestration) -> str:
    """Name, description and task titles as words between single blanks, a line for each: ` fix the build `.

    A phrase is found in it as ` the build `, the beginning of a word as ` bui`, and neither across two lines.
    """
    texts = [state.spec.name, state.spec.description, *(task.spec.title for task in state.tasks.values())]
    lines = (words_in(text) for text in texts if text)
    return "\n".join(f" {' '.join(words)} " for words in lines if words)


def terms_of(state: Orchestration) -> frozenset[str]:
    """Every term that leads to the orchestration; none to one that is deleted."""
    if state.deleted:
        return frozenset()
    return _properties(state) | {word_term(word) for word in searchable(state).split()}


def changed_terms(before: Orchestration | None, after: Orchestration) -> tuple[frozenset[str], frozenset[str]]:
    """The terms that `after` has and `before` had not, and the other way round."""
    if before is None:
        return terms_of(after), frozenset()
    if after.deleted or not _says_the_same(before, after):
        had, has = terms_of(before), terms_of(after)
    else:
        had, has = _properties(before), _properties(after)
    return has - had, had - has


def status_term(status: str) -> str:
    return f"s:{status}"


def repository_term(repository: str) -> str:
    return f"r:{repository}"


def author_term(name: str) -> str:
    return f"c:{name}"


def tag_term(tag: str) -> str:
    return f"t:{tag}"


def word_term(word: str) -> str:
    return f"w:{word[:_LONGEST]}"


def _properties(state: Orchestration) -> frozenset[str]:
    spec = state.spec
    named = (status_term(state.status.value), repository_term(spec.repository), author_term(state.created_by))
    return frozenset((*named, *(tag_term(tag) for tag in spec.tags)))


def _says_the_same(before: Orchestration, after: Orchestration) -> bool:
    """Whether no text can be another; specs are values that are replaced as a whole."""
    if before.spec is not after.spec or len(before.tasks) != len(after.tasks):
        return False
    return all(old.spec is new.spec for old, new in zip(before.tasks.values(), after.tasks.values(), strict=True))


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that follow one another. With `begins`, the last one is only the beginning of a word."""

    words: tuple[str, ...]
    negated: bool = False
    begins: bool = False

    @property
    def pattern(self) -> str:
        """The part of a `searchable` text that has the phrase."""
        return f" {' '.join(self.words)}" + ("" if self.begins else " ")


def read_search(text: str) -> tuple[Phrase, ...]:
    """What somebody looks for: words, "phrases in quotes", -without; all of them must hold.

    The last word, unless it is quoted or negated, also stands for the words that begin with it.
    """
    tokens = _TOKEN.findall(text)
    phrases = []
    for place, token in enumerate(tokens, start=1):
        negated = token.startswith("-")
        begins = place == len(tokens) and not negated and '"' not in token
        if words := tuple(words_in(token)):
            phrases.append(Phrase(words, negated, begins))
    return tuple(phrases)
