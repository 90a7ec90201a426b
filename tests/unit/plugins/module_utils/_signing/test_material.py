# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is attached beside a signature, and which certificates a signer may have."""

from __future__ import annotations

import base64
import json
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _strict_json
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
from ansible_collections.hallmark.signing.plugins.module_utils._signing import evidence, material
from ansible_collections.hallmark.signing.plugins.module_utils._signing.candidate import Candidate
from ansible_collections.hallmark.signing.plugins.module_utils._signing.material import Material, SignerCertificate
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency import log_bench
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

SUB, ROOT = certs.authority("sub", "root"), certs.authority("root")


def public(subject: str | certs.Subject = "leaf") -> pem.PublicKey:
    return pem.public_key(certs.who(subject).key.public_key(), where="x")


def read(leaf: bytes, chain: bytes | None = None, *, of: str | certs.Subject = "leaf") -> SignerCertificate:
    return material.read_certificate(leaf, chain, public=public(of), where="/srv/leaf.pem")


def refused(leaf: bytes, chain: bytes | None = None, *, of: str | certs.Subject = "leaf") -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        read(leaf, chain, of=of)
    assert caught.value.object == "/srv/leaf.pem"
    return caught.value


# Certificates ------------------------------------------------------------------------------------------------------


def test_certificate_and_chain_are_read_in_order() -> None:
    leaf = certs.leaf()
    whole = SignerCertificate(leaf, (SUB, ROOT))
    # In two files, or all in the first.
    assert read(certs.pem(leaf), certs.pem(SUB, ROOT)) == read(certs.pem(leaf, SUB, ROOT)) == whole
    assert read(certs.pem(leaf, SUB), certs.pem(ROOT)) == whole
    assert read(certs.pem(leaf)) == SignerCertificate(leaf)
    assert whole.pem.encode() == certs.pem(leaf)


@pytest.mark.parametrize("kind", ["p384", "p521", "rsa2048", "ed25519"])
def test_certificates_are_for_keys_of_every_kind(kind: str) -> None:
    subject = certs.Subject("leaf", kind)
    leaf = certs.leaf(subject=subject)
    assert read(certs.pem(leaf), of=subject).pem.encode() == certs.pem(leaf)


@pytest.mark.parametrize("eku", [[], ["codeSigning"], ["any"], ["serverAuth", "codeSigning"]])
def test_certificates_for_code_signing_are_taken(eku: list[str]) -> None:
    assert read(certs.pem(certs.leaf(eku=eku)))


@pytest.mark.parametrize(
    ("leaf", "code", "words"),
    [
        (lambda: certs.leaf(subject="stranger"), "key_mismatch", "and the signer's is"),
        (lambda: certs.leaf(eku=["serverAuth", "clientAuth"]), "eku_mismatch", "for serverAuth, clientAuth and not"),
        (lambda: certs.leaf(**certs.PAST), "certificate_expired", "it is valid from"),
        (lambda: certs.leaf(**certs.FUTURE), "certificate_expired", "it is valid from"),
    ],
)
def test_certificates_that_no_verifier_would_take_are_refused(
    leaf: t.Callable[[], certs.Cert], code: str, words: str
) -> None:
    error = refused(certs.pem(leaf()))
    assert (error.code, words in error.cause) == (code, True)


def test_chain_in_place_of_the_certificate_is_refused() -> None:
    assert refused(certs.pem(SUB)).code == "key_mismatch"
    assert refused(certs.pem(SUB, certs.leaf())).code == "malformed"
    assert refused(certs.pem(certs.leaf()), certs.pem(ROOT, SUB)).code == "malformed"


@pytest.mark.parametrize("data", [
    b"", b"rubbish", certs.pem(certs.leaf())[:-40], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    certs.pem(certs.leaf()) + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
])
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    assert refused(data).code == "malformed"


