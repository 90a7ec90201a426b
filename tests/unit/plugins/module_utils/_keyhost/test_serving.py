# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of answering one request: the configuration, what is refused, and the record before the signature."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import journal
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keyhost import limits, serving
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._keyhost.keyhost_bench import (
    ASKED,
    DIGEST,
    NAME,
    NOW,
    OTHER_HEX,
    SPELLINGS,
    FakeSigner,
    bundle,
    sha256,
    sig,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CALLER = {"name": "alice", "repositories": ["registry.example.org/acme/**"], "per_hour": 5}
CONFIGURATION: dict[str, t.Any] = {
    "identity": "release", "key_id": "e" * 64, "private_key_path": "/etc/key", "record_path": "/var/uses.jsonl",
    "callers": [CALLER],
}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# The configuration ---------------------------------------------------------------------------------------------------


def _read(**changed: t.Any) -> serving.Key:
    members = {name: value for name, value in {**CONFIGURATION, **changed}.items() if value is not ...}
    return serving.read_key(json.dumps(members).encode(), where="serve.json")


def test_configuration_is_read() -> None:
    second = {"name": "bob@ci", "repositories": ["*.example.org/**", "docker.io/library/nginx"], "per_hour": 1000}
    key = _read(callers=[CALLER, second], secret_path="/etc/passphrase")
    assert (key.identity, key.key_id, key.private_key_path, key.uri) == ("release", "e" * 64, "/etc/key", None)
    assert (key.secret_path, key.public_key_path, key.record_path) == ("/etc/passphrase", None, "/var/uses.jsonl")
    assert {name: (caller.name, caller.per_hour) for name, caller in key.callers.items()} == {
        "alice": ("alice", 5), "bob@ci": ("bob@ci", 1000),
    }
    assert [str(one) for one in key.callers["bob@ci"].repositories] == ["*.example.org/**", "docker.io/library/nginx"]
    other = _read(private_key_path=..., uri="hsm:/dir", public_key_path="/etc/pub")
    assert (other.private_key_path, other.uri, other.public_key_path) == (None, "hsm:/dir", "/etc/pub")


def _caller(**changed: t.Any) -> list[t.Any]:
    return [{name: value for name, value in {**CALLER, **changed}.items() if value is not ...}]


@pytest.mark.parametrize("changed", [
    {"identity": ...}, {"identity": 1}, {"key_id": ...}, {"key_id": None}, {"record_path": ...}, {"record_path": []},
    {"private_key_path": ...}, {"private_key_path": 1}, {"uri": "hsm:/dir"}, {"uri": 1, "private_key_path": ...},
    {"secret_path": 1}, {"public_key_path": False}, {"unknown": 1}, {"pasphrase": "canary"},
    {"callers": ...}, {"callers": []}, {"callers": {}}, {"callers": ["alice"]}, {"callers": None},
    {"callers": _caller(name=...)}, {"callers": _caller(name="")}, {"callers": _caller(name=1)},
    {"callers": _caller(name="al ice")}, {"callers": _caller(name="alice\n")}, {"callers": _caller(name="-alice")},
    {"callers": _caller(name="a" * 65)}, {"callers": _caller(name="Jos\u00e9")},
    {"callers": _caller(repositories=...)}, {"callers": _caller(repositories=[])},
    {"callers": _caller(repositories="registry.example.org/**")}, {"callers": _caller(repositories=[1])},
    {"callers": _caller(repositories=["registry.example.org/**", None])},
    {"callers": _caller(repositories=["*"])}, {"callers": _caller(repositories=["registry.example.org/app:1"])},
    {"callers": _caller(per_hour=...)}, {"callers": _caller(per_hour=0)}, {"callers": _caller(per_hour=-1)},
    {"callers": _caller(per_hour=1001)}, {"callers": _caller(per_hour="5")}, {"callers": _caller(per_hour=True)},
    {"callers": _caller(per_hour=1.5)}, {"callers": _caller(admin=True)}, {"callers": [CALLER, CALLER]},
], ids=str)
def test_wrong_configuration_is_refused(changed: dict[str, t.Any]) -> None:
    with pytest.raises(FormatError) as caught:
        _read(**changed)
    assert caught.value.code == "malformed"
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"callers":[],"callers":[]}', b"\xff", b"null"])
def test_configuration_that_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        serving.read_key(data, where="serve.json")
    assert caught.value.object == "serve.json"


