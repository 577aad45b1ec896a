"""How long until an agent is looked at again."""

import heapq
import random
from collections import deque
from datetime import timedelta

import pytest

from services.monitor.pauses import PollPolicy, pause_while_awaited
from services.monitor.settings import MonitorSettings
from shared.domain.events import Findings
from shared.domain.state import AwaitedResult
from tests.support.orchestrations import T0

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("age", "pause"),
    [
        (timedelta(seconds=-5), 10),
        (timedelta(0), 10),
        (timedelta(minutes=5) - timedelta(seconds=1), 10),
        (timedelta(minutes=5), 30),
        (timedelta(minutes=59), 30),
        (HOUR, 60),
        (2 * HOUR, 120),
        (4 * HOUR, 300),
        (timedelta(days=7), 300),
    ],
)
def test_pauses_grow_with_age_up_to_five_minutes(age: timedelta, pause: float) -> None:
    assert PollPolicy().pause(age, 0.0) == pytest.approx(pause)


def test_pauses_are_what_is_set() -> None:
    quick = PollPolicy(base=timedelta(seconds=1))
    assert [quick.pause(age, 0.0) for age in (timedelta(0), 0.5 * HOUR, HOUR, 2 * HOUR, 9 * HOUR)] == [1, 1, 2, 4, 300]
    slow = PollPolicy(base=timedelta(minutes=10))
    assert [slow.pause(age, 0.0) for age in (timedelta(0), 0.5 * HOUR, HOUR, 9 * HOUR)] == [10, 600, 600, 600]


def test_pauses_vary_by_a_fifth_lest_agents_be_polled_together_and_are_never_longer_than_what_is_set() -> None:
    pauses = [PollPolicy().pause(0.5 * HOUR, draw / 100) for draw in range(100)]
    assert 24 < min(pauses) < 24.1
    assert max(pauses) == 30


@pytest.mark.parametrize(("asked", "pause"), [(-5, 2), (0, 2), (4, 2), (20, 10), (60, 30), (6000, 30)])
def test_pauses_in_a_stop_grow_from_two_seconds_to_thirty(asked: float, pause: float) -> None:
    assert PollPolicy().pause_in_stop(timedelta(seconds=asked), 0.0) == pytest.approx(pause)
    quick = PollPolicy(base=timedelta(seconds=1))
    assert quick.pause_in_stop(timedelta(seconds=asked), 0.0) == 1, "no slower than other looks"


def test_an_agent_that_was_missed_is_looked_for_when_the_next_look_counts() -> None:
    policy = PollPolicy(lost_after=timedelta(minutes=5))
    assert [policy.pause_while_missed(pause) for pause in (30.0, 300.0)] == [30.0, 150.0]


def test_pauses_in_the_grace_double_and_the_last_ends_with_it() -> None:
    awaited = AwaitedResult(T0, T0 + timedelta(minutes=1), ("pull_request",), Findings())
    at = [T0 + timedelta(seconds=seconds) for seconds in (0, 2, 4, 8, 16, 32, 59.99, 60, 99)]
    assert [pause_while_awaited(awaited, now) for now in at] == [2, 2, 4, 8, 16, 28, 0.05, 0.05, 0.05]


# The limit of the provider, which all agents share


def test_where_there_are_more_agents_than_the_limit_has_room_for_each_is_looked_at_less_often() -> None:
    policy = PollPolicy(per_minute=75)
    assert [round(policy.pause(timedelta(0), 0.5, agents)) for agents in (0, 1, 12, 25, 200)] == [9, 9, 9, 20, 160]
    assert policy.pause(9 * HOUR, 0.0, 200) == 300, "what is looked at rarely anyway need not be more rarely"
    assert PollPolicy().pause(timedelta(0), 0.0, 10_000) == 10, "no limit is respected where there is none"


@pytest.mark.parametrize("agents", [3, 50, 200, 1000])
def test_all_polls_together_leave_room_in_the_limit_for_everything_else(agents: int) -> None:
    """Two hours of polls of so many agents that began within a minute."""
    settings = MonitorSettings(nats_url="nats://x", cursor_api_key="key")  # type: ignore[arg-type]  # a text will do
    chance = random.Random(7)
    spread_by = 4 * settings.poll_policy.pause(timedelta(0), 0.5, agents)
    due = [chance.uniform(0, 60) for _ in range(agents)]
    heapq.heapify(due)
    last_minute: deque[float] = deque()
    most = 0
    while (now := due[0]) < 7_200:
        while last_minute and last_minute[0] <= now - 60:
            last_minute.popleft()
        last_minute.append(now)
        most = max(most, len(last_minute) if now > spread_by else 0)
        age = timedelta(seconds=now)
        heapq.heapreplace(due, now + settings.poll_policy.pause(age, chance.random(), agents))
    assert most <= settings.get_rate_per_minute
