"""An API that answers what it is told to and remembers what it was asked, and the command run against it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from typer.testing import CliRunner

from cli.main import app

KEY = "the-key-of-the-stub"


@dataclass(frozen=True)
class Asked:
    """One request; `query` has every value of each parameter."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    key: str | None

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Reply:
    """An answer; `breaks` closes the connection without one."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    breaks: bool = False


@dataclass
class StubApi:
    """`answers` are by `METHOD /path`, the last one of a row for good; what has none is answered `{}`."""

    url: str = ""
    answers: dict[str, list[Reply]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def on(self, line: str, *replies: Reply | Any) -> None:
        self.answers[line] = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]

    def reply(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        row = self.answers.get(asked.line, [Reply()])
        return row.pop(0) if len(row) > 1 else row[0]

    @property
    def last(self) -> Asked:
        return self.asked[-1]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@contextmanager
def stub_api() -> Iterator[StubApi]:
    """Serves on a free port of this machine, in threads of its own."""
    api = StubApi()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(
                self.command,
                parts.path,
                parse_qs(parts.query),
                json.loads(raw) if raw else None,
                self.headers.get("Idempotency-Key"),
            )
            reply = api.reply(asked)
            self.close_connection = True
            if reply.breaks:
                return
            content = json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        try:
            yield api
        finally:
            server.shutdown()
            serving.join()


def orchestrator(api: StubApi, *arguments: str, stdin: str | None = None) -> Ended:
    """Runs the command on the stub."""
    return run_command(api.url, KEY, *arguments, stdin=stdin)


def run_command(url: str, key: str, *arguments: str, stdin: str | None = None) -> Ended:
    """Runs the command in this process, one at a time: a process of its own takes most of its time to load."""
    environment = {"ORCHESTRATOR_URL": url, "ORCHESTRATOR_API_KEY": key}
    result = CliRunner().invoke(app, list(arguments), input=stdin, env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert key not in result.output
    return Ended(result.exit_code, result.stdout, result.stderr)


def refused(status: int, code: str, message: str, **metadata: Any) -> Reply:
    return Reply({"error": {"code": code, "message": message, "statusCode": status, "metadata": metadata}}, status)
