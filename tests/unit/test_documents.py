"""What the pages for people refer to is there."""

import re
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
_PATH = re.compile(r"`((?:services|shared|cli|deploy|tests|docs)/[\w./-]*)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_every_path_that_a_page_names_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    for target, section in _LINK.findall(text):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{target} is not there"
        assert not section or section in _sections(file), f"{target}#{section} is not there"
    for path in _PATH.findall(text):
        assert (ROOT / path).exists(), f"{path} is not there"


def test_every_command_is_in_the_table_of_the_readme() -> None:
    told = set(re.findall(r"[a-z-]+", (ROOT / "README.md").read_text().partition("| command | |")[2]))
    command = get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    assert sorted(set(command.commands) - told) == []


def _sections(file: Path) -> set[str]:
    """The names by which the headings of a page are linked to."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
