"""Follow an orchestration live, through restarts of the API, without missing a change.

.venv/bin/python docs/examples/follow.py ID
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

URL = os.environ.get("ORCHESTRATOR_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("ORCHESTRATOR_API_KEY") or Path(".data/api-key").read_text().strip()  # made by `make up`

# The stream gives a sign of life every ten seconds: who hears nothing for longer has lost it.
api = httpx.Client(base_url=f"{URL}/api", headers={"X-API-Key": KEY}, timeout=httpx.Timeout(10, read=25))


def messages(orchestration_id: str) -> Iterator[dict[str, Any]]:
    """The live messages. Each connection resumes behind the last id that the one before it has seen."""
    seen: dict[str, str] = {}
    while True:
        try:
            with api.stream("GET", f"/orchestrations/{orchestration_id}/stream", headers=seen) as answer:
                if answer.is_success:
                    event: dict[str, str] = {}
                    for line in answer.iter_lines():
                        if line:
                            field, _, value = line.partition(":")
                            event[field] = value.strip()
                            continue
                        if "data" in event:
                            yield json.loads(event["data"])
                        if "id" in event:  # behind the last message of a commit, so that no half of one is lost
                            seen = {"Last-Event-ID": event["id"]}
                        event = {}
                elif answer.status_code < 500 and answer.status_code != 429:
                    raise SystemExit(answer.read().decode())
        except httpx.TransportError as lost:
            print("connecting again:", type(lost).__name__, file=sys.stderr)
        time.sleep(1)


for message in messages(sys.argv[1]):
    match message["type"]:
        case "status":
            print(message["id"], "it is", message["data"]["orchestration"]["status"], flush=True)
        case "task_updated":
            task = message["task"]
            print(message["id"], task["title"], task["status"], task["waiting_for"] or "", flush=True)
        case "orchestration_updated":
            print(message["id"], "progress", message["data"]["statistics"]["progress"], "%", flush=True)
        case "orchestration_completed" | "orchestration_deleted":
            print(message["id"], "ended", message["data"]["status"], flush=True)
            break
        case "error":
            raise SystemExit(message["error"]["message"])
