"""However the provider behaves, what is to stop stops soon, and is believed to have when that is seen."""

from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from statistics import median

import pytest

from shared.cursor.provider import ApiVersion
from shared.domain.commands import CancelOrchestration, DeleteOrchestration, PauseOrchestration, ResumeOrchestration
from shared.domain.errors import Refusal
from shared.domain.events import AgentStatus, OrchestrationStatus
from tests.unit.dispatcher.world import make_task
from tests.unit.stopping.course import Course, course

VERSIONS: list[ApiVersion] = ["v0", "v1"]
both = pytest.mark.parametrize("version", VERSIONS)
ORCHESTRATIONS = 20
Ask = type[CancelOrchestration] | type[DeleteOrchestration] | type[PauseOrchestration]
ASKS: list[Ask] = [CancelOrchestration, DeleteOrchestration, PauseOrchestration]


class Story:
    """Twenty orchestrations of two tasks each; every fifth task's is cancelled, deleted or paused while it runs."""

    def __init__(self, c: Course) -> None:
        self.c = c
        self.names = [f"orc-{number}" for number in range(ORCHESTRATIONS)]
        self.asked: dict[str, tuple[str, datetime]] = {}
        """What was asked of an orchestration, and when."""

    async def begin(self) -> None:
        for name in self.names:
            tasks = [make_task(f"{name}-{letter}", order_index=index) for index, letter in enumerate("ab")]
            await self.c.create(name, *tasks, execution_mode="parallel", failure_policy="continue")
        chance = self.c.chance
        for name in chance.sample(self.names, ORCHESTRATIONS // 5 * 2):
            # While creates are under way, when their answer was lost, or when the agents are at work.
            self.c.later(chance.uniform(0, 240), partial(self.ask, name, chance.choice(ASKS)))

    async def ask(self, name: str, command: Ask) -> None:
        try:
            await self.c.do(name, command())
        except Refusal:
            return  # it had ended
        self.asked[name] = (command.type, self.c.clock.now())
        if command is PauseOrchestration and self.c.chance.random() < 0.5:
            self.c.later(self.c.chance.uniform(0, 1200), partial(self.resume, name))

    async def resume(self, name: str) -> None:
        await self.c.do(name, ResumeOrchestration())
        del self.asked[name]

    async def agents_of(self, name: str) -> set[str]:
        state = await self.c.state(name)
        branches = {attempt.branch_name for task in state.tasks.values() for attempt in task.attempts}
        ids = {attempt.agent_id for task in state.tasks.values() for attempt in task.attempts}
        by_branch = {self.c.provider.by_branch.get(branch or "") for branch in branches}
        return {agent_id for agent_id in ids | by_branch if agent_id in self.c.provider.made}

    async def check(self) -> list[float]:
        """Nothing that was to stop is at work, or is still believed to be; how long each worked on, in seconds."""
        late = []
        for name, (asked, at) in self.asked.items():
            state = await self.c.state(name)
            for agent_id in await self.agents_of(name):
                worked_on = (self.c.provider.made[agent_id].ends - at).total_seconds()
                assert worked_on <= 300, f"{agent_id} worked on for {worked_on:.0f} s after {asked}"
                late += [worked_on] if worked_on > 0 else []
            assert not list(state.active_attempts()), name
            ended = {"orchestration.pause": OrchestrationStatus.PAUSED}.get(asked, OrchestrationStatus.CANCELLED)
            assert state.status in (ended, OrchestrationStatus.COMPLETED), name
            assert state.deleted is (asked == "orchestration.delete")
        return late


async def tell(seed: int, version: ApiVersion, stop_word: AgentStatus = AgentStatus.STOPPED) -> list[float]:
    """The seconds for which agents worked on after they were to stop, without those that had ended by then."""
    async with course(version, seed) as c:
        c.provider.stop_word = stop_word
        story = Story(c)
        await story.begin()
        await c.pass_by(timedelta(hours=1))
        late = await story.check()
        assert max(c.provider.creates.values()) == 1, "two agents of one attempt"
        most = max(Counter(agent_id for agent_id, _ in c.provider.stops).values(), default=0)
        assert most < 40, "it was not asked for in a hurry, but in a loop"
        return late


@both
async def test_whatever_is_cancelled_deleted_or_paused_stops_within_five_minutes_and_mostly_at_once(
    version: ApiVersion,
) -> None:
    late = [seconds for seed in range(3) for seconds in await tell(seed, version)]
    assert len(late) > 10
    assert median(late) <= 10, "a stop that fails is repeated at once and not with the next poll"


async def test_on_v0_it_does_also_where_a_stop_leads_to_finished() -> None:
    await tell(0, "v0", AgentStatus.FINISHED)


@pytest.mark.long
@both
@pytest.mark.parametrize("seed", range(100, 112))
async def test_it_does_so_however_the_dice_fall(seed: int, version: ApiVersion) -> None:
    await tell(seed, version, AgentStatus.FINISHED if version == "v0" and seed % 2 else AgentStatus.STOPPED)
