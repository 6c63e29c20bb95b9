"""Whether the process lives, and whether it should be given work; open to everybody, as probes carry no secrets."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify

from app.errors import unavailable
from app.services import Services
from lua_scripts.errors import StoreError

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process answers. Needs no Redis: restarting the web process mends no Redis."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> Response:
    """Redis answers, keeps what it is given and knows the scripts. A broken sink is no reason to refuse intake.

    What is worth a warning stands in the body: it is no reason to be given no work.
    """
    services: Services = current_app.extensions["stormfold"]
    try:
        warnings = services.store.check_ready()
    except StoreError as error:
        raise unavailable(error) from error
    return jsonify(status="ready", warnings=list(warnings)) if warnings else jsonify(status="ready")
