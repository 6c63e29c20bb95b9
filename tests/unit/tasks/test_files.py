"""What is written to a file is what is read from it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.sinks.files import read_manifest, write_manifest

CONTROLS = ["\n", "\r\n", "\t", "\x00", "\x1b", "\x7f", "\x85", "\xa0", "\u2028", "\ufeff", "\ufffe"]
TRICKY = st.sampled_from([*CONTROLS, "😀", " ", ": ", " #", "- ", "|", "'", '"'])
TEXT = st.lists(st.characters(exclude_categories=["Cs"]) | TRICKY, max_size=12).map("".join)


@settings(max_examples=300, deadline=None)
@given(TEXT)
@example("yes")
@example("0o17")
@example("1e3")
@example("2025-01-02")
@example("=")
@example("a\n\n b\n")
def test_any_text_survives(text: str) -> None:
    # Given foreign text as key and value; When it is written and read
    manifest = {"metadata": {"labels": {text: text}}, "spec": [text, {"a": text}]}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.yaml"
        write_manifest(path, manifest)
        # Then it is the same
        assert read_manifest(path) == manifest
