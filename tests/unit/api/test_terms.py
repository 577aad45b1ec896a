"""What an orchestration is found by."""

from dataclasses import replace
from typing import Any

import pytest

from services.api.terms import Phrase, changed_terms, read_search, searchable, terms_of, words_in
from shared.domain.events import OrchestrationStatus
from shared.domain.evolve import evolve
from shared.domain.state import Orchestration
from tests.support.orchestrations import T0, created, make_task


def made(*titles: str, **spec: Any) -> Orchestration:
    tasks = [make_task(f"t{place}", title=title) for place, title in enumerate(titles)]
    state: Orchestration | None = evolve(None, created(*tasks, **spec), T0)
    assert state is not None
    return state


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Fix the build", ["fix", "the", "build"]),
        ("no-op, a_b; v2.1/x", ["no", "op", "a", "b", "v2", "1", "x"]),
        ("Straße ÉTÉ Данные 日本", ["strasse", "été", "данные", "日本"]),
        ("ﬁx\0it", ["fix", "it"]),
        ("“quoted” — … !", ["quoted"]),
        ("", []),
    ],
)
def test_words_are_letters_and_digits_of_any_script_without_case(text: str, words: list[str]) -> None:
    assert words_in(text) == words


def test_name_description_and_titles_are_searched_each_by_itself() -> None:
    state = made("First task", "Second", name="The name", description="What it is")
    assert searchable(state) == " the name \n what it is \n first task \n second "


def test_terms_name_every_property() -> None:
    state = made("Go", name="Go on", tags=("Hot fix",))
    assert terms_of(state) == {
        "s:PENDING",
        "r:https://github.com/acme/shop",
        "c:ann",
        "t:Hot fix",
        "w:go",
        "w:on",
    }


def test_a_word_without_end_fits_an_index() -> None:
    assert max(len(term) for term in terms_of(made("x" * 200)) if term.startswith("w:")) == 66


def test_only_what_changes_is_written() -> None:
    state = made("One", name="Old name")
    active = replace(state, status=OrchestrationStatus.ACTIVE)
    renamed = replace(active, spec=active.spec.model_copy(update={"name": "New name"}))
    more = replace(renamed, tasks={**renamed.tasks, **made("One", "Two").tasks})
    assert changed_terms(None, state) == (terms_of(state), frozenset())
    assert changed_terms(state, state) == (frozenset(), frozenset())
    assert changed_terms(state, active) == (frozenset({"s:ACTIVE"}), frozenset({"s:PENDING"}))
    assert changed_terms(active, renamed) == (frozenset({"w:new"}), frozenset({"w:old"}))
    assert changed_terms(renamed, more) == (frozenset({"w:two"}), frozenset())
    assert changed_terms(more, replace(more, deleted=True)) == (frozenset(), terms_of(more))


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("Fix build", [Phrase(("fix",)), Phrase(("build",), begins=True)]),
        ("fix-up", [Phrase(("fix", "up"), begins=True)]),
        ('"Fix build"', [Phrase(("fix", "build"))]),
        ('"fix build', [Phrase(("fix", "build"))]),
        ('a -b -"c d"', [Phrase(("a",)), Phrase(("b",), negated=True), Phrase(("c", "d"), negated=True)]),
        ("- -- ! ' \" \0", []),
        ("a & | ! <-> :* \\ b", [Phrase(("a",)), Phrase(("b",), begins=True)]),
    ],
)
def test_a_search_is_words_phrases_and_what_must_not_be_there(text: str, phrases: list[Phrase]) -> None:
    assert list(read_search(text)) == phrases
