"""Single values as people read them."""

from datetime import timedelta

import pytest

from cli import formats


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (-3, "0.0s"), (4.24, "4.2s"), (59.94, "59.9s"), (59.96, "1m 00s"), (65, "1m 05s"), (7380, "2h 03m")],
)
def test_a_duration_is_as_long_as_its_unit_asks_for(seconds: float, text: str) -> None:
    assert formats.duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(("dollars", "text"), [(None, "–"), (0, "$0.00"), (0.01234, "$0.0123"), (12.345, "$12.35")])
def test_cents_are_split_where_that_is_all_there_is(dollars: float | None, text: str) -> None:
    assert formats.cost(dollars) == text


def test_text_of_others_cannot_steer_the_terminal() -> None:
    assert formats.clean("red\x1b[31m\nnext\x9b2J \u202eback") == "red [31m next 2J  back"


@pytest.mark.parametrize(
    ("url", "text"), [(None, "–"), ("https://github.com/a/b/pull/17", "#17"), ("https://x.io/mr", "https://x.io/mr")]
)
def test_a_pull_request_is_its_number(url: str | None, text: str) -> None:
    assert formats.pull_request(url) == text


def test_only_a_plain_web_address_becomes_a_link() -> None:
    assert formats.web_link("https://cursor.com/agents/1") == "https://cursor.com/agents/1"
    assert formats.web_link("javascript:alert(1)") is None
    assert formats.web_link("https://x.io/\x1b]8;;evil") is None
    assert formats.web_link("https://x.io/a b") is None


def test_a_time_that_is_none_is_shown_as_nothing() -> None:
    assert formats.date_and_time("soon") == formats.date_and_time(None) == "–"
