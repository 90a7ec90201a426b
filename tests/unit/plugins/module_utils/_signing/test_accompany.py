# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates, log entries and timestamps beside signatures: attached once, and added where they are lacking."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import transport
from ansible_collections.hallmark.signing.plugins.module_utils._signing import accompany, authority, sign, verify
from ansible_collections.hallmark.signing.plugins.module_utils._signing.authority import Authority
from ansible_collections.hallmark.signing.plugins.module_utils._signing.certified import Issuer
from ansible_collections.hallmark.signing.plugins.module_utils._signing.evidence import Evidence
from ansible_collections.hallmark.signing.plugins.module_utils._signing.identity import Identity
from ansible_collections.hallmark.signing.plugins.module_utils._signing.material import SignerCertificate
from ansible_collections.hallmark.signing.plugins.module_utils._signing.notary import Notary
from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import Format
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeLog, FakeStamper
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    BOTH,
    Bench,
    Json,
    Key,
    codes,
    do_sign,
    verified,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.test_notary import of_log, stamping

SUB, ROOT = certs.authority("sub", "root"), certs.authority("root")
ISSUER = Authority("ci", issuer=Issuer((ROOT,), Identity("uri", certs.JOB.value), (SUB,)))
SIG: tuple[Format, ...] = ("sig",)
ANNOTATION = {
    "certificate": "dev.sigstore.cosign/certificate", "log": "dev.sigstore.cosign/bundle",
    "timestamp": "dev.sigstore.cosign/rfc3161timestamp",
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.001)


@pytest.fixture(params=BOTH)
def format(request: pytest.FixtureRequest) -> Format:
    """Each format."""
    return t.cast(Format, request.param)


@pytest.fixture
def key() -> Key:
    """The key of the certificates."""
    return Key("leaf", certs.Subject("leaf").key)


Wished = t.Callable[..., Json]


@pytest.fixture
def wished(log: FakeLog, request: pytest.FixtureRequest, key: Key) -> Wished:
    """Returns options of a wish for what is named: certificate, log, timestamp."""

    def make(*names: str) -> Json:
        wish: Json = {}
        if "certificate" in names:
            wish["certificates"] = {key.id: SignerCertificate(LEAF, (SUB, ROOT))}
        notary = of_log(log) if "log" in names else Notary()
        if "timestamp" in names:
            stamper: FakeStamper = request.getfixturevalue("stamper")
            notary = dataclasses.replace(notary, timestamper=stamping(stamper).timestamper)
        if notary != Notary():
            wish["notary"] = notary
        return wish

    return make


LEAF = certs.leaf()
COMBINATIONS = [
    ("certificate",), ("log",), ("timestamp",), ("certificate", "log"), ("log", "timestamp"),
    ("certificate", "log", "timestamp"),
]


def count(bench: Bench) -> int:
    return len(bench.layers()) + len(bench.referrers())


def evidence_of(wish: Json) -> Evidence | None:
    """Everything that a notary gave, as a demand."""
    notary = wish.get("notary")
    if notary is None:
        return None
    stampers = notary.timestamper.authorities if notary.timestamper else ()
    return Evidence(notary.log_keys, notary.log is not None, stampers, bool(stampers))


@pytest.mark.parametrize("names", COMBINATIONS, ids=" ".join)
def test_what_accompanies_signatures_is_attached_once(
    bench: Bench, key: Key, wished: Wished, names: tuple[str, ...], log: FakeLog
) -> None:
    wish = wished(*names)
    first = do_sign(bench, key, **wish)
    assert (first.changed, codes(first.reasons), count(bench)) == (True, [], 2)
    before, entries = bench.content(), log.entries
    again = do_sign(bench, key, **wish)
    assert (again.changed, codes(again.reasons), bench.content(), log.entries) == (False, [], before, entries)
    assert [one.digest for one in again.signatures] == [one.digest for one in first.signatures]
    annotations = bench.layers()[0]["annotations"]
    assert {name for name, annotation in ANNOTATION.items() if annotation in annotations} == set(names)


@pytest.mark.parametrize("names", COMBINATIONS, ids=" ".join)
def test_what_accompanies_signatures_holds(
    bench: Bench, key: Key, wished: Wished, names: tuple[str, ...], format: Format
) -> None:
    wish = wished(*names)
    do_sign(bench, key, **wish)
    trust = [ISSUER] if "certificate" in names else [key.authority]
    demand = authority.demand(trust, formats=(format,), evidence=evidence_of(wish))
    verdict = verify.verify_image(bench.registries(), bench.pinned, demand)
    assert (verdict.verified, codes(verdict.reasons)) == (True, [])


@pytest.mark.parametrize("name", ["certificate", "log", "timestamp"])
def test_signature_that_lacks_something_gets_one_that_has_it_beside_it(
    bench: Bench, key: Key, wished: Wished, name: str
) -> None:
    do_sign(bench, key)
    wish = wished(name)
    outcome = do_sign(bench, key, **wish)
    assert (outcome.changed, codes(outcome.reasons), count(bench)) == (True, [], 4)
    assert not do_sign(bench, key, **wish).changed
    # More than is asked for does not matter, but for certificates in bundles: those cannot be verified by the key.
    assert not do_sign(bench, key).changed


