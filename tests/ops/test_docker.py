"""docker/: every path, command, port and setting in it against the code, for no container engine may be at hand."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from app import settings as configuration
from app.cli import COMMANDS
from app.cli.http import WEBHOOK_PATH
from app.cli.processes import free_port
from app.setting_types import duration
from tests.support.absent import absent

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
DEFAULTS = configuration.load({})
DEFAULTS_REDIS_PORT = urlsplit(DEFAULTS.redis_url).port


def instructions() -> list[tuple[str, str, str]]:
    """The Dockerfile as (stage, instruction, arguments)."""
    text = re.sub(r"\\\n\s*", " ", (DOCKER / "Dockerfile").read_text())
    found, stage = [], ""
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            if word == "FROM":
                stage = rest.split(" AS ")[1]
            found.append((stage, word, rest))
    return found


def of_stage(stage: str) -> list[tuple[str, str]]:
    """What applies to a target: its own instructions after those of the stage that it builds on."""
    own = [(word, rest) for name, word, rest in instructions() if name == stage]
    parent = own[0][1].split(" AS ")[0]
    return (of_stage(parent) if parent in {name for name, _, _ in instructions()} else []) + own


def environment(stage: str) -> dict[str, str]:
    pairs = [pair for word, rest in of_stage(stage) if word == "ENV" for pair in shlex.split(rest)]
    return dict(pair.split("=", 1) for pair in pairs)


def settings_of(name: str, tmp_path: Path) -> configuration.Settings:
    """The settings of a compose service, its image's environment below its own, secrets from real files."""
    service = SERVICES[name]
    environ = environment(service["build"]["target"]) | service["environment"]
    for secret, text in (("webhook-token", "t0ken"), ("basic-auth", "admin:secret")):
        (tmp_path / secret).write_text(text + "\n")
    given = {}
    for variable, value in environ.items():
        path = Path(value)
        if path.parent == Path("/run/secrets"):
            assert path.name in service["secrets"], f"{name} reads {value} but is not given that secret"
            value = str(tmp_path / path.name)
        given[variable] = value
    return configuration.load({n: v for n, v in given.items() if n.startswith("STORMFOLD_")})


# The Dockerfile


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    # Given what is copied from the context
    copied = [
        source
        for _, word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]

    # Then each exists, and .dockerignore, which leaves everything else out, lets it through
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(copied)
    assert [source for source in copied if not (ROOT / source).exists()] == []
    # and no link in the packages leads to a file that stays outside
    targets = {
        str(path.resolve().relative_to(ROOT))
        for package in ("app", "tasks", "lua_scripts")
        for path in (ROOT / package).rglob("*")
        if path.is_symlink()
    }
    assert targets
    assert targets <= set(copied)


@pytest.mark.parametrize("target", ["web", "worker"])
def test_an_image_runs_a_command_of_ours_as_nobody_in_particular(target: str) -> None:
    # Given a target of the Dockerfile
    lines = of_stage(target)
    last = {word: rest for word, rest in lines if word in ("USER", "ENTRYPOINT", "CMD", "WORKDIR")}

    # Then it is not root, and what it runs exists
    assert last["USER"] == "10001:10001"
    assert last["ENTRYPOINT"] == '["stormfold"]'
    assert yaml.safe_load(last["CMD"]) == [target]
    assert target in COMMANDS
    # and its variables are settings
    known = {name for name in environment(target) if name.startswith("STORMFOLD_")}
    assert known <= set(configuration.specs())
    # and the folder that it may write to is the one of the default sink
    assert DEFAULTS.sink == "directory:./manifests"
    made = next(rest for word, rest in lines if word == "RUN" and "useradd" in rest)
    assert f"{last['WORKDIR']}/manifests" in made


def test_the_ports_of_the_images_are_the_default_ones() -> None:
    exposed = [rest for stage, word, rest in instructions() if word == "EXPOSE" and stage == "web"]
    health = next(rest for stage, word, rest in instructions() if word == "HEALTHCHECK")

    assert exposed == [str(DEFAULTS.port)]
    assert f"http://127.0.0.1:{DEFAULTS.port}/healthz" in health


def test_the_images_have_the_python_of_the_project_and_the_versions_of_the_lock() -> None:
    images = {rest.split(" AS ")[0] for _, word, rest in instructions() if word == "FROM"}
    install = next(rest for _, word, rest in instructions() if word == "RUN" and "pip install" in rest)

    assert images == {"python:3.11-slim", "base"}
    assert "--constraint requirements.lock ." in install


# compose.yaml


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_is_built_and_starts_with_valid_settings(name: str, tmp_path: Path) -> None:
    # Given a service that runs our image
    service = SERVICES[name]

    # Then its build names what exists
    build = service["build"]
    assert (DOCKER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).samefile(DOCKER / "Dockerfile")
    assert build["target"] in {stage for stage, _, _ in instructions()}
    # and its command is one of ours, its settings can be read, and Redis is where they say
    assert service["command"][0] in COMMANDS
    settings = settings_of(name, tmp_path)
    at = urlsplit(settings.redis_url)
    assert at.hostname in SERVICES
    assert at.port == DEFAULTS_REDIS_PORT
    assert set(service["networks"]) & set(SERVICES[at.hostname]["networks"])


