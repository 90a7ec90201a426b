# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a log entry vouches for a signature: every check has a case that nothing else would refuse."""

from __future__ import annotations

import datetime
import json
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _strict_json
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, VerificationError
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import entry as entries
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import proof
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.entry import InclusionProof, LogEntry
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.log_key import LogKey
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency import log_bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency.log_bench import (
    HOST,
    NOW,
    PAYLOAD,
    TIME,
    Log,
    Signer,
    b64,
    body,
    certificate,
    pae,
    spki,
    subject,
)
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _unused in range(2))
BY_KEY, BY_CERTIFICATE = Signer(KEY), Signer(KEY, certificate(KEY))
V1 = Log(ec.generate_private_key(ec.SECP256R1()), 1)
V2 = Log(ed25519.Ed25519PrivateKey.generate(), 2)
MOMENT = datetime.datetime.fromtimestamp(TIME, tz=datetime.timezone.utc)
SECOND = datetime.timedelta(seconds=1)
WITNESS = f"\u2014 witness.example {b64(b'wit:' + b'w' * 64)}\n"

# What is signed, and the body that is right for it.
CONTENT = {
    ("hashedrekord", 1, False): PAYLOAD, ("dsse", 1, True): PAYLOAD, ("hashedrekord", 2, False): PAYLOAD,
    ("hashedrekord", 2, True): pae(PAYLOAD), ("dsse", 2, True): PAYLOAD,
}


def verify(
    entry: LogEntry, *, signer: Signer = BY_KEY, is_dsse: bool = False, keys: t.Sequence[LogKey] | None = None,
    needs_proof: bool = True, now: datetime.datetime = NOW, **changes: t.Any,
) -> datetime.datetime | None:
    return proof.verify(
        entry, subject=replace(subject(signer, is_dsse=is_dsse), **changes),
        keys=[V1.known, V2.known] if keys is None else keys, needs_proof=needs_proof, now=now, where="registry/image",
    )


def refuses(entry: LogEntry, cause: str, **options: t.Any) -> None:
    with pytest.raises(VerificationError) as caught:
        verify(entry, **options)
    assert (caught.value.code, caught.value.object) == ("log_invalid", "registry/image")
    assert cause in caught.value.cause


def good(version: int = 1, *, log: Log | None = None, **changes: t.Any) -> LogEntry:
    """An entry about the signature of BY_KEY over PAYLOAD."""
    return (log or (V1 if version == 1 else V2)).enter(body("hashedrekord", version, BY_KEY, PAYLOAD), **changes)


def with_proof(entry: LogEntry, **changes: t.Any) -> LogEntry:
    return replace(entry, proof=replace(t.cast(InclusionProof, entry.proof), **changes))


@pytest.mark.parametrize("signer", [BY_KEY, BY_CERTIFICATE], ids=["key", "certificate"])
@pytest.mark.parametrize("hash", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize(("kind", "version", "is_dsse"), CONTENT)
def test_accepts(kind: str, version: int, is_dsse: bool, hash: str, signer: Signer) -> None:
    logged = body(kind, version, signer, CONTENT[kind, version, is_dsse], hash=hash)
    log = V1 if version == 1 else V2
    assert verify(log.enter(logged), signer=signer, is_dsse=is_dsse) == (MOMENT if version == 1 else None)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 8, 13])
def test_accepts_every_place_of_a_tree(size: int, version: int) -> None:
    for index in range(size):
        verify(good(log=replace(V1 if version == 1 else V2, index=index, size=size), version=version))


def test_accepts_logs_with_other_keys(rsa2048: t.Any, p384: t.Any) -> None:
    for key in (rsa2048, p384, ed25519.Ed25519PrivateKey.generate()):
        log = Log(key, 1)
        assert verify(good(log=log), keys=[V1.known, log.known]) == MOMENT
    log = Log(p384, 2)
    assert verify(good(2, log=log), keys=[V2.known, log.known]) is None


def test_the_time_is_that_of_the_promise_and_of_nothing_else() -> None:
    assert verify(replace(good(), signed_entry_timestamp=None)) is None
    assert verify(replace(good(), signed_entry_timestamp=None, integrated_time=TIME + 1)) is None
    assert verify(replace(good(), signed_entry_timestamp=None, integrated_time=None)) is None
    assert verify(replace(good(2), integrated_time=TIME)) is None


