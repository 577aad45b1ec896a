"""`agent …`."""

from typing import Annotated

import typer

from cli.calling import call
from cli.options import AgentName, Json, Once, Url

group = typer.Typer(help="Cloud agents: look at one, stop it, let it go on, delete it.", no_args_is_help=True)


@group.command()
def show(agent: AgentName, as_json: Json = False, url: Url = None) -> None:
    """Show what is known of an agent."""
    from cli.actions import agents

    call(url, lambda client: agents.show_agent(client, agent, as_json=as_json))


@group.command()
def status(agent: AgentName, as_json: Json = False, url: Url = None) -> None:
    """Ask the provider how an agent stands now."""
    from cli.actions import agents

    call(url, lambda client: agents.status(client, agent, as_json=as_json))


@group.command()
def conversation(agent: AgentName, as_json: Json = False, url: Url = None) -> None:
    """Read what was said to an agent and by it."""
    from cli.actions import agents

    call(url, lambda client: agents.conversation(client, agent, as_json=as_json))


@group.command()
def artifacts(agent: AgentName, as_json: Json = False, url: Url = None) -> None:
    """List the files that an agent left beside its work."""
    from cli.actions import agents

    call(url, lambda client: agents.artifacts(client, agent, as_json=as_json))


@group.command()
def artifact(
    agent: AgentName,
    path: Annotated[str, typer.Argument(metavar="PATH", help="As `artifacts` names it.")],
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Get a link to a file that an agent left. It is good for some minutes, for whoever has it."""
    from cli.actions import agents

    call(url, lambda client: agents.artifact(client, agent, path, as_json=as_json))


@group.command()
def stop(agent: AgentName, as_json: Json = False, url: Url = None) -> None:
    """Stop an agent; its task fails with AGENT_STOPPED and is not tried again by itself."""
    from cli.actions import agents

    call(url, lambda client: agents.stop(client, agent, as_json=as_json))


@group.command()
def followup(
    agent: AgentName,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What it is to do further.")],
    idempotency_key: Once = None,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Let an agent whose task has ended go on with a further prompt."""
    from cli.actions import agents

    call(url, lambda client: agents.follow_up(client, agent, prompt, key=idempotency_key, as_json=as_json))


@group.command()
def delete(agent: AgentName, as_json: Json = False, url: Url = None) -> None:
    """Delete an agent that is at rest at the provider; it can't be continued afterwards."""
    from cli.actions import agents

    call(url, lambda client: agents.delete(client, agent, as_json=as_json))