@pytest.mark.parametrize("per_hour", [1, limits.MAX_PER_HOUR])
def test_bounds_of_the_rate_are_within(per_hour: int) -> None:
    assert _read(callers=_caller(per_hour=per_hour)).callers["alice"].per_hour == per_hour


# Requests ------------------------------------------------------------------------------------------------------------


class Host:
    """A host with a key, and what was asked of it."""

    def __init__(self, folder: pathlib.Path, key: t.Any) -> None:
        self.record = folder / "uses.jsonl"
        self.signer = FakeSigner(key)
        self.loaded = 0
        self.key = _read(record_path=str(self.record))

    def load(self) -> FakeSigner:
        """Load the key, and count that."""
        self.loaded += 1
        return self.signer

    def answer(self, request: t.Any = None, *, caller: str = "alice", **changed: t.Any) -> dict[str, t.Any]:
        """Answer a request, given as bytes or by what is different from a good one."""
        good = {"version": 1, "reference": str(ASKED), "message": _b64(sig())}
        members = {name: value for name, value in {**good, **changed}.items() if value is not ...}
        data = request if isinstance(request, bytes) else json.dumps(members).encode()
        answer = serving.answer(self.key, caller, data, t.cast(t.Any, self.load), now=NOW)
        json.dumps(answer)
        return answer

    def refuses(self, code: str, *args: t.Any, **changed: t.Any) -> str:
        """Return why nothing is signed; nothing must be recorded then."""
        before = self.entries
        answer = self.answer(*args, **changed)
        assert list(answer) == ["error"]
        assert sorted(answer["error"]) == ["code", "message"]
        assert answer["error"]["code"] == code, answer
        assert (self.entries, self.signer.signed) == (before, [])
        return str(answer["error"]["message"])

    @property
    def entries(self) -> tuple[journal.Entry, ...]:
        """What was recorded."""
        return journal.read(str(self.record))


@pytest.fixture
def host(tmp_path: pathlib.Path, p256: t.Any) -> Host:
    (tmp_path / "keyhost").mkdir(mode=0o700)
    return Host(tmp_path / "keyhost", p256)


@pytest.mark.parametrize("message", [
    sig(), sig(annotations={"a": "1"}), *(bundle(**spelling) for spelling in SPELLINGS),
])
def test_what_is_for_the_image_is_signed_and_recorded(host: Host, message: bytes) -> None:
    answer = host.answer(message=_b64(message))
    signature = base64.b64decode(answer["signature"])
    assert algorithms.verifies(host.signer.public.key, signature=signature, message=message)
    (entry,) = host.entries
    assert answer == {
        "signature": answer["signature"], "key_id": host.signer.public.key_id, "format": entry.members["format"],
        "record": {"sequence": 1, "hash": entry.hash},
    }
    assert (entry.members["caller"], entry.members["reference"]) == ("alice", f"{NAME}@{DIGEST}")
    assert (entry.members["time"], entry.members["key_id"]) == ("2030-01-02T12:00:00Z", host.signer.public.key_id)
    assert entry.members["sha256"] == sha256(message).hex()
    assert host.signer.signed == host.signer.prepared == [message]
    assert os.stat(host.record).st_mode & 0o777 == 0o600


def test_digest_may_stand_beside_the_message_or_alone(host: Host) -> None:
    annotations = {"a": "1"}
    message = sig(annotations=annotations)
    digest = _b64(sha256(message))
    for changed in (
        {"message": _b64(message), "digest": digest}, {"message": _b64(message), "digest": None, "annotations": {}},
        {"message": None, "digest": digest, "annotations": annotations},
        {"message": ..., "digest": digest, "annotations": annotations, "hash": "sha256"},
    ):
        assert "signature" in host.answer(**changed), changed
    assert host.signer.signed == [message] * 4


