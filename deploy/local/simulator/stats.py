"""What the simulator saw, for tests and benchmarks to check against."""

from collections import Counter
from dataclasses import dataclass, field

# Longer first lines share their start as the key.
_KEY_LIMIT = 200


@dataclass(slots=True)
class WebhookCounts:
    """`sent` webhooks were due; each ends delivered, failed or lost. `attempts` counts their requests."""

    sent: int = 0
    attempts: int = 0
    delivered: int = 0
    failed: int = 0


@dataclass(slots=True)
class Most:
    """How many there are of each kind now, and how many there were at most."""

    now: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)

    def more(self, kind: str) -> None:
        self.now[kind] += 1
        self.most[kind] = max(self.most[kind], self.now[kind])

    def less(self, kind: str) -> None:
        self.now[kind] -= 1
        if not self.now[kind]:
            del self.now[kind]


@dataclass(slots=True)
class Stats:
    creates: int = 0
    create_conflicts: int = 0
    creates_by_prompt: Counter[str] = field(default_factory=Counter)
    creates_by_attempt: Counter[str] = field(default_factory=Counter)
    follow_ups: int = 0
    follow_ups_by_prompt: Counter[str] = field(default_factory=Counter)
    deletes: int = 0
    running: int = 0
    max_running: int = 0
    by_prompt: Most = field(default_factory=Most)
    by_attempt: Most = field(default_factory=Most)
    calls: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    webhooks: WebhookCounts = field(default_factory=WebhookCounts)

    def agent_created(self, prompt_line: str, attempt: str | None) -> None:
        """`attempt` is what the caller marked the agent with, as far as it did."""
        self.creates += 1
        self.creates_by_prompt[prompt_line[:_KEY_LIMIT]] += 1
        if attempt is not None:
            self.creates_by_attempt[attempt] += 1

    def followed_up(self, prompt_line: str) -> None:
        self.follow_ups += 1
        self.follow_ups_by_prompt[prompt_line[:_KEY_LIMIT]] += 1

    def run_began(self, prompt_line: str, attempt: str | None) -> None:
        """A run of the agent that was created with this prompt."""
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        self.by_prompt.more(prompt_line[:_KEY_LIMIT])
        if attempt is not None:
            self.by_attempt.more(attempt)

    def run_ended(self, prompt_line: str, attempt: str | None) -> None:
        self.running -= 1
        self.by_prompt.less(prompt_line[:_KEY_LIMIT])
        if attempt is not None:
            self.by_attempt.less(attempt)

    def clear(self) -> None:
        fresh = Stats()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def view(self) -> dict[str, object]:
        hooks = self.webhooks
        return {
            "creates": self.creates,
            "create_conflicts": self.create_conflicts,
            "creates_by_prompt": dict(self.creates_by_prompt),
            "creates_by_attempt": dict(self.creates_by_attempt),
            "follow_ups": self.follow_ups,
            "follow_ups_by_prompt": dict(self.follow_ups_by_prompt),
            "deletes": self.deletes,
            "running": self.running,
            "max_running": self.max_running,
            "running_by_prompt": dict(self.by_prompt.now),
            "max_running_by_prompt": dict(self.by_prompt.most),
            "max_running_by_attempt": dict(self.by_attempt.most),
            "calls": dict(self.calls),
            "faults": dict(self.faults),
            "webhooks": {
                "sent": hooks.sent,
                "attempts": hooks.attempts,
                "delivered": hooks.delivered,
                "failed": hooks.failed,
            },
        }
