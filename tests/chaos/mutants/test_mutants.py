"""Each guard of the promise is missed by a test when it is taken away, and by none while it is there."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.mutants.mutants import MUTANTS, Mutant
from tests.support.servers import temporary_folder

ROOT = Path(__file__).parents[3]
_COPIED = ("cli", "deploy", "services", "shared", "tests", "docs", "pyproject.toml")
_FAILED = 1  # pytest's exit code for tests that failed; 2 to 5 are that something else went wrong

each = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


@each
def test_a_mutant_takes_away_what_is_there_and_names_tests_that_are(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    for test in mutant.tests:
        file, _, function = test.partition("::")
        names = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")}
        assert not function or function in names, test


def test_the_page_has_every_mutant_with_its_tests() -> None:
    page = (ROOT / "docs" / "chaos.md").read_text()
    for mutant in MUTANTS:
        row = next((line for line in page.splitlines() if line.startswith(f"| {mutant.name} |")), "")
        for test in mutant.tests:
            assert test.split("::")[-1] in row, f"{mutant.name}: {test}"


@pytest.mark.long
@pytest.mark.timeout(600)
@each
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    with temporary_folder() as folder:
        _copy(folder)
        file = folder / mutant.file
        file.write_text(file.read_text().replace(mutant.old, mutant.new))
        done = _run(folder, mutant.tests)
    assert done.returncode == _FAILED, done.stdout[-3000:]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_nothing_fails_while_every_guard_is_there() -> None:
    with temporary_folder() as folder:
        _copy(folder)
        done = _run(folder, tuple(sorted({test for mutant in MUTANTS for test in mutant.tests})))
    assert done.returncode == 0, done.stdout[-3000:]


def _copy(folder: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)


def _run(folder: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run them on the sources in `folder`: pytest puts it before what is installed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=540, check=False)
