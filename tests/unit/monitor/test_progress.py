"""What an agent is at is told once a second at most, short, and without what looks like a secret."""

import asyncio
import dataclasses

import pytest

from services.monitor.progress import Doing, Telling
from shared.cursor.provider import StreamEvent
from shared.domain.events import AgentStatus
from shared.messages import Progress, Watched
from tests.support.eventually import eventually
from tests.unit.dispatcher.world import ORCHESTRATION, START, TEAM
from tests.unit.monitor.follower import monitor

AT = "2026-11-01T12:00:00+00:00"


def said(text: object, kind: str = "assistant") -> StreamEvent:
    return StreamEvent("1", kind, {"text": text})


def used(name: object, args: object = None, status: str = "running") -> StreamEvent:
    return StreamEvent("1", "tool_call", {"callId": "c", "name": name, "status": status, "args": args})


def after(*events: StreamEvent) -> Progress:
    doing = Doing()
    for event in events:
        doing.take(event)
    return doing.progress("a", AT)


def told(*events: StreamEvent) -> tuple[str | None, str | None]:
    progress = after(*events)
    return progress.tool, progress.text


def test_the_last_tool_is_told_with_what_it_is_about_and_the_last_words() -> None:
    assert told(said("I begin."), used("run_terminal_cmd", {"command": "make test"})) == (
        "run_terminal_cmd make test",
        "I begin.",
    )


def test_a_tool_is_over_when_the_agent_says_something_again() -> None:
    assert told(used("read_file", {"path": "a.py"}), said("I have read it.", "thinking")) == (None, "I have read it.")


def test_words_that_come_in_pieces_are_put_together_and_begin_anew_after_something_else() -> None:
    assert told(said("The te"), said("sts pa"), said("ss.")) == (None, "The tests pass.")
    assert told(said("Before."), used("ls"), said("Af"), said("ter.")) == (None, "After.")
    assert told(said("I wonder.", "thinking"), said("I know.")) == (None, "I know.")


def test_what_is_told_is_one_short_line() -> None:
    tool, text = told(said("first\n" + "word " * 500 + "\x1b[31mlast"), used("edit", {"path": "x" * 30 + " y" * 300}))
    assert tool is not None
    assert text is not None
    assert (len(tool), len(text)) == (200, 200)
    assert tool.startswith("edit xxx")
    assert tool.endswith("…")
    assert text.startswith("…")
    assert text.endswith("word [31mlast")
    assert (tool + text).isprintable()


@pytest.mark.parametrize(
    "event",
    [
        StreamEvent("1", "interaction_update", {"type": "text-delta", "text": "again"}),
        StreamEvent(None, "status", {"runId": "r", "status": "RUNNING"}),
        StreamEvent(None, "heartbeat", {}),
        StreamEvent("1", "news", {"text": "of a kind that nobody knows"}),
        StreamEvent("1", "assistant", {}),
        *(said(odd) for odd in ("", None, 7, ["a"])),
        *(used(odd) for odd in ("", None, 7)),
    ],
)
def test_what_is_neither_words_nor_a_tool_changes_nothing(event: StreamEvent) -> None:
    doing = Doing()
    doing.take(said("Words."))
    assert not doing.take(event)
    assert doing.progress("a", AT).text == "Words."


@pytest.mark.parametrize("args", [None, "a text", [1], {}, {"command": 7}, {"content": "much"}])
def test_a_tool_whose_arguments_tell_nothing_is_told_by_its_name(args: object) -> None:
    assert told(used("grep", args))[0] == "grep"


def test_the_end_of_a_tool_s_use_is_no_news() -> None:
    doing = Doing()
    assert doing.take(used("ls", {"path": "."}))
    assert not doing.take(used("ls", {"path": "."}, "completed"))


