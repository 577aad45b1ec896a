"""How often held tickets are looked at: all of them together no oftener than there is time for."""

from services.dispatcher.holding import HeldTickets
from shared.jetstream.topology import DISPATCHER_QUEUE, DISPATCHER_RECONCILE


class Now:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_what_waits_long_keeps_nothing_else_in_the_broker() -> None:
    assert {spec.max_ack_pending for spec in (*DISPATCHER_QUEUE.values(), DISPATCHER_RECONCILE)} == {20_000}


def test_few_are_looked_at_every_two_seconds() -> None:
    held = HeldTickets(Now())
    assert [held.pause(f"attempt-{number}") for number in range(3)] == [2.0, 2.0, 2.0]


def test_the_more_there_are_the_longer_each_is_left_alone() -> None:
    held = HeldTickets(Now())
    pauses = [held.pause(f"attempt-{number}") for number in range(1200)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 12.0


def test_one_that_comes_again_is_no_further_one() -> None:
    held = HeldTickets(Now())
    assert [held.pause(f"attempt-{number % 1000}") for number in range(5000)][-1] == 10.0


def test_those_that_come_no_more_are_forgotten() -> None:
    now = Now()
    held = HeldTickets(now)
    for number in range(1000):
        held.pause(f"attempt-{number}")
    now.seconds += 21
    held.pause("another")
    assert held.pause("another") == 2.0