def test_a_promise_alone_is_enough_where_no_proof_is_needed() -> None:
    entry = replace(good(), proof=None)
    assert verify(entry, needs_proof=False) == MOMENT
    refuses(entry, "it comes without an inclusion proof")


def test_without_a_signature_the_rest_is_checked() -> None:
    def verify_alone(entry: LogEntry) -> datetime.datetime | None:
        return proof.verify(
            entry, subject=None, keys=[V1.known, V2.known], needs_proof=True, now=NOW, where="registry/image"
        )

    for signer in (BY_KEY, Signer(OTHER_KEY), BY_CERTIFICATE):
        assert verify_alone(V1.enter(body("dsse", 1, signer, b"anything"))) == MOMENT
        assert verify_alone(V2.enter(body("hashedrekord", 2, signer, b"anything"))) is None
    for bad in (
        replace(good(), proof=None), replace(good(), log_id=b"x" * 32), replace(good(), index=7),
        with_proof(good(), root=bytes(32)), good(hint=b"hint"),
    ):
        with pytest.raises(VerificationError) as caught:
            verify_alone(bad)
        assert caught.value.code == "log_invalid"


def test_nothing_at_all_is_not_enough() -> None:
    cause = "it comes without an inclusion proof"
    refuses(replace(good(), proof=None, signed_entry_timestamp=None), cause, needs_proof=False)
    refuses(replace(good(2), proof=None), cause, needs_proof=False)


def test_a_proof_is_checked_where_none_is_needed() -> None:
    refuses(with_proof(good(), root=bytes(32)), "is for another tree", needs_proof=False)
    refuses(with_proof(good(), hashes=()), "it has too few hashes", needs_proof=False)


def test_the_log_must_be_known() -> None:
    cause = "it is of a log that is not trusted"
    for version in (1, 2):
        refuses(good(version), cause, keys=[])
        refuses(good(version), cause, keys=[V2.known if version == 1 else V1.known])
    # The promise holds, under the key that is known: only the id is another's.
    refuses(replace(good(log=replace(V1, log_id=b"x" * 32)), proof=None), cause, needs_proof=False)


def test_the_id_of_version_2_holds_the_name_of_the_log() -> None:
    other = replace(V2, origin="other.example", name="other.example")
    key = replace(V2.known, host=None)
    assert verify(good(2, log=other), keys=[key]) is None
    # All is as that log signs it, with an id that it would have under another name, or as a log of version 1.
    for log_id in (V2.id, bytes.fromhex(key.id_v1)):
        refuses(good(2, log=replace(other, log_id=log_id)), "it is of a log that is not trusted", keys=[key])
    refuses(good(1, log=replace(V2, version=1, log_id=V2.id)), "it is of a log that is not trusted", keys=[key])


@pytest.mark.parametrize("version", [1, 2])
def test_kinds_that_do_not_go_with_the_signature(version: int) -> None:
    log = V1 if version == 1 else V2
    cause = "does not go with this signature"
    # The digest in it is right.
    refuses(log.enter(body("dsse", version, BY_KEY, PAYLOAD)), cause)
    logged = log.enter(body("hashedrekord", version, BY_KEY, pae(PAYLOAD)))
    if version == 1:
        refuses(logged, cause, is_dsse=True)
    else:
        verify(logged, is_dsse=True)


@pytest.mark.parametrize(("kind", "version", "is_dsse"), CONTENT)
def test_entries_about_something_else(kind: str, version: int, is_dsse: bool) -> None:
    content = CONTENT[kind, version, is_dsse]
    log = V1 if version == 1 else V2

    def logged(signer: Signer = BY_KEY, *, about: bytes = content, **changes: t.Any) -> LogEntry:
        return log.enter(body(kind, version, signer, about, **changes))

    verify(logged(), is_dsse=is_dsse)
    refuses(logged(signature=b"another"), "it is about another signature", is_dsse=is_dsse)
    refuses(logged(), "it is about another signature", is_dsse=is_dsse, signature=b"another")
    refuses(logged(Signer(OTHER_KEY)), "it is about another key", is_dsse=is_dsse)
    for about in (b"", content + b"\n", PAYLOAD if content != PAYLOAD else pae(PAYLOAD)):
        refuses(logged(about=about), "it is about other content", is_dsse=is_dsse)


