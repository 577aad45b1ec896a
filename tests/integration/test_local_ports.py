"""Ports on this machine: whoever asks gets one of its own."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import ports
from deploy.local.ports import PortTakenError, claim, free_port

_ASK = "from deploy.local.ports import free_port; print(*(free_port() for _ in range(50)))"


def test_processes_that_ask_at_the_same_time_are_never_given_the_same_port() -> None:
    asking = [subprocess.Popen([sys.executable, "-c", _ASK], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    given = [port for process in asking for port in process.communicate()[0].split()]
    assert len(given) == 200
    assert len(set(given)) == 200


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file by which ports are counted in this test."""
    file = tmp_path / "ports"
    monkeypatch.setenv(ports.COUNTER, str(file))
    return file


def test_the_last_port_is_followed_by_the_first(counter: Path) -> None:
    counter.write_text("31999")
    assert [ports._count(str(counter)), ports._count(str(counter))] == [32000, 20000]


@pytest.mark.parametrize("spoiled", ["", "not a number", "99999", "7", "200000000000000000"])
def test_a_counter_that_makes_no_sense_is_begun_anew(spoiled: str, counter: Path) -> None:
    counter.write_text(spoiled)
    first = ports._count(str(counter))
    assert 20_000 <= first <= 32_000
    assert ports._count(str(counter)) == (first + 1 if first < 32_000 else 20_000)


def test_without_a_counter_any_free_port_is_given_and_nothing_left_behind(
    counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ports.COUNTER)
    assert 20_000 <= free_port() <= 32_000
    assert not counter.exists()


def test_a_wanted_port_that_is_taken_is_refused_with_the_setting_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"API_PORT: port {port} is in use"):
            claim("API_PORT", port)
