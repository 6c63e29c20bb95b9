"""The processes of an installation, each in the foreground, with the settings of its environment."""

from __future__ import annotations

import os
import secrets

import click

from app import settings as configuration


@click.command()
def web() -> None:
    """Serve the webhook, the storms page and the API."""
    from app.server import serve

    serve(configuration.load())


@click.command()
@click.option("--name", help="Name of this worker in Flower; default: made of its process and host.")
def worker(name: str | None) -> None:
    """Drain the inbox and write RemediationRequests. Start as many as you like."""
    from tasks.worker import run_worker

    run_worker(configuration.load(), name=name or f"worker-{os.getpid()}")


@click.command()
def flower() -> None:
    """Show workers and tasks in Flower, behind basic auth (STORMFOLD_BASIC_AUTH, else made up and printed)."""
    from app.broker import make_celery

    settings = configuration.load()
    auth = settings.basic_auth
    if auth is None:
        auth = f"stormfold:{secrets.token_urlsafe(12)}"
        click.echo(f"flower: http://{settings.host}:{settings.flower_port} with user and password {auth}")
    # For a Service called "flower" Kubernetes sets FLOWER_PORT=tcp://..., which Flower would take for its own option.
    os.environ.pop("FLOWER_PORT", None)
    # The password goes by the environment of this process alone: arguments can be read by everybody on the machine.
    os.environ["FLOWER_BASIC_AUTH"] = auth
    # --quiet: no banner about an app that, here, has no tasks.
    arguments = ["--quiet", "flower", f"--address={settings.host}", f"--port={settings.flower_port}"]
    make_celery(settings, publisher=False).start(argv=arguments)
