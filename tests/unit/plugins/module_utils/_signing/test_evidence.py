# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log entries and timestamps of signatures: what proves a time, what is demanded, and what is passed over."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _strict_json
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority, evidence, verify
from ansible_collections.hallmark.signing.plugins.module_utils._signing.authority import Authority
from ansible_collections.hallmark.signing.plugins.module_utils._signing.candidate import Candidate
from ansible_collections.hallmark.signing.plugins.module_utils._signing.certified import Issuer
from ansible_collections.hallmark.signing.plugins.module_utils._signing.evidence import Evidence
from ansible_collections.hallmark.signing.plugins.module_utils._signing.identity import Identity
from ansible_collections.hallmark.signing.plugins.module_utils._signing.material import Material, SignerCertificate
from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import Format
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import proof
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeLog, FakeStamper
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    BOTH,
    Bench,
    Key,
    codes,
    do_sign,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.test_notary import stamping
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency import log_bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency.log_bench import Log, LogEntry
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

SIGNER = log_bench.Signer(ec.generate_private_key(ec.SECP256R1()))
PUBLIC = pem.public_key(SIGNER.key.public_key(), where="x")
OURS = Log(ec.generate_private_key(ec.SECP256R1()), 1)
THEIRS = Log(ec.generate_private_key(ec.SECP256R1()), 1, name="other.example", origin="other.example - 7")
NEWER = Log(ed25519.Ed25519PrivateKey.generate(), 2)
UTC = datetime.timezone.utc
LOGGED = datetime.datetime.fromtimestamp(log_bench.TIME, UTC)
LOG_ANNOTATION, STAMP_ANNOTATION = "dev.sigstore.cosign/bundle", "dev.sigstore.cosign/rfc3161timestamp"


@pytest.fixture(params=BOTH)
def format(request: pytest.FixtureRequest) -> Format:
    """Each format."""
    return t.cast(Format, request.param)


def enter(log: Log, format: Format, *, signature: bytes = log_bench.SIGNATURE, signer: t.Any = SIGNER) -> LogEntry:
    """An entry about the candidate, or about another signature."""
    kind = "dsse" if format == "bundle" else "hashedrekord"
    return log.enter(log_bench.body(kind, log.version, signer, log_bench.PAYLOAD, signature=signature))


def candidate(format: Format, *entries: LogEntry, stamps: t.Sequence[bytes] = ()) -> Candidate:
    """A signature with these entries and timestamps."""
    attached = Material(None, tuple(entries), tuple(stamps))
    if format == "sig":
        return Candidate(
            "sig", "sha256:1", log_bench.PAYLOAD, log_bench.PAYLOAD, log_bench.SIGNATURE, None,
            annotations=attached.as_annotations(),
        )
    return Candidate(
        "bundle", "sha256:1", log_bench.pae(log_bench.PAYLOAD), log_bench.PAYLOAD, log_bench.SIGNATURE, None,
        material=_strict_json.loads(json.dumps(attached.as_bundle()).encode(), what="bundle", where="x"),
    )


def times(found: Candidate, wanted: Evidence) -> tuple[datetime.datetime, ...]:
    return evidence.times(found, PUBLIC, wanted, where="image")


def refused(found: Candidate, wanted: Evidence) -> str:
    with pytest.raises(HallmarkError) as caught:
        times(found, wanted)
    return caught.value.code


REQUIRED = Evidence((OURS.known, NEWER.known), require_log=True)
OPTIONAL = Evidence((OURS.known, NEWER.known))


# Log entries -------------------------------------------------------------------------------------------------------


def test_promise_of_the_log_proves_a_time(format: Format) -> None:
    found = candidate(format, enter(OURS, format))
    assert times(found, REQUIRED) == times(found, OPTIONAL) == (LOGGED,)


def test_nothing_is_looked_at_if_nothing_is_trusted(format: Format) -> None:
    rubbish = candidate(format, enter(OURS, format, signature=b"another"))
    assert times(rubbish, Evidence()) == ()


def test_missing_entry_is_told_if_one_is_required(format: Format) -> None:
    assert times(candidate(format), OPTIONAL) == ()
    assert refused(candidate(format), REQUIRED) == "log_missing"


def test_why_no_entry_counts_is_told(format: Format) -> None:
    for found, words in (
        (candidate(format), "has no entry"), (candidate(format, enter(THEIRS, format)), "not trusted"),
    ):
        with pytest.raises(HallmarkError, match=words):
            times(found, REQUIRED)


