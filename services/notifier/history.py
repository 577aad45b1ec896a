"""The state of an orchestration as of one of its events."""

from shared.domain.evolve import evolve
from shared.domain.state import Orchestration
from shared.ports import EventLog


class NotInHistoryError(Exception):
    """The log does not show the event (yet): a replica may lag behind."""


async def state_as_of(log: EventLog, team: str, orchestration_id: str, event_id: str) -> Orchestration:
    """The state that the commit with this event led to, whatever came after it.

    The event is found by its id: its sequence is another one in a log that was restored from the archive.

    Raises:
        NotInHistoryError: there is no such event.
        LogUnavailableError: the log does not answer.
    """
    state: Orchestration | None = None
    for stored in await log.read(team, orchestration_id):
        for recorded in stored.commit.events:
            state = evolve(state, recorded.event, recorded.occurred_at)
        if state is not None and any(recorded.id == event_id for recorded in stored.commit.events):
            return state
    raise NotInHistoryError(f"orchestration {orchestration_id} has no event {event_id}")
