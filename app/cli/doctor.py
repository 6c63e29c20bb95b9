"""`stormfold doctor`: looks at an installation and says what is wrong and how to mend it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from app import settings as configuration
from app.logs import configure_logging

if TYPE_CHECKING:
    from tasks.doctor.findings import Finding

COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option("--repair", is_flag=True, help="Hold the RemediationRequests against the state at once, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of text.")
@click.pass_context
def doctor(ctx: click.Context, repair: bool, as_json: bool) -> None:
    """Check Redis, broker, sink and Alertmanager against the settings; exit status 1 where something fails.

    Run it where a worker runs, with the worker's settings and rights.
    """
    from tasks.doctor import examine

    settings = configuration.load()
    configure_logging(settings)
    levels: list[str] = []
    for finding in examine.examine(settings):
        levels.append(finding.level)
        _tell(finding, as_json)
    if repair:
        finding = examine.repair(settings)
        levels.append(finding.level)
        _tell(finding, as_json)
    ctx.exit(1 if "fail" in levels else 0)


def _tell(finding: Finding, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(finding)))
        return
    level = click.style(f"{finding.level:4}", fg=COLOURS[finding.level])
    click.echo(f"{level}  {finding.about}: {finding.text}" + (f"\n      -> {finding.mend}" if finding.mend else ""))
