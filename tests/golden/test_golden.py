"""What was ever written to the log can be read for ever.

`events/` holds the wire form of each type and version of event, in full and, as `.least.json`, with only the fields
that were there from its first day. `histories/` holds whole orchestrations and what they add up to. A file that is
here stays as it is; a new type or version adds its own.
"""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.catalogue import CATALOGUE, UnknownEventError, decode_event
from shared.domain.evolve import evolve
from shared.domain.state import Orchestration
from shared.envelope import Commit, decode, encode
from shared.views import orchestration_view, task_views

FOLDER = Path(__file__).parent
EVENTS = sorted((FOLDER / "events").glob("*.json"))
HISTORIES = sorted((FOLDER / "histories").glob("*.json"))


def read(path: Path) -> dict[str, Any]:
    form: dict[str, Any] = json.loads(path.read_text())
    return form


def commit_of(*events: dict[str, Any]) -> bytes:
    return orjson.dumps(
        {
            "commit_id": "commit-1",
            "command_id": "command-1",
            "correlation_id": "correlation-1",
            "actor": "ann",
            "team": "team-a",
            "aggregate": "orc-1",
            "version": 1,
            "recorded_at": "2026-11-01T12:00:00+00:00",
            "events": events,
        }
    )


def lost(before: Any, now: Any, place: str = "") -> list[str]:
    """Where `now` lacks or changes something of `before`; what it has beyond that is no matter."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [entry for key in before for entry in lost(before[key], now.get(key), f"{place}.{key}")]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [entry for index, (old, new) in pairs for entry in lost(old, new, f"{place}[{index}]")]
    return [] if before == now else [f"{place}: {before!r} has become {now!r}"]


def fold(commits: list[Commit]) -> Orchestration:
    state: Orchestration | None = None
    for commit in commits:
        for recorded in commit.events:
            state = evolve(state, recorded.event, recorded.occurred_at)
    assert state is not None
    return state


@pytest.mark.parametrize(("type_", "version"), sorted(CATALOGUE))
def test_every_field_of_every_type_and_version_of_event_is_kept(type_: str, version: int) -> None:
    """The field of a later day goes into a further file, named after what is new in it."""
    assert (FOLDER / "events" / f"{type_}.v{version}.json").exists(), "put its wire form there"
    forms = [read(path) for path in EVENTS if path.name.startswith(f"{type_}.v{version}.")]
    kept = {name for form in forms for name in form["data"]}
    assert kept >= set(CATALOGUE[type_, version].model_fields), "a field is nowhere in the corpus"


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_an_event_is_read_and_written_again_without_loss(path: Path) -> None:
    form = read(path)
    commit = decode(commit_of(form))
    [recorded] = commit.events
    assert type(recorded.event) is CATALOGUE[form["type"], form["version"]]
    [again] = orjson.loads(encode(commit))["events"]
    assert lost(form, again) == []
    assert decode(encode(commit)) == commit


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_a_field_of_a_newer_release_is_no_hindrance(path: Path) -> None:
    form = read(path)
    newer = {**form["data"], "a_field_to_come": {"x": [1]}}
    assert decode_event(form["type"], form["version"], newer) == decode_event(
        form["type"], form["version"], form["data"]
    )


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_history_adds_up_to_what_it_always_did(path: Path) -> None:
    history = read(path)
    state = fold([decode(orjson.dumps(commit)) for commit in history["commits"]])
    assert lost(history["orchestration"], orchestration_view(state)) == []
    assert lost(history["tasks"], task_views(state)) == []


def test_the_histories_hold_every_type_of_event() -> None:
    seen = {
        (event["type"], event["version"])
        for path in HISTORIES
        for commit in read(path)["commits"]
        for event in commit["events"]
    }
    assert seen == set(CATALOGUE)


@pytest.mark.parametrize(("type_", "version"), [("task.completed", 99), ("task.imagined", 1)])
def test_an_event_of_a_newer_release_is_told_from_a_broken_one(type_: str, version: int) -> None:
    form = {**read(FOLDER / "events" / "task.completed.v1.json"), "type": type_, "version": version}
    with pytest.raises(UnknownEventError, match=type_):
        decode(commit_of(form))


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"null", b"[]", b"1", b"{}", b'"text"', commit_of({"id": "e"}), commit_of(["id"])],  # type: ignore[arg-type]  # on purpose
)
def test_what_is_no_commit_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(body)


def test_an_event_without_a_field_that_it_needs_is_a_value_error() -> None:
    form = read(FOLDER / "events" / "task.completed.v1.json")
    del form["data"]["result"]
    with pytest.raises(ValueError, match="result"):
        decode(commit_of(form))


def test_the_error_of_what_is_no_event_shows_nothing_that_users_wrote() -> None:
    form = read(FOLDER / "events" / "task.added.v1.json")
    form["data"]["task"] |= {"description": ["Our password is 1234."]}
    with pytest.raises(ValueError, match="description") as caught:
        decode(commit_of(form))
    assert "1234" not in str(caught.value)


def test_the_end_of_an_orchestration_has_one_of_two_statuses() -> None:
    form = read(FOLDER / "events" / "orchestration.completed.v1.json")
    form["data"]["status"] = "FAILED"
    with pytest.raises(ValueError, match="status"):
        decode(commit_of(form))
