"""Open storms as JSON, and as a page for whoever is woken by one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, current_app, jsonify, render_template, request

from app.errors import ProblemError, invalid_query, not_found, unavailable
from app.services import Services
from app.times import rfc3339
from lua_scripts.errors import StoreError
from lua_scripts.records import Ledger, MemberRecord, ResourceRecord, StormRecord

API_PAGE: Final = 100
API_PAGE_MAX: Final = 500
HTML_PAGE: Final = 200
_CURSOR: Final = re.compile(r"(\d{1,2}|[a-z])\.\d{1,19}", re.ASCII)
_PHASE_ORDER: Final = {"ACTIVE": 0, "GATHERING": 1, "RESOLVED": 2}

blueprint = Blueprint("storms", __name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One storm as the page shows it."""

    storm: StormRecord
    alertname: str
    other_labels: str
    age: str
    quiet: str


@blueprint.get("/api/v1/storms")
def list_storms() -> Response:
    services = _services()
    try:
        storms, following = services.store.page(_cursor(), _limit())
        ledger = services.store.totals()
    except StoreError as error:
        raise unavailable(error) from error
    except ValueError as error:
        raise _bad_cursor() from error
    return jsonify(items=[_storm(storm) for storm in storms], next=following, ledger=ledger.as_json())


@blueprint.get("/api/v1/storms/<name>")
def one_storm(name: str) -> Response:
    try:
        return jsonify(_storm(_found(name)))
    except StoreError as error:
        raise unavailable(error) from error


@blueprint.get("/api/v1/storms/<name>/members")
def list_members(name: str) -> Response:
    try:
        members, following = _services().store.members(_found(name).storm_id, _cursor(), _limit())
    except StoreError as error:
        raise unavailable(error) from error
    except ValueError as error:
        raise _bad_cursor() from error
    return jsonify(items=[_member(member) for member in members], next=following)


@blueprint.get("/")
def page() -> tuple[str, int]:
    """The page itself also comes when Redis is away, and says so: a browser's error page would stop refreshing."""
    services = _services()
    try:
        storms, following = services.store.page(_cursor(), HTML_PAGE)
        ledger, problem = services.store.totals(), None
    except StoreError as error:
        storms, following, ledger, problem = [], None, Ledger(), unavailable(error)
        services.metrics.problem(problem.kind)
    except ValueError as error:
        raise _bad_cursor() from error
    now_ms = time.time_ns() // 1_000_000
    shown = {
        "rows": list(_rows(storms, now_ms)),
        "next": following,
        "first": "cursor" not in request.args,
        "ledger": ledger,
        "balanced": ledger.balanced,
        "problem": problem,
        "now": rfc3339(now_ms),
    }
    return render_template("storms.html", **shown), 503 if problem else 200


def _services() -> Services:
    services: Services = current_app.extensions["stormfold"]
    return services


def _found(name: str) -> StormRecord:
    storm = _services().store.find(name)
    if storm is None:
        raise not_found(f"No open storm is called {name[:80]!r}.")
    return storm


def _cursor() -> str | None:
    cursor = request.args.get("cursor")
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        raise _bad_cursor()
    return cursor


def _bad_cursor() -> ProblemError:
    return invalid_query("cursor", "Not a cursor that an earlier page gave as next.")


def _limit() -> int:
    text = request.args.get("limit", str(API_PAGE))
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII) or not 1 <= int(text) <= API_PAGE_MAX:
        raise invalid_query("limit", f"Not a number from 1 to {API_PAGE_MAX}.")
    return int(text)


def _storm(storm: StormRecord) -> dict[str, Any]:
    return {
        "id": storm.name,
        "namespace": storm.namespace,
        "stormKey": dict(storm.key),
        "phase": storm.phase,
        "stormType": storm.storm_type or None,
        "alertCount": storm.alert_count,
        "totalAlerts": storm.total_alerts,
        "firstSeen": rfc3339(storm.first_seen_ms),
        "lastSeen": rfc3339(storm.last_seen_ms),
        "flaps": storm.flaps,
        "ledger": storm.ledger.as_json(),
    }


def _member(member: MemberRecord) -> dict[str, Any]:
    return {
        "fingerprint": member.fingerprint,
        "status": member.status,
        "startsAt": rfc3339(member.starts_at_ms) if member.starts_at_ms else None,
        "resource": None if member.resource is None else _resource(member.resource),
    }


def _resource(resource: ResourceRecord) -> dict[str, str]:
    return {"kind": resource.kind, "name": resource.name, "namespace": resource.namespace}


def _rows(storms: list[StormRecord], now_ms: int) -> Iterator[Row]:
    """The worst first: storms that are on, by how much fires, then what gathers, then what is over."""
    for storm in sorted(storms, key=lambda each: (_PHASE_ORDER[each.phase], -each.alert_count, each.first_seen_ms)):
        # The RemediationRequest's namespace has a column; the alerts' own is told where it is another.
        in_columns = {"alertname": storm.key.get("alertname"), "namespace": storm.namespace}
        others = [f"{label}={value}" for label, value in storm.key.items() if value and in_columns.get(label) != value]
        yield Row(
            storm,
            storm.key.get("alertname", ""),
            " ".join(others),
            age(now_ms - storm.first_seen_ms),
            age(now_ms - storm.last_seen_ms),
        )


def age(ms: int) -> str:
    """A span in its two largest units: ``42s``, ``3m 20s``, ``5h 1m``, ``2d 4h``."""
    seconds = max(0, ms) // 1000
    for size, unit, smaller, name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // smaller}{name}"
    return f"{seconds}s"
