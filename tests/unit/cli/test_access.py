"""Where the address and the key come from, and that the key is never told."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from cli.access import Access, find_access
from cli.errors import UsageError

KEY = "k-secret-1234"


def test_the_key_in_the_environment_comes_first(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text("another\n")
    access = find_access(None, {"ORCHESTRATOR_API_KEY": KEY, "ORCHESTRATOR_DATA_DIR": str(tmp_path)})
    assert access == Access("http://127.0.0.1:8080", KEY)


def test_without_it_the_key_is_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text(f"{KEY}\n")
    assert find_access("https://o.example.com/", {"ORCHESTRATOR_DATA_DIR": str(tmp_path)}).api_key == KEY


def test_the_data_folder_is_one_below_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "api-key").write_text(KEY)
    assert find_access(None, {"ORCHESTRATOR_API_KEY": ""}).api_key == KEY


def test_without_any_key_both_ways_to_give_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ORCHESTRATOR_API_KEY is not set and there is no file"):
        find_access(None, {"ORCHESTRATOR_DATA_DIR": str(tmp_path)})


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY}\x00", f"{KEY}é"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_access(None, {"ORCHESTRATOR_API_KEY": key})
    assert KEY not in str(caught.value)


def test_the_key_is_not_part_of_what_is_printed_of_it() -> None:
    assert KEY not in repr(Access("http://x", KEY))


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://x:99999", "http://x?y", "http://[::1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        find_access(url, {"ORCHESTRATOR_API_KEY": KEY})


def test_an_address_with_credentials_is_refused_without_being_shown() -> None:
    with pytest.raises(UsageError) as caught:
        find_access(f"http://me:{KEY}@x", {"ORCHESTRATOR_API_KEY": KEY})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "local"),
    [("http://127.0.0.1:1", True), ("http://localhost", True), ("https://o.io", False)],
)
def test_it_knows_what_runs_on_this_machine(url: str, local: bool) -> None:
    assert Access(url, KEY).is_local is local


def record(folder: Path, url: str, pid: int) -> Mapping[str, str]:
    """A data folder as a running system leaves it, and the environment that names it."""
    processes = {"api": {"pid": 1, "port": 1, "health_url": f"{url}/health/ready"}}
    (folder / "processes.json").write_text(json.dumps({"pid": pid, "processes": processes}))
    return {"ORCHESTRATOR_API_KEY": KEY, "ORCHESTRATOR_DATA_DIR": str(folder)}


def test_a_system_that_runs_with_the_data_folder_is_asked_where_it_listens(tmp_path: Path) -> None:
    environment = record(tmp_path, "http://127.0.0.1:4711", os.getpid())
    assert find_access(None, environment).url == "http://127.0.0.1:4711"
    assert find_access("http://127.0.0.1:1", environment).url == "http://127.0.0.1:1"


def test_a_system_that_has_ended_is_not_asked(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert find_access(None, record(tmp_path, "http://127.0.0.1:4711", ended.pid)).url == "http://127.0.0.1:8080"
    (tmp_path / "processes.json").write_text('{"pid": 1, "processes": {}}')
    assert find_access(None, {"ORCHESTRATOR_API_KEY": KEY, "ORCHESTRATOR_DATA_DIR": str(tmp_path)}).url.endswith(
        ":8080"
    )


def test_the_key_is_not_sent_to_another_machine_because_a_file_says_so(tmp_path: Path) -> None:
    environment = record(tmp_path, "http://evil.example.com:80", os.getpid())
    assert find_access(None, environment).url == "http://127.0.0.1:8080"
