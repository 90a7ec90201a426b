# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that the real cosigns signed with real logs and timestamps (data/vectors; its README.md says how)."""

from __future__ import annotations

import datetime
import hashlib
import json
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority, verify
from ansible_collections.hallmark.signing.plugins.module_utils._signing.authority import Authority
from ansible_collections.hallmark.signing.plugins.module_utils._signing.evidence import Evidence
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import log_key
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    Bench,
    Json,
    codes,
)

DATA = pathlib.Path(__file__).parents[3] / "data"
VECTORS: dict[str, Json] = {
    one["name"]: one for one in json.loads((DATA / "vectors" / "vectors.json").read_text(encoding="utf-8"))
}
# How we answer where it is not "verified": the code of each signature found.
REFUSED = {
    "img-leg-keyless-checked-with-key": ["signature_invalid"], "img-v3-r1-key-other-key": ["signature_invalid"],
    # Attestations, which cosign verified as such: they are no signatures.
    "img-leg-att-key": ["no_signatures"], "img-v3-r1-att-key": ["type_mismatch"],
}
TIMESTAMPED = {"img-leg-tsa-key", "img-v3-r1-key", "img-v3-r2-key"}
UTC = datetime.timezone.utc
START = datetime.datetime(2026, 11, 19, tzinfo=UTC)


def put(registry: FakeRegistry, vector: Json) -> str:
    """Put an image and what is attached to it into a registry; return its reference."""
    repository = vector["repository"]
    tagged = {digest: tag for tag, digest in vector["tags"].items()}
    for digest, text in vector["blobs"].items():
        raw = text.encode()
        assert digest == f"sha256:{hashlib.sha256(raw).hexdigest()}"
        document = json.loads(raw)
        if "schemaVersion" in document:
            media_type = document["mediaType"]
            registry.put_manifest(repository, raw, tag=tagged.get(digest, ""), media_type=media_type)
        else:
            registry.put_blob(repository, raw)
    return f"{registry.host}/{repository}@{vector['digest']}"


def trusted(vector: Json) -> Authority:
    folder = "vectors" if vector["key"].startswith("other") else "transparency"
    data = (DATA / folder / vector["key"]).read_bytes()
    return Authority("signer", pem.read_public_key(data, where=vector["key"]))


def log(name: str, **options: t.Any) -> log_key.LogKey:
    data = (DATA / "transparency" / f"{name}.pub").read_bytes()
    given = {"rekor_url": f"https://{name.replace('other-', '')}.vectors.test", "not_before": START, **options}
    return log_key.read(data, where=name, **given)


def logs() -> Evidence:
    """Demands an entry of either log."""
    return Evidence((log("other-rekor1"), log("rekor1"), log("rekor2")), require_log=True)


def stamps(name: str) -> Evidence:
    """Demands a timestamp of an authority."""
    pytest.importorskip("rfc3161_client", reason="rfc3161-client is not installed")
    from ansible_collections.hallmark.signing.plugins.module_utils._transparency import timestamp

    known = timestamp.read_authority((DATA / "timestamps" / name).read_bytes(), where=name)
    return Evidence(timestamp_authorities=(known,), require_timestamp=True)


def look(native: Bench, vector: Json, wanted: Evidence | None = None) -> verify.Verification:
    image = put(native.registry, vector)
    demand = authority.demand([trusted(vector)], evidence=wanted)
    return verify.verify_image(native.registries(), image, demand)


# In a registry without the referrers API: the vectors bring its fallback tag.
@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("demanded", ["nothing", "log"])
def test_we_say_what_cosign_says(fallback: Bench, name: str, demanded: str) -> None:
    vector = VECTORS[name]
    verdict = look(fallback, vector, logs() if demanded == "log" else None)
    found = [code for code in codes(verdict.reasons) if code != "threshold_not_met"]
    assert (verdict.verified, found) == (name not in REFUSED, REFUSED.get(name, []))
    if vector["check"] == "verify":
        assert verdict.verified is (vector["cosign"]["3.1.1"] == "accepts")


@pytest.mark.parametrize("name", [name for name in VECTORS if name not in REFUSED])
def test_evidence_counts_if_it_is_of_somebody_trusted(fallback: Bench, name: str) -> None:
    vector = VECTORS[name]
    other = Evidence((log("other-rekor1"),), require_log=True)
    assert codes(look(fallback, vector, other).reasons) == ["log_invalid"]
    ended = START + datetime.timedelta(hours=1)
    late = Evidence((log("rekor1", not_after=ended), log("rekor2", not_after=ended)), require_log=True)
    assert codes(look(fallback, vector, late).reasons) == ["log_invalid"]
    elsewhere = {"rekor_url": "https://rekor.example.org"}
    named = look(fallback, vector, Evidence((log("rekor1", **elsewhere), log("rekor2", **elsewhere)), require_log=True))
    # The annotation of the old format brings no checkpoint, in which the log would say its name.
    assert named.verified is ("leg" in name)


@pytest.mark.parametrize("name", [name for name in VECTORS if name not in REFUSED])
def test_timestamps_count_if_they_are_of_somebody_trusted(fallback: Bench, name: str) -> None:
    vector = VECTORS[name]
    has_one = name in TIMESTAMPED
    assert look(fallback, vector, stamps("tsa-chain.pem")).verified is has_one
    code = "timestamp_invalid" if has_one else "timestamp_missing"
    assert codes(look(fallback, vector, stamps("other-tsa-chain.pem")).reasons) == [code]
