"""A task fails for good; a person reads why, puts its description right and retries it. The rest then goes on.

    .venv/bin/python docs/examples/retry_by_hand.py

By hand it is `orchestrator show ID`, `orchestrator task patch ID#1 --description …` and `orchestrator retry ID#1`.
"""

import os
import time
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


def until_ended(path: str) -> list[dict[str, Any]]:
    """The tasks, once the orchestration has ended."""
    while (found := call("GET", path))["orchestration"]["status"] not in ("COMPLETED", "PARTIAL_COMPLETED", "FAILED"):
        time.sleep(0.5)
    print("the orchestration is", found["orchestration"]["status"])
    for task in found["tasks"]:
        print(f"  {task['title']}: {task['status']}", task["error_code"] or "")
    tasks: list[dict[str, Any]] = found["tasks"]
    return tasks


order = {
    "name": "Retried by hand",
    "repository": "acme/storefront",
    "tasks": [
        {"title": "Upgrade the router", "description": "Upgrade to version 9. [[sim:fail]]", "maxRetries": 0},
        {"title": "Remove the old guards", "description": "Remove every guard that version 9 makes needless."},
    ],
    "activate": True,
}
here = f"/orchestrations/{call('POST', '/orchestrations', json=order)['id']}"

failed = until_ended(here)[0]
print("why:", failed["error_message"])

call("PATCH", f"/tasks/{failed['id']}", json={"description": "Upgrade to version 8 first, then to version 9."})
print("retry:", call("POST", f"/tasks/{failed['id']}/retry")["message"])
until_ended(here)
