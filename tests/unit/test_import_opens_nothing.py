"""Importing a module of the product connects to nothing: what is opened is opened by a composition root."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_IMPORT_ALL = """
import importlib, socket, sys

def refuse(self, address):
    raise AssertionError(f"connects to {address} while it is imported")

socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = refuse
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_no_module_connects_or_listens_while_it_is_imported() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("shared", "services", "cli", "deploy")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.stem != "__main__"
    ]
    assert len(names) > 100
    run = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, *names], cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
