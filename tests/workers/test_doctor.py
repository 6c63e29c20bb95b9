"""`stormfold doctor` against an installation that runs, and against one whose parts are away."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lua_scripts.workers import Workers
from tests.support.alertmanager import Alertmanager
from tests.support.ports import free_port
from tests.support.scene import new_scene
from tests.support.stack import STORMFOLD, Stack
from tests.support.waiting import wait_until

TOKEN = "not-a-secret-but-a-test"


def doctor(environ: Mapping[str, str], folder: Path, *options: str) -> tuple[int, dict[str, str]]:
    """Exit status, and the level of each line by what it is about; one that is not ok wins."""
    done = subprocess.run(
        [STORMFOLD, "doctor", "--json", *options],
        env=dict(environ), cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    levels: dict[str, str] = {}
    for line in map(json.loads, done.stdout.splitlines()):
        assert bool(line["mend"]) is (line["level"] != "ok"), line
        if levels.get(line["about"], "ok") == "ok":
            levels[line["about"]] = line["level"]
    return done.returncode, levels


def test_what_runs_is_found_well_and_repaired(tmp_path: Path) -> None:
    # Given an installation with an Alertmanager, and a storm whose RR somebody deleted
    port, scene = free_port(), new_scene()
    settings = {"ALERTMANAGER_URL": f"http://127.0.0.1:{port}", "WEBHOOK_TOKEN": TOKEN}
    with Stack(tmp_path, settings, workers=1, token=TOKEN) as stack:
        url = f"http://127.0.0.1:{stack.port}/api/v1/signals/prometheus"
        stack.post(scene.pods(12))
        wait_until(lambda: stack.objects(scene.key()), "the storm's RR")
        stack.wait_settled()
        [rr] = stack.objects(scene.key())
        path = stack.manifests / rr["metadata"]["namespace"] / f"{rr['metadata']['name']}.yaml"
        path.unlink()
        wait_until(lambda: Workers(stack.redis.client).last_beats(), "the worker's first sign of life")
        with Alertmanager(tmp_path / "am", webhook_url=url, token=TOKEN, port=port):
            # When doctor looks at it and repairs
            status, levels = doctor(stack.environ, tmp_path, "--repair")
        # Then all is well, and the RR comes back
        assert (status, levels) == (
            0,
            dict.fromkeys(
                ["redis version", "redis eviction", "redis persistence", "redis memory", "scripts", "workers", "broker",
                 "directory", "alertmanager", "clock", "repair"], "ok",
            ),
        )  # fmt: skip
        wait_until(path.exists, "the RR to be back")


def test_each_part_that_is_away_is_told(tmp_path: Path) -> None:
    # Given settings that name a Redis, a folder and an Alertmanager which are not there
    away = f"127.0.0.1:{free_port()}"
    (tmp_path / "file").write_text("")
    environ = {
        "STORMFOLD_REDIS_URL": f"redis://{away}/0", "STORMFOLD_SINK": f"directory:{tmp_path}/file/manifests",
        "STORMFOLD_ALERTMANAGER_URL": f"http://user:secret@{away}",
    }  # fmt: skip
    # When doctor looks, Then every one of them fails
    status, levels = doctor(environ, tmp_path, "--repair")
    assert (status, levels) == (1, dict.fromkeys(["redis", "broker", "directory", "alertmanager", "repair"], "fail"))


def test_no_password_is_printed(tmp_path: Path) -> None:
    # Given settings with passwords; When doctor looks, Then none of them is in what it says
    environ = {
        "STORMFOLD_REDIS_URL": "redis://user:hidden@127.0.0.1:1/0",
        "STORMFOLD_ALERTMANAGER_URL": "http://user:hidden@127.0.0.1:1",
    }
    done = subprocess.run([STORMFOLD, "doctor"], env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("fail  redis: ")
    assert "hidden" not in done.stdout + done.stderr
