"""The life of one orchestration, commit by commit, with nearly everything that can happen to one."""

from collections.abc import AsyncIterator
from typing import Any, Final

from shared.domain import commands as cmd
from shared.domain.events import AgentStatus, TaskSpec
from tests.integration.api.system import Dispatcher
from tests.support.orchestrations import OVERLOADED, after, agent_id, attempt_id, finish, observe, record, reject, start

ODD: Final[dict[str, Any]] = {
    "floats": [0.1, 1e-7, 1.0, -0.0, 1e300, 12345678901234567890],
    "z": 1,
    "a": {"b": None, "a": [True, {}]},
    "text": 'ü字😀 "\\ / \u2028 </script> \t',
    "": "no name",
}
"""What two ways of writing JSON would write in two ways."""

TASKS: Final[list[dict[str, Any]]] = [
    {"title": "Add validation", "description": "Validate every field of the form.", "metadata": ODD},
    {"title": "Write tests", "description": "Cover the validation with tests.", "maxRetries": 2},
]


async def live(dispatcher: Dispatcher, created: dict[str, Any]) -> AsyncIterator[int]:
    """Carry on a new orchestration of TASKS; gives way after each commit, with its sequence."""
    for command in _commands(*(task["id"] for task in created["tasks"])):
        decided = await dispatcher.decide(created["id"], command)
        assert decided.events, f"{command.type} changed nothing"
        yield decided.sequence


def _commands(one: str, two: str) -> list[cmd.AnyCommand]:
    three = TaskSpec(task_id=f"{two[:-1]}x", title="Add\nlater", description="One more thing to do.", order_index=9)
    again = start(one, 2).model_copy(update={"agent_id": agent_id(one)})
    return [
        cmd.ActivateOrchestration(),
        cmd.NoteWaiting(attempt_id=attempt_id(one), reason="budget", until=after(60)),
        start(one),
        record(one),
        observe(one, AgentStatus.RUNNING),
        cmd.PauseOrchestration(),
        observe(one, AgentStatus.STOPPED, cost=0.1 + 0.2, duration_ms=1234),
        cmd.UpdateOrchestration(changes={"name": "Another name", "tags": ["b", "a"]}),
        cmd.ResumeOrchestration(),
        again,
        record(one, 2, agent_id=agent_id(one)),
        finish(one, 2, agent_id=agent_id(one), summary='A NUL \0 came,\nand a "quote"', usage=None),
        start(two),
        reject(two, failure=OVERLOADED),
        cmd.UpdateTask(task_id=two, changes={"title": "Write more tests"}),
        cmd.SkipTask(task_id=two),
        cmd.AddTask(task=three),
        start(three.task_id),
        record(three.task_id),
        cmd.CancelOrchestration(),
        observe(three.task_id, AgentStatus.STOPPED),
        cmd.DeleteAgent(attempt_id=attempt_id(three.task_id)),
        cmd.RecordAgentDeleted(attempt_id=attempt_id(three.task_id)),
        cmd.RestartTask(task_id=one),
    ]
