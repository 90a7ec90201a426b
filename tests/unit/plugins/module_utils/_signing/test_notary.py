# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Witnesses of new signatures: what they are asked, and that no lie of theirs is ever attached."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import making
from ansible_collections.hallmark.signing.plugins.module_utils._oci import transport
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import certified, dsse, material, notary
from ansible_collections.hallmark.signing.plugins.module_utils._signing.material import SignerCertificate
from ansible_collections.hallmark.signing.plugins.module_utils._signing.notary import Notary, Signed, Timestamper
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import body, log_key, proof, rekor
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.entry import LogEntry
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeLog, FakeStamper
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    Bench,
    Key,
    codes,
    compact,
    do_sign,
    pae,
    statement,
)
from cryptography.hazmat.primitives.asymmetric import ec

SETTINGS = RegistrySettings(AuthFile("none", {}), timeout=5.0)
PAYLOAD = compact(statement(f"sha256:{'a1' * 32}"))
UTC = datetime.timezone.utc


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.001)


def of_log(log: FakeLog, *, pem: bytes | None = None, url: str = "") -> Notary:
    """Who asks this log, and trusts its key or another one."""
    known = log_key.read(pem or log.public_pem, where="rekor.pub", rekor_url=url or log.url)
    return Notary(rekor.Log(url or log.url, SETTINGS), (known,))


def stamping(stamper: FakeStamper, *, url: str = "") -> Notary:
    """Who asks this timestamp authority."""
    # Loads rfc3161-client, which need not be there for the other tests.
    from ansible_collections.hallmark.signing.plugins.module_utils._transparency import timestamp

    known = timestamp.read_authority(stamper.chain.read_bytes(), where="chain.pem")
    return Notary(timestamper=Timestamper(url or stamper.url, SETTINGS, (known,)))


def signed(
    key: Key, *, is_dsse: bool = False, scheme: str = "", certificate: SignerCertificate | None = None
) -> Signed:
    """A signature over the payload, or over an envelope with it."""
    scheme = scheme or key.public.algorithm.schemes[0]
    message = pae(PAYLOAD) if is_dsse else PAYLOAD
    signature = making.sign(key.private, message, scheme=scheme)
    return Signed(
        signature=signature, message=message, scheme=scheme, spki=key.public.der,
        certificate=certified.der_of(certificate.leaf) if certificate else None,
        verifier_pem=certificate.pem if certificate else key.public.pem,
        envelope=dsse.Envelope(PAYLOAD, signature) if is_dsse else None,
    )


def verdict(entry: LogEntry, log: FakeLog, one: Signed) -> datetime.datetime | None:
    return proof.verify(
        entry, subject=notary.subject_of(one), keys=of_log(log).log_keys, needs_proof=True,
        now=datetime.datetime.now(UTC), where="x",
    )


def refused(call: t.Callable[[], t.Any]) -> HallmarkError:
    with pytest.raises(HallmarkError) as caught:
        call()
    return caught.value


# A log -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_dsse", [False, True])
def test_entry_of_the_log_comes_back_verified(log: FakeLog, alice: Key, carol: Key, is_dsse: bool) -> None:
    for key in (alice, carol):
        one = signed(key, is_dsse=is_dsse)
        made = of_log(log).witness(one, None, where="image")
        (entry,) = made.entries
        assert (made.certificate, made.timestamps) == (None, ())
        moment = verdict(entry, log, one)
        assert moment is not None
        assert abs(moment - datetime.datetime.now(UTC)) < datetime.timedelta(minutes=1)
        logged = body.decode(entry.body, where="x")
        assert (logged.kind, logged.signature, logged.spki) == (
            "dsse" if is_dsse else "hashedrekord", one.signature, key.public.der,
        )
        assert logged.digest == hashlib.sha256(PAYLOAD).digest()
        again = of_log(log).witness(one, None, where="image")
        assert again.entries[0].body == entry.body
    assert log.entries == 3


@pytest.mark.parametrize("is_dsse", [False, True])
def test_certificate_is_logged_in_place_of_the_key(log: FakeLog, is_dsse: bool) -> None:
    key, leaf = Key("leaf", certs.Subject("leaf").key), certs.leaf()
    certificate = SignerCertificate(leaf)
    one = signed(key, is_dsse=is_dsse, certificate=certificate)
    made = of_log(log).witness(one, certificate, where="image")
    assert made.certificate is certificate
    logged = body.decode(made.entries[0].body, where="x")
    assert logged.certificate is not None
    assert SignerCertificate(leaf).pem.encode() == certs.pem(leaf)
    assert logged.spki == key.public.der


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("dave", "ecdsa-sha384"), ("erin", "ecdsa-sha512"), ("alice", "ecdsa-sha256"), ("carol", "rsa-pkcs1v15-sha256")],
)
def test_hash_in_the_log_is_that_of_the_signature(
    log: FakeLog, name: str, scheme: str, request: pytest.FixtureRequest
) -> None:
    one = signed(request.getfixturevalue(name), scheme=scheme)
    (entry,) = of_log(log).witness(one, None, where="image").entries
    logged = body.decode(entry.body, where="x")
    assert logged.hash_algorithm == scheme.rpartition("-")[2]
    assert logged.digest == hashlib.new(logged.hash_algorithm, PAYLOAD).digest()


