"""Puts the Flask app together: views, authentication, problems as answers, measurements."""

from __future__ import annotations

import time
from http import HTTPStatus

import structlog
from flask import Flask, Response, g, json, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from app import health, metrics, storms_view, webhook
from app.auth import Authenticator
from app.errors import CONTENT_TYPE, ProblemError, too_large
from app.services import Services, open_services
from app.settings import Settings, load

OPEN_ENDPOINTS = frozenset(("health.healthz", "health.readyz"))
_log = structlog.get_logger(__name__)


class _Seldom:
    """Lets one log line of a kind through per second: an outage refuses hundreds of requests, each for one reason."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def __call__(self, kind: str) -> bool:
        now = time.monotonic()
        if now < self._next.get(kind, 0.0):
            return False
        self._next[kind] = now + 1.0
        return True


def create_app(settings: Settings | None = None, services: Services | None = None) -> Flask:
    """The WSGI application; connects to nothing yet. Tests hand in services of their own."""
    services = services or open_services(settings or load())
    settings = services.settings
    app = Flask("app")
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body + 1  # the webhook itself refuses the last byte
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.json.sort_keys = False  # type: ignore[attr-defined]  # answers keep the order of the contract
    app.extensions["stormfold"] = services
    for part in (webhook, health, metrics, storms_view):
        app.register_blueprint(part.blueprint)

    authenticator = Authenticator(settings)
    seldom = _Seldom()

    @app.before_request
    def begin() -> None:
        g.begun = time.perf_counter()
        if request.endpoint not in OPEN_ENDPOINTS:
            authenticator.check(request.headers.get("Authorization"))

    @app.after_request
    def finish(response: Response) -> Response:
        # The page needs its own style sheet and script and nothing else: text of alerts can load or run nothing.
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault("Cache-Control", "no-store")
        route = request.url_rule.rule if request.url_rule else "unmatched"
        services.metrics.observe(request.method, route, response.status_code, time.perf_counter() - g.begun)
        return response

    @app.errorhandler(ProblemError)
    def answer_problem(problem: ProblemError) -> Response:
        services.metrics.problem(problem.kind)
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR and seldom(problem.kind):
            _log.warning("refused", path=request.path, type=problem.kind, detail=problem.detail)
        body = json.dumps(problem.as_json())
        response = Response(body, problem.status, content_type=CONTENT_TYPE)
        response.headers.update(problem.headers)
        return response

    @app.errorhandler(RequestEntityTooLarge)
    def answer_too_large(_: RequestEntityTooLarge) -> Response:
        return answer_problem(too_large(settings.max_body))

    @app.errorhandler(HTTPException)
    def answer_http(error: HTTPException) -> Response:
        """Everything else, an unforeseen exception too: Flask has logged that one, and makes it a 500."""
        status = HTTPStatus(error.code or 500)
        kind = status.phrase.lower().replace(" ", "-")
        headers = {name: value for name, value in error.get_headers() if name == "Allow"}
        return answer_problem(ProblemError(status, kind, status.phrase, error.description or "", headers=headers))

    return app
