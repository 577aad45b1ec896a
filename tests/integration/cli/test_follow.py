"""Following an orchestration over connections that break, fall silent or refuse: the end is never missed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from cli.access import Access
from cli.client import Client
from cli.errors import RefusedError, UnreachableError
from cli.follow import Pace, follow
from cli.snapshot import Snapshot
from deploy.local.ports import free_port
from tests.integration.cli.fake_api import KEY, FakeApi, error, serving
from tests.support.eventually import eventually
from tests.unit.cli.story import ID, all_completed, deleted, failed

QUICK = Pace(first_wait=0.01, longest_wait=0.02, poll_interval=0.01, polls=3)
STREAM = ("GET", f"/api/orchestrations/{ID}/stream")
READ = ("GET", f"/api/orchestrations/{ID}")


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving(FakeApi(all_completed())) as fake:
        yield fake


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[Client]:
    async with Client(Access(api.url, KEY)) as opened:
        yield opened


async def seen(client: Client) -> list[Snapshot]:
    return await everything(follow(client, ID, QUICK))


async def everything(
    snapshots: AsyncGenerator[Snapshot, None], then: Callable[[Snapshot], None] = lambda _: None
) -> list[Snapshot]:
    """All of them; after each, `then` may change the world. What never ends is ended here."""
    every: list[Snapshot] = []
    async with asyncio.timeout(30):
        async for snapshot in snapshots:
            every.append(snapshot)
            then(snapshot)
    return every


async def test_every_state_of_every_task_is_seen_and_the_last_one_is_the_end(api: FakeApi, client: Client) -> None:
    snapshots = await seen(client)
    assert snapshots[-1].view() == api.story[-1].view
    first_task = list(dict.fromkeys(snapshot.tasks[0]["status"] for snapshot in snapshots))
    assert first_task == ["PENDING", "PROCESSING", "COMPLETED"]
    assert api.requests.count(STREAM) == 1


async def test_what_agents_are_at_is_seen_as_it_comes_and_moves_no_place_to_resume(
    api: FakeApi, client: Client
) -> None:
    api.per_stream = 5
    api.progress = {"type": "agent_progress", "data": {"taskId": "t1", "agentId": "bc-1", "tool": "ls ."}}
    snapshots = await seen(client)
    assert snapshots[-1].view() == api.story[-1].view
    shown = [snapshot for snapshot in snapshots if api.progress in snapshot.messages]
    assert shown
    assert all(snapshot.messages == (api.progress,) for snapshot in shown)
    assert all(snapshot.progress["t1"]["tool"] == "ls ." for snapshot in shown)
    assert set(api.resumed_after[1:]) <= {str(moment.sequence) for moment in api.story}
    told = [message for snapshot in snapshots for message in snapshot.messages if message != api.progress]
    commits = [message for moment in api.story[1:] for message in moment.messages]
    assert [message for message in told if message["type"] != "status"] == commits


async def test_a_stream_that_breaks_off_is_resumed_after_the_last_whole_commit(api: FakeApi, client: Client) -> None:
    api.per_stream = 4
    snapshots = await seen(client)
    assert snapshots[-1].view() == api.story[-1].view
    assert api.resumed_after[0] is None
    sequences = {str(moment.sequence) for moment in api.story}
    assert len(api.resumed_after) > 3
    assert set(api.resumed_after[1:]) <= sequences
    versions = [snapshot.version for snapshot in snapshots]
    assert versions == sorted(versions)


async def test_without_streams_it_is_followed_by_reads(api: FakeApi, client: Client) -> None:
    api.stream_status = 503
    api.play_by_reads = True
    snapshots = await seen(client)
    assert snapshots[-1].view() == api.story[-1].view
    assert api.requests.count(READ) >= len(api.story)


async def test_streams_that_never_say_anything_are_given_up_for_reads(api: FakeApi, client: Client) -> None:
    api.silent_streams = True
    api.play_by_reads = True
    assert (await seen(client))[-1].ended


async def test_the_stream_is_taken_up_again_when_it_works(api: FakeApi, client: Client) -> None:
    api.per_stream = 8

    def stops_and_works_again(snapshot: Snapshot) -> None:
        if snapshot.version >= 3:
            api.stream_status = 503
        if api.requests.count(READ) > 3:
            api.stream_status, api.per_stream = 200, None

    snapshots = await everything(follow(client, ID, QUICK), stops_and_works_again)
    assert snapshots[-1].view() == api.story[-1].view
    assert api.resumed_after[1] is not None
    assert api.resumed_after[-1] is None, "what was read may be newer than what was streamed before"


async def test_an_api_that_is_gone_for_a_while_is_waited_for(api: FakeApi, client: Client) -> None:
    api.per_stream = 5
    notes: list[str] = []

    def goes_and_comes(snapshot: Snapshot) -> None:
        if api.requests.count(STREAM) == 1 and snapshot.version >= 2:
            api.refuse = error(503, "SERVICE_UNAVAILABLE", "starting")
        if snapshot.note:
            notes.append(snapshot.note)
            api.refuse = None
            api.per_stream = None

    snapshots = await everything(follow(client, ID, QUICK), goes_and_comes)
    assert notes == ["the connection is lost, trying again"]
    assert snapshots[-1].view() == api.story[-1].view


async def test_after_a_restart_of_the_api_it_goes_on_behind_the_last_message_without_a_read() -> None:
    fake = FakeApi(all_completed())
    fake.hold.clear()
    told: list[Snapshot] = []
    async with AsyncExitStack() as servers:
        # Of those that no client is given meanwhile: the follower's own tries might be made from it.
        port = free_port()
        await servers.enter_async_context(serving(fake, port=port))
        async with Client(Access(fake.url, KEY)) as client:
            pace = Pace(first_wait=0.01, longest_wait=0.05, stream_tries=1)
            following = asyncio.create_task(everything(follow(client, ID, pace), told.append))
            await eventually(lambda: fake.resumed_after == [None] and len(told) > 1)
            await servers.aclose()
            await eventually(lambda: told[-1].note is not None)
            fake.hold.set()
            async with serving(fake, port=port):
                await following
    assert told[-1].view() == fake.story[-1].view
    assert fake.resumed_after[1] == str(fake.story[0].sequence)
    assert fake.requests.count(READ) == 2, "one before the first stream, and one at the end"


async def test_a_deleted_one_ends_it_as_the_stream_says(api: FakeApi, client: Client) -> None:
    api.story = [*api.story[:4], deleted(api.story[3])]
    end = (await seen(client))[-1]
    assert (end.deleted, end.ended, end.succeeded) == (True, True, False)
    assert api.requests.count(READ) == 1


@pytest.mark.parametrize("by_reads", [False, True])
async def test_one_that_is_found_no_more_was_deleted(api: FakeApi, client: Client, by_reads: bool) -> None:
    api.per_stream, api.stream_status = 3, 503 if by_reads else 200

    def goes(snapshot: Snapshot) -> None:
        if api.requests.count(READ) > by_reads:
            api.refuse = error(404, "ORCHESTRATION_NOT_FOUND", "there is no such orchestration")

    assert (await everything(follow(client, ID, QUICK), goes))[-1].deleted


async def test_the_messages_of_a_commit_are_told_together_and_once(api: FakeApi, client: Client) -> None:
    api.per_stream = 4
    told = [message for snapshot in await seen(client) for message in snapshot.messages]
    assert told == [api.story[0].status_message, *(m for moment in api.story[1:] for m in moment.messages)]


async def test_streams_that_are_always_cut_off_within_a_commit_are_given_up_for_reads(
    api: FakeApi, client: Client
) -> None:
    api.per_stream = 2
    api.play_by_reads = True
    assert (await seen(client))[-1].ended
    assert set(api.resumed_after) <= {None, *(str(moment.sequence) for moment in api.story)}


async def test_only_whole_commits_are_seen(api: FakeApi, client: Client) -> None:
    api.per_stream = 6
    views = [moment.view for moment in api.story]
    assert all(snapshot.view() in views for snapshot in await seen(client))


async def test_the_end_is_the_end_also_while_the_stream_stays_open(api: FakeApi, client: Client) -> None:
    api.stays_open = True
    async with asyncio.timeout(20):  # a stream that falls silent is given up after 25 s
        assert (await seen(client))[-1].view() == api.story[-1].view


async def test_an_api_that_stays_away_is_given_up_in_the_end(api: FakeApi, client: Client) -> None:
    following = follow(client, ID, replace(QUICK, patience=0.3))
    await anext(following)
    api.refuse = error(503, "SERVICE_UNAVAILABLE", "gone")
    with pytest.raises(RefusedError, match="SERVICE_UNAVAILABLE"):
        await everything(following)


async def test_a_key_that_is_revoked_meanwhile_ends_it(api: FakeApi, client: Client) -> None:
    following = follow(client, ID, Pace(first_wait=0.01, patience=30))
    await anext(following)
    api.refuse = error(401, "INVALID_API_KEY", "revoked")
    with pytest.raises(RefusedError, match="INVALID_API_KEY"):
        await everything(following)


async def test_one_that_has_ended_before_needs_no_stream(api: FakeApi, client: Client) -> None:
    api.position = len(api.story) - 1
    assert {snapshot.status for snapshot in await seen(client)} == {"COMPLETED"}
    assert STREAM not in api.requests


async def test_a_failure_is_an_end_too() -> None:
    async with serving(FakeApi(failed())) as api, Client(Access(api.url, KEY)) as client:
        assert (await seen(client))[-1].status == "FAILED"


async def test_an_unknown_orchestration_is_refused_at_once(client: Client) -> None:
    with pytest.raises(RefusedError, match="ORCHESTRATION_NOT_FOUND"):
        await everything(follow(client, "no-such-thing", QUICK))


async def test_an_api_that_is_not_there_is_said_so_at_once() -> None:
    async with Client(Access("http://127.0.0.1:9", KEY)) as client:
        with pytest.raises(UnreachableError, match=r"cannot reach the API at http://127\.0\.0\.1:9"):
            await seen(client)


async def test_nothing_is_asked_while_a_stream_is_quiet(api: FakeApi, client: Client) -> None:
    api.hold.clear()
    following = asyncio.create_task(seen(client))
    await eventually(lambda: STREAM in api.requests)
    before = list(api.requests)
    await asyncio.sleep(0.1)  # the claim is that nothing happens in this time
    assert api.requests == before
    api.hold.set()
    assert (await following)[-1].ended