def test_entry_of_a_log_that_is_not_trusted_is_passed_over(format: Format) -> None:
    theirs = enter(THEIRS, format)
    assert times(candidate(format, theirs), OPTIONAL) == ()
    assert refused(candidate(format, theirs), REQUIRED) == "log_invalid"


def test_any_of_several_entries_of_a_bundle_may_be_the_one() -> None:
    found = candidate("bundle", enter(THEIRS, "bundle"), enter(OURS, "bundle"))
    assert times(found, REQUIRED) == (LOGGED,)


def test_newer_logs_prove_no_time() -> None:
    assert times(candidate("bundle", enter(NEWER, "bundle")), REQUIRED) == ()
    both = candidate("bundle", enter(NEWER, "bundle"), enter(OURS, "bundle"))
    assert times(both, REQUIRED) == (LOGGED,)


@pytest.mark.parametrize("wanted", [OPTIONAL, REQUIRED])
def test_entry_of_a_trusted_log_must_hold_even_if_none_is_required(format: Format, wanted: Evidence) -> None:
    for wrong in (
        enter(OURS, format, signature=b"another"),
        enter(OURS, format, signer=log_bench.Signer(ec.generate_private_key(ec.SECP256R1()))),
        dataclasses.replace(enter(OURS, format), index=5),
        dataclasses.replace(enter(OURS, format), integrated_time=log_bench.TIME + 1),
    ):
        assert refused(candidate(format, wrong), wanted) == "log_invalid"
    if format == "bundle":
        right = enter(OURS, "bundle")
        for entries in ((right, wrong), (wrong, right)):
            assert refused(candidate("bundle", *entries), wanted) == "log_invalid"


def test_bundles_need_an_inclusion_proof_and_annotations_have_none() -> None:
    entry = dataclasses.replace(enter(OURS, "bundle"), proof=None)
    assert refused(candidate("bundle", entry), OPTIONAL) == "log_invalid"
    entry = dataclasses.replace(enter(OURS, "sig"), proof=None)
    assert times(candidate("sig", entry), REQUIRED) == (LOGGED,)


@pytest.mark.parametrize("text", [
    "rubbish", "{}", "[]", '{"SignedEntryTimestamp":"","Payload":{}}', "\ud800", "x" * 2_000_000,
])
def test_annotation_that_cannot_be_read_is_malformed(text: str) -> None:
    found = dataclasses.replace(candidate("sig"), annotations={LOG_ANNOTATION: text})
    assert refused(found, OPTIONAL) == "malformed"
    assert times(found, Evidence()) == ()


@pytest.mark.parametrize("entries", ["x", 1, [1], [{}], [None]])
def test_entries_of_a_bundle_that_cannot_be_read_are_malformed(entries: t.Any) -> None:
    material = _strict_json.JsonObject({"tlogEntries": entries}, "bundle", "x")
    assert refused(dataclasses.replace(candidate("bundle"), material=material), OPTIONAL) == "malformed"


# Certificates ------------------------------------------------------------------------------------------------------


def test_entry_must_name_the_certificate_that_signed(bench: Bench, format: Format) -> None:
    leaf, renewed = certs.leaf(), certs.leaf()
    key = Key("leaf", certs.Subject("leaf").key)
    ders = [one.public_bytes(certs.serialization.Encoding.DER) for one in (leaf, renewed)]
    base = candidate(format)
    attached = Material(SignerCertificate(leaf))
    for der, code in ((ders[0], None), (ders[1], "log_invalid"), (None, "log_invalid")):
        entry = enter(OURS, format, signer=log_bench.Signer(key.private, der))
        full = dataclasses.replace(attached, entries=(entry,))
        changes: dict[str, t.Any] = {"annotations": full.as_annotations()}
        if format == "bundle":
            text = json.dumps(full.as_bundle()).encode()
            changes = {"material": _strict_json.loads(text, what="bundle", where="x")}
        found = dataclasses.replace(base, has_certificate=True, **changes)

        def look(found: Candidate = found) -> tuple[datetime.datetime, ...]:
            return evidence.times(found, key.public, REQUIRED, where="image")

        if code is None:
            assert look() == (LOGGED,)
        else:
            with pytest.raises(HallmarkError) as caught:
                look()
            assert caught.value.code == code


# Asking a log online -----------------------------------------------------------------------------------------------


