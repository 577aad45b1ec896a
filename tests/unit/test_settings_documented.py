"""Every setting of every program is in the tables of the documents, with the default that it has."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from deploy.local.simulator.settings import SimulatorSettings
from services.api.settings import ApiSettings
from services.dispatcher.settings import DispatcherSettings
from services.monitor.settings import MonitorSettings
from services.notifier.settings import NotifierSettings, SigningSettings

DOCS = Path(__file__).parents[2] / "docs"
SERVICES: list[type[BaseSettings]] = [
    ApiSettings,
    DispatcherSettings,
    MonitorSettings,
    NotifierSettings,
    SigningSettings,
]
_ROW = re.compile(r"^\| `([A-Z_]+)` \| (?:[^|]*\| )?([^|]*?) ?\| [^|]*\|$", re.MULTILINE)


@pytest.mark.parametrize("settings", SERVICES, ids=lambda one: one.__name__)
def test_every_setting_of_a_service_is_in_the_table_with_its_default(settings: type[BaseSettings]) -> None:
    page = (DOCS / "operations.md").read_text()
    said = list(_defaults(page[page.index("## Settings") : page.index("## Keys")]))
    for name, field in settings.model_fields.items():
        # The api has no port of its own for its health: the table tells that of the others.
        if settings is ApiSettings and name == "health_port":
            continue
        assert (name.upper(), _default(field)) in said


def test_the_table_of_the_simulator_has_its_settings_and_no_other_each_with_its_default() -> None:
    page = (DOCS / "simulator.md").read_text()
    said: dict[str, str] = {}
    for row in page[page.index("## Settings") : page.index("## What it imitates")].splitlines():
        if row.startswith("| `SIMULATOR_"):
            names, defaults, _ = (re.findall(r"`([^`]+)`", cell) or [cell] for cell in row.strip("| ").split(" | "))
            said |= zip(names, defaults if len(defaults) > 1 else defaults * len(names), strict=True)
    in_words = {"api_key": "unset", "repositories": "acme", "faults": "{}"}
    assert said == {
        f"SIMULATOR_{name.upper()}": in_words.get(name) or _default(field)
        for name, field in SimulatorSettings.model_fields.items()
    }


def test_the_table_has_no_setting_that_is_gone() -> None:
    page = (DOCS / "operations.md").read_text()
    named = {name for name, _ in _defaults(page[page.index("## Settings") : page.index("## Keys")])}
    known = {name.upper() for settings in SERVICES for name in settings.model_fields}
    assert named - known == {"FORWARDED_ALLOW_IPS"}  # read by the HTTP server


def _defaults(table: str) -> Iterator[tuple[str, str]]:
    for name, default in _ROW.findall(table):
        yield name, default.strip("`")


def _default(field: FieldInfo) -> str:
    """As the table has it."""
    if field.is_required():
        return "required"
    match field.default:
        case None:
            return ""
        case bool():
            return str(field.default).lower()
        case int() if field.default % 1024**3 == 0 and field.default:
            return f"{field.default // 1024**3} GiB"
        case int() | float():
            return f"{field.default:g}"
        case SecretStr():
            raise AssertionError("a secret has no default")
        case default:
            return str(default)
