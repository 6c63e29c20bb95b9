"""Jobs that run once a period, whichever worker comes first."""

from __future__ import annotations

from lua_scripts.keys import JOBS
from lua_scripts.loader import Client, Scripts


class Jobs:
    """Turns of periodic jobs. Raises the ``StoreError`` tree."""

    def __init__(self, client: Client) -> None:
        self._scripts = Scripts(client)

    def my_turn(self, name: str, period_ms: int) -> bool:
        """Whether nobody has had this job's turn for a period; the caller who hears True has it now."""
        return bool(self._scripts.run("turn", (JOBS,), (name, period_ms)))
