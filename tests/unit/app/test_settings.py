"""Settings: what is read, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.alerts import Matcher
from app.settings import Settings, SettingsError, load, specs


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    # Given nothing is set / When
    settings = load({"PATH": "/bin", "STORMFOLDER": "not ours"})
    # Then
    assert settings == Settings(
        redis_url="redis://127.0.0.1:6379/0",
        broker_url="redis://127.0.0.1:6379/0",
        redis_wait_replicas=0,
        group_by=("cluster", "namespace", "alertname"),
        ignore=(Matcher("alertname", "=", "Watchdog"), Matcher("alertname", "=", "InfoInhibitor")),
        rate_threshold=10,
        rate_window=60_000,
        pattern_threshold=5,
        pattern_window=120_000,
        debounce=5_000,
        max_wait=30_000,
        single_hold=5_000,
        reopen_window=300_000,
        stale_after=21_600_000,
        tombstone=900_000,
        lease=30_000,
        max_members=50_000,
        max_resources=500,
        cause_labels=("node", "zone", "region", "namespace", "owner", "owner_name", "image", "version"),
        sink="directory:./manifests",
        namespace="",
        fallback_namespace="stormfold-system",
        field_manager="stormfold",
        kube_writes_per_second=20,
        kube_timeout=5_000,
        retention=86_400_000,
        webhook_token=None,
        basic_auth=None,
        admit_memory=80,
        admit_age=120_000,
        max_body=33_554_432,
        alertmanager_url=(),
        alertmanager_receiver="",
        reconcile_every=60_000,
        reconcile_grace=120_000,
        reconcile_peer_uptime=600_000,
        record="",
        host="127.0.0.1",
        port=8080,
        flower_port=5555,
        web_threads=8,
        concurrency=2,
        worker_heartbeat_file="",
        log_level="info",
        log_format="console",
    )


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("0", 0), ("0s", 0), ("500ms", 500), ("5s", 5_000), ("2m", 120_000), ("6h", 21_600_000)]
)
def test_durations(text: str, milliseconds: int) -> None:
    assert load({"STORMFOLD_SINGLE_HOLD": text}).single_hold == milliseconds


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("4096B", 4096), ("3KiB", 3072), ("2MiB", 2 << 20), ("1GiB", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert load({"STORMFOLD_MAX_BODY": text}).max_body == size


def test_ignore_takes_all_four_operators_quotes_and_nothing() -> None:
    # Given
    text = 'alertname=Watchdog, severity!=critical,team=~"a{1,2}|b\\"",  job!~x.*'
    # When
    ignore = load({"STORMFOLD_IGNORE": text}).ignore
    # Then
    assert ignore == (
        Matcher.of("alertname", "=", "Watchdog"),
        Matcher.of("severity", "!=", "critical"),
        Matcher.of("team", "=~", 'a{1,2}|b"'),
        Matcher.of("job", "!~", "x.*"),
    )
    assert load({"STORMFOLD_IGNORE": ""}).ignore == ()


def test_the_broker_is_redis_unless_it_is_named() -> None:
    # Given
    sentinel = "redis+sentinel://a:1,b:2/main/0"
    # When / Then
    assert load({"STORMFOLD_REDIS_URL": sentinel}).broker_url == sentinel
    assert load({"STORMFOLD_REDIS_URL": "rediss://:pw@r:6380/2"}).broker_url == "rediss://:pw@r:6380/2"
    both = load({"STORMFOLD_REDIS_URL": "redis+cluster://a:1,b:2", "STORMFOLD_BROKER_URL": "redis://b/1"})
    assert both.broker_url == "redis://b/1"


def test_what_kubernetes_injects_for_services_is_ignored() -> None:
    # Given a Service called stormfold and one called stormfold-flower
    environ = {
        "STORMFOLD_SERVICE_HOST": "10.0.0.1",
        "STORMFOLD_SERVICE_PORT": "80",
        "STORMFOLD_SERVICE_PORT_HTTP": "80",
        "STORMFOLD_PORT": "tcp://10.0.0.1:80",
        "STORMFOLD_PORT_80_TCP": "tcp://10.0.0.1:80",
        "STORMFOLD_PORT_80_TCP_ADDR": "10.0.0.1",
        "STORMFOLD_FLOWER_SERVICE_HOST": "10.0.0.2",
        "STORMFOLD_FLOWER_PORT": "udp://10.0.0.2:5555",
    }
    # When / Then
    assert load(environ) == load({})


def test_secrets_are_read_from_files_and_never_shown(tmp_path: Path) -> None:
    # Given
    secret = tmp_path / "token"
    secret.write_text("s3cr3t\n")
    # When
    settings = load(
        {
            "STORMFOLD_WEBHOOK_TOKEN_FILE": str(secret),
            "STORMFOLD_BASIC_AUTH": "ops:hush:hush",
            "STORMFOLD_REDIS_URL": "redis://:hush@r/0",
            "STORMFOLD_HOST": "0.0.0.0",
        }
    )
    # Then
    assert (settings.webhook_token, settings.basic_auth) == ("s3cr3t", "ops:hush:hush")
    assert "s3cr3t" not in repr(settings)
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"DEBOUNCE": "5"}, "DEBOUNCE: '5' is no duration such as 0, 500ms, 5s, 2m or 6h"),
        ({"DEBOUNCE": "-1s"}, "DEBOUNCE: '-1s' is no duration such as 0, 500ms, 5s, 2m or 6h"),
        ({"DEBOUNCE": ""}, "DEBOUNCE: '' is no duration such as 0, 500ms, 5s, 2m or 6h"),
        ({"DEBOUNCE": "٣s"}, "DEBOUNCE: '٣s' is no duration such as 0, 500ms, 5s, 2m or 6h"),
        ({"LEASE": "0"}, "LEASE: '0' is less than 1ms"),
        ({"MAX_BODY": "32MB"}, "MAX_BODY: '32MB' is no size such as 4096, 512KiB or 32MiB"),
        ({"PORT": "0"}, "PORT: '0' is no whole number from 1 to 65535"),
        ({"PORT": "http"}, "PORT: 'http' is no whole number from 1 to 65535"),
        ({"GROUP_BY": "namespace,"}, "GROUP_BY: '' is no label name"),
        ({"CAUSE_LABELS": "a,b,c,d,e,f,g,h,i"}, "CAUSE_LABELS: 9 are more than 8"),
        ({"CAUSE_LABELS": "a-b"}, "CAUSE_LABELS: 'a-b' is no label name"),
        ({"GROUP_BY": "alertname"}, "NAMESPACE: needed, because GROUP_BY has no namespace"),
        ({"NAMESPACE": "No_Such"}, "NAMESPACE: 'No_Such' is no name of a Kubernetes namespace"),
        (
            {"FIELD_MANAGER": "Storm Fold"},
            "FIELD_MANAGER: 'Storm Fold' is not of the form stormfold-blue: lower case, digits and hyphens, at most 63",
        ),
        ({"FALLBACK_NAMESPACE": ""}, "FALLBACK_NAMESPACE: a namespace is needed"),
        ({"IGNORE": "Watchdog"}, "IGNORE: 'Watchdog' does not begin with a matcher such as alertname=Watchdog"),
        ({"IGNORE": "a=~("}, "IGNORE: '(' is no regular expression: missing ), unterminated subpattern at position 0"),
        ({"SINK": "s3:bucket"}, "SINK: 's3:bucket' is neither kubernetes nor directory:PATH"),
        ({"SINK": "directory:"}, "SINK: 'directory:' is neither kubernetes nor directory:PATH"),
        ({"DEBOUNCE": "31s"}, "MAX_WAIT: shorter than DEBOUNCE"),
        ({"HOST": "0.0.0.0"}, "HOST: off this machine's loopback only with WEBHOOK_TOKEN or BASIC_AUTH"),
        ({"HOST": "::"}, "HOST: off this machine's loopback only with WEBHOOK_TOKEN or BASIC_AUTH"),
        ({"HOST": "web.local"}, "HOST: off this machine's loopback only with WEBHOOK_TOKEN or BASIC_AUTH"),
        ({"HOST": ""}, "HOST: '' is no host name or address"),
        ({"SINK": "kubernetes", "LEASE": "5s"}, "KUBE_TIMEOUT: must be shorter than LEASE"),
        (
            {"REDIS_URL": "http://:hush@r"},
            "REDIS_URL: the URL begins with none of redis://, rediss://, redis+sentinel://, redis+cluster://",
        ),
        ({"REDIS_URL": "redis://"}, "REDIS_URL: the URL names no host"),
        (
            {"REDIS_URL": "redis://r:hush/0"},
            "REDIS_URL: the URL is not of the form redis://user:password@host:port/db",
        ),
        (
            {"REDIS_URL": "redis+sentinel://a:1"},
            "REDIS_URL: the URL is not of the form redis+sentinel://host:port,host:port/primary/db",
        ),
        (
            {"REDIS_URL": "redis+cluster://a:1"},
            "BROKER_URL: needed, because a Redis Cluster cannot be Celery's broker",
        ),
        ({"BROKER_URL": "localhost"}, "BROKER_URL: the URL has no scheme such as redis://"),
        ({"ALERTMANAGER_URL": "http://a, b:9093"}, "ALERTMANAGER_URL: 'b:9093' is no http or https URL"),
        ({"ALERTMANAGER_URL": "ftp://u:hush@a"}, "ALERTMANAGER_URL: 'a' is no http or https URL"),
        ({"WEBHOOK_TOKEN": "a b"}, "WEBHOOK_TOKEN: the token holds white space"),
        ({"BASIC_AUTH": "hush"}, "BASIC_AUTH: the value is not of the form user:password"),
        ({"BASIC_AUTH_FILE": "/none"}, "BASIC_AUTH_FILE: cannot read '/none': No such file or directory"),
        ({"BASIC_AUTH_FILE": "/dev/null"}, "BASIC_AUTH_FILE: '/dev/null' is empty"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL: 'loud' is none of debug, info, warning, error"),
        ({"DEBOUNZE": "1s"}, "DEBOUNZE: there is no such setting; is it STORMFOLD_DEBOUNCE?"),
        ({"XYZZY": ""}, "XYZZY: there is no such setting"),
        ({"HOST_FILE": "/none"}, "HOST_FILE: there is no such setting; is it STORMFOLD_HOST?"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line_that_names_it(environ: dict[str, str], line: str) -> None:
    # Given / When
    with pytest.raises(SettingsError) as raised:
        load({f"STORMFOLD_{name}": value for name, value in environ.items()})
    # Then
    assert str(raised.value) == f"STORMFOLD_{line}"
    assert "hush" not in str(raised.value)


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    # Given
    secret = tmp_path / "token"
    secret.write_text("b")
    # When / Then
    with pytest.raises(SettingsError) as raised:
        load({"STORMFOLD_WEBHOOK_TOKEN_FILE": str(secret), "STORMFOLD_WEBHOOK_TOKEN": "a"})
    assert str(raised.value) == (
        "STORMFOLD_WEBHOOK_TOKEN: given twice, as STORMFOLD_WEBHOOK_TOKEN and as STORMFOLD_WEBHOOK_TOKEN_FILE"
    )


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, spec in specs().items() if not spec.about] == []
