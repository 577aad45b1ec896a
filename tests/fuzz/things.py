"""What made-up requests hit: orchestrations in every state, tasks, agents, keys, deliveries."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from shared.domain.events import OrchestrationStatus
from shared.webhooks import WebhookKeys
from tests.integration.api.steering import Case, in_state, new
from tests.integration.api.system import SECRET, Running
from tests.integration.api.test_deliveries import DONE, GIVEN_UP, NO, notification, tried

_DISPOSABLE = 10


@dataclass
class Things:
    """Ids, by the name that paths in the document have for them; `disposable` are orchestrations to be deleted."""

    orchestration_id: list[str] = field(default_factory=list)
    task_id: list[str] = field(default_factory=list)
    agent_id: list[str] = field(default_factory=list)
    key_id: list[str] = field(default_factory=list)
    delivery_id: list[str] = field(default_factory=list)
    disposable: list[str] = field(default_factory=list)
    webhook: tuple[str, str] = ("", "")
    """The token and the secret of an attempt, to sign webhooks with."""

    def as_json(self) -> dict[str, Sequence[str]]:
        return asdict(self)

    async def add(self, case: Case) -> None:
        self.orchestration_id.append(case.id)
        for task in (await case.seen())["tasks"]:
            self.task_id.append(task["id"])
            if task["cloud_agent_id"]:
                self.agent_id.append(task["cloud_agent_id"])


async def make_things(api: Running, database_url: str) -> Things:
    things = Things()
    for status in OrchestrationStatus:
        await things.add(await in_state(api, status))
    things.disposable = [(await new(api)).id for _ in range(_DISPOSABLE)]
    for number in range(3):
        made = await api.http.post("/api/keys", json={"name": f"key {number}", "permissions": ["orchestrations:read"]})
        assert made.status_code == 201, made.text
        things.key_id.append(made.json()["id"])
    for name, outcome in (("delivered", DONE), ("given-up", GIVEN_UP), ("on-its-way", NO)):
        await tried(database_url, notification(name, orchestration=things.orchestration_id[0]), outcome)
        things.delivery_id.append(name)
    keys = WebhookKeys([SECRET])
    things.webhook = (keys.token_for("default", things.orchestration_id[0], "a1"), keys.secret_for("a1"))
    return things
