"""Every stream, durable consumer and bucket, declared as data, and the subjects that lead to them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    ReplayPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

EVENTS: Final = "EVENTS"
COMMANDS: Final = "COMMANDS"
QUEUE: Final = "QUEUE"
WATCH: Final = "WATCH"
TIMERS: Final = "TIMERS"
RECEIPTS: Final = "RECEIPTS"
DELIVERIES: Final = "DELIVERIES"
PUBLIC: Final = "PUBLIC"
DEAD: Final = "DEAD"

SLOTS: Final = "slots"
LIMITS: Final = "limits"
CONTROLS: Final = "controls"

Level = Literal["high", "medium", "low"]
LEVELS: Final[tuple[Level, ...]] = ("high", "medium", "low")

_DAY: Final = 24 * 60 * 60.0
_MINUTE: Final = 60.0

ACK_WAIT: Final = 30.0
"""Seconds for which the broker waits for a sign of whoever has a message, before it gives it to another."""


@dataclass(frozen=True, slots=True)
class TopologySettings:
    """What differs between installations.

    `replicas`: copies of every stream, 1 on one node and 3 in production. `events_max_bytes`: size at which
    the log takes nothing more; the broker sets that much of its disk aside, so it must fit. `ack_wait`: seconds
    until a message whose holder has died is given to another.
    """

    replicas: int = 1
    events_max_bytes: int = 2 * 1024**3
    ack_wait: float = ACK_WAIT


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """A durable consumer of a stream. `max_ack_pending` counts messages put back with a delay, too."""

    name: str
    stream: str
    filter_subject: str | None = None
    max_ack_pending: int = 1000

    def config(self, settings: TopologySettings) -> ConsumerConfig:
        return ConsumerConfig(
            name=self.name,
            durable_name=self.name,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            replay_policy=ReplayPolicy.INSTANT,
            ack_wait=settings.ack_wait,
            max_deliver=-1,  # when to give up is our policy; the broker would only stop delivering, silently
            max_ack_pending=self.max_ack_pending,
            filter_subject=self.filter_subject,
            num_replicas=settings.replicas,
        )


DISPATCHER_COMMANDS: Final = ConsumerSpec("dispatcher-commands", COMMANDS)
DISPATCHER_QUEUE: Final[dict[Level, ConsumerSpec]] = {
    # Tickets of a queue that its team holds count, too, and must not keep those of other teams out.
    level: ConsumerSpec(f"dispatcher-queue-{level}", QUEUE, f"queue.{level}.*", max_ack_pending=20_000)
    for level in LEVELS
}
DISPATCHER_TIMERS: Final = ConsumerSpec("dispatcher-timers", TIMERS, "timer.due.>")
# A commit that tells of an agent which cannot be deleted or archived yet comes again for as long; it must not keep
# those out by which others are launched.
DISPATCHER_RECONCILE: Final = ConsumerSpec("dispatcher-reconcile", EVENTS, max_ack_pending=20_000)
MONITOR_RECEIPTS: Final = ConsumerSpec("monitor-receipts", RECEIPTS)
MONITOR_WATCH: Final = ConsumerSpec("monitor-watch", WATCH, max_ack_pending=20_000)  # one per live agent
NOTIFIER_EVENTS: Final = ConsumerSpec("notifier-events", EVENTS)
NOTIFIER_DELIVERIES: Final = ConsumerSpec("notifier-deliveries", DELIVERIES, max_ack_pending=10_000)

CONSUMERS: Final[tuple[ConsumerSpec, ...]] = (
    DISPATCHER_COMMANDS,
    *DISPATCHER_QUEUE.values(),
    DISPATCHER_TIMERS,
    DISPATCHER_RECONCILE,
    MONITOR_RECEIPTS,
    MONITOR_WATCH,
    NOTIFIER_EVENTS,
    NOTIFIER_DELIVERIES,
)


def streams(settings: TopologySettings) -> list[StreamConfig]:
    """Every stream, the ones behind the buckets included."""
    return [
        _events(settings),
        _work_queue(COMMANDS, ["cmd.>"], settings),
        _unique(_work_queue(QUEUE, [f"queue.{level}.*" for level in LEVELS], settings)),
        _unique(_work_queue(WATCH, ["watch.*.*"], settings)),
        _timers(settings),
        _kept(RECEIPTS, ["receipt.>"], 7 * _DAY, settings),
        _work_queue(DELIVERIES, ["deliver.>"], settings),
        _kept(PUBLIC, ["orchestrations.>"], 30 * _DAY, settings),
        _parked(settings),
        _bucket(SLOTS, settings),
        _bucket(LIMITS, settings),
        _bucket(CONTROLS, settings),
    ]


def filter_of(spec: ConsumerSpec) -> str:
    """The subjects that a consumer gets, as one pattern."""
    if spec.filter_subject is not None:
        return spec.filter_subject
    [subject] = next(config.subjects or [] for config in streams(TopologySettings()) if config.name == spec.stream)
    return subject


_ADVISORIES: Final = [
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>",
    "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>",
]


def _events(settings: TopologySettings) -> StreamConfig:
    """The log. Never schedules or a TTL here: either makes the broker switch `deny_purge` off silently."""
    return StreamConfig(
        name=EVENTS,
        subjects=["evt.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_age=0,
        max_bytes=settings.events_max_bytes,
        deny_delete=True,
        deny_purge=True,
        allow_direct=True,
        allow_rollup_hdrs=False,
        duplicate_window=120 * _MINUTE,
        num_replicas=settings.replicas,
    )


def _work_queue(name: str, subjects: list[str], settings: TopologySettings) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=subjects,
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_age=0,
        duplicate_window=2 * _MINUTE,
        num_replicas=settings.replicas,
    )


def _unique(config: StreamConfig) -> StreamConfig:
    """At most one message a subject: a second ticket of an attempt is refused while the first is there."""
    config.max_msgs_per_subject = 1
    config.discard_new_per_subject = True
    return config


def _timers(settings: TopologySettings) -> StreamConfig:
    """Message schedules; the broker insists on roll-up headers and on `discard old` for them."""
    config = _work_queue(TIMERS, ["timer.set.>", "timer.due.>"], settings)
    config.discard = DiscardPolicy.OLD  # discards nothing, for the stream has no limits
    config.allow_msg_schedules = True
    config.allow_rollup_hdrs = True
    return config


def _kept(name: str, subjects: list[str], seconds: float, settings: TopologySettings) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=subjects,
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_age=seconds,
        allow_direct=True,
        duplicate_window=2 * _MINUTE,
        num_replicas=settings.replicas,
    )


def _parked(settings: TopologySettings) -> StreamConfig:
    """A message comes again whose consumer died between parking it and saying so; until its next life it may take long,
    and then it must be known to be parked."""
    config = _kept(DEAD, ["dead.>", *_ADVISORIES], 30 * _DAY, settings)
    config.duplicate_window = _DAY
    return config


def _bucket(name: str, settings: TopologySettings) -> StreamConfig:
    """A key-value bucket is a stream of this shape with one message kept per key."""
    return StreamConfig(
        name=f"KV_{name}",
        subjects=[f"$KV.{name}.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_age=0,
        max_msgs_per_subject=1,
        deny_delete=True,
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,  # so that the traces of deleted keys go away
        allow_direct=True,
        duplicate_window=2 * _MINUTE,
        num_replicas=settings.replicas,
    )


_HURRIED: Final = "-hurried"

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def event_subject(team: str, aggregate: str) -> str:
    """Where the commits of one aggregate are; ValueError when a part is not a plain token."""
    return _subject("evt", team, aggregate)


def command_subject(team: str, orchestration: str) -> str:
    return _subject("cmd", team, orchestration)


def queue_subject(level: Level, attempt: str) -> str:
    """Where the ticket of an attempt is; there is never more than one."""
    if level not in LEVELS:
        raise ValueError(f"no queue {level!r}")
    return _subject("queue", level, attempt)


def watch_subject(provider: str, attempt: str) -> str:
    """Where the agent of an attempt is watched; there is never more than one message."""
    return _subject("watch", provider, attempt)


def hurried_watch_subject(provider: str, attempt: str) -> str:
    """Where the agent of an attempt is watched while something is expected of it soon, besides `watch_subject`."""
    return _subject("watch", provider + _HURRIED, attempt)


def is_hurried_watch(subject: str) -> bool:
    """Whether it is one of `hurried_watch_subject`."""
    kind, _, rest = subject.partition(".")
    return kind == "watch" and rest.partition(".")[0].endswith(_HURRIED)


def receipt_subject(provider: str) -> str:
    return _subject("receipt", provider)


def delivery_subject(channel: str) -> str:
    return _subject("deliver", channel)


def public_subject(team: str, event_type: str) -> str:
    """`event_type` may have dots, as in `task.completed`."""
    return _subject("orchestrations", team, *event_type.split("."))


def claim_subject(attempt: str) -> str:
    """Where the process that follows the stream of an attempt's agent answers; of no stream."""
    return _subject("monitor", "follows", attempt)


PROGRESS_SUBJECTS: Final = "progress.*.*"


def progress_subject(team: str, orchestration: str) -> str:
    """Where it is told what agents of an orchestration are at; of no stream."""
    return _subject("progress", team, orchestration)


def dead_subject(stream: str, consumer: str) -> str:
    return _subject("dead", stream, consumer)


def timer_subject(*name: str) -> str:
    """Where the timer of this name is kept; setting it again replaces it."""
    return _subject("timer", "set", *_some(name))


def timer_due_subject(*name: str) -> str:
    """Where the timer of this name arrives when it is due."""
    return _subject("timer", "due", *_some(name))


def _some(name: tuple[str, ...]) -> tuple[str, ...]:
    if not name:
        raise ValueError("a timer needs a name")
    return name


def _subject(*tokens: str) -> str:
    return ".".join(_checked(tokens))


def _checked(tokens: Iterable[str]) -> Iterable[str]:
    for token in tokens:
        if not _TOKEN.fullmatch(token):
            raise ValueError(f"not a token of a subject: {token!r}")
        yield token
