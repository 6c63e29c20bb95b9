"""The form of an Alertmanager webhook (version 4), validated alert by alert so that a malformed one stands alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, missing, validate

from app.alerts import Alert, clean_fingerprint
from app.errors import FieldError

T = TypeVar("T")

MAX_LABEL_VALUE: Final = 64 * 1024
MAX_LABELS: Final = 128 * 1024
"""Characters of a label's value, and of all labels of an alert. Labels are its identity: they cannot be cut."""
MAX_ANNOTATION: Final = 16 * 1024
MAX_ANNOTATIONS: Final = 64 * 1024
MAX_URL: Final = 8 * 1024
"""Annotations and the URL are detail: beyond these they are cut, and the alert is kept."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_NEVER: Final = "0001-01-01T00:00:00Z"
_LATEST_YEAR: Final = 2261  # the last whole year of Go's nanosecond timestamps, which Alertmanager lives by
_MAX_PATH: Final = 200


class MalformedAlertError(Exception):
    """An alert that cannot be taken in, with the first reason and where in the body it stands."""

    def __init__(self, error: FieldError) -> None:
        super().__init__(f"{error.path}: {error.detail}")
        self.error = error


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is used of the body around the alerts; ``alerts`` are not looked into yet."""

    alerts: list[Any]
    truncated_alerts: int