def test_broken_chain_is_refused() -> None:
    assert refused(certs.pem(certs.leaf()), certs.pem(SUB)[:-40]).code == "malformed"


@pytest.mark.parametrize("chain", [b"", b"rubbish"])
def test_chain_without_a_certificate_is_refused(chain: bytes) -> None:
    # For instance DER, or another file altogether.
    assert refused(certs.pem(certs.leaf()), chain).code == "malformed"


# What is attached --------------------------------------------------------------------------------------------------


def entry() -> log_bench.LogEntry:
    signer = log_bench.Signer(ec.generate_private_key(ec.SECP256R1()))
    log = log_bench.Log(ec.generate_private_key(ec.SECP256R1()), 1)
    return log.enter(log_bench.body("hashedrekord", 1, signer, log_bench.PAYLOAD))


def of_sig(attached: Material) -> Candidate:
    return Candidate("sig", "sha256:1", b"", b"", b"", None, annotations=attached.as_annotations())


def of_bundle(attached: Material) -> Candidate:
    text = json.dumps(attached.as_bundle()).encode()
    source = _strict_json.loads(text, what="bundle", where="x")
    return Candidate("bundle", "sha256:1", b"", b"", b"", None, material=source)


def test_nothing_is_attached_where_nothing_is_given() -> None:
    assert (Material().as_annotations(), Material().as_bundle()) == ({}, {})
    for found in (of_sig(Material()), of_bundle(Material())):
        assert (evidence.entries_of(found, "x"), evidence.timestamps_of(found, "x")) == ((), ())


def test_annotations_are_those_of_cosign() -> None:
    one = entry()
    leaf = certs.leaf()
    attached = Material(SignerCertificate(leaf, (SUB, ROOT)), (one,), (b"response",))
    annotations = attached.as_annotations()
    assert set(annotations) == {
        "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain", "dev.sigstore.cosign/bundle",
        "dev.sigstore.cosign/rfc3161timestamp",
    }
    assert annotations["dev.sigstore.cosign/certificate"].encode() == certs.pem(leaf)
    assert annotations["dev.sigstore.cosign/chain"].encode() == certs.pem(SUB, ROOT)
    assert json.loads(annotations["dev.sigstore.cosign/rfc3161timestamp"]) == {
        "SignedRFC3161Timestamp": base64.b64encode(b"response").decode()
    }
    assert json.loads(annotations["dev.sigstore.cosign/bundle"])["Payload"]["logIndex"] == one.index
    # The old format has room for one of each, and none for a proof.
    more = Material(None, (one, entry()), (b"response", b"another"))
    assert more.as_annotations().items() <= annotations.items()
    assert evidence.entries_of(of_sig(more), "x") == (replace(one, proof=None),)
    assert evidence.timestamps_of(of_sig(more), "x") == (b"response",)


def test_certificate_without_issuers_has_an_empty_chain() -> None:
    # As cosign writes it.
    annotations = Material(SignerCertificate(certs.leaf())).as_annotations()
    assert annotations["dev.sigstore.cosign/chain"] == ""


def test_bundles_hold_the_leaf_and_everything_else() -> None:
    leaf = certs.leaf()
    entries = (entry(), entry())
    attached = Material(SignerCertificate(leaf, (SUB, ROOT)), entries, (b"response", b"another"))
    document = attached.as_bundle()
    assert set(document) == {"certificate", "tlogEntries", "timestampVerificationData"}
    assert document["certificate"] == {
        "rawBytes": base64.b64encode(leaf.public_bytes(serialization.Encoding.DER)).decode()
    }
    found = of_bundle(attached)
    assert evidence.entries_of(found, "x") == entries
    assert evidence.timestamps_of(found, "x") == (b"response", b"another")


def test_entry_without_a_promise_has_no_place_in_annotations() -> None:
    with pytest.raises(FormatError, match="no signed entry timestamp"):
        Material(None, (replace(entry(), signed_entry_timestamp=None),)).as_annotations()
