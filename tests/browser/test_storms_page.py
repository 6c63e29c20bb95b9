"""The storms page in a real browser: what an operator sees at three in the morning."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from tests.support.absent import absent
from tests.support.expect import outcome
from tests.support.scene import new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("browser")) as stack:
        yield stack


@pytest.fixture
def browser(tmp_path: Path) -> list[str]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        absent("Chromium is not installed")
    return [program, *QUIET, f"--user-data-dir={tmp_path / 'profile'}"]


def seen(browser: list[str], url: str) -> list[str]:
    """The words of the page as the browser has it after its scripts ran, without markup."""
    shown = subprocess.run([*browser, "--dump-dom", url], capture_output=True, text=True, timeout=60, check=True)
    body = re.sub(r"<(script|style|head).*?</\1>", " ", shown.stdout, flags=re.S)
    return unescape(re.sub(r"<[^>]+>", " ", body)).split()


def test_page_shows_open_storms_and_the_ledger(stack: Stack, browser: list[str]) -> None:
    # Given a storm of 12 alerts, two lone alerts and one that could not be read
    storm, lone = new_scene("storm"), new_scene("lone")
    stack.post(storm.pods(12))
    stack.post(lone.pods(2))
    stack.post_raw(b'{"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": 3}}]}')
    wait_until(lambda: stack.quiet(storm.key(), lone.key()), "all of it to be written")
    assert outcome(stack, storm.key())
    # When an operator opens the page
    words = seen(browser, f"http://127.0.0.1:{stack.port}/")
    # Then each open storm stands there under its RR's name, with its phase and how many alerts fire
    for scene, phase, firing in ((storm, "ACTIVE", "12"), (lone, "GATHERING", "2")):
        found = stack.storm(scene.key())
        assert found is not None
        row = words[words.index(scene.name("PodCrashLooping")) - 1 :]
        row = row[: row.index(found["id"]) + 1]
        assert row[0] == phase
        assert row.count(firing) == 2, row  # firing, and in total
        assert scene.namespace in row
    # And the ledger accounts for every alert, with the dead letter beside it
    ledger = words[words.index("Ledger") :]
    assert ledger[ledger.index("received") + 1] == "15"
    assert ledger[ledger.index("new") + 1] == "14"
    assert ledger[ledger.index("letters") + 1] == "1"
    assert "Balanced:" in ledger
