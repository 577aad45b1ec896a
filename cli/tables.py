"""Lists and single things of the API as tables for people. Pure: nothing is fetched, printed or timed here."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli import describe, formats
from cli.render import facts, orchestration_facts, state

View = Mapping[str, Any]
Cell = Text | str | int | float | None


def _table(columns: str, rows: Iterable[Sequence[Cell]], *, empty: str) -> RenderableType:
    """`columns` by name: `>` before one puts it to the right, `~` lets it give way where there is little room."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for name in columns.split():
        justify = "right" if name.startswith(">") else "left"
        table.add_column(name.lstrip(">~").replace("_", " "), justify=justify, no_wrap=not name.startswith("~"))  # type: ignore[arg-type] # one of rich's words
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_plain(cell)) for cell in row))
    return table if table.row_count else Text(empty, style="dim")


def _plain(value: Cell) -> str:
    return formats.NOTHING if value in (None, "") else formats.clean(value)


def _when(value: str | None, *, seconds: bool = False) -> str:
    return formats.date_and_time(value, seconds=seconds)


def _took(milliseconds: float | None) -> str | None:
    return None if milliseconds is None else formats.duration(timedelta(milliseconds=milliseconds))


def orchestrations(items: Sequence[View]) -> RenderableType:
    """A row per orchestration. Only name and repository give way: half an id is of no use."""
    return _table(
        "Id ~Name State ~Repository Created",
        (
            (
                item.get("id"),
                item.get("name"),
                state(item.get("status")),
                _repository(item.get("repository")),
                _when(item.get("created_at")),
            )
            for item in items
        ),
        empty="no orchestrations here",
    )


def _repository(address: str | None) -> str:
    return formats.clean(address or "").removeprefix("https://github.com/")


def orchestration(item: View) -> RenderableType:
    """One without its tasks."""
    return facts(
        [
            ("name", item.get("name")),
            ("status", item.get("status")),
            ("repository", f"{_repository(item.get('repository'))} @ {item.get('ref')}"),
            *orchestration_facts(item),
            ("webhook", item.get("webhook_url")),
        ]
    )


def events(items: Sequence[View]) -> RenderableType:
    """A row per event, with the few of its data that tell what it is about."""
    return _table(
        ">Sequence >Version Time Event By ~About",
        (
            (
                item.get("sequence"),
                item.get("version"),
                _when(item.get("occurred_at"), seconds=True),
                item.get("type"),
                item.get("actor"),
                event_gist(item.get("data") or {}),
            )
            for item in items
        ),
        empty="no events",
    )


_GIST = (
    "number",
    "status",
    "agent_id",
    "provider_status",
    "source",
    "retry_count",
    "mode",
    "reason",
    "until",
    "summary",
)


def event_gist(data: View) -> str:
    """`number 1 · agent_id bc-…`: what is short and telling of an event's data."""
    parts = [f"{name} {formats.clean(data[name])}" for name in _GIST if data.get(name) is not None]
    if data.get("changed"):
        parts.append(f"changed {formats.clean(', '.join(map(str, data['changed'])))}")
    failure = data.get("failure")
    if isinstance(failure, Mapping):
        parts.append(formats.clean(f"{failure.get('code')}: {failure.get('message')}"))
    result = data.get("result")
    if isinstance(result, Mapping) and result.get("branch"):
        parts.append(f"branch {formats.clean(result['branch'])}")
    return " · ".join(parts)


def statistics(found: View) -> RenderableType:
    counts = ("completed", "processing", "pending", "failed", "cancelled", "skipped")
    of = ", ".join(f"{found[f'{name}Tasks']} {name}" for name in counts if found.get(f"{name}Tasks"))
    left = found.get("estimatedTimeRemaining")
    return facts(
        [
            ("tasks", f"{found.get('totalTasks')}: {of}" if of else found.get("totalTasks")),
            ("progress", f"{found.get('progress')}%"),
            ("duration", _took(found.get("duration"))),
            ("remaining", "not known" if left is None else _took(left or None)),
            ("cost", formats.cost(found.get("totalCost") or 0.0)),
        ]
    )


