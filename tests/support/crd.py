"""The schema of docker/kubernetes/crd.yaml as JSON Schema, as strict as a server is on server-side apply."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

CRD = Path(__file__).resolve().parents[2] / "docker" / "kubernetes" / "crd.yaml"

_INT64 = 2**63


@cache
def validator() -> jsonschema.Draft202012Validator:
    """Refuses what the server would: a field that the schema lacks, too, which a plain JSON Schema lets pass."""
    crd = yaml.safe_load(CRD.read_text())
    schema = _translated(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object", "required": ["name", "namespace", "labels", "annotations"]}
    schema["additionalProperties"] = False
    formats = jsonschema.FormatChecker(formats=())
    formats.checks("date-time")(_is_rfc3339)
    return jsonschema.Draft202012Validator(schema, format_checker=formats)


def violations(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest, each with its path; nothing if the server's schema would take it."""
    found = sorted(validator().iter_errors(manifest), key=lambda error: error.json_path)
    return [f"{error.json_path}: {error.message[:300]}" for error in found]


def _translated(schema: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: _translated(one) for name, one in value.items()}
        elif key in ("items", "additionalProperties"):
            out[key] = _translated(value)
        elif key == "format" and value == "int64":
            out |= {"maximum": _INT64 - 1}
        elif not key.startswith("x-kubernetes-"):
            out[key] = value
    closed = "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields")
    if closed:
        out.setdefault("additionalProperties", False)
    return out


def _is_rfc3339(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
