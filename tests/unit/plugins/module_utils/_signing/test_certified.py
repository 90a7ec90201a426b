# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Authorities that are issuers of certificates: for whom they vouch, and what merely came with a signature."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _strict_json
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, making, pem
from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority, certified, verify
from ansible_collections.hallmark.signing.plugins.module_utils._signing.authority import Authority
from ansible_collections.hallmark.signing.plugins.module_utils._signing.candidate import Candidate
from ansible_collections.hallmark.signing.plugins.module_utils._signing.certified import Issuer
from ansible_collections.hallmark.signing.plugins.module_utils._signing.identity import Identity, read_identity
from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import Format
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    SIG_ANNOTATION,
    Bench,
    Json,
    Key,
    b64,
    codes,
    compact,
)
from cryptography import x509
from cryptography.hazmat.primitives import serialization

CERTIFICATE, CHAIN = "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain"
JOB = Identity("uri", "https://ci.example.com/job")
FORMATS: tuple[Format, ...] = ("sig", "bundle")
ROOT, SUB = certs.authority("root"), certs.authority("sub", "root")


@pytest.fixture(params=FORMATS)
def format(request: pytest.FixtureRequest) -> Format:
    """Each format."""
    return t.cast(Format, request.param)


def owner(subject: str | certs.Subject = "leaf") -> Key:
    """Whoever has the key of a subject."""
    who = certs.who(subject)
    return Key(who.common_name, who.key)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def sign(
    bench: Bench, format: Format, leaf: x509.Certificate, key: Key | None = None, *,
    chain: t.Sequence[x509.Certificate] = (), more: Json | None = None,
) -> None:
    """Sign with a certificate; format bundle has no room for a chain. C(more) replaces what goes with it."""
    key = key or owner()
    if format == "sig":
        content = compact(bench.claim())
        annotations = {SIG_ANNOTATION: b64(key.sign(content)), CERTIFICATE: certs.pem(leaf).decode()}
        if chain:
            annotations[CHAIN] = certs.pem(*chain).decode()
        bench.put_layers([
            *bench.layers(), bench.layer(content, None, annotations={**annotations, **(more or {})}),
        ])
    else:
        bench.sign_bundle(bench.statement(), key, verificationMaterial={
            "certificate": {"rawBytes": b64(der(leaf))}, **(more or {}),
        })


def trusting(
    name: str = "ci", *, roots: t.Sequence[x509.Certificate] = (ROOT,), of: Identity = JOB,
    intermediates: t.Sequence[x509.Certificate] = (SUB,), eku: str = "codeSigning", scheme: str | None = None,
) -> Authority:
    """An authority that is an issuer."""
    issuer = Issuer(tuple(roots), of, tuple(intermediates), eku)
    return Authority(name, issuer=issuer, signature_algorithm=scheme)


def look(bench: Bench, *authorities: Authority, **demanded: t.Any) -> verify.Verification:
    demand = authority.demand(list(authorities) or [trusting()], **demanded)
    return verify.verify_image(bench.registries(), bench.pinned, demand)


# For whom an issuer vouches ----------------------------------------------------------------------------------------


def test_certified_signature_counts(bench: Bench, format: Format) -> None:
    sign(bench, format, certs.leaf())
    verdict = look(bench)
    assert (verdict.verified, verdict.authorities, verdict.reasons) == (True, ("ci",), ())
    (signature,) = verdict.signatures
    assert (signature.format, signature.key_id, signature.authority) == (format, owner().id, "ci")
    assert signature.algorithm == "ecdsa-p256"


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa2048", "ed25519"])
def test_certified_keys_are_of_every_kind(native: Bench, format: Format, kind: str) -> None:
    subject = certs.Subject("leaf", kind)
    sign(native, format, certs.leaf(subject=subject), owner(subject))
    assert look(native).verified


