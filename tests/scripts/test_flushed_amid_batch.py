"""Entries of one storm take effect in the order of their receipt, also where Redis forgot the scripts on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import redis

from lua_scripts import loader
from lua_scripts.records import Taken
from tests.scripts.lab import Clock, Lab, firing, resolved


def test_scripts_flushed_and_loaded_by_somebody_else_amid_a_batch(
    lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a member that fires, and in the inbox its resolve, and its firing again with the same startsAt
    lab.deliver(firing("a", 10))
    entries = []
    for alert in (resolved("a", 20), firing("a", 10)):
        clock.advance(1000)
        entries.append(lab.accept(alert))

    # When the scripts are gone as a batch begins, and another worker has them loaded after its first command
    def one_by_one(_: Any, __: Any, commands: Sequence[Any], raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        replies: list[Any] = []
        for args, _ in commands:
            try:
                replies.append(lab.client.execute_command(*args))
            except redis.ResponseError as error:
                replies.append(error)
            lab.client.script_load(loader.sources()["ingest"].text)
        return replies

    lab.client.script_flush()
    with monkeypatch.context() as patch:
        patch.setattr(redis.client.Pipeline, "_execute_pipeline", one_by_one)
        taken = lab.storms.ingest(entries, lab.rules)
    # Then the alert resolved and fires again: what was received last stands
    assert taken == [Taken("ok", resolved=1, phase="GATHERING"), Taken("ok", reopened=1, phase="GATHERING")]
    assert lab.opened()["f"] == 1
