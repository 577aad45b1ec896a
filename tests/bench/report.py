"""The figures of a benchmark as tables for people."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_report(result: dict[str, Any]) -> None:
    console = Console()
    console.print(_summary(result))
    console.print(_processes(result))


def _summary(result: dict[str, Any]) -> Table:
    title = f"{result['orchestrations']} orchestrations of three tasks, {result['clients']} clients"
    title += f", API {result['api_version']}, at most {result['max_concurrent_agents']} agents at once"
    table = Table(title=title, title_justify="left")
    for heading in ("figure", "p50", "p99", "count"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    figures = {
        "create, ms": result["create_ms"],
        "activate, ms": result["activate_ms"],
        "hop: an agent's end seen → next agent created, ms": result["hop_ms"],
        **{f"  {stage}, ms": spread for stage, spread in result["stages_ms"].items()},
    }
    for label, spread in figures.items():
        table.add_row(label, str(spread.get("p50", "")), str(spread.get("p99", "")), str(spread["count"]))
    table.add_row(f"tasks per second: {result['tasks_per_second']} ({result['seconds']} s)", "", "", "")
    return table


def _processes(result: dict[str, Any]) -> Table:
    table = Table(title="by process", title_justify="left")
    table.add_column("process")
    table.add_column("CPU, ms per task", justify="right")
    table.add_column("memory, MiB", justify="right")
    for name, milliseconds in result["cpu_ms_per_task"].items():
        table.add_row(name, f"{milliseconds:.2f}", str(result["memory_mib"].get(name, "")))
    return table
