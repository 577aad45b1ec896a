"""Subjects: where messages go, and that nobody's text can send them elsewhere."""

from collections.abc import Callable

import pytest

from shared.jetstream.topology import (
    CONSUMERS,
    TopologySettings,
    command_subject,
    dead_subject,
    delivery_subject,
    event_subject,
    filter_of,
    hurried_watch_subject,
    public_subject,
    queue_subject,
    receipt_subject,
    streams,
    timer_due_subject,
    timer_subject,
    watch_subject,
)


def test_subjects_are_where_the_streams_expect_them() -> None:
    assert event_subject("t", "orc") == "evt.t.orc"
    assert command_subject("t", "orc") == "cmd.t.orc"
    assert queue_subject("high", "attempt") == "queue.high.attempt"
    assert watch_subject("v1", "attempt") == "watch.v1.attempt"
    assert hurried_watch_subject("v1", "attempt") == "watch.v1-hurried.attempt"
    assert receipt_subject("cursor") == "receipt.cursor"
    assert delivery_subject("webhook") == "deliver.webhook"
    assert public_subject("t", "task.completed") == "orchestrations.t.task.completed"
    assert dead_subject("QUEUE", "dispatcher-queue-low") == "dead.QUEUE.dispatcher-queue-low"
    assert timer_subject("retry", "a") == "timer.set.retry.a"
    assert timer_due_subject("retry", "a") == "timer.due.retry.a"


@pytest.mark.parametrize("text", ["", "*", ">", "a b", "a\r\nPUB", "é", "x" * 129])
@pytest.mark.parametrize(
    "make", [event_subject, command_subject, public_subject, dead_subject, timer_subject, timer_due_subject]
)
def test_a_text_that_is_no_token_makes_no_subject(make: Callable[..., str], text: str) -> None:
    with pytest.raises(ValueError, match="token"):
        make("team", text)
    with pytest.raises(ValueError, match="token"):
        make(text, "a")


def test_every_consumer_belongs_to_a_stream_and_knows_its_subjects() -> None:
    names = {config.name for config in streams(TopologySettings())}
    for spec in CONSUMERS:
        assert spec.stream in names
        assert filter_of(spec)
    assert len({(spec.stream, spec.name) for spec in CONSUMERS}) == len(CONSUMERS)


def test_every_stream_and_consumer_has_as_many_replicas_as_the_settings_say() -> None:
    settings = TopologySettings(replicas=3)
    assert {config.num_replicas for config in streams(settings)} == {3}
    assert {spec.config(settings).num_replicas for spec in CONSUMERS} == {3}


def test_every_consumer_waits_for_a_sign_of_life_as_long_as_the_settings_say() -> None:
    assert {spec.config(TopologySettings()).ack_wait for spec in CONSUMERS} == {30.0}
    assert {spec.config(TopologySettings(ack_wait=2.0)).ack_wait for spec in CONSUMERS} == {2.0}
