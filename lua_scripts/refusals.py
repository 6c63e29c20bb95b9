"""Objects that the sink refuses for what is in them: dead letters for a person to see, and another try when he asks."""

from __future__ import annotations

from typing import Final, Literal

from lua_scripts import packing
from lua_scripts.inbox import MAX_DEAD_BYTES, MAX_DEAD_LETTERS, letter_keys, pack_letter
from lua_scripts.keys import shard_of, storm_key_names
from lua_scripts.loader import Client, Scripts
from lua_scripts.records import DeadLetter

LETTER_MAX: Final = 16 * 1024
"""Characters of an object's JSON that a letter keeps."""


class Refusals:
    """Every method raises the ``StoreError`` tree."""

    def __init__(self, client: Client) -> None:
        self._scripts = Scripts(client)

    def bury(
        self, name: str, storm_id: str, reason: str, where: str, text: str, single: tuple[str, int] | None
    ) -> None:
        """Keeps the letter of an object under its name, in place of an earlier one; ``single``: fingerprint, opened."""
        fingerprint, opened_ms = single or ("", 0)
        letter = DeadLetter(
            name, reason, where, text[:LETTER_MAX], "", cut=len(text) > LETTER_MAX,
            storm_id=storm_id, fingerprint=fingerprint, opened_ms=opened_ms,
        )  # fmt: skip
        args = (name, pack_letter(letter), MAX_DEAD_LETTERS, MAX_DEAD_BYTES)
        self._scripts.run("letter", letter_keys(shard_of(storm_id)), args)

    def clear(self, name: str, storm_id: str) -> None:
        """Takes the letter away: its object was taken after all."""
        self._scripts.run("unbury", letter_keys(shard_of(storm_id)), (name, 0))

    def again(self, letter: DeadLetter) -> Literal["due", "over", "busy"]:
        """Has the object of a letter written once more, at once; not where its history is over, nor amid a write."""
        fingerprint = packing.pack_fingerprint(letter.fingerprint) if letter.fingerprint else b""
        name = "" if letter.fingerprint else letter.letter_id
        args = (letter.storm_id, name, fingerprint, letter.opened_ms)
        answers: dict[int, Literal["due", "over", "busy"]] = {1: "due", 0: "over", -1: "busy"}
        return answers[int(self._scripts.run("again", storm_key_names(letter.storm_id), args))]
