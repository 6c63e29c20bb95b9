"""Takes one protection after the other out of a copy of the repository and shows that a cell is red without it.

Run by hand: ``python -m tests.faults.mutations [number ...]``; exit status 1 where a cell stays green.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", ".hypothesis", ".stormfold")
MATRIX = "tests/faults/test_matrix.py"
IN_A_CLUSTER = "tests/cluster/test_fault_cells.py"


@dataclass(frozen=True, slots=True)
class Mutation:
    """``text`` stands exactly once in ``path`` and becomes ``instead``; ``cell`` is then expected to fail.

    ``also`` is a second such (path, text, instead), where two parts protect against the same.
    """

    protection: str
    path: str
    text: str
    instead: str
    cell: str
    also: tuple[str, str, str] | None = None
    where: str = MATRIX


MUTATIONS = [
    Mutation(
        "a settle needs the token of the lease", "lua_scripts/settle.lua",
        "if not header or header.lk == '' or header.lk ~= ARGV[2] then return 'lost' end",
        "if not header then return 'lost' end",
        "before-settle, settle over a change, growing storm",
    ),
    Mutation(
        "an entry that is gone is not taken in again", "lua_scripts/ingest.lua",
        "if not received then return { 'gone' } end",
        "if not received then received = now end",
        "before-ingest, another drains, superseding storm",
    ),
    Mutation(
        "a storm that is leased is not claimed", "lua_scripts/claim.lua",
        "if leased(header) and header.lk ~= token then return { 'busy' } end",
        "",
        "before-settle, another claims, growing storm",
    ),
    Mutation(
        "the sink compares fences", "tasks/sinks/objects.py",
        "    if fence_of(existing) > fence_of(manifest):\n        raise NewerFence",
        "    if False:\n        raise NewerFence",
        "before-write, Storm, emptied under it, growing storm",
    ),
    Mutation(
        "the sweep wakes inboxes whose wake-up got lost", "lua_scripts/sweep.lua",
        "if mark < now - tonumber(ARGV[3]) and oldest < now - 1000 then",
        "if false then",
        "before-publish, kill web after its answer, new storm",
        also=("tasks/sweep.py", "LATE_MS: Final = 5000", "LATE_MS: Final = 600_000"),
    ),
    Mutation(
        "the sweep does what the broker refuses", "tasks/sweep.py",
        "        self._work(services, mine_to_drain, mine_to_write)\n",
        "",
        "after-sweep, full, growing storm",
    ),
    Mutation(
        "alerts are in Redis before the 202", "app/webhook.py",
        "        _store(delivery, services, ask=",
        "        _later(delivery, services, ask=",
        "before-accept, kill web, two keys",
        also=(
            "app/webhook.py",
            "def _body(limit: int)",
            "def _later(*args, **more):\n"
            "    __import__('threading').Thread(target=_store, args=args, kwargs=more).start()\n\n\n"
            "def _body(limit: int)",
        ),
    ),
    Mutation(
        "the name of a Single is pinned before its first write", "lua_scripts/claim.lua",
        "  if pin then single.state = 'N' end\n",
        "",
        "after-write, Single, kill worker as it becomes a storm, lone alerts",
    ),
    Mutation(
        "the storm's RR is met again, not taken for somebody else's", "tasks/sinks/objects.py",
        "    if fence_of(existing) < fence_of(manifest):\n        return True\n",
        "",
        "after-write, Storm, kill worker for good, new storm",
    ),
    Mutation(
        "a leased storm stays due, for its holder may die", "lua_scripts/storm.lua",
        "    at = header.lu\n",
        "    at = header.lu + 600000\n",
        "after-claim, Claim, kill worker for good, new storm",
    ),
    Mutation(
        "what an emptied Redis forgot is looked for before a first write", "lua_scripts/claim.lua",
        "if ARGV[7] == '1' and header.uid == ''",
        "if false and header.uid == ''",
        "before-ingest, emptied, growing storm",
    ),
    Mutation(
        "ingest frees before it writes", "lua_scripts/ingest.lua",
        "redis.call('HDEL', KEYS[2], ARGV[1])\nredis.call('ZREM', KEYS[3], ARGV[1])\n",
        "redis.call('HSET', KEYS[1], 'wk', now)\n"
        "redis.call('HDEL', KEYS[2], ARGV[1])\nredis.call('ZREM', KEYS[3], ARGV[1])\n",
        "before-ingest, full, growing storm",
    ),
    Mutation(
        "scripts that Redis forgot are loaded again", "lua_scripts/loader.py",
        "            except redis.exceptions.NoScriptError:\n"
        "                # EVAL also loads it, on the very node that lacked it.\n"
        "                return self.client.eval(source.text, len(keys), *keys, *args)\n",
        "            finally:\n                pass\n",
        "before-accept, forget scripts, two keys",
    ),
    Mutation(
        "a fence leaps where an object is taken over", "lua_scripts/storm.lua",
        "local ADOPTED = 1000000",
        "local ADOPTED = 1",
        "before-write, Storm, emptied under it, growing storm",
    ),
    Mutation(
        "only a holder that Redis knows goes on above a fence", "lua_scripts/claim.lua",
        "if tonumber(ARGV[6]) > 0 and header.lk ~= token then return { 'busy' } end",
        "",
        "before-write, Storm, emptied under a change, growing storm",
    ),
    Mutation(
        "a worker outlives a broker that is full", "app/broker.py",
        "broker_channel_error_retry=not publisher",
        "broker_channel_error_retry=False",
        "before-claim, full, growing storm",
    ),
    Mutation(
        "an update is of the version that was read", "tasks/sinks/resource.py",
        '{"uid": uid, "resourceVersion": version}', '{"uid": uid}',
        "before-write, Storm, emptied under it, growing storm", where=IN_A_CLUSTER,
    ),
    Mutation(
        "who meets a conflict compares fences", "tasks/sinks/kubernetes.py",
        "        refuse_if_newer(existing, self._manifest)\n", "",
        "before-write, Storm, emptied under it, growing storm", where=IN_A_CLUSTER,
    ),
    Mutation(
        "an object without a status is met again", "tasks/sinks/kubernetes.py",
        "            return self._take_over(manifest)\n",
        "            raise SinkUnavailable(path_of(manifest))\n",
        "before-status, Storm, kill worker for good, new storm", where=IN_A_CLUSTER,
    ),
    Mutation(
        "no request is sent when the lease is over", "tasks/sinks/api.py",
        "        seconds = min(self._timeout_s, deadline.remaining())\n", "        seconds = self._timeout_s\n",
        "before-status, Storm, freeze worker, growing storm", where=IN_A_CLUSTER,
        also=("tasks/sinks/resource.py", '{"uid": uid, "resourceVersion": version}', '{"uid": uid}'),
    ),
]  # fmt: skip


def edited(folder: Path, mutation: Mutation) -> dict[Path, str]:
    """The changed files. Raises ``ValueError`` where the code has moved on and the mutation no longer applies."""
    edits = [(mutation.path, mutation.text, mutation.instead)]
    if mutation.also:
        edits.append(mutation.also)
    files: dict[Path, str] = {}
    for name, old, new in edits:
        path = folder / name
        text = files.get(path) or path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"'{mutation.protection}' stands {text.count(old)} times in {name}: {old}")
        files[path] = text.replace(old, new)
    return files


def run(folder: Path, mutation: Mutation) -> tuple[bool, str]:
    """Whether the cell is green there, and the line that says why not."""
    command = [
        sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=line",
        f"{mutation.where}::test_cell[{mutation.cell}]",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(str(folder)) and ".py:" in line]
    return done.returncode == 0, lines[0].removeprefix(f"{folder}/")[:110] if lines else ""


def main(chosen: list[int]) -> int:
    for mutation in MUTATIONS:
        edited(ROOT, mutation)  # before any of them is run
    stayed_green = 0
    for number, mutation in enumerate(MUTATIONS, 1):
        if chosen and number not in chosen:
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="mutation-") as parent:
            folder = Path(parent) / "repo"
            shutil.copytree(ROOT, folder, ignore=NOT_COPIED, symlinks=True)
            for path, text in edited(folder, mutation).items():
                path.write_text(text)
            green, why = run(folder, mutation)
        stayed_green += green
        verdict = "GREEN, the cell does not see it" if green else "red"
        seconds = time.monotonic() - begun
        print(
            f"{number:2} {verdict}: without '{mutation.protection}' in [{mutation.cell}] ({seconds:.0f} s) {why}",
            flush=True,
        )
    print(f"{stayed_green} cells stayed green")
    return int(stayed_green > 0)


if __name__ == "__main__":
    raise SystemExit(main([int(text) for text in sys.argv[1:]]))
