"""Orchestrations that have ended, told by their commands; what they hold that must not leave is easy to search for."""

from datetime import UTC, datetime, timedelta

from shared.command_handler import Cause, CommandHandler
from shared.domain import commands as cmd
from shared.domain.commands import ActivateOrchestration, CreateOrchestration, ObserveAgent, RejectAttempt, StartAttempt
from shared.domain.events import AgentStatus, Failure, OrchestrationSpec, TaskSpec
from shared.domain.state import Orchestration
from shared.envelope import Stored, encode
from shared.jetstream.consumer import Delivery
from shared.jetstream.topology import event_subject
from shared.memory import ManualClock, SequentialIds
from shared.ports import EventLog
from shared.system import RandomIds

TEAM = "team-a"
BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PROMPT = "SECRET-PROMPT: rewrite it all"
METADATA = "SECRET-METADATA"


class Story:
    """One orchestration of one task on `log`; `begin` is when it was created, each step takes a minute."""

    def __init__(
        self, log: EventLog, *, webhook_url: str | None, begin: datetime = BEGIN, random_ids: bool = False
    ) -> None:
        self.log = log
        self.webhook_url = webhook_url
        self.clock = ManualClock(begin)
        self.id = RandomIds().new() if random_ids else "orch-1"
        ids = RandomIds() if random_ids else SequentialIds("commit")
        self._handler = CommandHandler(log, self.clock, ids)
        self._step = 0

    async def complete(self) -> "Story":
        """Created, activated, its agent finished with a pull request."""
        attempt_id = await self._start()
        await self._do(
            ObserveAgent(
                attempt_id=attempt_id,
                agent_id="bc-1",
                status=AgentStatus.FINISHED,
                provider_status="FINISHED",
                source="poll",
                url="https://cursor.com/agents/bc-1",
                branch="cursor/work",
                pr_url="https://github.com/acme/shop/pull/7",
                summary="Bumped it – done ✓",
                cost=0.25,
            )
        )
        return self

    async def fail(self) -> "Story":
        """Created, activated, its agent refused for good."""
        attempt_id = await self._start()
        refusal = Failure(code="CURSOR_API_ERROR", message="no access to the repository")
        await self._do(RejectAttempt(attempt_id=attempt_id, failure=refusal))
        return self

    async def cancel(self) -> "Story":
        """Created and cancelled before anything of it ran."""
        await self._create()
        await self._do(cmd.CancelOrchestration())
        return self

    async def pause(self) -> "Story":
        """Activated and paused before its agent was launched."""
        await self._create()
        await self._do(ActivateOrchestration())
        await self._do(cmd.PauseOrchestration())
        return self

    async def change(self) -> "Story":
        """Everything is asked of it that users may ask, up to its deletion."""
        await self.pause()
        more = TaskSpec(task_id=f"{self.id}-more", title="One more", description=PROMPT, metadata={"note": METADATA})
        changes = {"name": "Changed", "webhook_url": "https://hooks.example.com/SECRET-OTHER"}
        for command in (
            cmd.UpdateOrchestration(changes=changes),
            cmd.AddTask(task=more),
            cmd.UpdateTask(task_id=more.task_id, changes={"description": PROMPT + " again"}),
            cmd.ResumeOrchestration(),
            cmd.SkipTask(task_id=more.task_id),
            cmd.CancelOrchestration(),
            cmd.RestartTask(task_id=more.task_id),
            cmd.DeleteOrchestration(),
        ):
            await self._do(command)
        return self

    async def _start(self) -> str:
        await self._create()
        state = await self._do(ActivateOrchestration())
        attempt_id = next(iter(state.attempt_index))
        await self._do(
            StartAttempt(attempt_id=attempt_id, agent_id="bc-1", api_version="v1", branch_name="cursor/work")
        )
        return attempt_id

    async def _create(self) -> None:
        task = TaskSpec(
            task_id=f"{self.id}-task", title="Bump the version", description=PROMPT, metadata={"note": METADATA}
        )
        spec = OrchestrationSpec(
            repository="https://github.com/acme/shop", webhook_url=self.webhook_url, metadata={"note": METADATA}
        )
        await self._do(
            CreateOrchestration(orchestration_id=self.id, team=TEAM, created_by="ann", spec=spec, tasks=(task,))
        )

    async def _do(self, command: cmd.AnyCommand) -> Orchestration:
        self._step += 1
        self.clock.advance(timedelta(minutes=1))
        cause = Cause(f"{self.id}-command-{self._step}", f"{self.id}-correlation", "ann")
        decided = await self._handler.handle(TEAM, self.id, command, cause)
        assert decided.state is not None
        return decided.state

    async def state(self) -> Orchestration:
        state = (await self._handler.load(TEAM, self.id)).state
        assert state is not None
        return state

    async def commits(self) -> list[Stored]:
        return await self.log.read(TEAM, self.id)

    async def deliveries(self) -> list[Delivery]:
        """The commits as the consumer of EVENTS gets them."""
        return [
            as_delivery(encode(stored.commit), subject=event_subject(TEAM, self.id), sequence=stored.sequence)
            for stored in await self.commits()
        ]


def as_delivery(data: bytes, *, subject: str = "deliver.webhook", sequence: int = 1, deliveries: int = 1) -> Delivery:
    return Delivery(
        subject=subject, data=data, headers={}, deliveries=deliveries, sequence=sequence, published_at=BEGIN
    )