def test_scheme_of_certified_signatures_can_be_demanded(native: Bench, format: Format) -> None:
    subject = certs.Subject("leaf", "p384")
    sign(native, format, certs.leaf(subject=subject), owner(subject))
    assert look(native, trusting(scheme="ecdsa-sha256")).verified
    for scheme in ("ecdsa-sha384", "rsa-pss-sha256"):
        verdict = look(native, trusting(scheme=scheme))
        assert not verdict.verified
        assert codes(verdict.reasons) == [
            "signature_invalid" if scheme.startswith("ecdsa") else "unsupported_algorithm"
        ]


@pytest.mark.parametrize(
    ("leaf", "code"),
    [
        (lambda: certs.leaf("stranger"), "certificate_untrusted"),
        (lambda: certs.broken(certs.leaf()), "certificate_untrusted"),
        (lambda: certs.leaf("leaf"), "certificate_untrusted"),
        (lambda: certs.leaf(**certs.PAST), "certificate_expired"),
        (lambda: certs.leaf(**certs.FUTURE), "certificate_expired"),
        (lambda: certs.leaf(eku=["serverAuth"]), "eku_mismatch"),
        (lambda: certs.leaf(sans=[certs.uri("https://ci.example.com/other")]), "identity_mismatch"),
        (lambda: certs.leaf(sans=[certs.email("dev@example.com")]), "identity_mismatch"),
        (lambda: certs.leaf(sans=[]), "identity_mismatch"),
    ],
)
def test_other_certificates_are_refused(
    native: Bench, format: Format, leaf: t.Callable[[], x509.Certificate], code: str
) -> None:
    sign(native, format, leaf())
    verdict = look(native)
    assert (verdict.verified, codes(verdict.reasons)) == (False, [code])
    assert verdict.reasons[0].signature


def test_names_that_a_certificate_has_are_told(native: Bench) -> None:
    sans = [certs.uri(f"https://example.com/{'x' * 500}/{number}") for number in range(50)]
    sign(native, "sig", certs.leaf(sans=sans))
    (reason,) = look(native).reasons
    assert "uri:https://example.com/xxx" in reason.message
    assert "authority ci" in reason.message
    assert len(reason.message) < 1000


def test_usage_can_be_another(native: Bench, format: Format) -> None:
    sign(native, format, certs.leaf(eku=["1.2.3.4"]))
    assert codes(look(native).reasons) == ["eku_mismatch"]
    assert look(native, trusting(eku="1.2.3.4")).verified


def test_any_name_of_a_kind_may_be_the_one(native: Bench, format: Format) -> None:
    sign(native, format, certs.leaf(sans=[certs.uri("https://other.example.com/"), certs.JOB]))
    assert look(native).verified
    pattern = read_identity({"type": "uri", "regexp": "https://ci[.]example[.]com/.*"})
    assert look(native, trusting(of=pattern)).verified


# Certificates prove nothing by themselves --------------------------------------------------------------------------


def test_signature_must_be_by_the_key_of_the_certificate(bench: Bench, format: Format, mallory: Key) -> None:
    sign(bench, format, certs.leaf(), mallory)
    verdict = look(bench)
    assert (verdict.verified, codes(verdict.reasons)) == (False, ["signature_invalid"])


def test_signature_without_certificate_is_by_nobody(bench: Bench) -> None:
    bench.sign_sig(bench.claim(), owner())
    bench.sign_bundle(bench.statement(), owner())
    assert codes(look(bench).reasons) == ["signature_invalid", "signature_invalid"]


def test_certificates_are_of_no_use_to_those_who_trust_keys(native: Bench, format: Format, alice: Key) -> None:
    sign(native, format, certs.leaf())
    verdict = native.verify(alice)
    assert codes(verdict.reasons) == ["signature_invalid" if format == "sig" else "certificate_untrusted"]
    # Of format sig the certificate is mere decoration; in a bundle it says that no bare key is meant.
    assert native.verify(owner()).verified is (format == "sig")


