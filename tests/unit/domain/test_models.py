"""Which model a task gets, and what it costs."""

import pytest

from shared.domain.models import FALLBACK, KNOWN_WITHOUT_PROVIDER, Resolution, UnknownModelError, resolve
from shared.domain.pricing import estimated_cost

KNOWN = (*KNOWN_WITHOUT_PROVIDER, "gemini-9")


@pytest.mark.parametrize("strict", [True, False])
def test_without_a_wish_the_provider_chooses(strict: bool) -> None:
    assert resolve(None, "complex", KNOWN, strict=strict) == Resolution(None)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ("o3", "o3"),
        ("gemini-9", "gemini-9"),
        ("claude-sonnet-4", "claude-4-sonnet-thinking"),
        ("claude-4.5-opus-high-thinking", "claude-4-opus-thinking"),
        ("gpt-4", "o3"),
    ],
)
def test_a_known_name_or_alias_is_taken_without_a_warning(asked: str, model: str, strict: bool) -> None:
    assert resolve(asked, "simple", KNOWN, strict=strict) == Resolution(model)


def test_a_name_that_the_provider_has_come_to_know_is_no_alias_any_more() -> None:
    assert resolve("gpt-4", "simple", (*KNOWN, "gpt-4"), strict=True) == Resolution("gpt-4")


def test_an_unknown_name_falls_back_with_a_warning() -> None:
    found = resolve("gpt-99", "simple", KNOWN, strict=False)
    assert found.model == FALLBACK
    assert found.warning is not None
    assert "gpt-99" in found.warning
    assert FALLBACK in found.warning


def test_an_unknown_name_is_refused_where_the_user_insists() -> None:
    with pytest.raises(UnknownModelError, match=r"gpt-99.*gemini-9"):
        resolve("gpt-99", "simple", KNOWN, strict=True)


@pytest.mark.parametrize("complexity", ["simple", "moderate", "complex"])
def test_by_complexity_takes_the_strongest_only_for_what_is_complex(complexity: str) -> None:
    found = resolve("by-complexity", complexity, KNOWN, strict=True)  # type: ignore[arg-type]  # from a parameter
    assert found == Resolution("claude-4-opus-thinking" if complexity == "complex" else "claude-4-sonnet-thinking")


def test_by_complexity_leaves_the_choice_to_a_provider_that_lacks_the_model() -> None:
    assert resolve("by-complexity", "complex", ("o3",), strict=False) == Resolution(None)


@pytest.mark.parametrize(
    ("model", "minutes", "dollars"),
    [
        ("claude-4-sonnet-thinking", 10, 0.5),
        ("o3", 10, 1.0),
        ("claude-4-opus-thinking", 10, 2.0),
        ("nobody-knows", 10, 0.5),
        (None, 10, 0.5),
        ("o3", 0, 0.0),
        ("o3", 0.5, 0.05),
    ],
)
def test_without_a_report_minutes_and_model_make_the_price(model: str | None, minutes: float, dollars: float) -> None:
    assert estimated_cost(model, round(minutes * 60_000)) == pytest.approx(dollars)


def test_the_table_of_prices_can_be_another() -> None:
    assert estimated_cost("o3", 60_000, {"o3": 7.0}) == pytest.approx(7.0)
