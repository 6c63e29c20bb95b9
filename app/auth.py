"""Who may call: whoever shows the bearer token or the basic credentials that are configured."""

from __future__ import annotations

import base64
import binascii
import hmac

from app.errors import unauthorized
from app.settings import Settings


class Authenticator:
    """Both schemes are taken when both are configured, everybody when neither is."""

    def __init__(self, settings: Settings) -> None:
        self._secrets: dict[str, bytes] = {}
        if settings.webhook_token:
            self._secrets["bearer"] = settings.webhook_token.encode()
        if settings.basic_auth:
            self._secrets["basic"] = settings.basic_auth.encode()

    def check(self, authorization: str | None) -> None:
        """Raises a 401 unless the Authorization header is good."""
        if not self._secrets:
            return
        scheme, _, credentials = (authorization or "").partition(" ")
        secret = self._secrets.get(scheme.lower())
        # Compared in a time that tells nothing about how much of it is right.
        if secret is None or not hmac.compare_digest(secret, _shown(scheme.lower(), credentials.strip())):
            raise unauthorized([name.capitalize() for name in self._secrets])


def _shown(scheme: str, credentials: str) -> bytes:
    # A WSGI server hands headers over as Latin-1; the bytes that were sent are what counts.
    raw = credentials.encode("latin-1", "replace")
    if scheme == "bearer":
        return raw
    try:
        return base64.b64decode(raw, validate=True)
    except binascii.Error:
        return b""
