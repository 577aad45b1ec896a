"""Pause while an agent is at work, look around, resume: the same agent goes on, and no retry is used up.

    .venv/bin/python docs/examples/pause_and_resume.py

By hand it is `orchestrator pause ID` (`--drain` lets agents finish) and `orchestrator resume ID`.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

URL = os.environ.get("ORCHESTRATOR_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("ORCHESTRATOR_API_KEY") or Path(".data/api-key").read_text().strip()  # made by `make up`

api = httpx.Client(base_url=f"{URL}/api", headers={"X-API-Key": KEY}, timeout=30)


def call(method: str, path: str, **request: Any) -> dict[str, Any]:
    answer = api.request(method, path, **request)
    if answer.is_error:
        raise SystemExit(f"{method} {path}: {answer.json()['error']['message']}")
    found: dict[str, Any] = answer.json()
    return found


def wait_for(path: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What is at `path`, once it is as wanted. follow.py shows how to be told instead of asking."""
    while not reached(found := call("GET", path)):
        time.sleep(0.5)
    return found


order = {
    "name": "Paused and resumed",
    "repository": "acme/storefront",
    "tasks": [{"title": "Split the settings page", "description": "One page for each section. [[sim:slow=10]]"}],
    "activate": True,
}
created = call("POST", "/orchestrations", json=order)
here, task = f"/orchestrations/{created['id']}", f"/tasks/{created['tasks'][0]['id']}"

working = wait_for(task, lambda one: one["cloud_agent_status"] == "RUNNING")
print("agent", working["cloud_agent_id"], "is at work")

print("pause:", call("POST", f"{here}/pause", json={"mode": "stop"})["message"])
waiting = wait_for(task, lambda one: one["status"] == "PENDING")
print("the task is", waiting["status"], "and waits for", waiting["waiting_for"])

print("resume:", call("POST", f"{here}/resume")["message"])
done = wait_for(here, lambda found: found["orchestration"]["completed_at"] is not None)["tasks"][0]
print("the task is", done["status"], "with", done["retry_count"], "retries")
print("same agent:", done["cloud_agent_id"] == working["cloud_agent_id"])
