"""Direct reads may be answered by a replica that is behind its leader; what was seen once stays seen."""

from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.jetstream.event_log import JetStreamEventLog
from shared.jetstream.history import HistoryReader, RawMessage
from shared.jetstream.topology import EVENTS
from tests.contracts.commits import TEAM, new_commit

SUBJECT = f"evt.{TEAM}.orc"


class ScriptedReader(HistoryReader):
    """Gives prepared answers in their order."""

    def __init__(self, nc: Client, answers: list[tuple[list[int], dict[str, str]]]) -> None:
        super().__init__(nc, EVENTS)
        self.answers = answers

    async def _ask(self, query: dict[str, int | str], within: float) -> tuple[list[Msg], dict[str, str]]:
        sequences, end = self.answers.pop(0)
        headers = [{"Nats-Sequence": str(sequence), "Nats-Subject": SUBJECT} for sequence in sequences]
        return [Msg(_client=self._nc, data=b"", headers=header) for header in headers], end


def end(last: int, pending: int) -> dict[str, str]:
    return {"Status": "204", "Nats-Last-Sequence": str(last), "Nats-Num-Pending": str(pending)}


NOTHING = {"Status": "404", "Description": "Message Not Found"}


async def test_a_second_page_that_is_missing_is_asked_for_again(nc: Client) -> None:
    reader = ScriptedReader(nc, [([3, 5], end(5, 2)), ([], NOTHING), ([8, 9], end(9, 0))])
    found = await reader.read(SUBJECT, after=0, budget=5)
    assert [message.sequence for message in found] == [3, 5, 8, 9]


async def test_an_answer_that_lost_its_last_message_is_asked_for_again(nc: Client) -> None:
    reader = ScriptedReader(nc, [([3], end(5, 0)), ([3, 5], end(5, 0))])
    found = await reader.read(SUBJECT, after=0, budget=5)
    assert [message.sequence for message in found] == [3, 5]


async def test_a_read_shows_at_least_what_was_appended_before(nc: Client, monkeypatch: Any) -> None:
    log = JetStreamEventLog(nc)
    await log.append(new_commit("orc"), expected=0)
    behind = 2
    real = HistoryReader.read

    async def lagging(
        self: HistoryReader, subject: str, *, after: int, budget: float, limit: int | None = None
    ) -> list[RawMessage]:
        nonlocal behind
        behind -= 1
        return [] if behind >= 0 else await real(self, subject, after=after, budget=budget, limit=limit)

    monkeypatch.setattr(HistoryReader, "read", lagging)
    assert [stored.sequence for stored in await log.read(TEAM, "orc")] == [1]