def test_certificate_in_a_bundle_that_is_logged_is_another_thing_too(bench: Bench, key: Key, wished: Wished) -> None:
    do_sign(bench, key, **wished("certificate", "log"))
    outcome = do_sign(bench, key, **wished("log"))
    assert [one.format for one in outcome.signatures if one.created] == ["bundle"]
    assert verified(bench, key, "bundle")


@pytest.mark.parametrize("name", ["carol", "frank"])
def test_keys_that_sign_the_same_each_time_get_what_is_lacking(
    bench: Bench, name: str, stamper: FakeStamper, request: pytest.FixtureRequest, format: Format
) -> None:
    # RSA PKCS#1 v1.5 and Ed25519: what is there and what is new have the same signature.
    key: Key = request.getfixturevalue(name)
    do_sign(bench, key, formats=(format,))
    wish: Json = {"notary": stamping(stamper), "formats": (format,)}
    outcome = do_sign(bench, key, **wish)
    assert (outcome.changed, codes(outcome.reasons)) == (True, [])
    demand = authority.demand([key.authority], formats=(format,), evidence=evidence_of(wish))
    verdict = verify.verify_image(bench.registries(), bench.pinned, demand)
    assert (verdict.verified, codes(verdict.reasons)) == (True, [])
    before = bench.content()
    again = do_sign(bench, key, **wish)
    assert (again.changed, codes(again.reasons), bench.content()) == (False, [], before)
    assert verified(bench, key, format)


def test_more_than_is_asked_for_does_not_matter(bench: Bench, key: Key, wished: Wished) -> None:
    do_sign(bench, key, **wished("log", "timestamp"))
    for names in (("log",), ("timestamp",), ()):
        assert not do_sign(bench, key, **wished(*names)).changed


def test_certificate_in_a_bundle_is_another_thing_than_none(bench: Bench, key: Key, wished: Wished) -> None:
    do_sign(bench, key, **wished("certificate"))
    for wish in (wished(), wished("log")):
        outcome = do_sign(bench, key, **wish)
        created = {one.format for one in outcome.signatures if one.created}
        assert created == ({"sig", "bundle"} if wish else {"bundle"})
        assert verified(bench, key, "bundle")


def test_another_certificate_of_the_same_key_is_attached_anew(bench: Bench, key: Key, format: Format) -> None:
    renewed = certs.leaf()
    for certificate, changed in ((LEAF, True), (renewed, True), (LEAF, False), (renewed, False)):
        wish: Json = {"certificates": {key.id: SignerCertificate(certificate)}, "formats": (format,)}
        assert do_sign(bench, key, **wish).changed is changed
    assert count(bench) == 2


def test_certificates_are_for_those_signers_only_that_have_one(bench: Bench, key: Key, alice: Key) -> None:
    wish: Json = {"certificates": {key.id: SignerCertificate(LEAF)}}
    do_sign(bench, key, alice, **wish)
    assert [ANNOTATION["certificate"] in layer["annotations"] for layer in bench.layers()] == [True, False]
    assert verified(bench, alice, "bundle")
    assert not verified(bench, key, "bundle")
    assert not do_sign(bench, key, alice, **wish).changed


def test_evidence_that_does_not_hold_is_as_good_as_none(bench: Bench, key: Key, wished: Wished) -> None:
    do_sign(bench, key, formats=SIG, **wished("log"))
    (layer,) = bench.layers()
    text = layer["annotations"][ANNOTATION["log"]]
    for other in (text.replace('"integratedTime":', '"integratedTime":1'), "rubbish", ""):
        layer["annotations"][ANNOTATION["log"]] = other
        bench.put_layers([layer])
        outcome = do_sign(bench, key, formats=SIG, **wished("log"))
        assert (outcome.changed, codes(outcome.reasons), len(bench.layers())) == (True, [], 2)


def test_entry_of_another_log_is_none_of_ours(bench: Bench, key: Key, wished: Wished, alice: Key, log: FakeLog) -> None:
    do_sign(bench, key, **wished("log"))
    other = Notary(of_log(log).log, of_log(log, pem=alice.public.pem.encode()).log_keys)
    outcome = do_sign(bench, key, notary=other)
    # A new entry would be of the same log, which is not trusted.
    assert (outcome.changed, codes(outcome.reasons)) == (False, ["log_invalid"])


def test_certificate_that_has_expired_is_no_reason_to_sign_anew(bench: Bench, key: Key, format: Format) -> None:
    expired = certs.leaf(start=certs.NOW - 3 * certs.DAY, end=certs.NOW - datetime.timedelta(seconds=1))
    wish: Json = {"certificates": {key.id: SignerCertificate(expired)}, "formats": (format,)}
    assert do_sign(bench, key, **wish).changed
    assert not do_sign(bench, key, **wish).changed


def test_nothing_is_wanted_of_services_that_are_not_named(alice: Key) -> None:
    assert accompany._wanted(sign.Wish((alice.signer,))) == Evidence()
    assert sign.Wish((alice.signer,)).is_plain
    assert not sign.Wish((alice.signer,), notary=Notary()).is_plain
