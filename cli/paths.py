"""Where things are in the API."""

from urllib.parse import quote

from cli.errors import UsageError

ORCHESTRATIONS = "/api/orchestrations"
AGENTS = "/api/cloud-agents"
DELIVERIES = "/api/webhook-deliveries"
KEYS = "/api/keys"
QUEUE = "/api/queue"


def orchestration(orchestration_id: str) -> str:
    """Like all of these, raises UsageError for what can be no part of a path."""
    return f"{ORCHESTRATIONS}/{_part(orchestration_id, 'an orchestration')}"


def task(task_id: str) -> str:
    return f"/api/tasks/{_part(task_id, 'a task')}"


def agent(agent_id: str) -> str:
    return f"{AGENTS}/{_part(agent_id, 'an agent')}"


def delivery(delivery_id: str) -> str:
    return f"{DELIVERIES}/{_part(delivery_id, 'a delivery')}"


def key(key_id: str) -> str:
    return f"{KEYS}/{_part(key_id, 'a key')}"


def _part(given: str, what: str) -> str:
    if given.strip(". ") == "":
        raise UsageError(f"{given!r} is not the id of {what}")
    return quote(given, safe="")
