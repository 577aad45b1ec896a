"""Imports go one way, and the broker is spoken to in one place: no type check sees that."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_TOP = ("shared", "services", "cli", "deploy")
_PUBLISHING = "shared.jetstream"
# A bare connection ("nc") is left out: an answer to one who waits is rightly a message that nobody stores.
_BROKER_NAMES = {"broker", "js", "jetstream"}


def _module(file: Path) -> str:
    parts = file.relative_to(_ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


_SOURCES = {_module(file): file for top in _TOP for file in sorted((_ROOT / top).rglob("*.py"))}


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Every module that is imported anywhere in it, also inside functions and for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            own = package.split(".")
            base = own[: len(own) - node.level + 1] if node.level else []
            source = ".".join([*base, node.module] if node.module else base)
            # `from services import api` names its module in the second half.
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _forbidden(importer: str, imported: str) -> str | None:
    """Why `importer` must not import `imported`; None when it may."""
    if _within(imported, "tests"):
        return "what runs does not depend on tests"
    if _within(importer, "shared.domain"):
        top = imported.partition(".")[0]
        pure = top in sys.stdlib_module_names or top == "pydantic" or _within(imported, "shared.domain")
        return None if pure else "the domain is the standard library, pydantic and itself"
    if _within(importer, "shared") and any(_within(imported, top) for top in ("services", "cli", "deploy")):
        return "what is shared knows nothing of those who share it"
    if _within(importer, "services"):
        own = ".".join(importer.split(".")[:2])
        if _within(imported, "services") and not _within(imported, own):
            return "services meet in the broker and in what is shared, so that each can be run and changed alone"
        if _within(imported, "cli") or _within(imported, "deploy"):
            return "a service does not know how it is run or who calls it"
    if _within(importer, "cli") and _within(imported, "services"):
        return "the command is a client of the API like any other"
    if _within(importer, "deploy") and (_within(imported, "services") or _within(imported, "cli")):
        return "deployments run the services as processes, as they run in production"
    return None


def _misused_broker(importer: str, tree: ast.AST) -> Iterator[str]:
    """Calls that lose messages or rewrite streams, each of them without an error."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        called = _last_name(node.func)
        declared = given.get("declare")
        if called == "JStream" and not (isinstance(declared, ast.Constant) and declared.value is False):
            yield f"line {node.lineno}: JStream without declare=False rewrites the stream's settings at start"
        stream = given.get("stream")
        if called in ("subscriber", "publisher") and isinstance(stream, ast.Constant | ast.JoinedStr):
            yield f"line {node.lineno}: a stream given by name is rewritten at start: use JStream"
        if called == "publish" and isinstance(node.func, ast.Attribute) and not _within(importer, _PUBLISHING):
            receiver = node.func.value.func if isinstance(node.func.value, ast.Call) else node.func.value
            if _last_name(receiver).lstrip("_") in _BROKER_NAMES:
                yield (
                    f"line {node.lineno}: publish through {_PUBLISHING}: without the stream's name it is not "
                    "acknowledged and hides a conflict, and it gives up after half a second"
                )


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _trees() -> Iterator[tuple[str, ast.AST]]:
    for module, file in _SOURCES.items():
        yield module, ast.parse(file.read_text())


def _package(module: str) -> str:
    return module if _SOURCES[module].name == "__init__.py" else module.rpartition(".")[0]


def test_imports_go_one_way() -> None:
    broken = {
        f"{module} imports {imported}: {reason}"
        for module, tree in _trees()
        for imported in _imports(tree, _package(module))
        if (reason := _forbidden(module, imported))
    }
    assert not broken, "\n".join(sorted(broken))


def test_the_broker_is_used_only_in_ways_that_lose_nothing() -> None:
    misused = [f"{module}, {said}" for module, tree in _trees() for said in _misused_broker(module, tree)]
    assert not misused, "\n".join(misused)


@pytest.mark.parametrize(
    ("importer", "code"),
    [
        ("shared.domain.plan", "import orjson"),
        ("shared.domain.plan", "from shared.ports import Clock"),
        ("shared.ports", "from services.api import app"),
        ("shared.ports", "def late():\n    import deploy.local.up"),
        ("services.api.app", "from services.monitor.app import build"),
        ("services.api.app", "from services import monitor"),
        ("services.api.app", "from ..monitor import app"),
        ("services.api.app", "from .. import monitor"),
        ("services.api.app", "import cli.main"),
        ("cli.main", "import services.api.app"),
        ("deploy.local.up", "from services.api import app"),
        ("shared.ports", "from tests.support import servers"),
    ],
)
def test_the_rule_finds_a_wrong_import(importer: str, code: str) -> None:
    package = importer.rpartition(".")[0]
    assert any(_forbidden(importer, imported) for imported in _imports(ast.parse(code), package))


@pytest.mark.parametrize(
    ("importer", "code"),
    [
        ("shared.domain.plan", "from datetime import datetime\nfrom pydantic import BaseModel"),
        ("shared.domain.plan", "from shared.domain.state import Orchestration"),
        ("services.api.app", "import nats\nfrom services.api.routes import router\nfrom . import live"),
        ("cli.main", "from deploy.local.up import run_up\nfrom shared.domain import models"),
    ],
)
def test_the_rule_lets_a_right_import_pass(importer: str, code: str) -> None:
    package = importer.rpartition(".")[0]
    assert not any(_forbidden(importer, imported) for imported in _imports(ast.parse(code), package))


@pytest.mark.parametrize(
    "code",
    [
        "JStream('EVENTS')",
        "JStream('EVENTS', declare=True)",
        "broker.subscriber('evt.>', stream='EVENTS')",
        "await self._js.publish('evt.a', b'')",
        "await connection.jetstream().publish('evt.a', b'')",
        "await broker.publish(b'', 'evt.a', stream='EVENTS')",
    ],
)
def test_the_rule_finds_a_misused_broker(code: str) -> None:
    tree = ast.parse(code, mode="exec") if "await" not in code else ast.parse(f"async def f():\n    {code}")
    assert list(_misused_broker("services.api.app", tree))


def test_the_rule_lets_our_own_publisher_pass() -> None:
    code = "publisher.publish('evt.a', b'')\nbroker.subscriber('evt.>', stream=JStream('EVENTS', declare=False))"
    assert not list(_misused_broker("services.api.app", ast.parse(code)))
