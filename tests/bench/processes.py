"""CPU time and memory of the processes of a local system, as Linux accounts for them."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Of one process and all its children: CPU so far, and memory now (shared pages are counted for each)."""

    cpu_seconds: float
    memory_bytes: int


def usage_of(processes_file: Path) -> dict[str, Usage]:
    """The usage of each process that the supervisor's record names."""
    children = _children()
    record = json.loads(processes_file.read_text())["processes"]
    return {name: _usage(entry["pid"], children) for name, entry in record.items() if entry["pid"]}


def _usage(pid: int, children: dict[int, list[int]]) -> Usage:
    total = [_of_one(pid)]
    total += [_usage(child, children) for child in children.get(pid, [])]
    return Usage(sum(usage.cpu_seconds for usage in total), sum(usage.memory_bytes for usage in total))


def _of_one(pid: int) -> Usage:
    """User, system and that of children that have ended; nothing for one that is gone."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return Usage(0.0, 0)
    ticks = sum(int(field) for field in fields[11:15])
    return Usage(ticks / _TICKS_PER_SECOND, int(fields[21]) * _PAGE_BYTES)


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(folder.name))
    return children
