"""Which workers live, by the beats that they leave in Redis."""

from __future__ import annotations

from typing import Any, Final

from lua_scripts.keys import WORKERS
from lua_scripts.loader import Client, Scripts, translated

FORGOTTEN_MS: Final = 15 * 60_000
"""A worker that was silent for this long is not shown any more."""


class Workers:
    """Beats of all workers. Raises the ``StoreError`` tree."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)

    def beat(self, name: str) -> None:
        """Notes that a worker lives: that it consumed, or found nothing to consume, lately."""
        self._scripts.run("beat", (WORKERS,), (name, FORGOTTEN_MS))

    def last_beats(self) -> dict[str, int]:
        """Worker -> the ms of its last beat, by Redis's clock."""
        with translated():
            known = self._client.hgetall(WORKERS)
        return {name.decode(): int(at) for name, at in known.items()}
