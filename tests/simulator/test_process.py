"""The simulator as a process of its own."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

import httpx
import pytest

from tests.simulator.serving import FOREVER, run_path, v1_body

KEY = ("key", "")
LONG = 60.0
"""Seconds: more than anything here takes on the busiest machine."""
_get = partial(httpx.get, auth=KEY, timeout=LONG)
_post = partial(httpx.post, auth=KEY, timeout=LONG)


def test_it_says_where_it_is_ready_and_stops_cleanly_on_sigterm() -> None:
    with _process(SIMULATOR_PORT="0") as process:
        url = _ready_url(process)
        assert _get(f"{url}/v1/me").status_code == 200
        process.terminate()
        out, err = process.communicate(timeout=LONG)
        assert (process.returncode, out, err) == (0, "", "")


def test_an_open_stream_does_not_keep_it_from_stopping() -> None:
    with _process(SIMULATOR_PORT="0") as process:
        url = _ready_url(process)
        created = _post(f"{url}/v1/agents", json=v1_body(FOREVER)).json()
        with httpx.stream("GET", f"{url}{run_path(created)}/stream", auth=KEY, timeout=LONG) as stream:
            chunks = stream.iter_text()
            assert "event: status" in next(chunks)
            process.terminate()
            assert "event: done" not in "".join(chunks)
        assert process.wait(timeout=LONG) == 0


def test_a_create_that_waits_is_cut_off_by_the_stop() -> None:
    with _process(SIMULATOR_PORT="0", SIMULATOR_CREATE_SECONDS="600") as process:
        url = _ready_url(process)
        with _create_that_waits(url, 1):
            pass  # its caller has hung up
        with _create_that_waits(url, 2) as waiting:
            process.terminate()
            _, err = process.communicate(timeout=LONG)
            assert (process.returncode, "Traceback" in err) == (0, False)
            with pytest.raises(ConnectionResetError):
                waiting.recv(1)


def test_the_command_line_starts_it_alone_with_its_port_and_speed() -> None:
    with _process(
        "-m", "cli", "simulator", "--port", "0", "--speed", "600", SIMULATOR_DURATION_SECONDS="300"
    ) as process:
        url = _ready_url(process)
        created = _post(f"{url}/v1/agents", json=v1_body()).json()
        _eventually(lambda: _get(f"{url}{run_path(created)}").json()["status"] == "FINISHED")
        run = _get(f"{url}{run_path(created)}").json()
        began, ended = (datetime.fromisoformat(run[name]) for name in ("createdAt", "updatedAt"))
        assert run["durationMs"] >= 300_000
        assert ended - began >= timedelta(seconds=300)
        process.terminate()
        assert process.wait(timeout=LONG) == 0


def test_its_settings_come_from_the_environment() -> None:
    with _process(SIMULATOR_PORT="0", SIMULATOR_API_KEY="right", SIMULATOR_DURATION_SECONDS="0") as process:
        url = _ready_url(process)
        assert _get(f"{url}/v1/me", auth=("wrong", "")).status_code == 401
        assert _get(f"{url}/v1/me", auth=("right", "")).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIMULATOR_PORT", "many"),
        ("SIMULATOR_DURATION_SECONDS", "-1"),
        ("SIMULATOR_FAULTS", "{fail: 1}"),
        ("SIMULATOR_FAULTS", '{"fial": 1}'),
        ("SIMULATOR_REPOSITORIES", "acme/shop"),
        ("SIMULATOR_REPOSITORIES", '["acme/shop"]'),
    ],
)
def test_a_bad_setting_is_named_and_ends_it_with_code_2(name: str, value: str) -> None:
    with _process(**{name: value}) as process:
        _, err = process.communicate(timeout=LONG)
        assert process.returncode == 2
        assert err.startswith(f"{name}: ")
        assert len(err.splitlines()) == 1


def test_a_variable_that_is_no_setting_is_named_and_ignored() -> None:
    with _process(SIMULATOR_PORT="0", SIMULATOR_SPED="60") as process:
        _ready_url(process)
        process.terminate()
        _, err = process.communicate(timeout=LONG)
        assert (process.returncode, err) == (0, "SIMULATOR_SPED: no such setting, ignored\n")


def test_a_port_that_is_taken_is_named_and_ends_it_with_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with _process(SIMULATOR_PORT=port) as process:
            _, err = process.communicate(timeout=LONG)
            assert process.returncode == 2
            assert f"127.0.0.1:{port}" in err


@contextmanager
def _process(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The process, which is gone afterwards, however the test went."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIMULATOR_")}
    process = subprocess.Popen(
        [sys.executable, *(command or ("-m", "deploy.local.simulator"))],
        env={**clean, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _create_that_waits(url: str, number: int) -> Iterator[socket.socket]:
    """The connection of a create that is the `number`th to have taken effect."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
        connection.sendall(_create_request())
        _eventually(lambda: _get(f"{url}/_sim/stats").json()["creates"] == number)
        yield connection


def _create_request() -> bytes:
    """A create as it goes over the wire, for a caller that is in no hurry to read the answer."""
    body = json.dumps(v1_body()).encode()
    head = (
        "POST /v1/agents HTTP/1.1",
        "Host: simulator",
        "Authorization: Bearer key",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode() + body


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _ready_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    watchdog = threading.Timer(LONG, process.kill)
    watchdog.start()
    line = process.stdout.readline()
    watchdog.cancel()
    assert line.startswith("simulator ready http://127.0.0.1:")
    return line.split()[-1]