@pytest.mark.parametrize(
    "secret",
    [
        "export API_KEY=hunter2", 'GITHUB_TOKEN="a b c"', "password: hunter2", "DB_PASSWORD = 'hunter2'",
        '{"client_secret": "hunter2"}', "Authorization: Bearer hunter2", "curl -u x https://user:hunter2@example.com/",
        "ghp_abcdefghijklmnopqrst0123456789", "github_pat_11ABCDEFG0abcdefghij_x", "sk-proj-abcdefghijklmnop",
        "AKIAIOSFODNN7EXAMPLE", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "xoxb-123456789012-abc",
        "-----BEGIN RSA PRIVATE KEY----- hunter2", "0123456789abcdef" * 4,
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_not_told(secret: str) -> None:
    shown = f"{told(used('sh', {'command': secret}))} {told(said(f'I found {secret}'))}"
    assert "***" in shown
    for part in ("hunter2", "a b c", "abcdefgh", "IOSFODNN", "eyJ", "1234567890", "11ABCDEF"):
        assert part not in shown


@pytest.mark.parametrize(
    "words",
    [
        "run the tests of services/api/routes/orchestrations.py::test_that_a_secret_is_hidden",
        "I count the tokens of a prompt; 3 of 4 tasks passed at 12:30.",
        "git commit -m 'Refuse passwords that are too short'", "https://github.com/acme/shop/pull/12?tab=files",
    ],
)  # fmt: skip
def test_ordinary_words_are_told_as_they_are(words: str) -> None:
    assert told(said(words))[1] == words


def test_half_of_a_secret_is_not_told_where_the_words_are_cut() -> None:
    shown = told(said("password=" + "hunter2" * 100))
    assert "hunter2" not in str(shown)


class Told:
    """Takes what is told; `now` is set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.messages: list[tuple[str, Progress]] = []

    def now(self) -> float:
        return self.seconds

    async def tell(self, watched: Watched, progress: Progress) -> None:
        self.messages.append((watched.orchestration_id, progress))

    @property
    def texts(self) -> list[str | None]:
        return [progress.text for _, progress in self.messages]


def watched(attempt_id: str) -> Watched:
    return Watched(TEAM, f"o-{attempt_id}", attempt_id, START.isoformat())


def doing(text: str) -> Doing:
    at = Doing()
    at.take(said(text))
    return at


async def test_one_message_a_second_is_told_of_each_agent_and_that_is_the_newest() -> None:
    async with monitor() as m:
        out = Told()
        telling = Telling(out.tell, m.w.clock, every=1.0, now=out.now)
        for attempt_id in ("a", "b"):
            for number in range(10):
                telling.note(watched(attempt_id), doing(f"{attempt_id}{number}"))
        await telling._tell_due()
        assert out.texts == ["a9", "b9"]
        telling.note(watched("a"), doing("a10"))
        telling.note(watched("a"), doing("a11"))
        out.seconds = 0.9
        await telling._tell_due()
        assert len(out.messages) == 2
        out.seconds = 1.0
        await telling._tell_due()
        assert out.texts[2:] == ["a11"]
        assert out.messages[-1][0] == "o-a"
        assert list(telling._told) == ["a"]  # nothing is kept of those of whom nothing is heard


async def test_what_came_while_nobody_could_be_told_yet_is_told_in_the_end() -> None:
    async with monitor() as m:
        out = Told()
        telling = Telling(out.tell, m.w.clock, every=0.01)
        running = asyncio.create_task(telling.run())
        try:
            for number in range(5):
                telling.note(watched("a"), doing(str(number)))
                await asyncio.sleep(0)
            await eventually(lambda: out.texts[-1:] == ["4"])
        finally:
            running.cancel()


async def test_a_stream_tells_what_its_agent_is_at_until_it_has_ended() -> None:
    async with monitor() as m:
        out = Told()
        m.streams.telling = telling = Telling(out.tell, m.w.clock, every=0.01)

        async def told_so_far() -> None:
            await telling._tell_due()

        m.show(AgentStatus.FINISHED)
        m.provider.streams = [
            [said("I begin."), told_so_far, used("ls", {"path": "."}), StreamEvent("9", "done", {})],
        ]
        m.streams.open(await m.watched(), await m.attempt())
        await eventually(lambda: not m.streams._open)
        await telling._tell_due()
        attempt = await m.attempt()
        assert [(where, dataclasses.astuple(progress)) for where, progress in out.messages] == [
            (ORCHESTRATION, (attempt.attempt_id, None, "I begin.", m.w.clock.now().isoformat()))
        ]


async def test_nothing_that_waits_is_told_once_the_stream_has_told_the_end() -> None:
    async with monitor() as m:
        out = Told()
        m.streams.telling = telling = Telling(out.tell, m.w.clock)
        telling.note(watched("a"), doing("almost there"))
        m.streams.note_over("a")
        await telling._tell_due()
        assert out.messages == []


def test_the_wire_form_is_read_back() -> None:
    progress = after(said("Words."), used("ls"))
    assert Progress.decode(progress.encode()) == progress


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"attempt_id":"a","tool":null,"text":null,"at":"x"}'])
def test_what_is_no_progress_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"Progress|isoformat"):
        Progress.decode(body)