def task(found: View, now: datetime) -> RenderableType:
    """One task with its attempts."""
    end = [("waits", describe.why(found, [], now))] if found.get("waiting_for") else []
    known = facts(
        [
            ("task", found.get("title")),
            ("id", found.get("id")),
            ("orchestration", found.get("orchestration_id")),
            ("status", found.get("status")),
            *end,
            (
                "wanted",
                f"priority {found.get('priority')}, {found.get('complexity')}, model {found.get('model') or 'auto'}",
            ),
            ("time", describe.time_taken(found, now)),
            ("cost", formats.cost(found.get("cost") or 0.0)),
            ("branch", found.get("result_branch")),
            ("PR", found.get("result_pr_url")),
            ("error", describe.failure(found)),
            ("result", found.get("result_summary")),
        ]
    )
    tried = found.get("attempts") or ()
    return Group(known, _attempts(tried)) if tried else known


def _attempts(tried: Sequence[View]) -> RenderableType:
    return _table(
        ">Attempt Phase Agent Started >Time >Cost ~Outcome",
        (
            (
                one.get("number"),
                one.get("phase"),
                (one.get("agent") or {}).get("id"),
                _when(one.get("started_at"), seconds=True),
                _took(one.get("duration")),
                formats.cost(one.get("cost")),
                describe.failure(one) or one.get("result_branch") or one.get("ending"),
            )
            for one in tried
        ),
        empty="",
    )


def agent(found: View) -> RenderableType:
    """One agent: as it is known, or as the provider says."""
    times = {"started_at", "ended_at", "as_of"}
    return facts(
        (name.replace("_", " "), _when(value, seconds=True) if name in times and value else value)
        for name, value in found.items()
    )


def conversation(messages: Sequence[View]) -> RenderableType:
    """What was said, line by line as it was written."""
    return Group(*_said(messages)) if messages else Text("nothing was said yet", style="dim")


def _said(messages: Sequence[View]) -> Iterator[Text]:
    for message in messages:
        yield Text(formats.clean(message.get("author")), style="bold")
        for line in str(message.get("text", "")).splitlines():
            yield Text(f"  {formats.clean(line)}")


def models(found: View) -> RenderableType:
    table = _table(
        "Model ~Name ~Also",
        ((item.get("id"), item.get("display_name"), ", ".join(item.get("aliases") or ())) for item in found["items"]),
        empty="no models",
    )
    if found.get("source") == "fallback":
        return Group(table, Text("the provider could not be asked: it may have others", style="yellow"))
    return table


def repositories(found: View) -> RenderableType:
    table = _table("~Repository", ([item.get("repository")] for item in found["items"]), empty="no repositories")
    return Group(table, Text(f"as of {formats.date_and_time(found.get('as_of'))}", style="dim"))


def artifacts(items: Sequence[View]) -> RenderableType:
    rows = ((item.get("path"), item.get("size_bytes"), _when(item.get("updated_at"))) for item in items)
    return _table("~Path >Bytes Changed", rows, empty="no files")


def costs(found: View) -> RenderableType:
    sums = [*found["items"], {"key": "total", **(found.get("total") or {})}]
    return _table(
        f"~{str(found.get('group_by') or 'sum').capitalize()} >Cost >Attempts >Failed >Agent_time",
        (
            (
                item.get("key"),
                formats.cost(item.get("cost")),
                item.get("attempts"),
                item.get("failed_attempts"),
                _took(item.get("duration")),
            )
            for item in sums
        ),
        empty="",
    )


def bulk(answer: View) -> RenderableType:
    table = _table(
        "~Repository State ~Orchestration",
        ((item.get("repository"), *_bulk_outcome(item)) for item in answer.get("items", [])),
        empty="no repositories",
    )
    counts = (("created", "created"), ("failed", "refused"), ("undecided", "not decided yet"))
    return Group(table, Text(", ".join(f"{answer[name]} {word}" for name, word in counts if answer.get(name))))


