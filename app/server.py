"""Serves the app with Granian: one process, a few threads, a clean end at SIGTERM."""

from __future__ import annotations

import functools
from typing import Any

from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from app.logs import configure_logging
from app.settings import Settings


def serve(settings: Settings) -> None:
    """Answers requests until a signal ends it."""
    server = Granian(
        target="app.web:create_app",  # a name for its messages; the loader below is what makes the app
        interface=Interfaces.WSGI,
        address=settings.host,
        port=settings.port,
        workers=1,
        blocking_threads=settings.web_threads,
        websockets=False,
        log_level=LogLevels(settings.log_level),
        workers_kill_timeout=10,
    )
    server.serve(target_loader=functools.partial(_load, settings), wrap_loader=False)


def _load(settings: Settings) -> Any:
    from app.web import create_app

    configure_logging(settings)
    return create_app(settings)
