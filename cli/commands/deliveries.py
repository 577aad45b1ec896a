"""`deliveries …`."""

from typing import Annotated

import typer

from cli.calling import call
from cli.options import All, Json, Limit, Url

group = typer.Typer(help="Deliveries of notifications, and once more on demand.", no_args_is_help=True)

DeliveryId = Annotated[str, typer.Argument(metavar="ID", help="The id of the delivery.")]


@group.command("list")
def list_all(
    orchestration: Annotated[str | None, typer.Option(metavar="ID", help="Only of this orchestration.")] = None,
    status: Annotated[str | None, typer.Option(help="Only in this state: PENDING, DELIVERED, FAILED, …")] = None,
    limit: Limit = 20,
    everything: All = False,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """List deliveries, the newest first."""
    from cli.actions import deliveries

    most = None if everything else limit
    call(
        url,
        lambda client: deliveries.list_all(
            client, orchestration=orchestration, status=status.upper() if status else None, limit=most, as_json=as_json
        ),
    )


@group.command()
def show(delivery_id: DeliveryId, as_json: Json = False, url: Url = None) -> None:
    """Show a delivery with its tries."""
    from cli.actions import deliveries

    call(url, lambda client: deliveries.show_one(client, delivery_id, as_json=as_json))


@group.command()
def redeliver(delivery_id: DeliveryId, as_json: Json = False, url: Url = None) -> None:
    """Send one that was delivered or given up once more."""
    from cli.actions import deliveries

    call(url, lambda client: deliveries.redeliver(client, delivery_id, as_json=as_json))