@pytest.mark.parametrize(("code", "changed"), [
    ("malformed", {"version": 2}), ("malformed", {"version": ...}), ("malformed", {"version": True}),
    ("malformed", {"version": "1"}), ("malformed", {"unknown": 1}),
    ("malformed", {"reference": ...}), ("malformed", {"reference": 1}), ("malformed", {"reference": "UPPER//"}),
    ("input_invalid", {"reference": NAME}), ("input_invalid", {"reference": f"{NAME}:1"}),
    ("input_invalid", {"reference": f"{NAME}:1@{DIGEST}"}), ("malformed", {"reference": f"oci:/dir@{DIGEST}"}),
    ("reference_mismatch", {"reference": f"registry.example.org/other@{DIGEST}"}),
    ("reference_mismatch", {"reference": f"registry.example.org/acme2@{DIGEST}"}),
    ("reference_mismatch", {"reference": f"registry.example.org/acme/other@{DIGEST}"}),
    ("digest_mismatch", {"reference": f"{NAME}@sha256:{OTHER_HEX}"}),
    ("malformed", {"message": 1}), ("malformed", {"message": "no base64"}), ("malformed", {"message": "YQ"}),
    ("malformed", {"digest": 1}), ("malformed", {"digest": "="}), ("malformed", {"annotations": []}),
    ("malformed", {"annotations": {"a": 1}}), ("type_mismatch", {"message": ""}), ("type_mismatch", {"message": None}),
    ("type_mismatch", {"message": ..., "digest": _b64(b"x" * 32)}),
    ("digest_mismatch", {"digest": _b64(b"x" * 32)}), ("digest_mismatch", {"digest": ""}),
    ("type_mismatch", {"message": _b64(b" " * 64 + b"TLS 1.3, server CertificateVerify" + b"\0" * 33)}),
    ("annotation_mismatch", {"annotations": {"a": "1"}}),
    ("malformed", {"hash": 5}), ("unsupported_algorithm", {"hash": "md5"}), ("unsupported_algorithm", {"hash": ""}),
    ("unsupported_algorithm", {"hash": "sha256\n"}),
], ids=str)
def test_wrong_request_is_refused(host: Host, code: str, changed: dict[str, t.Any]) -> None:
    host.refuses(code, **changed)
    # A copy that is for one use is not used up. Which hash the key can do is not known without it.
    assert host.loaded == (code == "unsupported_algorithm")


@pytest.mark.parametrize("request_", [
    b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"SSH-2.0-x\r\n", b"[" * 5000, b'{"version":1,"version":1}',
    b'{"a":' * 500,
])
def test_what_is_no_request_is_refused(host: Host, request_: bytes) -> None:
    host.refuses("malformed", request_)


def test_somebody_who_logs_in_by_hand_is_told_what_this_is(host: Host) -> None:
    assert "sigstore-kms-hallmark" in host.refuses("malformed", b"")


def test_too_large_a_request_is_refused(host: Host) -> None:
    assert serving.MAX_REQUEST == 512 * 1024
    good = json.dumps({"version": 1, "reference": str(ASKED), "message": _b64(sig())}).encode()
    host.refuses("limit_exceeded", good + b" " * (serving.MAX_REQUEST + 1 - len(good)))
    assert "signature" in host.answer(good + b" " * (serving.MAX_REQUEST - len(good)))


@pytest.mark.parametrize("caller", ["bob", "", "Alice", "alice ", "alice\n"])
def test_unknown_caller_is_refused(host: Host, caller: str) -> None:
    said = host.refuses("unauthorized", caller=caller)
    assert host.loaded == 0
    assert repr(caller) in said
    assert "release" in said