def _bulk_outcome(item: View) -> tuple[Cell, Cell]:
    error = item.get("error") or {}
    if item.get("status") == 201:
        return state((item.get("orchestration") or {}).get("status") or "PENDING"), item.get("id")
    if error and not item.get("outcome"):
        return Text("refused", style="red"), f"{error.get('code')}: {error.get('message')}"
    return Text("not decided", style="yellow"), item.get("id")


def deliveries(items: Sequence[View]) -> RenderableType:
    return _table(
        "Id Event State >Tries Updated ~To ~Error",
        (
            (
                item.get("id"),
                item.get("event"),
                state(item.get("status")),
                item.get("tries"),
                _when(item.get("updated_at")),
                f"{item.get('channel')} {item.get('host')}",
                item.get("error"),
            )
            for item in items
        ),
        empty="no deliveries",
    )


def delivery(found: View) -> RenderableType:
    times = {"occurred_at", "updated_at", "next_try_at"}
    known = facts(
        (name.replace("_", " "), _when(value, seconds=True) if name in times and value else value)
        for name, value in found.items()
        if name != "attempts"
    )
    tries = _table(
        ">Try Started >Took Outcome ~Detail",
        (
            (
                one.get("number"),
                _when(one.get("started_at"), seconds=True),
                _took(one.get("duration_ms")),
                one.get("outcome") or "not known",
                one.get("detail"),
            )
            for one in found.get("attempts") or ()
        ),
        empty="not tried yet",
    )
    return Group(known, tries)


def queue(found: View) -> RenderableType:
    waiting = [(f"waiting for {reason}", count) for reason, count in (found.get("waiting_for") or {}).items()]
    by_priority = found.get("waiting_by_priority") or {}
    return facts(
        (
            ("queue", "held: nothing is launched" if found.get("held") else "open"),
            ("running", found.get("running")),
            *waiting,
            ("waiting by priority", ", ".join(f"{count} {level}" for level, count in by_priority.items())),
            ("could not be handled", found.get("failed")),
        )
    )


def sweep(found: View) -> RenderableType:
    """What a sweep found: a row for each thing that it did, or would do, something about."""
    unread = found.get("unread")
    counts = facts(
        (
            ("agents looked through", found.get("checked")),
            ("launched here and maybe at work", found.get("ours")),
            ("could not be read", unread or None),
        )
    )
    rows = [
        *((one.get("agentId"), _SWEPT.get(str(one.get("action"))), one) for one in found.get("orphans") or ()),
        *((one.get("agentId"), _SETTLED.get(str(one.get("action"))), one) for one in found.get("settled") or ()),
    ]
    table = _table(
        "Agent What ~Orchestration ~Address",
        (
            (agent_id, what or one.get("action"), one.get("orchestrationId"), one.get("url"))
            for agent_id, what, one in rows
        ),
        empty="every agent at work here belongs to a task",
    )
    return Group(counts, table)


_SWEPT = {
    "stopped": "orphaned, stopped",
    "stopping": "orphaned, not stopped yet",
    "left": "not at work for us, left alone",
    "would_stop": "orphaned",
}
_SETTLED = {
    "ended": "had ended unseen",
    "put_back": "was not followed, is again",
    "not_read": "no news, cannot be read",
    "would_read": "no news",
}


def keys(items: Sequence[View], now: datetime) -> RenderableType:
    return _table(
        "Id ~Name Team State ~Permissions Used",
        (
            (
                item.get("id"),
                item.get("name"),
                item.get("team"),
                _validity(item, now),
                ", ".join(item.get("permissions") or ()),
                _when(item.get("last_used_at")),
            )
            for item in items
        ),
        empty="no keys",
    )


def _validity(item: View, now: datetime) -> Text:
    expires = formats.moment(item.get("expires_at"))
    if item.get("revoked_at"):
        return Text("revoked", style="red")
    if expires is not None and expires <= now:
        return Text("expired", style="yellow")
    return Text(f"until {expires.astimezone():%Y-%m-%d}" if expires else "valid")
