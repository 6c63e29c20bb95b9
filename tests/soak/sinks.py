"""What a soak needs of the sink that workers write to, whichever kind it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from tests.soak.seen import Source

if TYPE_CHECKING:
    from tests.soak.faults import Kinds


class SoakedSink(Source, Protocol):
    """Stands before the workers start, and until they have ended."""

    kind: str
    settings: Mapping[str, str]
    """Of web and workers, without the STORMFOLD_ prefix."""
    lanes: Mapping[str, Kinds]
    """Its faults."""
    wrong: list[str]
    """What its faults found that must never be."""

    def held(self, *, every: int = 1) -> AbstractContextManager[None]:
        """Writes hang meanwhile; one in ``every`` where that can be told apart."""
