"""What the simulator saw, for tests and benchmarks to check against."""

from collections import Counter
from dataclasses import dataclass, field

# Longer first lines share their start as the key.
_KEY_LIMIT = 200


@dataclass(slots=True)
class WebhookCounts:
    """`sent` webhooks were due; each ends delivered or failed. `attempts` counts their requests."""

    sent: int = 0
    attempts: int = 0
    delivered: int = 0
    failed: int = 0


@dataclass(slots=True)
class Stats:
    creates: int = 0
    create_conflicts: int = 0
    creates_by_prompt: Counter[str] = field(default_factory=Counter)
    follow_ups: int = 0
    follow_ups_by_prompt: Counter[str] = field(default_factory=Counter)
    deletes: int = 0
    running: int = 0
    max_running: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    webhooks: WebhookCounts = field(default_factory=WebhookCounts)

    def agent_created(self, prompt_line: str) -> None:
        self.creates += 1
        self.creates_by_prompt[prompt_line[:_KEY_LIMIT]] += 1

    def followed_up(self, prompt_line: str) -> None:
        self.follow_ups += 1
        self.follow_ups_by_prompt[prompt_line[:_KEY_LIMIT]] += 1

    def run_began(self) -> None:
        self.running += 1
        self.max_running = max(self.max_running, self.running)

    def run_ended(self) -> None:
        self.running -= 1

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
            "follow_ups": self.follow_ups,
            "follow_ups_by_prompt": dict(self.follow_ups_by_prompt),
            "deletes": self.deletes,
            "running": self.running,
            "max_running": self.max_running,
            "calls": dict(self.calls),
            "webhooks": {
                "sent": hooks.sent,
                "attempts": hooks.attempts,
                "delivered": hooks.delivered,
                "failed": hooks.failed,
            },
        }
