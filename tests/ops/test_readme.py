"""What README.md says against the code: settings, commands, folders, the Alertmanager configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
import yaml

from app import settings as configuration
from app.cli import COMMANDS, main
from app.cli.http import WEBHOOK_PATH
from app.setting_types import duration
from tests.support.absent import absent

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DEFAULTS = configuration.load({})
PATHS = sorted(set(re.findall(r"(?<![\w/])(?:app|tasks|lua_scripts|docker|tests)/[\w./-]*", README)))


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(title: str) -> dict[str, list[str]]:
    """The rows of a section's table by their first cell."""
    rows = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in rows]
    return {first.strip("`"): rest for first, *rest in cells}


def test_the_table_of_settings_is_the_settings() -> None:
    # Given the table and the code
    rows, specs = table("Settings"), configuration.specs()

    # Then names and their order, defaults, meanings and which may come from a file are the same
    assert [configuration.PREFIX + name for name in rows] == list(specs)
    assert {name: default.strip("`") for name, (default, _) in rows.items()} == {
        name.removeprefix(configuration.PREFIX): spec.default for name, spec in specs.items()
    }
    for name, (_, about) in rows.items():
        spec = specs[configuration.PREFIX + name]
        wanted = spec.about + (f"; also as {name}_FILE" if spec.secret else "")
        assert about.replace("`", "") == wanted, name


def test_every_command_is_described_and_every_option_that_is_named_exists() -> None:
    # Given the table of commands
    described = "\n".join(table("Commands"))

    # Then it names all commands and no other
    named = {word for row in table("Commands") for word in re.findall(r"[a-z]+", row.split(" --")[0])}
    groups = {name for name in COMMANDS if isinstance(_command(name), click.Group)}
    below = {name for group in groups for name in _group(group).commands}
    assert named - {"stormfold"} == set(COMMANDS) | below, described
    # and simulate has the options
    options = {option for parameter in _command("simulate").params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", table("Commands")["stormfold simulate --url URL"][0])) <= options


def _command(name: str) -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


def _group(name: str) -> click.Group:
    found = _command(name)
    assert isinstance(found, click.Group)
    return found


def test_the_alertmanager_configuration_works(tmp_path: Path) -> None:
    # Given the configuration of the README
    text = re.findall(r"```yaml\n(.*?)```", section("Alertmanager"), re.DOTALL)[0]
    loaded = yaml.safe_load(text)

    # Then it posts to where the web process listens by default, in the groups that are storms
    [webhook] = loaded["receivers"][0]["webhook_configs"]
    at = urlsplit(webhook["url"])
    assert (at.hostname, at.port, at.path) == (DEFAULTS.host, DEFAULTS.port, WEBHOOK_PATH)
    assert loaded["route"]["receiver"] == loaded["receivers"][0]["name"]
    assert set(loaded["route"]["group_by"]) == set(DEFAULTS.group_by)
    assert duration()(loaded["route"]["repeat_interval"]) < DEFAULTS.stale_after
    # and Alertmanager takes it, also with the line that is a comment in it
    amtool = shutil.which("amtool") or absent("no amtool (Debian: prometheus-alertmanager)")
    for variant in (text, text.replace("# http_config", "http_config")):
        (tmp_path / "alertmanager.yml").write_text(variant)
        done = subprocess.run(
            [amtool, "check-config", tmp_path / "alertmanager.yml"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_figures_in_the_text_are_the_defaults() -> None:
    # Given the sentences that name a default
    text = " ".join(section("An alert's way").split())

    # Then they are still right
    assert f"At {DEFAULTS.rate_threshold} distinct alerts within a minute" in text
    assert f"or {DEFAULTS.pattern_threshold} distinct resources within two" in text
    assert f"object {DEFAULTS.debounce // 1000} seconds after it became a storm" in text
    assert f"at the latest {DEFAULTS.max_wait // 1000} seconds" in text
    assert f"no news for {DEFAULTS.stale_after // 3_600_000} hours" in text
    assert f"closed {DEFAULTS.retention // 3_600_000} hours ago" in text
    assert f"within {DEFAULTS.reopen_window // 60_000} minutes of its end" in text
    assert (DEFAULTS.rate_window, DEFAULTS.pattern_window) == (60_000, 120_000)
    assert f"lease ends after {DEFAULTS.lease // 1000} s" in section("When something fails")
    assert f"port {DEFAULTS.port}, Flower on port {DEFAULTS.flower_port}" in README


@pytest.mark.parametrize("path", PATHS)
def test_every_path_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"\bmake ([a-z]+) ", README)) - {"the"} <= targets


def test_the_changelog_has_a_place_for_what_comes() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
