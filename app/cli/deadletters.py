"""`stormfold deadletters`: alerts that could not be taken in, with the reason; read straight from Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click

from app import settings as configuration
from app.cli import tables

if TYPE_CHECKING:
    from lua_scripts.inbox import Inbox
    from lua_scripts.records import DeadLetter


@contextmanager
def _inbox() -> Iterator[Inbox]:
    from lua_scripts.connection import connect
    from lua_scripts.errors import StoreError
    from lua_scripts.inbox import Inbox

    try:
        with closing(connect(configuration.load().redis_url)) as client:
            yield Inbox(client)
    except StoreError as error:
        raise click.ClickException(f"Redis: {error}") from error


def _letters(inbox: Inbox) -> Iterator[DeadLetter]:
    cursor: str | None = None
    while True:
        letters, cursor = inbox.dead_letters(cursor, 100)
        yield from letters
        if cursor is None:
            return


@click.group()
def deadletters() -> None:
    """Look at alerts that could not be taken in."""


@deadletters.command("list")
def list_letters() -> None:
    """All dead letters, shard by shard, the oldest first."""
    table = tables.table("id", "buried", "path", "reason")
    with _inbox() as inbox:
        for letter in _letters(inbox):
            table.add_row(letter.letter_id, tables.short_time(_time(letter.buried_ms)), letter.path, letter.reason)
    if table.row_count:
        tables.show(table)
    click.echo(f"{table.row_count} dead letter{'' if table.row_count == 1 else 's'}.")


@deadletters.command()
@click.argument("letter_id")
def show(letter_id: str) -> None:
    """One dead letter in full, as JSON."""
    with _inbox() as inbox:
        for letter in _letters(inbox):
            if letter.letter_id == letter_id:
                shown = {"id": letter.letter_id, "deliveryId": letter.delivery_id, "buried": _time(letter.buried_ms)}
                click.echo(
                    json.dumps(shown | {"path": letter.path, "reason": letter.reason, "alert": letter.alert}, indent=2)
                )
                return
    raise click.ClickException(f"no dead letter {letter_id}")


@deadletters.command()
@click.argument("letter_ids", nargs=-1, required=True)
def drop(letter_ids: tuple[str, ...]) -> None:
    """Delete dead letters for good."""
    with _inbox() as inbox:
        missing = [letter_id for letter_id in letter_ids if not inbox.drop(letter_id)]
    if missing:
        raise click.ClickException(f"no dead letter {', '.join(missing)}")


def _time(at_ms: int) -> str:
    from app.storms_view import moment

    return moment(at_ms)
