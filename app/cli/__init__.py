"""The console script: one module per command, imported only when the command is used."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from app.settings import SettingsError

COMMANDS: Final = {
    "web": "app.cli.services:web",
    "worker": "app.cli.services:worker",
    "flower": "app.cli.services:flower",
    "run": "app.cli.run:run",
    "demo": "app.cli.demo:demo",
    "simulate": "app.cli.simulate:simulate",
    "storms": "app.cli.storms:storms",
    "deadletters": "app.cli.deadletters:deadletters",
    "doctor": "app.cli.doctor:doctor",
}


class _Commands(click.Group):
    """Finds a command by importing its module; a wrong setting ends any of them with one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            click.echo(f"stormfold: {error}", err=True)
            ctx.exit(2)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stormfold")
def main() -> None:
    """Turns Alertmanager alert storms into one actionable Kubernetes object each.

    Settings are environment variables that begin with STORMFOLD_.
    """
