"""The polls of Alertmanager over all workers: who asked for one, their number, and what came of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lua_scripts.keys import POLLS
from lua_scripts.loader import Client, translated

_GOOD: Final = "ok:"
_DOWN: Final = "down:"


@dataclass(frozen=True, slots=True)
class PollReport:
    """Sums over all polls, and when each peer last answered, in ms by Redis's clock."""

    complete: int = 0
    partial: int = 0
    fed: int = 0
    presumed: int = 0
    last_success_ms: Mapping[str, int] = field(default_factory=dict)


class Polls:
    """One hash. Every method raises the ``StoreError`` tree."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client

    def ask(self) -> None:
        """Asks for a poll soon; the question stands until one has answered it."""
        with translated():
            self._client.hincrby(POLLS, "asked", 1)

    def asked(self) -> int:
        """The number of the question that stands, 0 where none does."""
        with translated():
            asked, answered = (int(raw or 0) for raw in self._client.hmget(POLLS, "asked", "answered"))
        return asked if asked > answered else 0

    def answer(self, asked: int) -> None:
        """Marks the question of that number and all before it as answered."""
        with translated():
            self._client.hset(POLLS, "answered", asked)

    def begin(self, *, complete: bool) -> int:
        """The number of the poll. After an incomplete one the numbers leave a gap: what was counted is not in a row."""
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.hincrby(POLLS, "number", 1 if complete else 2)
            pipeline.hincrby(POLLS, "complete" if complete else "partial", 1)
            number, _ = pipeline.execute()
        return int(number)

    def answered_by(self, peer: str, now_ms: int) -> bool:
        """Notes that a peer answered; True where it had not the time before."""
        with translated():
            self._client.hset(POLLS, _GOOD + peer, now_ms)
            return bool(self._client.hdel(POLLS, _DOWN + peer))

    def failed_by(self, peer: str) -> bool:
        """Notes that a peer did not answer; True where that is news."""
        with translated():
            return bool(self._client.hsetnx(POLLS, _DOWN + peer, 1))

    def keep_only(self, peers: Iterable[str]) -> None:
        """Forgets what is noted about peers that are no longer asked."""
        wanted = {prefix + peer for peer in peers for prefix in (_GOOD, _DOWN)}
        with translated():
            names = {raw.decode() for raw in self._client.hkeys(POLLS)}
            gone = {name for name in names if name.startswith((_GOOD, _DOWN))} - wanted
            if gone:
                self._client.hdel(POLLS, *gone)

    def count(self, *, fed: int = 0, presumed: int = 0) -> None:
        """Adds to the sums."""
        with translated():
            for name, by in (("fed", fed), ("presumed", presumed)):
                if by:
                    self._client.hincrby(POLLS, name, by)

    def report(self) -> PollReport | None:
        """The sums, None where there was no poll."""
        with translated():
            raw = {name.decode(): value for name, value in self._client.hgetall(POLLS).items()}
        if "number" not in raw:
            return None
        complete, partial, fed, presumed = (int(raw.get(n, 0)) for n in ("complete", "partial", "fed", "presumed"))
        return PollReport(
            complete, partial, fed, presumed,
            {name.removeprefix(_GOOD): int(value) for name, value in raw.items() if name.startswith(_GOOD)},
        )  # fmt: skip
