"""What the routes work with, made once by `app` and found in the application's state."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.api.access import Access
from services.api.commands import CommandClient
from services.api.costs import CostQueries
from services.api.deliveries import Deliveries
from services.api.github import GitHub
from services.api.health import Health
from services.api.history import History
from services.api.idempotency import Idempotency
from services.api.listing import Listing
from services.api.live import LiveHub
from services.api.model_list import ModelList
from services.api.past import Past
from services.api.queue import TeamQueue
from services.api.reading import OrchestrationReader
from services.api.repository_list import RepositoryList
from services.api.settings import ApiSettings
from services.api.sweeps import Sweeps
from services.api.webhook_limits import WebhookLimits
from shared.cursor.provider import Provider
from shared.jetstream.publish import Publisher
from shared.observability.health import Readiness
from shared.ports import Clock
from shared.webhooks import WebhookKeys


@dataclass(frozen=True, slots=True)
class Parts:
    settings: ApiSettings
    clock: Clock
    access: Access
    models: ModelList
    repositories: RepositoryList
    github: GitHub | None
    provider: Provider
    commands: CommandClient
    idempotency: Idempotency
    listing: Listing
    costs: CostQueries
    deliveries: Deliveries
    queue: TeamQueue
    sweeps: Sweeps
    reader: OrchestrationReader
    history: History
    past: Past
    hub: LiveHub
    publisher: Publisher
    webhook_keys: WebhookKeys
    webhook_limits: WebhookLimits
    health: Health
    readiness: Readiness


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


TheParts = Annotated[Parts, Depends(_parts)]
