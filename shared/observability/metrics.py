"""The metrics, each declared once; units in the names, labels bounded: never an id or an address.

Those of the api's requests and streams stand beside what they count.
"""

from prometheus_client import Counter, Gauge, Histogram

_CALL_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 120)
_TASK_SECONDS = (1, 10, 30, 60, 300, 600, 1800, 3600, 7200, 14400)
_HANDLE_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60)

ORCHESTRATIONS = Counter("orchestrations", "Orchestrations that reached a status", ["status"])
ORCHESTRATION_SECONDS = Histogram(
    "orchestration_duration_seconds", "From activation to the end", ["status"], buckets=_TASK_SECONDS
)
TASKS = Counter("tasks", "Tasks that reached a status", ["status", "priority", "complexity"])
TASK_SECONDS = Histogram(
    "task_duration_seconds", "From the first start to the end", ["status", "complexity"], buckets=_TASK_SECONDS
)
PROVIDER_CALLS = Counter("cursor_api_calls", "Calls to the provider", ["endpoint", "status"])
PROVIDER_SECONDS = Histogram(
    "cursor_api_duration_seconds", "Time of a call to the provider", ["endpoint"], buckets=_CALL_SECONDS
)
PROVIDER_BREAKER_OPEN = Gauge("cursor_api_breaker_open", "1 while the provider fails and this process leaves it alone")
QUEUE_SIZE = Gauge("queue_size", "Messages that wait for a consumer or are being handled", ["queue"])
QUEUE_WAITING_SECONDS = Histogram(
    "queue_waiting_time_seconds",
    "From the storing of a message to its first handler",
    ["queue"],
    buckets=_HANDLE_SECONDS,
)
QUEUE_SECONDS = Histogram(
    "queue_processing_time_seconds", "Time to handle a message", ["queue"], buckets=_HANDLE_SECONDS
)
ERRORS = Counter("errors", "Errors by kind", ["type", "code"])
WEBHOOKS_RECEIVED = Counter("webhooks_received", "Webhooks from the provider", ["event", "status"])
WEBHOOK_DELIVERIES = Counter("webhook_deliveries", "Tries to notify a receiver", ["channel", "status"])
ORPHANED_AGENTS = Counter("orphaned_agents", "Agents at work for no attempt, by what was done about them", ["action"])
SLOTS_IN_USE = Gauge("agent_slots_in_use", "Slots taken by attempts, over the whole installation")
PROJECTION_LAG = Gauge("projection_lag_events", "Messages of the log that the read side does not show yet")
PROJECTION_SEQUENCE = Gauge("projection_sequence", "Sequence of the log up to which the read side shows it")


def observe_provider_call(endpoint: str, status: int | str, seconds: float) -> None:
    """Count one call to the provider; `status` is the HTTP status or the name of what went wrong."""
    PROVIDER_CALLS.labels(endpoint, str(status)).inc()
    PROVIDER_SECONDS.labels(endpoint).observe(seconds)


class ConsumerMetrics:
    """Counts how consuming goes; given to every subscription."""

    def waited(self, consumer: str, seconds: float) -> None:
        QUEUE_WAITING_SECONDS.labels(consumer).observe(seconds)

    def processed(self, consumer: str, seconds: float) -> None:
        QUEUE_SECONDS.labels(consumer).observe(seconds)

    def failed(self, consumer: str, kind: str) -> None:
        ERRORS.labels(consumer, kind).inc()

    def waiting(self, consumer: str, messages: int) -> None:
        QUEUE_SIZE.labels(consumer).set(messages)