class _Field(fields.Field[T]):
    """A field without hooks and validators: to collect none of them, for each field of each alert, took marshmallow
    longer than the checks themselves.
    """

    def deserialize(
        self, value: Any, attr: str | None = None, data: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        if value is None or value is missing:
            return super().deserialize(value, attr, data, **kwargs)
        return self._deserialize(value, attr, data, **kwargs)


class _Text(_Field[str]):
    """Text without NUL that UTF-8 can express."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        _check_text(value)
        return str(value)


class _Firing(_Field[bool]):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if value == "firing":
            return True
        if value == "resolved":
            return False
        raise ValidationError("Neither firing nor resolved.")


class _Instant(_Field[int]):
    """An RFC 3339 time as milliseconds since 1970."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        return instant(value)


class _Labels(_Field[dict[str, str]]):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:
        length = _check_texts(value)
        if not value:
            raise ValidationError("There are no labels.")
        if "" in value:
            raise ValidationError({"": ["A label has no name."]})
        if length > MAX_LABEL_VALUE:
            for name, text in value.items():
                if len(text) > MAX_LABEL_VALUE:
                    raise ValidationError({name: [f"The value is longer than {MAX_LABEL_VALUE} characters."]})
        if length > MAX_LABELS:
            raise ValidationError(f"The labels are longer than {MAX_LABELS} characters together.")
        return dict(value)


class _Annotations(_Field[dict[str, str]]):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:
        return dict(value) if _check_texts(value) <= MAX_ANNOTATION else _cut(value)


class AlertSchema(Schema):
    """One element of ``alerts``."""

    class Meta:
        unknown = EXCLUDE

    status = _Firing(required=True)
    labels = _Labels(required=True)
    annotations = _Annotations(allow_none=True)
    startsAt = _Instant(allow_none=True)  # noqa: N815 (the field's name)
    endsAt = _Instant(allow_none=True)  # noqa: N815
    generatorURL = _Text(allow_none=True)  # noqa: N815
    fingerprint = _Text(allow_none=True)


class _AlertList(fields.Field[list[Any]]):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValidationError("Not a list.")
        return value


class EnvelopeSchema(Schema):
    """The body; its ``status`` is that of a group which may have been truncated, so it is not even read."""

    class Meta:
        unknown = EXCLUDE

    version = fields.String(validate=validate.Equal("4"))
    alerts = _AlertList(required=True)
    truncatedAlerts = fields.Integer(validate=validate.Range(min=0), allow_none=True)  # noqa: N815


class Webhook:
    """Reads webhooks; holds the schemas, which are dear to build and free to share between threads."""

    def __init__(self) -> None:
        self._envelope = EnvelopeSchema()
        self._alert = AlertSchema()
        self._fields = tuple(self._alert.load_fields.items())

    def envelope(self, body: object) -> tuple[Envelope | None, list[FieldError]]:
        """The envelope of a parsed body, or all that is wrong with it."""
        if not isinstance(body, dict):
            return None, [FieldError("", "Not an object.")]
        try:
            loaded = self._envelope.load(body)
        except ValidationError as error:
            return None, list(_flat(error.messages))
        return Envelope(loaded["alerts"], loaded.get("truncatedAlerts") or 0), []

    def alert(self, raw: object, index: int) -> Alert:
        """The alert at a place of the list. Raises MalformedAlertError."""
        try:
            if not isinstance(raw, dict):
                raise ValidationError("Not an object.", "")
            loaded = self._load(raw)
            firing, labels, ends_at = loaded["status"], loaded["labels"], loaded.get("endsAt") or 0
            if not firing and not ends_at:
                raise ValidationError("A resolved alert says when it ended.", "endsAt")
        except ValidationError as error:
            messages = error.messages_dict if isinstance(error.messages, dict) else {error.field_name: error.messages}
            raise MalformedAlertError(next(_flat(messages, f"alerts.{index}"))) from error
        return Alert(
            fingerprint=clean_fingerprint(loaded.get("fingerprint") or "", labels),
            firing=firing,
            starts_at_ms=loaded.get("startsAt") or 0,
            ends_at_ms=0 if firing else ends_at,
            labels=labels,
            annotations=loaded.get("annotations") or {},
            generator_url=(loaded.get("generatorURL") or "")[:MAX_URL],
        )

    def _load(self, raw: dict[str, Any]) -> dict[str, Any]:
        """What the schema loads. A good alert goes straight through its fields, in half the time; one that is not
        goes through the schema, which tells all that is wrong with it.
        """
        try:
            return {name: field.deserialize(raw.get(name), name, raw) for name, field in self._fields}
        except ValidationError:
            loaded: dict[str, Any] = self._alert.load(raw)
            return loaded


def instant(text: object) -> int:
    """Milliseconds since 1970 of an RFC 3339 time; 0 for the year 1, which is Go's way to say never."""
    if text == _NEVER:
        return 0
    if not isinstance(text, str) or len(text) > 64:
        raise ValidationError("Not a time such as 2026-11-21T19:56:09.858Z.")
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise ValidationError("Not a time such as 2026-11-21T19:56:09.858Z.") from error
    if moment.tzinfo is None:
        raise ValidationError("The time has no time zone.")
    if moment.year == 1:
        return 0
    if not 1970 <= moment.year <= _LATEST_YEAR:
        raise ValidationError(f"The time is not within the years 1970 to {_LATEST_YEAR}.")
    return max(0, (moment - _EPOCH) // _MILLISECOND)


def _check_texts(value: Any) -> int:
    """The length of all names and values of a mapping, each of which must be good text."""
    if not isinstance(value, dict):
        raise ValidationError("Not an object.")
    try:
        # All at once: one by one would be the dearest step of the whole webhook.
        whole = "".join([*value, *value.values()])
        _check_text(whole)
    except (TypeError, ValidationError):
        for name, text in value.items():
            for part in (name, text):
                try:
                    _check_text(part)
                except ValidationError as error:
                    raise ValidationError({name: error.messages}) from error
        raise
    return len(whole)


def _check_text(value: Any) -> None:
    if not isinstance(value, str):
        raise ValidationError("Not text.")
    if "\0" in value:
        raise ValidationError("The text holds a NUL character.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValidationError("The text holds half a surrogate pair.") from error


def _cut(annotations: Mapping[str, str]) -> dict[str, str]:
    """Annotations within bounds: long values end in an ellipsis, and what comes after the bound is left out."""
    kept: dict[str, str] = {}
    room = MAX_ANNOTATIONS
    for name, text in annotations.items():
        short = text if len(text) <= MAX_ANNOTATION else text[: MAX_ANNOTATION - 1] + "…"
        room -= len(name) + len(short)
        if room < 0:
            break
        kept[name] = short
    return kept


def _flat(messages: Any, path: str = "") -> Iterator[FieldError]:
    """The errors of marshmallow's nested messages, each with its dotted path."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            yield from _flat(inner, ".".join(part for part in (path, _readable(str(name))) if part))
    else:
        yield FieldError(path[:_MAX_PATH], str(messages[0] if isinstance(messages, list) else messages))


def _readable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]
