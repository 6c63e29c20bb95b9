"""Dead letters: how an alert that cannot be taken in is kept, and how it comes back once somebody has mended it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Final

from app.entries import make_entries
from app.schemas import MalformedAlertError, Webhook
from app.settings import Settings
from lua_scripts.inbox import Inbox
from lua_scripts.records import DeadLetter
from lua_scripts.refusals import Refusals

LETTER_MAX: Final = 16 * 1024
"""Characters of an alert's JSON that a dead letter keeps."""


class NotReplayedError(Exception):
    """A letter stays where it is; the text says why, and what would help."""


def make_letter(
    letter_id: str, delivery_id: str, reason: str, path: str, raw: object, room: int = LETTER_MAX
) -> DeadLetter:
    """The letter of an alert as it was sent; what is longer than ``room`` characters is cut, and marked as such."""
    try:
        text = json.dumps(raw)  # ASCII: whatever was wrong with the text cannot go wrong again
    except RecursionError:
        return DeadLetter(letter_id, reason, path, "(nested too deeply to be shown)", delivery_id, cut=True)
    return DeadLetter(letter_id, reason, path, text[:room], delivery_id, cut=len(text) > room)


def content(letter: DeadLetter) -> Any:
    """The alert of a letter as it was sent. Raises ``NotReplayedError`` where it is not there in full."""
    if letter.cut:
        raise NotReplayedError(f"only the first {len(letter.alert)} characters of the alert were kept: give it in full")
    try:
        return json.loads(letter.alert)
    except ValueError as error:
        raise NotReplayedError("the alert could not be read when it was buried: give it in full") from error


def mended(raw: Any, changes: dict[str, str]) -> dict[str, Any]:
    """The alert with fields set: ``status``, or one of a map such as ``labels.pod``. Raises ``NotReplayedError``."""
    if not isinstance(raw, dict):
        raise NotReplayedError("the alert is no JSON object: give it in full")
    result = dict(raw)
    for path, value in changes.items():
        name, dot, entry = path.partition(".")
        if not dot:
            result[name] = value
            continue
        inner = result.get(name)
        result[name] = {**(inner if isinstance(inner, dict) else {}), entry: value}
    return result


def replay(inbox: Inbox, settings: Settings, letter: DeadLetter, raw: object, wake: Callable[[int], None]) -> bool:
    """Takes an alert in, in place of its letter: the same checks as a webhook's, the same inbox. Whether it was kept;
    False where a rule of ``IGNORE`` matches it. Raises ``NotReplayedError``, and then nothing has changed, and the
    ``StoreError`` tree.

    Accepted first, and removed after that: a crash in between leaves the letter, and replaying it again is one entry
    while the first one waits, or a duplicate after that.
    """
    try:
        alert = Webhook().alert(raw, 0)
    except MalformedAlertError as error:
        path = error.error.path.removeprefix("alerts.0").lstrip(".")
        raise NotReplayedError(f"{path or 'the alert'}: {error.error.detail}") from error
    if any(matcher.matches(alert.labels) for matcher in settings.ignore):
        inbox.accept(0, [], ignored=1)
        inbox.replayed(letter.letter_id)
        return False
    digest = hashlib.blake2b(json.dumps(raw, sort_keys=True).encode(), digest_size=4).hexdigest()
    for shard, entries in make_entries(f"{letter.letter_id}.{digest}", [alert], settings).items():
        if inbox.accept(shard, entries).wake:
            wake(shard)
    inbox.replayed(letter.letter_id)
    return True


def replay_object(inbox: Inbox, refusals: Refusals, letter: DeadLetter) -> None:
    """Has an object that the sink refused written once more. Raises ``NotReplayedError`` and ``StoreError``."""
    asked = refusals.again(letter)
    if asked == "busy":
        raise NotReplayedError("its storm is being written at this moment: try again")
    if asked == "over":
        raise NotReplayedError("its storm is over: nothing is left to be written; drop it")
    # Where it was refused again meanwhile, that is another letter under its name.
    now = inbox.dead_letter(letter.letter_id)
    if now is not None and now.buried_ms == letter.buried_ms:
        inbox.drop(letter.letter_id)
