"""What could not be handled, by team."""

import asyncio

import orjson
from nats.aio.client import Client

from shared.jetstream.dead import DeadLetters
from shared.jetstream.publish import JetStreamPublisher
from shared.jetstream.topology import DEAD, QUEUE, dead_subject, queue_subject
from tests.support.eventually import eventually

OF_OTHERS = 250
"""Parked messages of another team: more than are read at a time."""


async def park(nc: Client, team: str, number: int) -> None:
    headers = {"Dead-Subject": queue_subject("low", f"a-{number}"), "Dead-Reason": "it could not be handled"}
    data = orjson.dumps({"team": team, "number": number})
    # With an id it is parked once, also where the broker's answer is late and the publisher asks again.
    await JetStreamPublisher(nc).publish(
        dead_subject(QUEUE, "consumer"), data, stream=DEAD, msg_id=f"{team}-{number}", headers=headers
    )


async def test_a_team_s_are_found_among_those_of_others_oldest_first_and_no_more_than_asked_for(nc: Client) -> None:
    await asyncio.gather(*(park(nc, "others", number) for number in range(OF_OTHERS)))
    for number in range(3):
        await park(nc, "ours", number)
    letters = DeadLetters(nc, JetStreamPublisher(nc))
    found = [letter async for letter in letters.of("ours", most=1000)]
    assert [(letter.stream, letter.subject) for letter in found] == [
        (QUEUE, queue_subject("low", f"a-{number}")) for number in range(3)
    ]
    assert [letter async for letter in letters.of("ours", most=2)] == found[:2]
    assert len([letter async for letter in letters.of("others", most=1000)]) == OF_OTHERS
    assert not [letter async for letter in letters.of("nobody", most=1000)]


async def test_one_that_is_thrown_away_is_gone_and_twice_is_once(nc: Client) -> None:
    for number in range(2):
        await park(nc, "ours", number)
    letters = DeadLetters(nc, JetStreamPublisher(nc))
    first, second = [letter async for letter in letters.of("ours", most=1000)]
    await letters.drop(first)
    await letters.drop(first)

    async def left() -> bool:
        return [letter async for letter in letters.of("ours", most=1000)] == [second]

    await eventually(left)
