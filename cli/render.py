"""Views of the API as things that rich can print. Pure: nothing is fetched, printed or timed here."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli import describe, formats
from cli.errors import RefusedError
from cli.snapshot import Snapshot

View = Mapping[str, Any]
Numbered = tuple[int, View]

NARROW = 110
"""Below so many columns, agents and branches are shown by what tells them apart."""

# Around the rows: heading, frame and header of the table, progress, what was left out, and the line of the cursor.
_FRAME_LINES = 8

_GAP = (0, 0, 0, 1)
_MOST_DOINGS = 3

_STYLES = {
    "PENDING": "dim",
    "PROCESSING": "cyan",
    "ACTIVE": "cyan",
    "COMPLETED": "green",
    "PARTIAL_COMPLETED": "yellow",
    "PAUSED": "yellow",
    "CANCELLING": "yellow",
    "CANCELLED": "yellow",
    "DELETED": "red",
    "SKIPPED": "yellow",
    "FAILED": "red",
}


def state(word: object) -> Text:
    return Text(formats.clean(word), style=_STYLES.get(str(word), ""))


def progress(snapshot: Snapshot, now: datetime, *, width: int, height: int) -> RenderableType:
    """The live picture, at most `height` lines high where that can be had by leaving out finished tasks."""
    below = list(_below(snapshot, now))
    room = max(3, height - len(below) - _FRAME_LINES)
    shown = _most_telling(numbered(snapshot.tasks), room)
    left_out = len(snapshot.tasks) - len(shown)
    if left_out:
        below.insert(0, Text(f"{formats.counted(left_out, 'more task')} not shown", style="dim"))
    return Group(heading(snapshot.orchestration), task_table(shown, now, width=width), _bar(snapshot, now), *below)


def numbered(tasks: Sequence[View]) -> list[Numbered]:
    """From 1, in the order in which they are shown: a person may name a task by that."""
    return list(enumerate(tasks, 1))


def _most_telling(tasks: Sequence[Numbered], room: int) -> list[Numbered]:
    """What fits, in the usual order: tasks under way before failed ones, those to come, and what is done."""
    if len(tasks) <= room:
        return list(tasks)
    ranks = {"PROCESSING": 0, "FAILED": 1, "PENDING": 2}
    by_rank = sorted(range(len(tasks)), key=lambda index: ranks.get(tasks[index][1].get("status", ""), 3))
    return [tasks[index] for index in sorted(by_rank[:room])]


def heading(orchestration: View) -> Text:
    name = formats.clean(orchestration.get("name") or orchestration.get("id"))
    repository = formats.clean(orchestration.get("repository", "")).removeprefix("https://github.com/")
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(name, style="bold").append("  ").append(state(orchestration.get("status")))
    return text.append(f"  {repository} @ {formats.clean(orchestration.get('ref', ''))}", style="dim")


def task_table(tasks: Sequence[Numbered], now: datetime, *, width: int) -> Table:
    """A row per task, each on one line."""
    narrow = width < NARROW
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, padding=_GAP)
    table.add_column("#", no_wrap=True, justify="right")
    table.add_column("Task", ratio=3, no_wrap=True, overflow="ellipsis", min_width=12)
    table.add_column("State", no_wrap=True)
    table.add_column("Try" if narrow else "Attempt", no_wrap=True)
    table.add_column("Agent", no_wrap=True)
    table.add_column("Branch", ratio=2, no_wrap=True, overflow="ellipsis", min_width=8)
    for name in ("PR", "Time", "Cost"):
        table.add_column(name, no_wrap=True, justify="right")
    for number, task in tasks:
        table.add_row(Text(str(number), style="dim"), *_task_row(task, now, narrow=narrow))
    return table


def _task_row(task: View, now: datetime, *, narrow: bool) -> Iterator[Text]:
    agent = formats.agent(task.get("cloud_agent_id"))
    branch = formats.clean(task.get("result_branch") or formats.NOTHING)
    yield Text(describe.title(task))
    yield state(task.get("status"))
    yield Text(describe.attempt(task))
    yield _link(agent.removeprefix("bc-")[:6] if narrow else agent, task.get("cloud_agent_url"))
    yield Text(branch.rsplit("/", 1)[-1] if narrow else branch)
    yield _link(formats.pull_request(task.get("result_pr_url")), task.get("result_pr_url"))
    yield Text(describe.time_taken(task, now))
    yield Text(formats.cost(task.get("cost") or None))


def _link(text: str, url: str | None) -> Text:
    target = formats.web_link(url)
    return Text(text, style=f"link {target}" if target else "")


def _bar(snapshot: Snapshot, now: datetime) -> Table:
    """Progress, elapsed time and cost, on one line."""
    percent = snapshot.statistics.get("progress") or 0
    total = snapshot.statistics.get("totalTasks", len(snapshot.tasks))
    done = snapshot.statistics.get("completedTasks", 0)
    line = Table.grid(padding=(0, 2))
    line.add_row(
        ProgressBar(total=100, completed=percent, width=24),
        Text(f"{percent}%"),
        Text(f"{done} of {formats.counted(total, 'task')} completed"),
        Text(f"elapsed {formats.duration(snapshot.elapsed(now))}"),
        Text(f"cost {formats.cost(snapshot.statistics.get('totalCost') or 0.0)}"),
    )
    return line


def _below(snapshot: Snapshot, now: datetime) -> Iterator[Text]:
    """Why it goes no faster, and what is going on."""
    if snapshot.status == "PENDING" and snapshot.orchestration.get("schedule"):
        yield _aside(f"run by its schedule: {_runs(snapshot.orchestration)}")
    elif snapshot.status == "PENDING":
        yield _aside(f"not active yet: `orchestrator activate {snapshot.id}`")
    if snapshot.status == "PAUSED":
        yield _aside(
            f"{describe.paused(snapshot.orchestration)}: `orchestrator resume {snapshot.id}` goes on", "yellow"
        )
    for sentence in describe.waits(snapshot.tasks, now):
        yield _aside(sentence)
    yield from _doings(snapshot)
    if snapshot.note:
        yield _aside(snapshot.note, style="yellow")


def _doings(snapshot: Snapshot) -> Iterator[Text]:
    """What agents are at now; of many the first few."""
    at_work = [(task, doing) for task in snapshot.tasks if (doing := snapshot.doing(task))]
    for task, doing in at_work[:_MOST_DOINGS]:
        whose = f" ({describe.title(task)})" if len(at_work) > 1 else ""
        yield _aside(f"now{whose}: {formats.clean(doing)}")


def _aside(sentence: str, style: str = "dim") -> Text:
    return Text(sentence, style=style, no_wrap=True, overflow="ellipsis")


def summary(snapshot: Snapshot, now: datetime, *, width: int) -> RenderableType:
    """What came of the orchestration: its tasks with what each left behind, then the whole."""
    parts: list[RenderableType] = [
        heading(snapshot.orchestration),
        task_table(numbered(snapshot.tasks), now, width=width),
    ]
    parts += [line for task in snapshot.tasks for line in _result(task)]
    return Group(*parts, Text(), closing(snapshot, now))


def _result(task: View) -> Iterator[Text]:
    said, failed = task.get("result_summary"), describe.failure(task)
    if not said and not failed:
        return
    yield Text(describe.title(task), style="bold")
    if said:
        yield Text(f"  {formats.clean(said)}")
    if failed and task.get("status") != "COMPLETED":
        yield Text(f"  {failed}", style="red")
    if task.get("result_pr_url"):
        yield Text("  ").append(_link(formats.clean(task["result_pr_url"]), task["result_pr_url"]))


def closing(snapshot: Snapshot, now: datetime) -> Text:
    """The last words: how it ended, how long it took, what it cost."""
    text = Text().append(state("DELETED" if snapshot.deleted else snapshot.status))
    for words in (snapshot.orchestration.get("summary"), describe.failure(snapshot.orchestration)):
        if words:
            text.append(f"  {formats.clean(words)}")
    total = formats.cost(snapshot.statistics.get("totalCost") or 0.0)
    return text.append(f"\nduration {formats.duration(snapshot.elapsed(now))}, cost {total}")


def detail(snapshot: Snapshot, now: datetime, *, width: int) -> RenderableType:
    """Everything that a person asks of one orchestration."""
    orchestration = snapshot.orchestration
    warnings = [
        Text(f"warning: {formats.clean(words)}", style="yellow") for words in orchestration.get("warnings") or ()
    ]
    table = task_table(numbered(snapshot.tasks), now, width=width)
    results = [line for task in snapshot.tasks for line in _result(task)]
    end = closing(snapshot, now) if snapshot.ended else Group(_bar(snapshot, now), *_below(snapshot, now))
    return Group(heading(orchestration), facts(orchestration_facts(orchestration)), *warnings, table, *results, end)


def facts(known: Iterable[tuple[str, object]]) -> Table:
    """A line for each that there is something to say of."""
    grid = Table.grid(padding=(0, 2))
    for label, value in known:
        if value not in (None, ""):
            grid.add_row(Text(label, style="dim"), Text(formats.clean(value)))
    return grid


def orchestration_facts(orchestration: View) -> Iterator[tuple[str, object]]:
    """What was asked for, and when."""
    yield "id", orchestration.get("id")
    if orchestration.get("description"):
        yield "description", orchestration["description"]
    mode = str(orchestration.get("execution_mode"))
    if orchestration.get("max_parallel"):
        mode += f", at most {orchestration['max_parallel']} at once"
    yield "mode", f"{mode}, {orchestration.get('failure_policy')}, base {orchestration.get('base')}"
    yield "model", orchestration.get("model") or "chosen by the provider"
    if orchestration.get("max_cost") is not None:
        yield "at most", formats.cost(orchestration["max_cost"])
    if orchestration.get("tags"):
        yield "tags", ", ".join(str(tag) for tag in orchestration["tags"])
    yield "created", formats.date_and_time(orchestration.get("created_at"))
    if orchestration.get("start_at"):
        yield "starts", formats.date_and_time(orchestration["start_at"])
    if schedule := orchestration.get("schedule"):
        yield "schedule", f"{schedule.get('cron')} in {schedule.get('timezone')}, {_runs(orchestration)}"
    if orchestration.get("schedule_id"):
        yield "run of", orchestration["schedule_id"]
    if orchestration.get("activated_at"):
        yield "activated", formats.date_and_time(orchestration["activated_at"])


def _runs(orchestration: View) -> str:
    """How often a schedule has led to an orchestration, and to which last."""
    runs = orchestration.get("runs") or {}
    if not runs.get("count"):
        return "no runs yet"
    counted = formats.counted(runs["count"], "run")
    return f"{counted}, the last {runs.get('last_id')} at {formats.date_and_time(runs.get('last_at'))}"


def refusal(error: RefusedError) -> str:
    """The API's refusal with each bad field on its own line."""
    fields = [f"{formats.clean(field.name)}: {formats.clean(field.message)}" for field in error.fields]
    message = formats.clean(error.message)
    lines = [f"{formats.clean(error.code)}: {message}"]
    lines += [f"  {field}" for field in fields if field != message]
    if error.request_id and error.status >= 500:
        lines.append(f"  request {formats.clean(error.request_id)}")
    return "\n".join(lines)
