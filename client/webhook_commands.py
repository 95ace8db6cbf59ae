"""`brain webhooks …`: addresses that are told when training jobs end."""

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from client.place import AsJson, open_gateway, print_json
from client.tuning import Tuning
from client.tuning_rendering import show_table

__all__ = ["webhooks"]

webhooks = typer.Typer(no_args_is_help=True, help="Addresses that are told when training jobs end.")


@webhooks.command()
def create(
    context: typer.Context,
    url: str,
    event: Annotated[list[str] | None, typer.Option(help="succeeded, failed or cancelled; all without.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Keep an address; the secret to check signatures with is shown this once."""
    with open_gateway(context) as gateway:
        made = Tuning(gateway).create_webhook(url, event or [])
    if as_json:
        print_json(made)
    else:
        Console().print(Text(f"{made['id']} secret {made['secret']} (shown this once)"), soft_wrap=True)


@webhooks.command("list")
def list_webhooks(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the addresses, with how the last delivery ended."""
    with open_gateway(context) as gateway:
        found = Tuning(gateway).webhooks()
    if as_json:
        print_json(found)
        return
    rows = ((one["id"], one["url"], ", ".join(one["events"]) or "all", one["last_delivery"] or "") for one in found)
    show_table(Console(), ("id", "url", "events", "last delivery"), rows)


@webhooks.command()
def delete(context: typer.Context, webhook_id: str, *, as_json: AsJson = False) -> None:
    """Forget an address."""
    with open_gateway(context) as gateway:
        gone = Tuning(gateway).delete_webhook(webhook_id)
    if as_json:
        print_json(gone)
    else:
        Console().print(Text(f"{webhook_id} is forgotten"))