def test_log_is_asked_only_for_signatures_that_bring_no_entry(format: Format) -> None:
    asked: list[tuple[proof.Subject, str]] = []
    entry = enter(OURS, format)

    def find(subject: proof.Subject, where: str) -> tuple[LogEntry, ...]:
        asked.append((subject, where))
        return (entry,)

    wanted = dataclasses.replace(REQUIRED, find=find)
    assert times(candidate(format, entry), wanted) == (LOGGED,)
    assert asked == []
    assert times(candidate(format), wanted) == (LOGGED,)
    ((subject, where),) = asked
    assert where == "image"
    assert subject == log_bench.subject(SIGNER, is_dsse=format == "bundle")
    # An answer of the log has room for a proof.
    entry = dataclasses.replace(entry, proof=None)
    assert refused(candidate(format), wanted) == "log_invalid"
    assert refused(candidate(format), dataclasses.replace(REQUIRED, find=lambda *_given: ())) == "log_missing"
    assert times(candidate(format), dataclasses.replace(OPTIONAL, find=lambda *_given: ())) == ()


# Timestamps --------------------------------------------------------------------------------------------------------


def trusting(stamper: FakeStamper, **options: t.Any) -> Evidence:
    timestamper = stamping(stamper).timestamper
    assert timestamper is not None
    return Evidence(timestamp_authorities=timestamper.authorities, **options)


def stamp(stamper: FakeStamper, signature: bytes = log_bench.SIGNATURE) -> bytes:
    timestamper = stamping(stamper).timestamper
    assert timestamper is not None
    return timestamper.stamp(signature, where="x")


def test_timestamp_proves_a_time(stamper: FakeStamper, format: Format) -> None:
    found = candidate(format, stamps=[stamp(stamper)])
    (moment,) = times(found, trusting(stamper, require_timestamp=True))
    assert abs(moment - datetime.datetime.now(UTC)) < datetime.timedelta(minutes=1)
    assert times(found, Evidence()) == ()


def test_missing_timestamp_is_told_if_one_is_required(stamper: FakeStamper, format: Format) -> None:
    assert times(candidate(format), trusting(stamper)) == ()
    assert refused(candidate(format), trusting(stamper, require_timestamp=True)) == "timestamp_missing"


def test_one_of_several_timestamps_must_hold(stamper: FakeStamper) -> None:
    good, other, rubbish = stamp(stamper), stamp(stamper, b"another signature"), b"rubbish"
    for stamps in ([good, other], [other, good], [rubbish, good], [good, rubbish]):
        assert len(times(candidate("bundle", stamps=stamps), trusting(stamper))) == 1
    assert len(times(candidate("bundle", stamps=[good, good]), trusting(stamper))) == 2
    # Even if none is required: whatever is there and holds for nobody is no proof of anything.
    assert refused(candidate("bundle", stamps=[good, other][1:]), trusting(stamper)) == "timestamp_invalid"
    assert refused(candidate("bundle", stamps=[other, rubbish]), trusting(stamper)) == "malformed"


def test_more_timestamps_than_anybody_should_verify(stamper: FakeStamper) -> None:
    good = stamp(stamper)
    assert len(times(candidate("bundle", stamps=[good] * 32), trusting(stamper))) == 32
    assert refused(candidate("bundle", stamps=[good] * 33), trusting(stamper)) == "malformed"


@pytest.mark.parametrize("text", [
    "rubbish", "{}", "[]", '{"SignedRFC3161Timestamp":"?"}', '{"SignedRFC3161Timestamp":1}', "\ud800",
    '{"SignedRFC3161Timestamp":"","more":1}',
])
def test_timestamp_annotation_that_cannot_be_read_is_malformed(stamper: FakeStamper, text: str) -> None:
    found = dataclasses.replace(candidate("sig"), annotations={STAMP_ANNOTATION: text})
    assert refused(found, trusting(stamper)) == "malformed"


@pytest.mark.parametrize("data", [
    "x", [], {"rfc3161Timestamps": "x"}, {"rfc3161Timestamps": [1]}, {"rfc3161Timestamps": [{}]}, {"more": []},
    {"rfc3161Timestamps": [{"signedTimestamp": "", "more": 1}]},
])
def test_timestamps_of_a_bundle_that_cannot_be_read_are_malformed(stamper: FakeStamper, data: t.Any) -> None:
    material = _strict_json.JsonObject({"timestampVerificationData": data}, "bundle", "x")
    assert refused(dataclasses.replace(candidate("bundle"), material=material), trusting(stamper)) == "malformed"


