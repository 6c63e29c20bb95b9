"""Serves the app with Granian: one process, a few threads, a clean end at SIGTERM."""

from __future__ import annotations

import functools
import logging
from typing import Any, Final

from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from app.logs import configure_logging
from app.settings import Settings

_LOGGING: Final[dict[str, Any]] = {
    "version": 1,
    "incremental": False,
    "disable_existing_loggers": False,
    "loggers": {"_granian": {"handlers": [], "filters": ["threads"], "propagate": True}},
    "filters": {"threads": {"()": "app.server.ThreadAdvice"}},
}
"""Granian's lines go where all others go."""


class ThreadAdvice(logging.Filter):
    """Drops Granian's warning that there are more threads than cores: ours wait for Redis, not for a core."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Python threads" not in record.getMessage()


def serve(settings: Settings) -> None:
    """Answers requests until a signal ends it."""
    configure_logging(settings)
    server = Granian(
        target="app.web:create_app",  # a name for its messages; the loader below is what makes the app
        interface=Interfaces.WSGI,
        address=settings.host,
        port=settings.port,
        workers=1,
        blocking_threads=settings.web_threads,
        websockets=False,
        log_level=LogLevels(settings.log_level),
        log_dictconfig=_LOGGING,
        workers_kill_timeout=10,
    )
    server.serve(target_loader=functools.partial(_load, settings), wrap_loader=False)


def _load(settings: Settings) -> Any:
    from app.web import create_app

    configure_logging(settings)
    return create_app(settings)