@pytest.mark.parametrize(("name", "attribute"), [("web", "port"), ("flower", "flower_port")])
def test_what_listens_off_loopback_asks_who_it_is_and_is_published_where_it_listens(
    name: str, attribute: str, tmp_path: Path
) -> None:
    # When
    settings = settings_of(name, tmp_path)

    # Then
    assert settings.host == "0.0.0.0"
    assert settings.basic_auth == "admin:secret"
    assert SERVICES[name]["ports"] == [f"127.0.0.1:{getattr(DEFAULTS, attribute)}:{getattr(settings, attribute)}"]


def test_the_shape_of_the_installation(tmp_path: Path) -> None:
    # Then there are the parts of the design, two workers, and only what must be is on a network with the store
    assert set(SERVICES) == {"redis", "web", "worker", "flower", "alertmanager"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert {name for name, service in SERVICES.items() if "store" in service["networks"]} == {
        "redis", "web", "worker", "flower",
    }  # fmt: skip
    assert COMPOSE["networks"]["store"]["internal"] is True
    # and the workers write to a volume that belongs to them
    sink = settings_of("worker", tmp_path).sink.removeprefix("directory:")
    assert f"manifests:{sink}" in SERVICES["worker"]["volumes"]
    # and a worker has more time to stop than its lease lasts
    assert duration()(SERVICES["worker"]["stop_grace_period"]) > DEFAULTS.lease


def test_whatever_is_named_is_declared_and_every_mounted_file_exists() -> None:
    for name, service in SERVICES.items():
        assert set(service["networks"]) <= set(COMPOSE["networks"]), name
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"]), name
        assert set(service.get("depends_on", ())) <= set(SERVICES), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DOCKER / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], volume
    # and secrets stay out of Git and out of the images
    ignored = (DOCKER / ".gitignore").read_text().split()
    for secret in COMPOSE["secrets"].values():
        assert any(fnmatch(str(Path("/") / secret["file"]), f"{line}*") for line in ignored), secret


def test_redis_starts_by_the_command_of_its_service(tmp_path: Path) -> None:
    # Given the command of the service, with its paths those of this machine and a free port
    service = SERVICES["redis"]
    mounted = dict(volume.split(":")[1::-1] for volume in service["volumes"])
    command = [
        str(DOCKER / mounted[word]) if word in mounted and word != "/data" else word for word in service["command"]
    ]
    command = [{"/data": str(tmp_path), "0.0.0.0": "127.0.0.1"}.get(word, word) for word in command]
    port = free_port("127.0.0.1", 0)
    command[2:2] = ["--port", str(port)]
    assert {"/stormfold/start-redis.sh", "/stormfold/redis.conf", "/data"} == set(mounted)

    # When it is run
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"VIRTUAL_ENV": sys.prefix}
    )
    try:
        retry = Retry(ConstantBackoff(0.05), 200)
        client = redis.Redis(port=port, retry=retry, decode_responses=True)

        # Then it has the limit that was asked for
        assert client.config_get("maxmemory") == {"maxmemory": str(256 * 2**20)}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_compose_itself_takes_the_file() -> None:
    # Given a client that has compose; an engine is not needed
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose here")

    # When and Then
    done = subprocess.run(
        [docker, "compose", "-f", DOCKER / "compose.yaml", "config"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# Alertmanager


def test_alertmanager_posts_where_web_listens_as_somebody_it_knows(tmp_path: Path) -> None:
    # Given the configuration that compose mounts where its command says
    service = SERVICES["alertmanager"]
    path = next(word.removeprefix("--config.file=") for word in service["command"] if "config.file" in word)
    source = next(volume.split(":")[0] for volume in service["volumes"] if volume.split(":")[1] == path)
    loaded = yaml.safe_load((DOCKER / source).read_text())

    # Then its receiver is our webhook, with a secret that both sides have
    [webhook] = next(each for each in loaded["receivers"] if each["name"] == loaded["route"]["receiver"])[
        "webhook_configs"
    ]
    at = urlsplit(webhook["url"])
    assert (at.hostname, at.port, at.path) == ("web", settings_of("web", tmp_path).port, WEBHOOK_PATH)
    token = webhook["http_config"]["authorization"]["credentials_file"]
    assert SERVICES["web"]["environment"]["STORMFOLD_WEBHOOK_TOKEN_FILE"] == token
    assert Path(token).name in service["secrets"]
    assert webhook["send_resolved"] is True
    assert webhook["max_alerts"] == 0
    # and it groups by what makes a storm, and repeats before a storm is taken for stale
    assert set(loaded["route"]["group_by"]) == set(DEFAULTS.group_by)
    assert duration()(loaded["route"]["repeat_interval"]) < DEFAULTS.stale_after


def test_alertmanager_itself_takes_the_file() -> None:
    amtool = shutil.which("amtool") or absent("no amtool (Debian: prometheus-alertmanager)")

    done = subprocess.run(
        [amtool, "check-config", DOCKER / "alertmanager" / "alertmanager.yml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
