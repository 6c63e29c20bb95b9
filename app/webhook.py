"""Takes in what Alertmanager posts: authenticated, checked alert by alert, and in Redis before it says 202."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import structlog
from flask import Blueprint, Response, current_app, request

from app.admission import state_of_all
from app.alerts import Alert
from app.errors import invalid_envelope, invalid_json, too_large, unavailable, unsupported_media_type
from app.letters import LETTER_MAX, make_letter
from app.notify import RECONCILE
from app.schemas import Envelope, MalformedAlertError, Webhook
from app.services import Services
from lua_scripts.errors import StoreError, StoreTimeout
from lua_scripts.keys import SHARDS
from lua_scripts.records import DeadLetter, NewEntry

DEADLINE_S: Final = 0.5
"""After this long no further shard is begun; with one call's own timeout the answer stays within a second."""
LETTERS_MAX: Final = 1024 * 1024
"""Characters that all dead letters of one delivery keep together."""
LETTERS_PER_CALL: Final = 100
LETTERS_KEPT: Final = SHARDS * LETTERS_PER_CALL
"""Malformed alerts of one delivery that become letters; more are counted and shed at once."""

blueprint = Blueprint("webhook", __name__)
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Delivery:
    """One webhook, sorted into what is kept, what is passed over and what could not be read."""

    delivery_id: str
    accepted: list[Alert]
    ignored: int
    dead: list[DeadLetter]
    unkept: int = 0

    @property
    def dead_lettered(self) -> int:
        return len(self.dead) + self.unkept


@blueprint.post("/api/v1/signals/prometheus")
def receive() -> Response:
    services: Services = current_app.extensions["stormfold"]
    _check_media_type()
    try:
        body = _body(services.settings.max_body)
        services.store.check_admission()  # before the work of parsing
        envelope = _envelope(body)
        delivery = _sort(envelope, services)
        _store(delivery, services, ask=envelope.truncated_alerts > 0 and bool(services.settings.alertmanager_url))
    except StoreError as error:
        raise unavailable(error) from error
    _report(delivery, envelope, services)
    answer = {
        "deliveryId": delivery.delivery_id,
        "accepted": len(delivery.accepted),
        "ignored": delivery.ignored,
        "deadLettered": delivery.dead_lettered,
    }
    return Response(json.dumps(answer), 202, mimetype="application/json")


def _body(limit: int) -> bytes:
    body = request.get_data(cache=False)
    # A body of no stated length is only cut by Werkzeug, one byte above the limit: see create_app.
    if len(body) > limit:
        raise too_large(limit)
    return body


def _check_media_type() -> None:
    kind = request.mimetype
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise unsupported_media_type(request.headers.get("Content-Type", ""))
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise unsupported_media_type(f"Content-Encoding: {encoding}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
_READER: Final = Webhook()


def _envelope(body: bytes) -> Envelope:
    try:
        parsed = _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise invalid_json(f"The body is not UTF-8: {error.reason} at byte {error.start}.") from error
    except RecursionError as error:
        raise invalid_json("The body is nested too deeply.") from error
    except ValueError as error:
        raise invalid_json(f"{error}.") from error
    envelope, errors = _READER.envelope(parsed)
    if envelope is None:
        raise invalid_envelope(errors)
    return envelope


def _sort(envelope: Envelope, services: Services) -> Delivery:
    delivery = Delivery(uuid.uuid4().hex, [], 0, [])
    ignore = services.settings.ignore
    malformed: list[tuple[int, Any, MalformedAlertError]] = []
    for index, raw in enumerate(envelope.alerts):
        try:
            alert = _READER.alert(raw, index)
        except MalformedAlertError as error:
            malformed.append((index, raw, error))
            continue
        if any(matcher.matches(alert.labels) for matcher in ignore):
            delivery.ignored += 1
        else:
            delivery.accepted.append(alert)
    kept = malformed[:LETTERS_KEPT]
    delivery.unkept = len(malformed) - len(kept)
    room = min(LETTER_MAX, LETTERS_MAX // max(1, len(kept)))
    for index, raw, why in kept:
        letter_id = f"{delivery.delivery_id}-{index}"
        letter = make_letter(letter_id, delivery.delivery_id, why.error.detail, why.error.path, raw, room)
        delivery.dead.append(letter)
    return delivery


def _store(delivery: Delivery, services: Services, *, ask: bool) -> None:
    """Returns when all of it is in Redis. What is kept of a delivery that fails midway is sent again: a duplicate.

    ``ask``: alerts were left out of it, and a worker is to fetch them from Alertmanager.
    """
    entries = services.make_entries(delivery.delivery_id, delivery.accepted, services.settings)
    letters = _spread(delivery.dead, list(entries), first=int(delivery.delivery_id[0], 16))
    calls = _calls(entries, letters, delivery)
    if any(alert.firing for alert in delivery.accepted):
        services.store.admit(state_of_all(entry for made in entries.values() for entry in made))
    begun = time.monotonic()
    if ask:
        services.store.ask_poll()
    for shard, new, dead, ignored, unkept in calls:
        if time.monotonic() - begun > DEADLINE_S:
            raise StoreTimeout(f"Redis is slow: the delivery was not stored within {DEADLINE_S} s")
        if services.store.accept(shard, new, dead, ignored, unkept).wake:
            services.notifier.wake(shard)
    if ask:
        services.notifier.wake(RECONCILE)


def _spread(dead: Sequence[DeadLetter], touched: Sequence[int], first: int) -> dict[int, Sequence[DeadLetter]]:
    """Dead letters by shard: few beside the entries, many over all shards, so that no single call is long."""
    if not dead:
        return {}
    shards = [*touched, *((first + step) % SHARDS for step in range(SHARDS))]
    shards = list(dict.fromkeys(shards))
    calls = min(SHARDS, -(-len(dead) // LETTERS_PER_CALL))
    return {shards[at]: dead[at::calls] for at in range(calls)}


def _calls(
    entries: Mapping[int, list[NewEntry]], letters: Mapping[int, Sequence[DeadLetter]], delivery: Delivery
) -> list[tuple[int, Sequence[NewEntry], Sequence[DeadLetter], int, int]]:
    shards = list(dict.fromkeys((*entries, *letters)))
    if not shards and delivery.ignored:
        shards = [int(delivery.delivery_id[0], 16)]
    # What is not kept is counted by the last call: a delivery that fails before is sent again, and counted then.
    counts = [(0, 0)] * (len(shards) - 1) + [(delivery.ignored, delivery.unkept)]
    return [
        (shard, entries.get(shard, ()), letters.get(shard, ()), *count)
        for shard, count in zip(shards, counts, strict=False)
    ]


def _report(delivery: Delivery, envelope: Envelope, services: Services) -> None:
    if delivery.dead:
        worst = delivery.dead[0]
        _log.warning(
            "alerts are malformed and became dead letters",
            delivery=delivery.delivery_id, alerts=delivery.dead_lettered, path=worst.path, reason=worst.reason,
        )  # fmt: skip
    if envelope.truncated_alerts:
        services.metrics.truncated(envelope.truncated_alerts)
        _log.warning(
            "Alertmanager left alerts out of the webhook; raise max_alerts of its receiver",
            delivery=delivery.delivery_id, left_out=envelope.truncated_alerts,
        )  # fmt: skip
