"""Reads what is asked for from YAML (or JSON) files. What the fields mean is for the API to say."""

import json
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from cli.errors import UsageError

_STDIN = Path("-")


class _Loader(yaml.SafeLoader):
    """YAML as JSON can carry it: times stay text as they were written, and no key counts twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            # A merge (`<<`) may well be overridden beside it.
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_orchestration(file: Path) -> dict[str, Any]:
    """The file's fields as the body of a request; `-` reads standard input.

    Raises UsageError, naming file, line and column of what is no YAML.
    """
    return _mapping(file, "an orchestration is a mapping of fields such as `repository:` and `tasks:`")


def read_task(file: Path) -> dict[str, Any]:
    """Like `read_orchestration`, for one task."""
    return _mapping(file, "a task is a mapping of fields such as `title:` and `description:`")


def read_repositories(file: Path) -> list[Any]:
    """One repository a line, blank lines and `#` comments apart; or a YAML list, which may hold mappings."""
    name = _name(file)
    text = _read(file, name)
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    given = [line for line in lines if line and not line.startswith("#")]
    if given and not any(line.startswith(("-", "[")) for line in given):
        return given
    values = _as_json(_parse(text, name), name)
    if not isinstance(values, list):
        raise UsageError(f"{name}: is neither one repository a line nor a list of them")
    return values


def _mapping(file: Path, otherwise: str) -> dict[str, Any]:
    name = _name(file)
    fields = _as_json(_parse(_read(file, name), name), name)
    if not isinstance(fields, dict):
        raise UsageError(f"{name}: {otherwise}")
    return fields


def _as_json(value: object, name: str) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageError(f"{name}: holds a value that JSON can't carry: {exc}") from None


def _name(file: Path) -> str:
    return "standard input" if file == _STDIN else str(file)


def _read(file: Path, name: str) -> str:
    try:
        content = sys.stdin.buffer.read() if file == _STDIN else file.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as exc:
        raise UsageError(f"cannot read {name}: {exc.strerror}") from None
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        raise UsageError(f"{name}, line {line}: is not UTF-8 text") from None


def _parse(text: str, name: str) -> object:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as exc:
        raise UsageError(f"{name}{_place(exc)}: {_problem(exc)}") from None
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise UsageError(f"{name}, line {line}: a character that YAML does not allow") from None
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{name}: {exc}") from None


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _problem(error: yaml.MarkedYAMLError) -> str:
    return " ".join(part for part in (error.problem, error.context) if part) or "is not YAML"