def test_the_key_may_be_trusted_as_such_where_issuers_are_trusted_too(native: Bench) -> None:
    # What would be refused as certified counts by its key.
    sign(native, "sig", certs.leaf("stranger"))
    verdict = look(native, trusting(), owner().authority)
    assert verdict.authorities == ("leaf",)


def test_chain_that_came_along_helps(native: Bench) -> None:
    leaf = certs.leaf("two")
    chain = (certs.authority("two", "sub"), SUB)
    alone = trusting(intermediates=())
    sign(native, "sig", leaf)
    assert codes(look(native, alone).reasons) == ["certificate_untrusted"]
    for brought in ((*chain, ROOT), chain[::-1], (certs.authority("stranger"), *chain)):
        native.put_layers([])
        sign(native, "sig", leaf, chain=brought)
        assert look(native, alone).verified


def test_chain_that_came_along_is_never_trusted(native: Bench) -> None:
    leaf = certs.leaf("other")
    own_root = certs.authority("other")
    # Of the same name as the trusted root, but with another key.
    namesake = certs.authority(certs.Subject("root", key_of="stranger"))
    below = certs.leaf(certs.Subject("root", key_of="stranger"))
    for one, chain in ((leaf, (own_root,)), (leaf, (own_root, SUB, ROOT)), (below, (namesake,))):
        native.put_layers([])
        sign(native, "sig", one, chain=chain)
        assert codes(look(native).reasons) == ["certificate_untrusted"]


@pytest.mark.parametrize("chain", ["", " \n"])
def test_empty_chain_is_none(native: Bench, chain: str) -> None:
    # Cosign writes the annotation even if there is nothing to put there.
    sign(native, "sig", certs.leaf(), more={CHAIN: chain})
    assert look(native).verified


MATERIAL: list[tuple[str, Json]] = [
    ("two certificates", {CERTIFICATE: certs.pem(certs.leaf(), SUB).decode()}),
    ("no certificate", {CERTIFICATE: "rubbish"}),
    ("not of ASCII", {CERTIFICATE: "ü"}),
    ("something else", {CERTIFICATE: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}),
    ("cut", {CERTIFICATE: certs.pem(certs.leaf()).decode()[:300]}),
    ("rubbish as chain", {CHAIN: "rubbish"}),
    ("long chain", {CHAIN: certs.pem(*[SUB] * 17).decode()}),
]


@pytest.mark.parametrize("more", [more for _words, more in MATERIAL], ids=[words for words, _more in MATERIAL])
def test_what_cannot_be_read_is_refused(native: Bench, more: Json) -> None:
    sign(native, "sig", certs.leaf(), more=more)
    assert codes(look(native).reasons) == ["malformed"]


@pytest.mark.parametrize("name", [CERTIFICATE, CHAIN])
def test_what_is_no_unicode_is_refused(name: str) -> None:
    found = candidate(certs.leaf())
    found = dataclasses.replace(found, annotations={**found.annotations, name: "\ud800"})
    with pytest.raises(HallmarkError) as caught:
        certified.vouching(found, [trusting()], denied=(), times=(), where="image")
    assert caught.value.code == "malformed"


@pytest.mark.parametrize("certificate", [
    {}, {"rawBytes": ""}, {"rawBytes": b64(b"DER")}, {"rawBytes": "?"}, {"rawBytes": 1},
    {"rawBytes": b64(der(certs.leaf()) + b"\0")}, {"rawBytes": b64(der(certs.leaf())), "more": 1},
    {"rawBytes": b64(certs.pem(certs.leaf()))},
])
def test_what_is_no_certificate_in_a_bundle_is_refused(native: Bench, certificate: Json) -> None:
    sign(native, "bundle", certs.leaf(), more={"certificate": certificate})
    assert codes(look(native).reasons) == ["malformed"]


def test_certificate_of_an_unknown_kind_of_key_is_refused(native: Bench, format: Format) -> None:
    subject = certs.Subject("leaf", "k256")
    sign(native, format, certs.leaf(subject=subject), owner())
    assert codes(look(native).reasons) == ["unsupported_algorithm"]


