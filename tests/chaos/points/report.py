"""The outcome of a sweep: a table with a line for each failpoint, and every promise that was not kept."""

from dataclasses import dataclass, field

from shared.cursor.provider import ApiVersion
from tests.chaos.points.judging import debts, left_over, miscounted, most_agents, parked, untold
from tests.chaos.points.sweep import Telling, Visit
from tests.chaos.points.world import World


@dataclass
class Row:
    point: str
    """With where the process was killed before, in brackets, if only that leads there."""
    hits: int
    kills: int
    agents: int
    """Of the attempt that had most."""
    ended: int
    begun: int
    seconds: float


@dataclass
class Outcome:
    version: ApiVersion
    rows: list[Row] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For people."""
        lines = [f"{self.version:<100} {'hits':>6} {'kills':>6} {'agents':>7} {'ended':>8} {'seconds':>8}"]
        lines += [
            f"{row.point:<100} {row.hits:>6} {row.kills:>6} {row.agents:>7} {f'{row.ended}/{row.begun}':>8} "
            f"{row.seconds:>8.1f}"
            for row in self.rows
        ]
        kills, begun = sum(row.kills for row in self.rows), sum(row.begun for row in self.rows)
        lines.append(f"{len(self.rows)} failpoints, {kills} kills, {begun} orchestrations")
        lines += [f"VIOLATION: {said}" for said in self.violations]
        return "\n".join(lines)


async def judge(world: World, visits: list[Visit], runs: int) -> Outcome:
    """Hold everything against what was promised, once nothing is under way any more or should be."""
    outcome = Outcome(world.version)
    seen = await world.seen_by_provider()
    created: dict[str, int] = seen["creates_by_attempt"]
    for visit in visits:
        told = [found for telling in visit.tellings for found in _violations(telling, created)]
        if visit.kills < runs and visit.prelude is None:
            told.append(f"killed {visit.kills} times only")
        outcome.violations += [f"{visit.point}: {text}" for text in told]
        outcome.rows.append(_row(visit, world, created))
    outcome.violations += await left_over(world)
    outcome.violations += await debts(world)
    outcome.violations += await parked(world)
    if seen["running"]:
        outcome.violations.append(f"{seen['running']} agents are left running")
    return outcome


def _row(visit: Visit, world: World, created: dict[str, int]) -> Row:
    states = [state for t in visit.tellings if (state := world.states.get(t.tale.id)) is not None]
    return Row(
        point=f"{visit.point} ({visit.prelude})" if visit.prelude else visit.point,
        hits=visit.hits,
        kills=visit.kills,
        agents=max((most_agents(created, state) for state in states), default=0),
        ended=sum(telling.succeeded for telling in visit.tellings),
        begun=len(visit.tellings),
        seconds=visit.seconds,
    )


def _violations(telling: Telling, created: dict[str, int]) -> list[str]:
    tale, found = telling.tale, []
    where = f"{telling.story.name} {tale.id or tale.title}"
    state = tale.world.states.get(tale.id)
    if telling.task.cancelled():
        found.append(f"stands at {state.status if state else 'nothing'}")
    elif (error := telling.task.exception()) is not None:
        found.append(f"{type(error).__name__}: {error}")
    found += untold(tale)
    if state is not None:
        found += miscounted(created, state)
    return [f"{where}: {text}" for text in found]
