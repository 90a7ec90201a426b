# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking for log entries online: what proves a signature is found among all that others have logged."""

from __future__ import annotations

import hashlib
import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import transport
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import (
    authority,
    evidence,
    log_search,
    notary,
    verify,
)
from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import Format
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import rekor
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.log_key import LogKey
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeLog
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    BOTH,
    Bench,
    Key,
    codes,
    do_sign,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.test_notary import (
    of_log,
    refused,
    signed,
)

UUID = "ab" * 32


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.001)


def finder(log: FakeLog, keys: t.Sequence[LogKey] | None = None) -> t.Callable[..., t.Any]:
    settings = RegistrySettings(AuthFile("none", {}), timeout=5.0)
    return log_search.finder(rekor.Log(log.url, settings), of_log(log).log_keys if keys is None else keys)


# The index knows no SHA-384, with which P-384 keys sign in format sig.
@pytest.mark.parametrize(("name", "is_dsse"), [
    ("alice", False), ("carol", False), ("erin", False), ("alice", True), ("carol", True), ("dave", True),
    ("erin", True), ("frank", True),
])
def test_entry_of_a_signature_is_found(
    log: FakeLog, name: str, is_dsse: bool, request: pytest.FixtureRequest
) -> None:
    scheme = "ecdsa-sha256" if is_dsse and name in ("dave", "erin") else ""
    one = signed(request.getfixturevalue(name), is_dsse=is_dsse, scheme=scheme)
    of_log(log).witness(one, None, where="image")
    (entry,) = finder(log)(notary.subject_of(one), "image")
    assert entry.index == 1001


def test_entries_about_other_signatures_over_the_same_bytes_are_passed_over(
    log: FakeLog, alice: Key, bob: Key, carol: Key
) -> None:
    wanted = signed(alice)
    for one in (signed(bob), signed(alice), wanted, signed(carol)):
        of_log(log).witness(one, None, where="image")
    (entry,) = finder(log)(notary.subject_of(wanted), "image")
    assert entry.index == 1003
    assert finder(log)(notary.subject_of(signed(alice)), "image") == ()


def test_nothing_is_found_where_nothing_is(log: FakeLog, alice: Key) -> None:
    assert finder(log)(notary.subject_of(signed(alice)), "image") == ()


def test_entry_that_the_log_does_not_vouch_for_is_passed_over(log: FakeLog, alice: Key) -> None:
    one = signed(alice)
    of_log(log).witness(one, None, where="image")
    for kind in ("set", "no_proof", "checkpoint", "other_entry", "body"):
        log.lie(kind)
        assert finder(log)(notary.subject_of(one), "image") == ()
    log.lie(None)
    assert finder(log, [])(notary.subject_of(one), "image") == ()


def test_entry_that_cannot_be_read_spoils_only_itself(log: FakeLog, alice: Key) -> None:
    # Anybody may have anything logged for the same bytes, for instance a kind that is not known here.
    one = signed(alice)
    of_log(log).witness(one, None, where="image")
    of_log(log).witness(signed(alice), None, where="image")
    first = log.server.first
    moment = first.bodies[2][1]
    body = json.dumps({"apiVersion": "0.0.1", "kind": "rpm", "spec": {}}).encode()
    first.bodies[2] = (body, moment)
    leaf = first.tree.leaf(body)
    first.indexes[leaf] = 2
    first.tree.leaves[2] = leaf
    first.tree._known.clear()
    assert [entry.index for entry in finder(log)(notary.subject_of(one), "image")] == [1001]


@pytest.mark.parametrize(("count", "code"), [(50, ""), (51, "limit_exceeded")])
def test_only_so_many_entries_are_looked_at(log: FakeLog, alice: Key, count: int, code: str) -> None:
    one = signed(alice)
    of_log(log).witness(one, None, where="image")
    leaf = log.server.first.tree.leaves[1].hex()
    # Each of two searches has the same; what is the same is fetched once.
    log.answer(json.dumps([leaf] * count), path="retrieve")
    if code:
        error = refused(lambda: finder(log)(notary.subject_of(one), "image"))
        assert (error.code, error.object) == (code, "image")
    else:
        assert len(finder(log)(notary.subject_of(one), "image")) == 1
        assert log.requests.count(f"GET /api/v1/log/entries/{leaf}") == 1


def test_log_that_fails_is_told(log: FakeLog, alice: Key) -> None:
    log.lie("status500")
    with pytest.raises(RegistryError) as caught:
        finder(log)(notary.subject_of(signed(alice)), "image")
    assert caught.value.code == "service_unavailable"
    log.answer(json.dumps([UUID]), path="retrieve")
    with pytest.raises(RegistryError) as caught:
        finder(log)(notary.subject_of(signed(alice)), "image")
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("format", BOTH)
def test_signature_without_an_entry_counts_if_the_log_has_one(
    bench: Bench, log: FakeLog, alice: Key, format: Format
) -> None:
    asked = of_log(log)

    def look(find: t.Any) -> verify.Verification:
        demand = authority.demand([alice.authority], formats=(format,), evidence=evidence.Evidence(
            logs=asked.log_keys, require_log=True, find=find,
        ))
        return verify.verify_image(bench.registries(), bench.pinned, demand)

    do_sign(bench, alice, formats=(format,), notary=asked)
    # Somebody copies the signature and leaves out what goes with it.
    if format == "sig":
        (layer,) = bench.layers()
        del layer["annotations"]["dev.sigstore.cosign/bundle"]
        bench.put_layers([layer])
    else:
        (referrer,) = bench.referrers()
        blob = bench.manifests[referrer].members["layers"][0]["digest"]
        document = json.loads(bench.registry.blobs["team/app"][blob])
        del document["verificationMaterial"]["tlogEntries"]
        del bench.manifests[referrer]
        if not bench.registry.referrers:
            bench.list_referrers([])
        bench.refer(json.dumps(document).encode())
    assert codes(look(None).reasons) == ["log_missing"]
    assert look(finder(log)).verified
    log.lie("status500")
    assert codes(look(finder(log)).reasons) == ["service_unavailable"]


def test_what_is_searched_for_is_what_the_log_has_it_under(alice: Key) -> None:
    asked: list[dict[str, t.Any]] = []

    class Listening:
        """Notes what it is asked."""

        def search(self, query: dict[str, t.Any]) -> tuple[str, ...]:
            """Find nothing."""
            asked.append(query)
            return ()

    for is_dsse in (False, True):
        one = signed(alice, is_dsse=is_dsse)
        subject = notary.subject_of(one)
        log_search.finder(t.cast(rekor.Log, Listening()), [])(subject, "image")
        content = subject.payload if is_dsse else subject.message
        assert asked == [
            {"hash": f"{name}:{hashlib.new(name, content).hexdigest()}"} for name in ("sha256", "sha512")
        ]
        asked.clear()
