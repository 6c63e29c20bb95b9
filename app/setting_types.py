"""Parsers for the texts that settings are given as; each raises ValueError with what it expected."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from app.alerts import Matcher, is_dns_label

_DURATION: Final = re.compile(r"(\d{1,9})(ms|s|m|h)", re.ASCII)
_DURATION_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_SIZE: Final = re.compile(r"(\d{1,12})(B|KiB|MiB|GiB)?", re.ASCII)
_SIZE_BYTES: Final = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_LABEL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MATCHER: Final = re.compile(
    r"""\s*(?P<label>[A-Za-z_][A-Za-z0-9_]*)\s*(?P<operator>=~|!~|!=|=)\s*
        (?P<value>"(?:[^"\\]|\\.)*"|[^,"]*?)\s*(?:,|$)""",
    re.VERBOSE | re.ASCII,
)
REDIS_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "redis+cluster")


def duration(minimum_ms: int = 0) -> Callable[[str], int]:
    """Milliseconds of a text such as ``0``, ``500ms``, ``5s``, ``2m`` or ``6h``."""

    def parse(text: str) -> int:
        found = _DURATION.fullmatch(text)
        if not found and text != "0":
            raise ValueError(f"{text!r} is no duration such as 0, 500ms, 5s, 2m or 6h")
        milliseconds = int(found[1]) * _DURATION_MS[found[2]] if found else 0
        if milliseconds < minimum_ms:
            raise ValueError(f"{text!r} is less than {minimum_ms}ms")
        return milliseconds

    return parse


def size(text: str) -> int:
    """Bytes of a text such as ``4096``, ``512KiB`` or ``32MiB``."""
    found = _SIZE.fullmatch(text)
    if not found or not int(found[1]):
        raise ValueError(f"{text!r} is no size such as 4096, 512KiB or 32MiB")
    return int(found[1]) * _SIZE_BYTES[found[2]]


def count(minimum: int, maximum: int = 1_000_000_000) -> Callable[[str], int]:
    """A whole number within bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not minimum <= int(text) <= maximum:
            raise ValueError(f"{text!r} is no whole number from {minimum} to {maximum}")
        return int(text)

    return parse


def percent(text: str) -> int:
    """A share such as ``80%``."""
    if not re.fullmatch(r"\d{1,3}%", text, re.ASCII) or not 1 <= int(text[:-1]) <= 100:
        raise ValueError(f"{text!r} is no share from 1% to 100%")
    return int(text[:-1])


def choice(*names: str) -> Callable[[str], str]:
    """One of the names."""

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is none of {', '.join(names)}")
        return text

    return parse


def text(value: str) -> str:
    """Any text, also none."""
    return value


def host(value: str) -> str:
    """A name or an address to listen on."""
    if not value or re.search(r"[\s/]", value):
        raise ValueError(f"{value!r} is no host name or address")
    return value


def is_loopback(value: str) -> bool:
    """Whether only this machine can reach what listens on the host."""
    if value == "localhost":
        return True
    try:
        return ipaddress.ip_address(value.strip("[]")).is_loopback
    except ValueError:
        return False


def labels(value: str) -> tuple[str, ...]:
    """A list of label names, separated by commas."""
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no label name")
    return tuple(dict.fromkeys(names))


def up_to(most: int, parse: Callable[[str], tuple[str, ...]]) -> Callable[[str], tuple[str, ...]]:
    """A list of at most so many; it may be empty."""

    def parse_some(text: str) -> tuple[str, ...]:
        found = parse(text) if text else ()
        if len(found) > most:
            raise ValueError(f"{len(found)} are more than {most}")
        return found

    return parse_some


def matchers(value: str) -> tuple[Matcher, ...]:
    """A list such as ``alertname=Watchdog,team=~"a|b"``; values with a comma stand in double quotes."""
    found: list[Matcher] = []
    position = 0
    while position < len(value):
        matcher = _MATCHER.match(value, position)
        if not matcher:
            raise ValueError(f"{value[position:]!r} does not begin with a matcher such as alertname=Watchdog")
        wanted = matcher["value"]
        if wanted.startswith('"'):
            wanted = re.sub(r'\\(["\\])', r"\1", wanted[1:-1])
        try:
            found.append(Matcher.of(matcher["label"], matcher["operator"], wanted))
        except re.error as error:
            raise ValueError(f"{wanted!r} is no regular expression: {error}") from error
        position = matcher.end()
    return tuple(found)


def namespace(value: str) -> str:
    """A Kubernetes namespace, or nothing."""
    if value and not is_dns_label(value):
        raise ValueError(f"{value!r} is no name of a Kubernetes namespace")
    return value


def required_namespace(value: str) -> str:
    """A Kubernetes namespace."""
    if not value:
        raise ValueError("a namespace is needed")
    return namespace(value)


def field_manager(value: str) -> str:
    """A name that can be a field manager and the value of a label."""
    if not is_dns_label(value):
        raise ValueError(f"{value!r} is not of the form stormfold-blue: lower case, digits and hyphens, at most 63")
    return value


def sink(value: str) -> str:
    """``kubernetes`` or ``directory:PATH``."""
    if value != "kubernetes" and not re.fullmatch(r"directory:[^\0]+", value):
        raise ValueError(f"{value!r} is neither kubernetes nor directory:PATH")
    return value


def redis_url(value: str) -> str:
    """A Redis URL; its text may hold a password, so no message repeats it."""
    parts = _split(value)
    if parts.scheme not in REDIS_SCHEMES:
        raise ValueError(f"the URL begins with none of {', '.join(f'{scheme}://' for scheme in REDIS_SCHEMES)}")
    if not parts.netloc:
        raise ValueError("the URL names no host")
    if parts.scheme in ("redis", "rediss"):
        try:
            port_is_good = parts.port != 0
        except ValueError:
            port_is_good = False
        if not port_is_good or not re.fullmatch(r"(/\d*)?", parts.path):
            raise ValueError("the URL is not of the form redis://user:password@host:port/db")
    if parts.scheme == "redis+sentinel" and not re.fullmatch(r"/[^/]+(/\d+)?/?", parts.path):
        raise ValueError("the URL is not of the form redis+sentinel://host:port,host:port/primary/db")
    return value


def broker_url(value: str) -> str:
    """A URL that Celery can take as its broker, or nothing."""
    if value and not _split(value).scheme:
        raise ValueError("the URL has no scheme such as redis://")
    return value


def http_urls(value: str) -> tuple[str, ...]:
    """A list of http or https URLs, separated by commas."""
    urls = [url.strip().rstrip("/") for url in value.split(",") if url.strip()]
    for url in urls:
        parts = _split(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url.rpartition('@')[2]!r} is no http or https URL")
    return tuple(urls)


def token(value: str) -> str | None:
    """A bearer token, or nothing."""
    if re.search(r"[\s\0]", value):
        raise ValueError("the token holds white space")
    return value or None


def user_and_password(value: str) -> str | None:
    """``user:password``, or nothing."""
    if value and not re.fullmatch(r"[^:\0]+:[^\0]+", value):
        raise ValueError("the value is not of the form user:password")
    return value or None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise ValueError("the value is no URL") from error