def test_limit_of_the_caller_is_kept(host: Host) -> None:
    for _number in range(5):
        assert "signature" in host.answer()
    host.signer.signed.clear()
    assert "of 5" in host.refuses("limit_exceeded")


# The order -----------------------------------------------------------------------------------------------------------


def test_record_is_written_before_the_key_signs(host: Host) -> None:
    seen: list[int] = []
    sign = host.signer.sign

    def look(message: bytes, *, scheme: str | None = None) -> bytes:
        seen.append(len(host.entries))
        return sign(message, scheme=scheme)

    host.signer.sign = look  # type: ignore[method-assign]
    assert "signature" in host.answer()
    assert seen == [1]


def test_signature_that_fails_stays_recorded(host: Host) -> None:
    host.signer.error = KeyFileError(
        code="service_unavailable", object="hsm", attempt="sign", cause="gone", advice="Wait."
    )
    answer = host.answer()
    assert answer == {"error": {"code": "service_unavailable", "message": "hsm: could not sign: gone. Wait."}}
    assert len(host.entries) == 1


@pytest.mark.parametrize("name", ["folder", "link", "broken", "open", "file-for-folder"])
def test_without_a_record_nothing_is_signed(host: Host, name: str, tmp_path: pathlib.Path) -> None:
    if name == "folder":
        host.record.mkdir()
    elif name == "link":
        (tmp_path / "elsewhere").write_text("")
        host.record.symlink_to(tmp_path / "elsewhere")
    elif name == "broken":
        host.record.write_text("not ours\n")
        host.record.chmod(0o600)
    elif name == "open":
        host.record.parent.chmod(0o777)
    else:
        host.record.parent.rmdir()
        host.record.parent.write_text("")
    answer = host.answer()
    assert answer["error"]["code"] in ("destination_unsafe", "journal_broken", "write_failed"), answer
    assert host.signer.signed == []


def test_full_disk_stops_all(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> t.NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.os, "fsync", full)
    answer = host.answer()
    assert (answer["error"]["code"], host.signer.signed) == ("write_failed", [])


def test_signature_of_another_key_does_not_leave(host: Host, p384: t.Any, rsa2048: t.Any) -> None:
    for key in (p384, rsa2048):
        host.signer.signs_with = key
        host.signer.sign = lambda message, *, scheme=None, key=key: FakeSigner(key).sign(message)  # type: ignore[misc]
        answer = host.answer()
        assert answer["error"]["code"] == "signature_invalid"


def test_signature_in_another_scheme_does_not_leave(host: Host) -> None:
    sign = host.signer.sign
    host.signer.sign = lambda message, *, scheme=None: sign(message, scheme="ecdsa-sha512")  # type: ignore[misc]
    assert host.answer()["error"]["code"] == "signature_invalid"


def test_key_that_cannot_be_read_is_told(host: Host) -> None:
    def load() -> t.NoReturn:
        raise KeyFileError(code="not_found", object="/etc/key", attempt="read the file", cause="gone", advice="Look.")

    request = json.dumps({"version": 1, "reference": str(ASKED), "message": _b64(sig())}).encode()
    answer = serving.answer(host.key, "alice", request, load, now=NOW)
    assert answer["error"]["code"] == "not_found"
    assert host.entries == ()


def test_key_is_prepared_before_the_record_is_written(host: Host) -> None:
    def prepare(_messages: t.Any) -> t.NoReturn:
        raise KeyFileError(code="key_mismatch", object="hsm", attempt="sign", cause="other key", advice="Look.")

    host.signer.prepare = prepare  # type: ignore[method-assign]
    host.refuses("key_mismatch")


# Kinds of keys -------------------------------------------------------------------------------------------------------


def _is_signed(host: Host, answer: dict[str, t.Any], message: bytes, scheme: str) -> bool:
    signature = base64.b64decode(answer["signature"])
    return algorithms.verifies(host.signer.public.key, signature=signature, message=message, schemes=[scheme])


