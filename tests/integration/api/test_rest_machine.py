"""Whatever is asked over REST, in whatever order: the answers and the states are those of a model.

`make machine` goes more and longer ways than `make check`.
"""

import os
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from deploy.local.postgres import PostgresServer
from tests.integration.api.machine.comparing import Comparing
from tests.integration.api.machine.reading import Reading
from tests.integration.api.machine.services import Services
from tests.integration.api.machine.users import Users
from tests.integration.api.machine.world import world

EXAMPLES: Final = int(os.environ.get("MACHINE_EXAMPLES", "4"))
STEPS: Final = int(os.environ.get("MACHINE_STEPS", "30"))
SHRINK: Final = bool(os.environ.get("MACHINE_SHRINK"))


class RestMachine(Users, Services, Reading):
    """One orchestration and everything that users and services do to it."""


@pytest.mark.timeout(180 if EXAMPLES <= 10 else 7200)
def test_whatever_is_asked_is_answered_as_the_model_answers_it(postgres: PostgresServer) -> None:
    with world(postgres) as Comparing.world:
        run_state_machine_as_test(
            RestMachine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=EXAMPLES <= 10,
                database=None,
                deadline=None,
                # To find a shorter way to a failure takes minutes; the way that led to it is told step by step.
                phases=[Phase.generate, *([Phase.shrink] if SHRINK else [])],
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