@pytest.mark.parametrize("more", [{}, {"more": 1}])
def test_a_good_timestamp_with_an_unknown_member_beside_it_is_malformed(
    stamper: FakeStamper, more: dict[str, int]
) -> None:
    given = base64.b64encode(stamp(stamper)).decode()
    material = _strict_json.JsonObject(
        {"timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": given, **more}]}}, "bundle", "x"
    )
    text = json.dumps({"SignedRFC3161Timestamp": given, **more})
    for found in (
        dataclasses.replace(candidate("bundle"), material=material),
        dataclasses.replace(candidate("sig"), annotations={STAMP_ANNOTATION: text}),
    ):
        if more:
            assert refused(found, trusting(stamper)) == "malformed"
        else:
            assert len(times(found, trusting(stamper))) == 1


def test_annotation_is_what_cosign_writes() -> None:
    assert evidence.timestamp_annotation(b"\0\1\2") == '{"SignedRFC3161Timestamp":"AAEC"}'


def test_time_of_a_timestamp_decides_whether_the_key_of_a_newer_log_was_valid(stamper: FakeStamper) -> None:
    # Its entries prove no time; without a timestamp it is now.
    entry = enter(NEWER, "bundle")
    hour = datetime.timedelta(hours=1)
    for past, code in ((False, None), (True, "log_invalid")):
        end = datetime.datetime.now(UTC) + (-hour if past else hour)
        wanted = Evidence((dataclasses.replace(NEWER.known, not_after=end),), require_log=True)
        if code is None:
            assert times(candidate("bundle", entry), wanted) == ()
        else:
            assert refused(candidate("bundle", entry), wanted) == code
    stamper.lie("clock", seconds=-1800)
    wanted = dataclasses.replace(
        trusting(stamper), logs=(dataclasses.replace(NEWER.known, not_after=datetime.datetime.now(UTC) - hour / 4),)
    )
    found = candidate("bundle", entry, stamps=[stamp(stamper)])
    assert len(times(found, wanted)) == 1


# Whole verifications -----------------------------------------------------------------------------------------------


def test_certificate_that_has_expired_counts_if_it_was_valid_when_it_was_stamped(
    bench: Bench, stamper: FakeStamper, format: Format
) -> None:
    key = Key("leaf", certs.Subject("leaf").key)
    expired = certs.leaf(start=certs.NOW - certs.DAY, end=certs.NOW - datetime.timedelta(minutes=5))
    issuer = Issuer((certs.authority("root"),), Identity("uri", certs.JOB.value), (certs.authority("sub", "root"),))
    stamper.lie("clock", seconds=-1800)
    do_sign(
        bench, key, formats=(format,), notary=stamping(stamper), certificates={key.id: SignerCertificate(expired)},
    )

    def look(**options: t.Any) -> verify.Verification:
        demand = authority.demand([Authority("ci", issuer=issuer)], **options)
        return verify.verify_image(bench.registries(), bench.pinned, demand)

    assert codes(look().reasons) == ["certificate_expired"]
    assert look(evidence=trusting(stamper)).verified


def test_certificate_must_be_valid_at_every_proven_time(bench: Bench, stamper: FakeStamper, log: FakeLog) -> None:
    key = Key("leaf", certs.Subject("leaf").key)
    later = certs.leaf(start=certs.NOW - datetime.timedelta(minutes=5))
    issuer = Issuer((certs.authority("root"),), Identity("uri", certs.JOB.value), (certs.authority("sub", "root"),))
    stamper.lie("clock", seconds=-1800)
    do_sign(bench, key, notary=stamping(stamper), certificates={key.id: SignerCertificate(later)})
    demand = authority.demand([Authority("ci", issuer=issuer)])
    assert verify.verify_image(bench.registries(), bench.pinned, demand).verified
    demand = authority.demand([Authority("ci", issuer=issuer)], evidence=trusting(stamper))
    verdict = verify.verify_image(bench.registries(), bench.pinned, demand)
    assert set(codes(verdict.reasons)) == {"certificate_expired"}


def test_logged_content_is_the_payload_of_the_candidate() -> None:
    logged = json.loads(enter(OURS, "sig").body)
    assert logged["spec"]["data"]["hash"]["value"] == hashlib.sha256(log_bench.PAYLOAD).hexdigest()
    assert base64.b64decode(logged["spec"]["signature"]["content"]) == log_bench.SIGNATURE
