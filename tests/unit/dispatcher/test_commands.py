"""Commands: each is answered, and a delivery that comes again is answered like the first."""

import pytest

from services.dispatcher.commands import Commands
from shared.command_handler import CommandHandler
from shared.command_message import CommandMessage, Reply
from shared.domain import commands as cmd
from shared.jetstream.consumer import Delivery, Poison
from shared.memory import ManualClock, MemoryEventLog, SequentialIds
from tests.support.orchestrations import ORCHESTRATION, T0, TEAM, create


class Inbox:
    """Keeps the answers by where they went."""

    def __init__(self) -> None:
        self.replies: list[tuple[str, Reply]] = []

    async def send(self, reply_to: str, reply: Reply) -> None:
        self.replies.append((reply_to, Reply.decode(reply.encode())))


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def make_commands(log: MemoryEventLog, inbox: Inbox) -> Commands:
    return Commands(CommandHandler(log, ManualClock(T0), SequentialIds("commit")), inbox)


def asked(command: cmd.UserCommand, command_id: str, *, reply_to: str | None = "inbox.1") -> Delivery:
    message = CommandMessage(command_id, "request-1", "ann", TEAM, ORCHESTRATION, command, reply_to)
    return Delivery(subject="cmd", data=message.encode(), headers={}, deliveries=1, sequence=1, published_at=T0)


async def test_a_command_is_answered_with_what_it_led_to(inbox: Inbox) -> None:
    commands = make_commands(MemoryEventLog(), inbox)
    await commands.on_command(asked(create("a"), "command-1"))
    assert inbox.replies == [("inbox.1", Reply(sequence=1, status="PENDING", changed=True))]


async def test_a_command_that_comes_again_after_a_crash_still_says_that_it_changed_something(inbox: Inbox) -> None:
    log = MemoryEventLog()
    await make_commands(log, inbox).on_command(asked(create("a"), "command-1"))
    await make_commands(log, inbox).on_command(asked(create("a"), "command-1"))
    first, second = inbox.replies
    assert first == second
    assert second[1].changed


async def test_what_was_so_already_is_said_to_be(inbox: Inbox) -> None:
    commands = make_commands(MemoryEventLog(), inbox)
    await commands.on_command(asked(create("a", activate=True), "command-1"))
    await commands.on_command(asked(cmd.ActivateOrchestration(), "command-2"))
    assert inbox.replies[-1][1] == Reply(sequence=1, status="ACTIVE", changed=False)


async def test_a_refusal_is_an_answer(inbox: Inbox) -> None:
    commands = make_commands(MemoryEventLog(), inbox)
    await commands.on_command(asked(cmd.ResumeOrchestration(), "command-1"))
    [(_, reply)] = inbox.replies
    assert reply.error_code == "ORCHESTRATION_NOT_FOUND"


async def test_nobody_need_wait_for_the_answer(inbox: Inbox) -> None:
    log = MemoryEventLog()
    await make_commands(log, inbox).on_command(asked(create("a"), "command-1", reply_to=None))
    assert inbox.replies == []
    assert len(await log.read(TEAM, ORCHESTRATION)) == 1


async def test_what_is_no_command_is_parked(inbox: Inbox) -> None:
    delivery = Delivery(subject="cmd", data=b"{}", headers={}, deliveries=1, sequence=1, published_at=T0)
    with pytest.raises(Poison):
        await make_commands(MemoryEventLog(), inbox).on_command(delivery)
