"""Resource records and the labels of a storm, read back as they were packed."""

from __future__ import annotations

import itertools
import struct

import pytest

from lua_scripts.packing import (
    GENERATIONS,
    YEAR_2020,
    Detail,
    ResourceState,
    pack,
    pack_common,
    pack_detail,
    pack_key,
    pack_resource,
    unpack_resource,
    unpack_text,
)
from lua_scripts.records import ResourceRecord

FIRST_SEEN = 1_790_000_000_123
RESOURCES = [
    ("Pod", "api-0", "shop", ""),
    ("Pod", "api-0", "shop", "node-1"),
    ("Pod", "api-0", "", "node-1"),
    ("Node", "node-1", "", "node-1"),
    ("Unknown", "KubeVersionMismatch", "", ""),
    ("VirtualMachine", "vm-1", "shop", ""),
    ("VirtualMachine", "vm-1", "billing", "node-1"),
]


@pytest.mark.parametrize(("resource", "storm"), list(itertools.product(RESOURCES, ["shop", "billing", ""])))
def test_a_resource_is_read_back_wherever_its_storm_lives(resource: tuple[str, str, str, str], storm: str) -> None:
    # Given a resource as the scripts store it: counts of a byte each, and counts beyond
    rid, text = pack_resource(*resource, storm)
    first = (FIRST_SEEN - YEAR_2020).to_bytes(5, "big")
    short = struct.pack(">HBB", 7, 255, 3) + first + text
    long = struct.pack(">H", 7 + GENERATIONS) + (50_000).to_bytes(3, "big") + (3).to_bytes(3, "big") + first + text

    # When both are read
    found = [unpack_resource(raw, storm) for raw in (short, long)]

    # Then they are that resource, and its id does not depend on node and storm
    assert found == [
        ResourceState(ResourceRecord(*resource, FIRST_SEEN, count), shown=3, stamp=7) for count in (255, 50_000)
    ]
    assert rid == pack_resource(*resource[:3], "", "elsewhere")[0]
    assert len(rid) == 8


def test_the_common_labels_are_those_of_the_sample_that_all_alerts_share() -> None:
    # Given a sample, and the labels that it shares with all other alerts of its storm
    key = (("cluster", ""), ("namespace", "shop"), ("alertname", "KubePodCrashLooping"))
    common = {"alertname": "KubePodCrashLooping", "namespace": "shop", "severity": "warning"}
    sample = Detail({**common, "pod": "api-0"}, {"summary": "It crashes."}, "http://prometheus.example")

    # When the text of the storm is read
    text = unpack_text(pack([pack_key(key), pack_common(common), pack_detail(sample)]))

    # Then it is all there
    assert (text.key, text.common, text.sample) == (dict(key), common, sample)


def test_a_storm_without_a_sample_has_no_common_labels() -> None:
    # Given a text whose sample was not kept
    raw = pack([pack_key((("alertname", "Down"),)), pack_common({"alertname": "Down"}), b""])

    # When it is read
    text = unpack_text(raw)

    # Then only the key tells what it is about
    assert (text.key, text.common, text.sample) == ({"alertname": "Down"}, {}, None)