def test_one_bad_signature_spoils_nothing_but_itself(native: Bench) -> None:
    sign(native, "sig", certs.leaf("stranger"))
    sign(native, "sig", certs.leaf(), more={CHAIN: "rubbish"})
    sign(native, "sig", certs.leaf())
    assert look(native).verified


# Denied keys -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("denied", ["leaf", "sub", "root"])
def test_denied_key_anywhere_on_the_path_is_refused(native: Bench, format: Format, denied: str) -> None:
    sign(native, format, certs.leaf())
    verdict = look(native, denied_key_ids=[owner(denied).id])
    assert (verdict.verified, codes(verdict.reasons)) == (False, ["key_denied"])
    assert look(native, denied_key_ids=[owner("stranger").id]).verified


def test_denied_key_that_is_not_on_the_path_does_not_matter(native: Bench) -> None:
    sign(native, "sig", certs.leaf(), chain=(certs.authority("stranger", "root"),))
    assert look(native, denied_key_ids=[owner("stranger").id]).verified


def test_denied_intermediate_that_came_along_is_refused(native: Bench) -> None:
    sign(native, "sig", certs.leaf(), chain=(SUB,))
    alone = trusting(intermediates=())
    assert look(native, alone).verified
    assert codes(look(native, alone, denied_key_ids=[owner("sub").id]).reasons) == ["key_denied"]


# How many authorities ----------------------------------------------------------------------------------------------

ANNE, BERT = certs.uri("https://example.com/anne"), certs.uri("https://example.com/bert")


def two_names(*names: str) -> Identity:
    return read_identity({"type": "uri", "regexp": f"https://example[.]com/({'|'.join(names)})"})


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("of_trust", [(0, 1), (1, 0)])
def test_overlapping_authorities_share_the_signers(
    native: Bench, format: Format, order: tuple[int, int], of_trust: tuple[int, int]
) -> None:
    people = [("anne", ANNE), ("bert", BERT)]
    for index in order:
        name, san = people[index]
        sign(native, format, certs.leaf(subject=name, sans=[san]), owner(name))
    trust = [trusting("both", of=two_names("anne", "bert")), trusting("anne only", of=two_names("anne"))]
    verdict = look(native, *(trust[index] for index in of_trust), threshold=2)
    assert verdict.verified
    assert {one.authority: one.key_id for one in verdict.signatures} == {
        "both": owner("bert").id, "anne only": owner("anne").id,
    }


def test_one_signer_is_not_two_authorities(native: Bench) -> None:
    leaf = certs.leaf(subject="anne", sans=[ANNE])
    for format in FORMATS:
        sign(native, format, leaf, owner("anne"))
    # Once more, with another certificate of the same key.
    sign(native, "sig", certs.leaf(subject="anne", sans=[ANNE, BERT]), owner("anne"))
    trust = [trusting("both", of=two_names("anne", "bert")), trusting("anne only", of=two_names("anne"))]
    verdict = look(native, *trust, threshold=2)
    assert (verdict.verified, codes(verdict.reasons)) == (False, ["threshold_not_met"])
    assert look(native, *trust, threshold=1).verified


def test_one_key_is_not_two_authorities(native: Bench) -> None:
    # By the bare key, and by its certificate in a bundle.
    native.sign_sig(native.claim(), owner())
    sign(native, "bundle", certs.leaf())
    verdict = look(native, trusting(), owner().authority, threshold=2)
    assert (verdict.verified, codes(verdict.reasons)) == (False, ["threshold_not_met"])


def test_keys_and_issuers_count_together(native: Bench, alice: Key) -> None:
    native.sign_sig(native.claim(), alice)
    sign(native, "bundle", certs.leaf())
    verdict = look(native, trusting(), alice.authority, threshold=2)
    assert (verdict.verified, set(verdict.authorities)) == (True, {"ci", "alice"})