@pytest.mark.parametrize(("kind", "version", "is_dsse"), CONTENT)
def test_a_certificate_must_be_the_one_that_was_logged(kind: str, version: int, is_dsse: bool) -> None:
    content = CONTENT[kind, version, is_dsse]
    log = V1 if version == 1 else V2
    entries_of = {signer: log.enter(body(kind, version, signer, content)) for signer in (BY_KEY, BY_CERTIFICATE)}
    cause = "it names another certificate"
    refuses(entries_of[BY_KEY], cause, signer=BY_CERTIFICATE, is_dsse=is_dsse)
    refuses(entries_of[BY_CERTIFICATE], cause, signer=BY_KEY, is_dsse=is_dsse)
    # Another certificate of the same key, and the same certificate for another key.
    refuses(entries_of[BY_CERTIFICATE], cause, signer=Signer(KEY, certificate(KEY, "else")), is_dsse=is_dsse)
    refuses(
        entries_of[BY_CERTIFICATE], "it is about another key", signer=BY_CERTIFICATE, is_dsse=is_dsse,
        spki=spki(OTHER_KEY),
    )


@pytest.mark.parametrize("changes", [
    {"index": 1001}, {"integrated_time": TIME + 1}, {"signed_entry_timestamp": b""},
    {"signed_entry_timestamp": good().signed_entry_timestamp},
    {"signed_entry_timestamp": log_bench.sign(V1.key, b"another message")},
    {"body": body("hashedrekord", 1, BY_KEY, PAYLOAD).replace(b"{", b"{ ", 1)},
], ids=["index", "time", "empty", "of another", "over something else", "body spelled otherwise"])
def test_promises_that_do_not_hold(changes: t.Any) -> None:
    entry = good(log=replace(V1, virtual=1002)) if "signed_entry_timestamp" in changes else good()
    refuses(
        replace(entry, proof=None, **changes), "its signed entry timestamp is not that of the log", needs_proof=False
    )


def test_a_promise_is_checked_beside_a_proof() -> None:
    refuses(replace(good(), signed_entry_timestamp=b"x"), "its signed entry timestamp is not that of the log")


def test_a_promise_by_another_log() -> None:
    entry = replace(V1, key=OTHER_KEY, log_id=V1.id).promise(replace(good(), proof=None))
    refuses(entry, "its signed entry timestamp is not that of the log", needs_proof=False)


def test_a_promise_where_none_belongs() -> None:
    cause = "it has a signed entry timestamp where none belongs"
    # Each signed by the log.
    refuses(V1.promise(replace(good(), integrated_time=None)), cause)
    refuses(V2.promise(replace(good(2), integrated_time=TIME)), cause)


@pytest.mark.parametrize(("changes", "cause"), [
    ({"size": 8}, "is for another tree"),
    ({"root": bytes(32)}, "is for another tree"),
    ({"index": 3}, "leads to another root"),
    ({"index": 7}, "its index is outside the tree"),
    ({"index": -1}, "its index is outside the tree"),
    ({"hashes": ()}, "it has too few hashes"),
    ({"hashes": (bytes(32),) * 3}, "leads to another root"),
    ({"hashes": (bytes(32),) * 4}, "it has too many hashes"),
])
def test_proofs_that_do_not_hold(changes: t.Any, cause: str) -> None:
    refuses(with_proof(good(), **changes), cause)
    if "hashes" in changes:
        refuses(with_proof(good(2), **changes), cause)


def test_a_body_that_is_no_leaf_of_the_tree() -> None:
    for log in (V1, V2):
        other = log.enter(body("hashedrekord", log.version, BY_KEY, b"other"))
        entry = replace(good(log.version), proof=other.proof)
        if log.version == 1:
            entry = log.promise(entry)
        refuses(entry, "leads to another root")


def test_of_version_2_the_index_of_the_entry_counts() -> None:
    for changes in ({"index": 0}, {"index": 99}, {"size": 0}, {"size": 99}, {"root": bytes(32)}):
        assert verify(with_proof(good(2), **changes)) is None
    refuses(replace(good(2), index=3), "leads to another root")
    refuses(replace(good(2), index=7), "its index is outside the tree")


def test_of_version_1_the_index_of_the_log_is_none_of_the_tree() -> None:
    assert verify(good(log=replace(V1, virtual=10**12))) == MOMENT