@pytest.mark.parametrize(("name", "scheme"), [
    ("frank", "ed25519"), ("carol", "rsa-pss-sha256"), ("carol", "rsa-pss-sha512"),
])
def test_what_no_log_takes_is_not_proposed(
    log: FakeLog, name: str, scheme: str, request: pytest.FixtureRequest
) -> None:
    key = request.getfixturevalue(name)
    with pytest.raises(FormatError) as caught:
        of_log(log).witness(signed(key, scheme=scheme), None, where="image")
    assert (caught.value.code, caught.value.object, log.requests) == ("unsupported_algorithm", "image", [])
    assert f"no {scheme} signatures of format sig" in caught.value.cause


def test_envelopes_by_ed25519_are_taken(log: FakeLog, frank: Key) -> None:
    one = signed(frank, is_dsse=True)
    (entry,) = of_log(log).witness(one, None, where="image").entries
    assert verdict(entry, log, one)


def test_proposed_envelope_is_the_one_that_is_attached(alice: Key) -> None:
    one = signed(alice, is_dsse=True)
    proposed = json.loads(notary.proposal(one, where="x"))
    content = proposed["spec"]["proposedContent"]
    assert one.envelope is not None
    assert json.loads(content["envelope"]) == dsse.encode(one.envelope)
    assert [base64.b64decode(text).decode() for text in content["verifiers"]] == [alice.public.pem]


# All that proof.verify() would refuse; each is told by the tool to the server.
LIES = {
    "set": "log_invalid", "log_id": "log_invalid", "time": "log_invalid", "index": "log_invalid",
    "proof": "log_invalid", "long_proof": "log_invalid", "short_proof": "log_invalid", "no_proof": "log_invalid",
    "tree_index": "log_invalid", "root": "log_invalid", "size": "log_invalid", "checkpoint": "log_invalid",
    "origin": "log_invalid", "checkpoint_root": "log_invalid", "checkpoint_size": "log_invalid",
    "body": "log_invalid", "other_entry": "log_invalid", "status500": "service_unavailable",
    "cut": "service_unavailable", "large": "limit_exceeded",
}


@pytest.mark.parametrize(("kind", "code"), LIES.items())
@pytest.mark.parametrize("is_dsse", [False, True])
def test_lies_of_the_log_are_seen(log: FakeLog, alice: Key, kind: str, code: str, is_dsse: bool) -> None:
    asked = of_log(log)
    one = signed(alice, is_dsse=is_dsse)
    # So that no tree is too small for the lie.
    asked.witness(signed(alice), None, where="image")
    log.lie(kind)
    assert refused(lambda: asked.witness(one, None, where="image")).code == code
    log.lie(None)
    assert asked.witness(one, None, where="image").entries


def test_unknown_line_in_a_checkpoint_is_no_lie(log: FakeLog, alice: Key) -> None:
    log.lie("witness")
    assert of_log(log).witness(signed(alice), None, where="image").entries


def test_entry_about_another_signature_is_refused(log: FakeLog, alice: Key, bob: Key) -> None:
    # The log names another entry, a true one, as that which it has already.
    asked = of_log(log)
    leaf = hashlib.sha256(b"\0" + asked.witness(signed(bob), None, where="image").entries[0].body).hexdigest()
    log.lie("answer", status=409, body="{}", headers={"Location": f"/api/v1/log/entries/{leaf}"}, times=1)
    error = refused(lambda: asked.witness(signed(alice), None, where="image"))
    assert (error.code, error.cause) == ("log_invalid", "it is about another signature")


def test_log_with_another_key_or_name_is_refused(log: FakeLog, alice: Key) -> None:
    other = of_log(log, pem=alice.public.pem.encode())
    assert refused(lambda: other.witness(signed(alice), None, where="image")).code == "log_invalid"
    renamed = of_log(log, url=log.url.replace("127.0.0.1", "localhost"))
    error = refused(lambda: renamed.witness(signed(alice), None, where="image"))
    assert (error.code, "not of the log localhost" in error.cause) == ("log_invalid", True)


def test_log_that_is_not_there_is_told(alice: Key, log: FakeLog) -> None:
    error = refused(lambda: of_log(log, url="http://127.0.0.1:1").witness(signed(alice), None, where="image"))
    assert error.code == "service_unavailable"


# A timestamp authority ---------------------------------------------------------------------------------------------


def test_timestamp_comes_back_verified(stamper: FakeStamper, alice: Key) -> None:
    from ansible_collections.hallmark.signing.plugins.module_utils._transparency import timestamp

    asked, one = stamping(stamper), signed(alice)
    made = asked.witness(one, None, where="image")
    assert (made.entries, stamper.requests) == ((), 1)
    assert asked.timestamper is not None
    moment = timestamp.verify(
        made.timestamps[0], signature=one.signature, authorities=asked.timestamper.authorities, where="x"
    )
    assert abs(moment - datetime.datetime.now(UTC)) < datetime.timedelta(minutes=1)