def test_reason_of_the_last_issuer_is_told(native: Bench) -> None:
    sign(native, "sig", certs.leaf())
    stranger, nameless = trusting("a", roots=[certs.authority("stranger")]), trusting("b", of=Identity("dns", "x"))
    assert codes(look(native, stranger, nameless).reasons) == ["identity_mismatch"]
    assert codes(look(native, nameless, stranger).reasons) == ["certificate_untrusted"]
    assert look(native, stranger, nameless, trusting("c")).verified


# Times -------------------------------------------------------------------------------------------------------------


def candidate(leaf: x509.Certificate) -> Candidate:
    return Candidate(
        "sig", "sha256:1", b"", b"", b"", None, True, {CERTIFICATE: certs.pem(leaf).decode()},
    )


def vouching(leaf: x509.Certificate, *times: datetime.datetime) -> tuple[str, ...]:
    found = certified.vouching(candidate(leaf), [trusting()], denied=(), times=times, where="image")
    return tuple(one.name for one in found)


def test_every_proven_time_must_be_within_the_validity() -> None:
    leaf = certs.leaf(start=certs.NOW - 3 * certs.DAY, end=certs.NOW - certs.DAY)
    long_ago = trusting(
        roots=[certs.authority("root", start=certs.NOW - 9 * certs.DAY)],
        intermediates=[certs.authority("sub", "root", start=certs.NOW - 9 * certs.DAY)],
    )
    inside, before, after = (certs.NOW - days * certs.DAY for days in (2, 4, 0))

    def check(*times: datetime.datetime) -> tuple[Authority, ...]:
        return certified.vouching(candidate(leaf), [long_ago], denied=(), times=times, where="image")

    assert check(inside) == check(inside, inside) == (long_ago,)
    for times in ((), (before,), (after,), (inside, after), (after, inside), (inside, before, inside)):
        with pytest.raises(HallmarkError) as caught:
            check(*times)
        assert (caught.value.code, caught.value.object) == ("certificate_expired", "image")


def test_without_a_proven_time_it_is_now() -> None:
    assert vouching(certs.leaf()) == ("ci",)
    for span in (certs.PAST, certs.FUTURE):
        with pytest.raises(HallmarkError) as caught:
            vouching(certs.leaf(**span))
        assert caught.value.code == "certificate_expired"


def test_denial_counts_at_every_time() -> None:
    # At one time the path goes through an issuer that is denied.
    first = certs.authority("sub", "root", end=certs.NOW + certs.DAY)
    second = certs.authority("sub", certs.Subject("root", key_of="second"), start=certs.NOW + certs.DAY)
    roots = (ROOT, certs.authority(certs.Subject("root", key_of="second")))
    asked = [trusting(roots=roots, intermediates=[first, second])]
    late, denied = certs.NOW + 2 * certs.DAY, [owner(certs.Subject("root", key_of="second")).id]
    given: dict[str, t.Any] = {"denied": denied, "where": "image"}
    found = candidate(certs.leaf())
    assert certified.vouching(found, asked, times=[certs.NOW], **given)
    with pytest.raises(HallmarkError) as caught:
        certified.vouching(found, asked, times=[certs.NOW, late], **given)
    assert caught.value.code == "key_denied"


# Parts -------------------------------------------------------------------------------------------------------------


def test_key_that_is_claimed_is_that_of_the_certificate() -> None:
    leaf = certs.leaf()
    material = _strict_json.JsonObject({"certificate": {"rawBytes": b64(der(leaf))}}, "bundle", "x")
    of_bundle = dataclasses.replace(candidate(leaf), format="bundle", annotations={}, material=material)
    for one in (candidate(leaf), of_bundle):
        assert certified.claimed_leaf(one, "x") == leaf
        assert certified.claimed_key(one, "x") == pem.public_key(leaf.public_key(), where="x")
        assert certified.der_of(certified.claimed_leaf(one, "x")) == der(leaf)
    message = b"message"
    signature = making.sign(owner().private, message)
    public = certified.claimed_key(of_bundle, "x")
    assert algorithms.verifies(public.key, signature=signature, message=message)
