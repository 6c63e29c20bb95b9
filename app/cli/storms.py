"""`stormfold storms`: the open storms as tables, from a running web process or straight from Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote

import click

from app import settings as configuration
from app.cli import tables
from app.cli.http import Answer, Api

PATH = "/api/v1/storms"


class Source(Protocol):
    """Answers GETs of the HTTP API."""

    def get(self, path: str) -> Any: ...


class InProcess:
    """The API's own views, asked in this process: what they read is Redis, and no web process need run."""

    def __init__(self) -> None:
        from app.web import create_app

        # Who can read the settings can read Redis: nobody has to log in to himself.
        settings = replace(configuration.load(), webhook_token=None, basic_auth=None)
        self._client = create_app(settings).test_client()

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.application.extensions["stormfold"].notifier.close()

    def get(self, path: str) -> Any:
        answer = self._client.get(path)
        return Answer(answer.status_code, answer.data).expect_ok(path)


def source(url: str | None, token: str | None, user: str | None) -> AbstractContextManager[Source]:
    """The web process at a URL, or Redis where none is given."""
    return Api(url, token=token, user=user) if url else InProcess()


def items(api: Source, path: str) -> Iterator[Mapping[str, Any]]:
    """The items of all pages."""
    cursor: str | None = None
    while True:
        page = api.get(f"{path}?cursor={quote(cursor)}" if cursor else path)
        yield from page["items"]
        cursor = page["next"]
        if not cursor:
            return


@click.group()
@click.option("--url", help="A running web process; default: read from Redis (STORMFOLD_REDIS_URL).")
@click.option("--token", envvar="STORMFOLD_WEBHOOK_TOKEN", help="Bearer token, with --url.")
@click.option("--user", envvar="STORMFOLD_BASIC_AUTH", help="user:password, with --url.")
@click.pass_context
def storms(ctx: click.Context, url: str | None, token: str | None, user: str | None) -> None:
    """Look at open storms."""
    ctx.obj = lambda: source(url, token, user)


@storms.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
@click.pass_obj
def list_storms(opened: Any, as_json: bool) -> None:
    """All open storms, and the ledger over everything."""
    with opened() as api:
        found = list(items(api, PATH))
        ledger = api.get(f"{PATH}?limit=1")["ledger"]
    if as_json:
        for storm in found:
            click.echo(json.dumps(storm))
        return
    table = tables.table("storm", "namespace", "phase", "firing", "in all", "first seen", "last seen", numbers=(3, 4))
    for storm in sorted(found, key=lambda each: (-each["alertCount"], each["firstSeen"])):
        table.add_row(
            # Before its storm RR has a name, a storm is known by its key.
            storm["id"] or ",".join(f"{name}={value}" for name, value in storm["stormKey"].items()),
            storm["namespace"],
            storm["phase"],
            str(storm["alertCount"]),
            str(storm["totalAlerts"]),
            tables.short_time(storm["firstSeen"]),
            tables.short_time(storm["lastSeen"]),
        )
    tables.show(table)
    click.echo(f"{len(found)} open. Ledger: " + ", ".join(f"{name} {count}" for name, count in ledger.items()))


@storms.command()
@click.argument("name")
@click.pass_obj
def show(opened: Any, name: str) -> None:
    """One storm, as JSON."""
    with opened() as api:
        click.echo(json.dumps(api.get(f"{PATH}/{quote(name, safe='')}"), indent=2))


@storms.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
@click.pass_obj
def members(opened: Any, name: str, as_json: bool) -> None:
    """The alerts of a storm, every one of them."""
    table = tables.table("fingerprint", "status", "since", "resource")
    with opened() as api:
        for member in items(api, f"{PATH}/{quote(name, safe='')}/members"):
            if as_json:
                click.echo(json.dumps(member))
            else:
                table.add_row(
                    member["fingerprint"], member["status"], tables.short_time(member["startsAt"]), _resource(member)
                )
    if not as_json:
        tables.show(table)


def _resource(member: Mapping[str, Any]) -> str:
    resource = member["resource"]
    return (
        "" if resource is None else "/".join(filter(None, (resource["namespace"], resource["kind"], resource["name"])))
    )
