"""The projector's memory: bounded, the longest unused goes first."""

from services.api.projections import replay
from services.api.state_cache import StateCache
from tests.unit.projections.histories import TEAM, failed_fast, stored

KEYS = [(TEAM, f"orc-{number}") for number in range(4)]
STATES = replay(stored(*(failed_fast(aggregate) for _, aggregate in KEYS)))


def test_the_longest_unused_are_dropped_when_there_are_too_many_tasks() -> None:
    cache = StateCache(max_tasks=6)  # three orchestrations of two tasks
    for key in KEYS[:3]:
        cache.put(key, STATES[key])
    cache.known([KEYS[0]])
    cache.put(KEYS[3], STATES[KEYS[3]])
    assert cache.known(KEYS).keys() == {KEYS[0], KEYS[2], KEYS[3]}


def test_putting_the_same_aggregate_again_takes_no_more_room() -> None:
    cache = StateCache(max_tasks=4)
    cache.put(KEYS[0], STATES[KEYS[0]])
    for _ in range(10):
        cache.put(KEYS[1], STATES[KEYS[1]])
    assert len(cache) == 2


def test_one_that_is_larger_than_the_cache_is_still_kept() -> None:
    cache = StateCache(max_tasks=1)
    cache.put(KEYS[0], STATES[KEYS[0]])
    assert len(cache) == 1
