"""Look at what the first task found, then decide: add what follows from it, or cancel what it made needless.

    .venv/bin/python docs/examples/conditional.py            # something is found: a task is added
    .venv/bin/python docs/examples/conditional.py nothing    # nothing is: the rest is cancelled, its agent stopped

By hand it is `orchestrator add-task ID 'TITLE: DESCRIPTION'` and `orchestrator cancel ID`.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx

URL = os.environ.get("ORCHESTRATOR_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("ORCHESTRATOR_API_KEY") or Path(".data/api-key").read_text().strip()  # made by `make up`
# What the simulated agents are to make of it; real ones find out for themselves.
FINDS, TAKES = ("[[sim:nochange]]", 60) if "nothing" in sys.argv[1:] else ("", 3)

api = httpx.Client(base_url=f"{URL}/api", headers={"X-API-Key": KEY}, timeout=30)


def call(method: str, path: str, **request: Any) -> dict[str, Any]:
    answer = api.request(method, path, **request)
    if answer.is_error:
        raise SystemExit(f"{method} {path}: {answer.json()['error']['message']}")
    found: dict[str, Any] = answer.json()
    return found


check = {"title": "Find unsafe parsing", "description": f"Find XML that is parsed unsafely and fix it. {FINDS}"}
upgrade = {"title": "Upgrade the parser", "description": f"Upgrade to the newest version. [[sim:slow={TAKES}]]"}
order = {
    "name": "Conditional",
    "repository": "acme/storefront",
    "tasks": [check, upgrade],
    "executionMode": "parallel",
    "activate": True,
}
created = call("POST", "/orchestrations", json=order)
here, first = f"/orchestrations/{created['id']}", f"/tasks/{created['tasks'][0]['id']}"

while (found := call("GET", first))["status"] in ("PENDING", "PROCESSING"):
    time.sleep(0.5)
print(f"{found['title']}: {found['status']}, {found['outcome']}")

if found["outcome"] == "DELIVERED":
    more = {"title": "Fuzz the parser", "description": "Add a fuzz test for what was fixed.", "dependsOn": [0]}
    print("added:", call("POST", f"{here}/tasks", json=more)["title"])
else:
    print("cancel:", call("POST", f"{here}/cancel")["message"])

while (ended := call("GET", here))["orchestration"]["status"] in ("ACTIVE", "CANCELLING"):
    time.sleep(0.5)
print(ended["orchestration"]["status"], {task["title"]: task["status"] for task in ended["tasks"]})
