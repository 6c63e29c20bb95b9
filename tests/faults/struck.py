"""What every fault is given: the process that stands still at a step, and what goes on around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.faults.senders import Sender
from tests.faults.situations import Situation
from tests.support.processes import Process
from tests.support.steps import Steps, Stop

LEASE_S: Final = 2.0
RECOVERY_S: Final = 15.0
"""What was accepted is written this long after a process was killed or Redis came back, at the latest."""


@dataclass(slots=True)
class Struck:
    """Handed to a fault: ``stop`` is the process that stands still, the sender is at work or done."""

    steps: Steps
    stop: Stop
    situation: Situation
    sender: Sender

    @property
    def process(self) -> Process:
        return self.steps.process_of(self.stop)


Fault = Callable[[Struck], None]
"""Does harm and mends it, as an operator or a supervisor would; the process goes on, unless it is dead."""
