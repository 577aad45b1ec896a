"""A create that is refused for its model is tried once more without it, unless the user insists on the model."""

from dataclasses import replace

import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.provider import ApiVersion
from shared.domain.commands import ExpireAttempt, UpdateOrchestration
from shared.domain.events import AttemptModelDropped, TaskStatus
from shared.domain.state import Phase
from tests.unit.dispatcher.scripted import NO_MODEL, UNANSWERED, UNAVAILABLE
from tests.unit.dispatcher.test_follow_ups import launch_and_die
from tests.unit.dispatcher.world import SETTLE, START, World, make_task, world

both = pytest.mark.parametrize("version", ["v0", "v1"])


def models_sent(w: World) -> list[str | None]:
    return [request.model for request in w.provider.requests]


@both
async def test_the_agent_is_created_without_the_model_and_both_log_and_attempt_show_it(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create(make_task("a", model="o9"))
        w.provider.before_create = [NO_MODEL]
        await w.launch()
        attempt, state = await w.attempt(), await w.state()
        assert models_sent(w) == ["o9", None]
        assert (len(w.provider.agents), attempt.phase, attempt.model) == (1, Phase.CREATED, None)
        assert attempt.agent_id in w.provider.agents
        assert w.waits == []
        [warning] = state.warnings
        assert "model 'o9' is left out" in warning
        assert "Invalid model: o9" in warning


@both
async def test_everything_but_the_model_stays_as_it_was(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create(make_task("a", model="o9"))
        w.provider.before_create = [NO_MODEL]
        await w.launch()
        first, second = w.provider.requests
        assert second == replace(first, model=None)


@both
async def test_the_log_has_it_before_the_second_create_leaves(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create(make_task("a", model="o9"))

        async def look() -> None:
            assert any(isinstance(event, AttemptModelDropped) for event in await w.events())

        w.provider.before_create = [NO_MODEL, look]
        await w.launch()
        assert len(w.provider.agents) == 1


@both
async def test_what_the_user_insists_on_fails_the_task_at_once(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create(make_task("a", model="o9"), strict_model=True)
        w.provider.before_create = [NO_MODEL]
        await w.launch()
        task = await w.task()
        assert models_sent(w) == ["o9"]
        assert task.status is TaskStatus.FAILED
        assert task.failure is not None
        assert task.failure.code == "INVALID_MODEL"
        assert "GET /api/models" in task.failure.message


@both
async def test_there_is_one_try_without_it_and_no_more(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create(make_task("a", model="o9"))
        w.provider.before_create = [NO_MODEL, NO_MODEL]
        await w.launch()
        assert models_sent(w) == ["o9", None]
        assert (await w.task()).status is TaskStatus.FAILED
        assert w.provider.agents == {}
        assert await w.holders() == []


@both
async def test_a_refusal_without_a_model_in_the_request_is_final(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create()
        w.provider.before_create = [NO_MODEL]
        await w.launch()
        assert models_sent(w) == [None]
        assert (await w.task()).status is TaskStatus.FAILED


async def test_who_insists_while_the_create_is_on_its_way_is_heeded() -> None:
    async with world() as w:
        await w.create(make_task("a", model="o9"))

        async def insist() -> None:
            await w.do(UpdateOrchestration(changes={"strict_model": True}))
            raise NO_MODEL

        w.provider.before_create = [insist, NO_MODEL]
        await w.launch()
        assert None not in models_sent(w)
        assert (await w.task()).status is TaskStatus.FAILED


async def test_an_attempt_whose_time_is_over_is_not_tried_without_its_model() -> None:
    async with world() as w:
        await w.create(make_task("a", model="o9", timeout_minutes=1, max_retries=0))

        async def expire_once_refused() -> None:
            if len(w.provider.requests) == 2:
                await w.do(ExpireAttempt(attempt_id=(await w.attempt()).attempt_id))

        w.provider.before_create = [UNANSWERED, NO_MODEL]
        w.while_asleep = [expire_once_refused] * 1000
        await w.launch()
        assert models_sent(w) == ["o9", "o9"]
        assert not [event for event in await w.events() if isinstance(event, AttemptModelDropped)]
        assert (await w.task()).status is TaskStatus.FAILED


@both
async def test_an_unknown_outcome_of_the_second_create_makes_no_second_agent(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create(make_task("a", model="o9"))
        w.provider.before_create = [NO_MODEL]
        w.provider.after_create = [UNANSWERED]
        await w.launch()
        assert len(w.provider.agents) == 1
        assert set(models_sent(w)[1:]) == {None}
        assert await w.known_agents() == list(w.provider.agents)


async def test_on_v1_a_refusal_after_an_unknown_outcome_is_believed_only_when_that_is_settled() -> None:
    """The first create may have been taken after all: nothing else may be sent before it is known that it was not."""
    async with world("v1") as w:
        await w.create(make_task("a", model="o9"))
        w.provider.before_create = [UNANSWERED, NO_MODEL]
        dropped_at: list[object] = []

        async def note() -> None:
            dropped_at.append(w.clock.now())

        w.provider.before_create.append(note)
        await w.launch()
        assert models_sent(w) == ["o9", "o9", None]
        assert dropped_at[0] >= START + SETTLE  # type: ignore[operator]
        assert len(w.provider.agents) == 1


@both
async def test_whoever_takes_the_ticket_over_sends_no_model_either(version: ApiVersion) -> None:
    async with world(version) as w:
        await w.create(make_task("a", model="o9"))
        ticket = await w.ticket()

        async def die() -> None:
            raise KeyboardInterrupt

        w.provider.before_create = [NO_MODEL, die]
        with pytest.raises(KeyboardInterrupt):
            await w.launch(ticket)
        w.restart()
        await w.launch(ticket)
        assert "o9" not in models_sent(w)[1:]
        assert len(w.provider.agents) <= 1


async def test_a_throttle_in_between_does_not_bring_the_model_back() -> None:
    async with world() as w:
        await w.create(make_task("a", model="o9"))
        w.provider.before_create = [NO_MODEL, UNAVAILABLE]
        await w.launch()
        assert models_sent(w) == ["o9", None, None]


async def test_another_refusal_without_the_model_says_its_own_reason() -> None:
    async with world() as w:
        await w.create(make_task("a", model="o9"))
        w.provider.before_create = [NO_MODEL, ProviderError("repository_access", "no access", status=403)]
        await w.launch()
        task = await w.task()
        assert task.failure is not None
        assert task.failure.code == "INVALID_REPOSITORY"
        assert "GitHub App" in task.failure.message


@both
async def test_a_crash_at_any_point_makes_one_agent_at_most_and_none_with_the_refused_model(
    version: ApiVersion,
) -> None:
    for point in range(1, 100):
        async with world(version) as w:
            await w.create(make_task("a", model="o9"))
            ticket = await w.ticket()
            refuse_the_model(w)
            died = await launch_and_die(w, ticket, point)
            await w.launch(ticket)
            assert len(w.provider.agents) <= 1
            first = (await w.task()).attempts[0]
            if first.phase is Phase.CREATED:
                assert first.model is None
                assert models_sent(w)[-1] is None
            else:  # on v0, where nobody knows of a create that was on its way
                assert (version, first.failure and first.failure.code) == ("v0", "NETWORK_ERROR")
            if not died:
                assert point > 8, "it was meant to be killed at many points"
                return
    raise AssertionError("it never got through")


def refuse_the_model(w: World) -> None:
    """Each create with it is refused, however many there are."""

    async def look() -> None:
        if w.provider.requests[-1].model is not None:
            raise NO_MODEL

    w.provider.before_create = [look] * 100
