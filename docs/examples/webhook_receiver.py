"""Receive webhooks: verify both signatures, answer at once, and take each delivery once. Standard library only.

    WHSEC=$(WEBHOOK_SECRET=$(cat .data/webhook-secret) .venv/bin/python -m services.notifier.signing default) \\
        .venv/bin/python docs/examples/webhook_receiver.py [PORT]

Then, in another shell: `orchestrator run docs/examples/notified.yaml --watch`.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["WHSEC"].removeprefix("whsec_"))  # the team's; its operator hands it out
TOLERANCE_SECONDS = 300
seen: set[str] = set()  # a real receiver keeps these ids where it keeps its work


def is_authentic(headers: dict[str, str], body: bytes) -> bool:
    """Either signature is enough. Standard Webhooks is the better one: it covers id and time, too, so that nobody can
    send an old message again."""
    webhook_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    signed = b".".join((webhook_id.encode(), sent_at.encode(), body))
    expected = b"v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256))
    given = headers.get("webhook-signature", "").encode().split()  # there may be several, while a secret is changed
    is_recent = sent_at.isdecimal() and abs(time.time() - int(sent_at)) < TOLERANCE_SECONDS
    standard = is_recent and any(hmac.compare_digest(expected, one) for one in given)
    plain = ("sha256=" + hmac.digest(KEY, body, hashlib.sha256).hex()).encode()
    print("standard webhooks:", standard, flush=True)
    print("plain HMAC:", hmac.compare_digest(plain, headers.get("x-orchestration-signature", "").encode()), flush=True)
    return standard


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))  # as it came: other bytes sign differently
        headers = {name.lower(): value for name, value in self.headers.items()}
        authentic = is_authentic(headers, body)
        # A real receiver stores the message, answers, and works on it afterwards: there are 15 s for the answer.
        self.send_response(204 if authentic else 401)
        self.end_headers()
        if not authentic or headers["webhook-id"] in seen:
            return
        seen.add(headers["webhook-id"])
        told = json.loads(body)
        print(told["event"], told["orchestrationId"], told["status"], told["statistics"], flush=True)
        for task in told["tasks"]:
            print(f"  {task['title']}: {task['status']}", task["resultPrUrl"] or "", flush=True)

    def log_message(self, format: str, *args: object) -> None:
        """Prints no line for each request."""


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8099), Receiver)
print(f"receiving at http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
