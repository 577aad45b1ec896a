"""Reading an orchestration from a file."""

from pathlib import Path

import pytest

from cli.errors import UsageError
from cli.files import read_orchestration


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "o.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def complaint(file: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_orchestration(file)
    return str(caught.value)


def test_fields_pass_through_as_they_are(tmp_path: Path) -> None:
    file = written(
        tmp_path, "repository: a/b\nmaxCost: 1.5\nauto_create_pr: false\ntasks: [{title: T}]\nunknown: null\n"
    )
    assert read_orchestration(file) == {
        "repository": "a/b",
        "maxCost": 1.5,
        "auto_create_pr": False,
        "tasks": [{"title": "T"}],
        "unknown": None,
    }


def test_json_is_yaml_too(tmp_path: Path) -> None:
    assert read_orchestration(written(tmp_path, '{"repository": "a/b", "tasks": []}')) == {
        "repository": "a/b",
        "tasks": [],
    }


def test_a_time_stays_as_it_was_written(tmp_path: Path) -> None:
    file = written(tmp_path, "startAt: 2026-12-01T08:00:00+01:00\nday: 2026-12-01\n")
    assert read_orchestration(file) == {"startAt": "2026-12-01T08:00:00+01:00", "day": "2026-12-01"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("repository: a/b\ntasks:\n  - title: [\n", "o.yaml, line 4, column 1"),
        ("repository: a/b\n\ttasks: []\n", "o.yaml, line 2, column 1"),
        ("a: 1\nb: 2\na: 3\n", "o.yaml, line 3, column 1: 'a' is there twice"),
        ("a: !!python/object:os.system 1\n", "o.yaml, line 1, column 4"),
        ("a: 1\nb: \x07\n", "o.yaml, line 2"),
        (b"a: 1\nb: 2\nc: \xff\n", "o.yaml, line 3: is not UTF-8"),
    ],
)
def test_what_is_no_yaml_is_named_by_file_and_line(tmp_path: Path, text: str | bytes, place: str) -> None:
    assert place in complaint(written(tmp_path, text))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text\n"])
def test_only_a_mapping_can_be_an_orchestration(tmp_path: Path, text: str) -> None:
    assert "is a mapping of fields" in complaint(written(tmp_path, text))


@pytest.mark.parametrize("text", ["a: .nan\n", "a: !!binary aGk=\n", "a: &x [*x]\n"])
def test_what_json_cannot_carry_is_refused_here(tmp_path: Path, text: str) -> None:
    assert "JSON can't carry" in complaint(written(tmp_path, text))


def test_a_merge_may_be_overridden(tmp_path: Path) -> None:
    file = written(tmp_path, "base: &b {title: A, priority: low}\ntask:\n  <<: *b\n  title: B\n")
    assert read_orchestration(file)["task"] == {"title": "B", "priority": "low"}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none.yaml") == f"cannot read {tmp_path}/none.yaml: No such file or directory"
