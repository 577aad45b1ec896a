"""A command and its answer survive the way through the broker; what is no command is told from one."""

from datetime import UTC, datetime

import orjson
import pytest

from shared.command_message import PUBLIC_COMMANDS, CommandMessage, Reply
from shared.domain import commands as cmd
from shared.domain.commands import ActivateOrchestration, AnyCommand
from shared.domain.events import Schedule
from tests.support.orchestrations import (
    CANCEL,
    DELETE,
    DRAIN,
    ORCHESTRATION,
    PAUSE,
    RESUME,
    TEAM,
    add,
    change,
    change_task,
    create,
    delete_agent,
    finish,
    follow_up,
    make_task,
    restart,
    retry,
    skip,
    stop,
)


def message(command: AnyCommand, *, reply_to: str | None = "_INBOX.1") -> CommandMessage:
    return CommandMessage("command-1", "correlation-1", "ann", TEAM, ORCHESTRATION, command, reply_to)


FULL = create(
    make_task("a", metadata={"nothing": None, "deep": [{"x": None}]}, model="o3"),
    make_task("b", depends_on=("a",), priority="high"),
    activate=True,
    name="Köln – 修正",
    tags=("x", "y"),
    metadata={"ticket": None},
    start_at=datetime(2026, 11, 2, 6, 30, tzinfo=UTC),
    schedule=Schedule(cron="0 30 6 * * *"),
    max_cost=1.5,
)


EVERY: list[cmd.UserCommand] = [
    FULL,
    create("a"),
    ActivateOrchestration(),
    change(name=None, max_cost=None, tags=["x"], metadata={"ticket": None}, schedule={"cron": "x", "timezone": None}),
    PAUSE,
    DRAIN,
    RESUME,
    CANCEL,
    DELETE,
    add("b", depends_on=("a",), metadata={"ticket": None}),
    add("b", order_index=3, at_end=False),
    change_task("a", model=None, depends_on=None, metadata={"deep": [None, {"x": None}]}),
    retry("a"),
    restart("a"),
    skip("a"),
    stop("a"),
    follow_up("a", prompt="Jetzt noch die Tests – bitte."),
    delete_agent("a"),
]


def test_every_command_of_users_is_among_those_that_are_sent_here() -> None:
    assert {type(command) for command in EVERY} == set(PUBLIC_COMMANDS.values())


@pytest.mark.parametrize("command", EVERY, ids=lambda command: command.type)
@pytest.mark.parametrize("reply_to", ["_INBOX.1", None])
def test_a_command_arrives_as_it_was_sent(command: AnyCommand, reply_to: str | None) -> None:
    sent = message(command, reply_to=reply_to)
    assert CommandMessage.decode(sent.encode()) == sent


@pytest.mark.parametrize("type_", PUBLIC_COMMANDS)
def test_a_command_goes_by_its_name(type_: str) -> None:
    assert PUBLIC_COMMANDS[type_].type == type_


def test_what_only_the_services_may_say_of_themselves_is_not_taken_from_users() -> None:
    with pytest.raises(ValueError, match=r"agent\.observe"):
        CommandMessage.decode(message(finish("a")).encode())


def test_a_field_that_is_to_be_cleared_is_told_from_one_that_is_to_stay() -> None:
    raw = orjson.loads(message(change(name=None, metadata={"ticket": None})).encode())
    assert raw["data"]["changes"] == {"name": None, "metadata": {"ticket": None}}


def test_a_command_without_its_choices_means_the_usual_ones() -> None:
    """As an older release, or somebody by hand, may send it."""
    commands: list[cmd.UserCommand] = [PAUSE, add("b")]
    for command in commands:
        raw = orjson.loads(message(command).encode())
        for choice in ("mode", "at_end"):
            raw["data"].pop(choice, None)
        assert CommandMessage.decode(orjson.dumps(raw)).command == command


@pytest.mark.parametrize(
    ("command", "field", "value"),
    [
        (PAUSE, "mode", "sideways"),
        (follow_up("a"), "prompt", ""),
        (change(), "changes", None),
        (retry("a"), "task_id", 1),
    ],
)
def test_a_command_that_says_what_cannot_be_is_a_value_error(command: AnyCommand, field: str, value: object) -> None:
    raw = orjson.loads(message(command).encode())
    raw["data"][field] = value
    with pytest.raises(ValueError, match=field):
        CommandMessage.decode(orjson.dumps(raw))


def test_fields_of_a_newer_release_are_ignored() -> None:
    raw = orjson.loads(message(create("a")).encode())
    raw["priority"] = 9
    raw["data"]["colour"] = "red"
    assert CommandMessage.decode(orjson.dumps(raw)) == message(create("a"))


def test_a_message_of_an_older_release_needs_no_reply() -> None:
    raw = orjson.loads(message(create("a")).encode())
    del raw["reply_to"]
    assert CommandMessage.decode(orjson.dumps(raw)).reply_to is None


@pytest.mark.parametrize("body", [b"", b"x", b"null", b"[]", b"1", b"{}", b'"text"', b"\xff\xfe"])
def test_what_is_no_command_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        CommandMessage.decode(body)


@pytest.mark.parametrize("field", ["command_id", "correlation_id", "actor", "team", "orchestration_id", "type", "data"])
def test_a_command_without_one_of_its_fields_is_a_value_error(field: str) -> None:
    raw = orjson.loads(message(create("a")).encode())
    del raw[field]
    with pytest.raises(ValueError, match=field):
        CommandMessage.decode(orjson.dumps(raw))


@pytest.mark.parametrize(
    ("field", "value"), [("type", "orchestration.imagined"), ("type", None), ("data", {}), ("data", None)]
)
def test_a_command_with_a_field_that_makes_no_sense_is_a_value_error(field: str, value: object) -> None:
    raw = orjson.loads(message(create("a")).encode()) | {field: value}
    with pytest.raises(ValueError, match=r"."):
        CommandMessage.decode(orjson.dumps(raw))


@pytest.mark.parametrize(
    "reply",
    [
        Reply(sequence=7, status="ACTIVE"),
        Reply(sequence=7, status="ACTIVE", changed=False),
        Reply(error_code="ALREADY_COMPLETED", error_message="it is over – ✓", error_metadata={"at": [1, None]}),
        Reply(),
    ],
)
def test_an_answer_arrives_as_it_was_sent(reply: Reply) -> None:
    assert Reply.decode(reply.encode()) == reply