@pytest.mark.parametrize("version", [1, 2])
def test_other_lines_of_a_checkpoint_are_ignored(version: int) -> None:
    log = V1 if version == 1 else V2
    # Of a witness; and of the log's name, as an older key of it may have signed.
    older = f"\u2014 {HOST} {b64(b'old:' + b'o' * 64)}\n"
    broken = f"\u2014 {HOST} {b64(log.id[:4] + b'b' * 64)}\n"
    for line in (WITNESS, older, broken):
        verify(good(version, before=line))
        verify(good(version, after=line))
    verify(good(version, extension="Timestamp: 1\n"))


@pytest.mark.parametrize("version", [1, 2])
def test_checkpoints_that_the_log_did_not_sign(version: int) -> None:
    cause = "the log did not sign its checkpoint"
    log = V1 if version == 1 else V2
    for stranger in (OTHER_KEY, ed25519.Ed25519PrivateKey.generate()):
        refuses(good(version, signer=stranger), cause)
    refuses(good(version, hint=b"hint"), cause)
    refuses(good(version, log=replace(log, name="other.example")), cause)
    # Signed under the name of a witness only.
    refuses(good(version, log=replace(log, name="witness.example"), before=WITNESS), cause)
    entry = good(version)
    text = t.cast(InclusionProof, entry.proof).checkpoint
    for old, new in ((HOST, HOST.upper()), ("\n\n", "\nadded\n\n"), (" - 77\n", " - 78\n")):
        if old in text:
            changed = with_proof(entry, checkpoint=text.replace(old, new, 1))
            refuses(changed, cause if version == 1 or old == "\n\n" else "it is of a log that is not trusted")


def test_the_tree_in_a_checkpoint_is_what_the_log_signed() -> None:
    # The proof holds against this checkpoint; the log signed the former.
    for log in (V1, V2):
        entry = good(log.version)
        found = t.cast(InclusionProof, entry.proof)
        forged = Log(OTHER_KEY, log.version, log_id=log.id).checkpoint(found.size, found.root)
        refuses(with_proof(entry, checkpoint=forged), "the log did not sign its checkpoint")


@pytest.mark.parametrize(("version", "origin", "name"), [
    (1, "other.example - 77", "other.example"), (2, "other.example", "other.example"),
])
def test_the_name_must_be_that_of_the_url(version: int, origin: str, name: str) -> None:
    log = replace(V1 if version == 1 else V2, origin=origin, name=name)
    refuses(good(version, log=log), f"its checkpoint is of {origin!r}, not of the log {HOST}", keys=[log.known])
    # Where no host is pinned, any name is right that is the same in both places.
    verify(good(version, log=log), keys=[replace(log.known, host=None)])
    verify(good(version, log=log), keys=[replace(log.known, host="other.example")])


def test_names_of_hosts_have_no_case() -> None:
    for log in (replace(V1, origin="Log.Example - 77", name="Log.Example"), replace(V2, origin="LOG.example")):
        named = replace(log, name=log.origin.partition(" ")[0])
        verify(good(log.version, log=named))


@pytest.mark.parametrize("origin", [HOST, f"{HOST} - ", f"{HOST} - x", f"{HOST}-77", f"{HOST} - 77 ", f" - {HOST} - 7"])
@pytest.mark.parametrize("host", [None, HOST])
def test_version_1_names_a_host_and_a_tree(origin: str, host: str | None) -> None:
    entry = good(log=replace(V1, origin=origin))
    refuses(entry, "its checkpoint" if host else "the log did not sign", keys=[replace(V1.known, host=host)])


@pytest.mark.parametrize("host", [None, HOST])
def test_version_2_names_a_host_only(host: str | None) -> None:
    log = replace(V2, origin=f"{HOST} - 77")
    refuses(
        good(2, log=log), "its checkpoint" if host else "the log did not sign", keys=[replace(V2.known, host=host)]
    )


def test_the_key_must_be_valid_at_the_time_of_the_entry() -> None:
    entry = good()
    for limits in ({"not_before": MOMENT}, {"not_after": MOMENT}):
        assert verify(entry, keys=[replace(V1.known, **limits)]) == MOMENT
    cause = "the key of the log is not valid at 2023-11-14T22:13:20+00:00"
    for limits in ({"not_before": MOMENT + SECOND}, {"not_after": MOMENT - SECOND}):
        refuses(entry, cause, keys=[replace(V1.known, **limits)])