def test_authority_may_answer_201(stamper: FakeStamper, alice: Key) -> None:
    url = stamper.url.replace("/stamp", "/api/v1/timestamp")
    assert stamping(stamper, url=url).witness(signed(alice), None, where="image").timestamps
    assert stamper.server.asked == "/api/v1/timestamp"


@pytest.mark.parametrize("path", ["", "/"])
def test_url_without_path_is_the_root(stamper: FakeStamper, alice: Key, path: str) -> None:
    url = stamper.url.replace("/stamp", path)
    assert stamping(stamper, url=url).witness(signed(alice), None, where="image").timestamps
    assert stamper.server.asked == "/"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("imprint", "timestamp_invalid"), ("denied", "timestamp_invalid"), ("other_authority", "timestamp_invalid"),
        ("garbage", "malformed"), ("status500", "service_unavailable"), ("cut", "service_unavailable"),
    ],
)
def test_lies_of_the_authority_are_seen(stamper: FakeStamper, alice: Key, kind: str, code: str) -> None:
    asked = stamping(stamper)
    stamper.lie(kind)
    assert refused(lambda: asked.witness(signed(alice), None, where="image")).code == code
    stamper.lie(None)
    assert asked.witness(signed(alice), None, where="image").timestamps


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(status=200, body=bytes(64 * 1024 + 1)), "limit_exceeded"), (Fault(status=200), "malformed"),
        (Fault(status=202), "service_unavailable"), (Fault(status=403), "service_unavailable"),
        (Fault.html(), "malformed"), (Fault.redirect("http://127.0.0.1:1/"), "service_unavailable"),
    ],
)
def test_odd_answers_are_refused(stamper: FakeStamper, alice: Key, fault: Fault, code: str) -> None:
    with FakeRegistry() as server:
        server.fail(fault)
        asked = stamping(stamper, url=server.url)
        error = refused(lambda: asked.witness(signed(alice), None, where="image"))
        assert error.code in (code, "unauthorized" if fault.status == 403 else code)


def test_wrong_address_is_refused_by_its_option() -> None:
    error = refused(lambda: Timestamper("tsa.example.org", SETTINGS, ()))
    assert (error.code, error.object) == ("input_invalid", "timestamp_authority.url")


def test_log_and_authority_go_together(log: FakeLog, stamper: FakeStamper, alice: Key) -> None:
    both = Notary(of_log(log).log, of_log(log).log_keys, stamping(stamper).timestamper)
    made = both.witness(signed(alice), None, where="image")
    assert (len(made.entries), len(made.timestamps)) == (1, 1)
    assert set(made.as_annotations()) == {"dev.sigstore.cosign/bundle", "dev.sigstore.cosign/rfc3161timestamp"}
    assert set(made.as_bundle()) == {"tlogEntries", "timestampVerificationData"}


def test_nobody_is_asked_in_vain(alice: Key) -> None:
    assert Notary().witness(signed(alice), None, where="image") == material.Material()


# Signing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["set", "body", "no_proof", "status500", "other_entry"])
@pytest.mark.parametrize("formats", [("sig",), ("bundle",)])
def test_nothing_is_attached_if_the_log_lies(
    bench: Bench, log: FakeLog, alice: Key, kind: str, formats: tuple[t.Any, ...]
) -> None:
    log.lie(kind)
    before = bench.content()
    outcome = do_sign(bench, alice, formats=formats, notary=of_log(log))
    assert (outcome.changed, codes(outcome.reasons)) == (False, [LIES[kind]])
    assert bench.content() == before
    log.lie(None)
    assert do_sign(bench, alice, formats=formats, notary=of_log(log)).changed


@pytest.mark.parametrize("formats", [("sig",), ("bundle",)])
def test_nothing_is_attached_if_the_authority_lies(
    bench: Bench, stamper: FakeStamper, alice: Key, formats: tuple[t.Any, ...]
) -> None:
    stamper.lie("other_authority")
    before = bench.content()
    outcome = do_sign(bench, alice, formats=formats, notary=stamping(stamper))
    assert (outcome.changed, codes(outcome.reasons)) == (False, ["timestamp_invalid"])
    assert bench.content() == before


def test_dry_run_asks_nobody(bench: Bench, log: FakeLog, stamper: FakeStamper, alice: Key) -> None:
    both = Notary(of_log(log).log, of_log(log).log_keys, stamping(stamper).timestamper)
    assert do_sign(bench, alice, dry_run=True, notary=both).changed
    assert (log.requests, stamper.requests, bench.writes) == ([], 0, [])


def test_key_of_a_stranger_is_no_key_of_the_log(log: FakeLog, alice: Key) -> None:
    stranger = Key("stranger", ec.generate_private_key(ec.SECP256R1()))
    entry = of_log(log).witness(signed(alice), None, where="image").entries[0]
    keys = of_log(log, pem=stranger.public.pem.encode()).log_keys
    assert not proof.is_known(entry, keys, "x")
