"""`stormfold deadletters`: alerts and objects that could not go on, each with the reason: look, mend, replay."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from app import settings as configuration
from app.cli import tables
from app.times import rfc3339

if TYPE_CHECKING:
    from lua_scripts.inbox import Inbox
    from lua_scripts.records import DeadLetter
    from lua_scripts.refusals import Refusals


@contextmanager
def _inbox() -> Iterator[Inbox]:
    with _doors() as (inbox, _):
        yield inbox


@contextmanager
def _doors() -> Iterator[tuple[Inbox, Refusals]]:
    from lua_scripts.connection import connect
    from lua_scripts.errors import StoreError
    from lua_scripts.inbox import Inbox
    from lua_scripts.refusals import Refusals

    settings = configuration.load()
    try:
        with closing(connect(settings.redis_url)) as client:
            yield Inbox(client, settings.redis_wait_replicas), Refusals(client)
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
    """Look at alerts that could not be taken in, and objects that were not taken; mend them and replay them."""


@deadletters.command("list")
def list_letters() -> None:
    """All dead letters, shard by shard, the oldest first."""
    table = tables.table("id", "buried", "path", "reason")
    with _inbox() as inbox:
        for letter in _letters(inbox):
            reason = f"{letter.reason} (cut)" if letter.cut else letter.reason
            table.add_row(letter.letter_id, tables.short_time(rfc3339(letter.buried_ms)), letter.path, reason)
        counts = inbox.letter_counts()
    if table.row_count:
        tables.show(table)
    click.echo(
        f"{table.row_count} dead letter{'' if table.row_count == 1 else 's'}. "
        f"{counts.shed} shed for number, size or age; {counts.replayed} replayed."
    )


@deadletters.command()
@click.argument("letter_id")
def show(letter_id: str) -> None:
    """One dead letter in full, as JSON; "cut" where only the beginning of the alert was kept."""
    with _inbox() as inbox:
        letter = inbox.dead_letter(letter_id)
    if letter is None:
        raise click.ClickException(f"no dead letter {letter_id}")
    shown = {"id": letter.letter_id, "deliveryId": letter.delivery_id, "buried": rfc3339(letter.buried_ms)}
    shown |= {"path": letter.path, "reason": letter.reason, "object" if letter.is_object else "alert": letter.alert}
    click.echo(json.dumps(shown | {"cut": letter.cut}, indent=2))


@deadletters.command()
@click.argument("letter_ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=TEXT", help="Such as labels.pod=cart-1; repeatable.")
@click.option("--edit", type=click.File(encoding="utf-8"), metavar="FILE", help="The alert as it should be, as JSON.")
@click.option("--stdin", is_flag=True, help="The same from standard input.")
def replay(
    letter_ids: tuple[str, ...], everything: bool, changes: tuple[str, ...], edit: IO[str] | None, stdin: bool
) -> None:
    """Put alerts into the inbox again, in place of their letters. What is still malformed stays a letter.

    Without --edit or --stdin the alert is the one that was sent. The checks are those of the webhook. An object
    that was refused is rendered from its storm once more, and written.
    """
    if bool(letter_ids) == everything:
        raise click.UsageError("give either the ids of dead letters or --all")
    given = edit or (sys.stdin if stdin else None)
    if given and (len(letter_ids) != 1 or (edit and stdin)):
        raise click.UsageError("one alert from --edit or --stdin stands for one dead letter")
    fields = _fields(changes)
    alert = _json(given) if given else None
    with _doors() as (inbox, refusals):
        # All of them first: pages shift as letters go.
        chosen = list(_letters(inbox)) if everything else [_existing(inbox, each) for each in letter_ids]
        failed = _replay(inbox, refusals, chosen, alert, fields)
    click.echo(f"{len(chosen) - failed} replayed.")
    if failed:
        raise click.ClickException(f"{failed} not replayed")


def _replay(inbox: Inbox, refusals: Refusals, letters: Sequence[DeadLetter], alert: Any, fields: dict[str, str]) -> int:
    """How many stay what they are, each with its reason on standard error."""
    from app.letters import NotReplayedError, content, mended, replay, replay_object

    settings, wake = configuration.load(), _waker()
    failed = 0
    for letter in letters:
        try:
            if letter.is_object:
                if alert is not None or fields:
                    raise NotReplayedError(
                        "it is rendered from its storm: mend what refuses it, and replay it as it is"
                    )
                replay_object(inbox, refusals, letter)
                continue
            raw = content(letter) if alert is None else alert
            kept = replay(inbox, settings, letter, mended(raw, fields) if fields else raw, wake)
        except NotReplayedError as error:
            failed += 1
            click.echo(f"{letter.letter_id}: {error}", err=True)
        else:
            if not kept:
                click.echo(f"{letter.letter_id}: ignored by STORMFOLD_IGNORE, and counted as that")
    return failed


def _waker() -> Callable[[int], None]:
    """Wakes a worker for a shard; where the broker refuses, the workers' sweep finds what waits."""
    from kombu.exceptions import OperationalError

    from app.broker import make_celery, publish_ingest

    celery = make_celery(configuration.load(), publisher=True)

    def wake(shard: int) -> None:
        try:
            publish_ingest(celery, shard)
        except OperationalError as error:
            click.echo(f"the broker refuses, workers will find the alert by their sweep: {error}", err=True)

    return wake


def _existing(inbox: Inbox, letter_id: str) -> DeadLetter:
    letter = inbox.dead_letter(letter_id)
    if letter is None:
        raise click.ClickException(f"no dead letter {letter_id}")
    return letter


def _fields(changes: Sequence[str]) -> dict[str, str]:
    fields = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not name or not equals:
            raise click.UsageError(f"--set {change}: not of the form labels.pod=cart-1")
        fields[name] = value
    return fields


def _json(file: IO[str]) -> Any:
    try:
        return json.load(file)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"the alert given is not JSON: {error}") from error


@deadletters.command()
@click.argument("letter_ids", nargs=-1, required=True)
def drop(letter_ids: tuple[str, ...]) -> None:
    """Delete dead letters for good."""
    with _inbox() as inbox:
        missing = [letter_id for letter_id in letter_ids if not inbox.drop(letter_id)]
    if missing:
        raise click.ClickException(f"no dead letter {', '.join(missing)}")