@pytest.mark.parametrize("entry", [good(2), replace(good(), signed_entry_timestamp=None)], ids=["2", "no promise"])
def test_the_key_must_be_valid_now_where_no_time_is_signed(entry: LogEntry) -> None:
    known = V2.known if entry.integrated_time is None else V1.known
    for limits in ({"not_before": NOW}, {"not_after": NOW}):
        assert verify(entry, keys=[replace(known, **limits)], now=NOW) is None
    for limits in ({"not_before": NOW + SECOND}, {"not_after": NOW - SECOND}):
        refuses(entry, "the key of the log is not valid at 2030-01-01", keys=[replace(known, **limits)], now=NOW)


@pytest.mark.parametrize("changes", [
    {"body": b"{}"}, {"body": b"\xff"}, {"body": b'{"apiVersion":"0.0.1","kind":"rpm","spec":{}}'},
    {"proof": replace(t.cast(InclusionProof, good().proof), checkpoint="x")},
])
def test_what_cannot_be_read(changes: t.Any) -> None:
    with pytest.raises(FormatError) as caught:
        verify(replace(good(), **changes))
    assert (caught.value.code, caught.value.object) == ("malformed", "registry/image")


def test_is_known() -> None:
    for log, other in ((V1, V2), (V2, V1)):
        entry = good(log.version)
        assert proof.is_known(entry, [other.known, log.known], "x")
        assert not proof.is_known(entry, [other.known], "x")
        assert not proof.is_known(entry, [], "x")
        assert not proof.is_known(replace(entry, log_id=b"x" * 32), [V1.known, V2.known], "x")
    assert proof.is_known(replace(good(), proof=None), [V1.known], "x")
    with pytest.raises(FormatError):
        proof.is_known(with_proof(good(), checkpoint="x"), [V1.known], "x")


def accepts(entry: LogEntry, **options: t.Any) -> bool:
    try:
        verify(entry, **options)
    except (VerificationError, FormatError) as exc:
        return not (exc.code in ("log_invalid", "malformed") and exc.object == "registry/image")
    return True


@settings(max_examples=400)
@given(st.sampled_from([1, 2]), st.data())
def test_an_entry_with_anything_altered_is_refused(version: int, data: st.DataObject) -> None:
    entry = BUNDLED[version]
    text = json.dumps(entries.as_bundle(entry), ensure_ascii=False)
    start = data.draw(st.integers(0, len(text)))
    mutated = text[:start] + data.draw(st.text("0123456789+/=AQgw\"{}[],:. \n-x\\", max_size=2)) + (
        text[start + data.draw(st.integers(0, 2)):]
    )
    try:
        read = entries.from_bundle(_strict_json.loads(mutated.encode(), what="log entry", where="registry/image"))
    except FormatError:
        return
    if version == 2:
        # What nothing reads.
        unread = t.cast(InclusionProof, entry.proof)
        read = replace(with_proof(
            read, index=unread.index, size=unread.size, root=unread.root
        ) if read.proof else read, integrated_time=None)
    assert accepts(read) == (read == entry)


BUNDLED = {version: good(version) for version in (1, 2)}


@settings(max_examples=300)
@given(
    st.sampled_from([1, 2]), st.integers(-1, 2**64), st.binary(max_size=33), st.none() | st.integers(0, 253402300799),
    st.none() | st.binary(max_size=80), st.integers(-1, 2**64), st.integers(-1, 2**64),
    st.lists(st.binary(max_size=33), max_size=65), st.text(max_size=30),
)
def test_nothing_else_is_raised(
    version: int, index: int, log_id: bytes, time: int | None, promise: bytes | None, at: int, size: int,
    hashes: list[bytes], text: str,
) -> None:
    right = BUNDLED[version]
    checkpoint = t.cast(InclusionProof, right.proof).checkpoint
    for one in (log_id, right.log_id):
        for note in (text, checkpoint):
            made = LogEntry(
                index, one, time, right.body, promise, InclusionProof(at, size, b"r" * 32, tuple(hashes), note)
            )
            assert not accepts(made)
            assert not accepts(replace(made, proof=None), needs_proof=False)