@pytest.mark.parametrize(("fixture", "hash_name", "scheme"), [
    ("p256", "sha256", "ecdsa-sha256"), ("p384", "sha256", "ecdsa-sha256"), ("p384", "sha384", "ecdsa-sha384"),
    ("p521", "sha512", "ecdsa-sha512"), ("rsa2048", "sha256", "rsa-pkcs1v15-sha256"),
    ("rsa2048", "sha512", "rsa-pkcs1v15-sha512"),
])
def test_hash_of_a_bundle_is_the_one_that_was_asked_for(
    fixture: str, hash_name: str, scheme: str, host: Host, request: pytest.FixtureRequest
) -> None:
    host.signer = FakeSigner(request.getfixturevalue(fixture))
    assert _is_signed(host, host.answer(message=_b64(bundle()), hash=hash_name), bundle(), scheme)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("fixture", "name"), [
    ("p256", "sha256"), ("p384", "sha384"), ("p521", "sha512"), ("p384", "sha256"),
])
def test_hash_of_a_bundle_is_that_of_the_digest(
    fixture: str, name: str, alone: bool, host: Host, request: pytest.FixtureRequest
) -> None:
    # As cosign 3 asks: by a number it always means SHA-256, and by the digest what fits the key.
    host.signer = FakeSigner(request.getfixturevalue(fixture))
    digest = _b64(hashlib.new(name, bundle()).digest())
    answer = host.answer(hash="sha256", digest=digest, message=None if alone else _b64(bundle()))
    assert _is_signed(host, answer, bundle(), f"ecdsa-{name}")


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize(("fixture", "scheme"), [
    ("p256", "ecdsa-sha256"), ("p384", "ecdsa-sha256"), ("p521", "ecdsa-sha256"), ("rsa2048", "rsa-pkcs1v15-sha256"),
])
def test_hash_of_a_payload_is_the_one_that_readers_try(
    fixture: str, scheme: str, name: str, host: Host, request: pytest.FixtureRequest
) -> None:
    host.signer = FakeSigner(request.getfixturevalue(fixture))
    digest = _b64(hashlib.new(name, sig()).digest())
    for changed in ({"digest": digest}, {"digest": digest, "message": None}, {"hash": name}):
        assert _is_signed(host, host.answer(**changed), sig(), scheme)


def test_ed25519_does_not_work_with_cosign(host: Host, ed25519_key: t.Any) -> None:
    host.signer = FakeSigner(ed25519_key)
    said = host.refuses("unsupported_algorithm")
    assert "cosign's plugins sign by ECDSA and RSA only, and this key is ed25519" in said


# Whatever comes in ---------------------------------------------------------------------------------------------------

_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.binary(max_size=60).map(_b64),
    st.sampled_from([str(ASKED), _b64(sig()), _b64(bundle()), _b64(sha256(sig())), NAME, "sha256", "sha512", 1]),
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
)
_GOOD = {"version": 1, "reference": str(ASKED), "message": _b64(sig())}
_NAMES = ["version", "reference", "annotations", "message", "digest", "hash", "x"]
_requests = st.one_of(
    st.binary(max_size=100),
    st.dictionaries(st.sampled_from(_NAMES), _values).map(lambda members: json.dumps({**_GOOD, **members}).encode()),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(_requests, st.sampled_from(["alice", "bob"]))
def test_signature_comes_out_for_claims_about_the_image_only(host: Host, request_: bytes, caller: str) -> None:
    host.signer.signed.clear()
    host.record.unlink(missing_ok=True)
    answer = serving.answer(
        host.key, caller, request_, t.cast(t.Any, host.load), now=NOW + datetime.timedelta(hours=2)
    )
    allowed = {sig(), *(bundle(**spelling) for spelling in SPELLINGS)}
    assert set(answer) in ({"error"}, {"signature", "key_id", "format", "record"})
    assert ("signature" in answer) is bool(host.signer.signed)
    assert set(host.signer.signed) <= allowed or json.loads(request_).get("annotations")
    assert caller == "alice" or not host.signer.signed
    assert len(host.entries) == len(host.signer.signed)
