# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Log entries and timestamps through the modules: ours before the real cosigns, theirs before us, and liars.

That the log and the authority of these tests are like real ones is for test_interop_test_log.py to show.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import hashlib
import http.client
import json
import pathlib
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._signing import attachment
from interop_tools import Cosign, Json, Registry, TimestampServer, TransparencyLog
from openssl_pki import Pki, openssl
from transparency_log import FAULTS

if t.TYPE_CHECKING:
    import subprocess

    from conftest import KeyFiles
    from fast_modules import Modules

FORMATS = ("sig", "bundle")
LOGGED = "dev.sigstore.cosign/bundle"
MAIL = "found-by-address@example.com"
_UNAVAILABLE = "service_unavailable"


def _entered(log: TransparencyLog, **changed: str) -> Json:
    """Return the option that has signatures entered into the log."""
    return {"transparency": {"rekor_url": log.url, "rekor_public_key_path": str(log.key), **changed}}


def _stamped(authority: TimestampServer) -> Json:
    return {"timestamp_authority": {"url": authority.endpoint, "certificate_path": str(authority.chain)}}


def _log_of(log: TransparencyLog, **changed: str) -> Json:
    """Return an entry of option rekor_logs."""
    return {"public_key_path": str(log.key), "rekor_url": log.url, **changed}


def _stamps_of(authority: TimestampServer) -> Json:
    return {"require_timestamp": True, "timestamp_authority_paths": [str(authority.chain)]}


def _sign(modules: Modules, image: str, *keys: KeyFiles, **options: t.Any) -> Json:
    return modules.run("image_signature", images=[image], signers=[key.signer for key in keys], **options)


def _verdicts(modules: Modules, images: t.Sequence[str], key: KeyFiles, **options: t.Any) -> list[list[str]]:
    """Return for each image the codes of why it is not verified; none if it is."""
    result = modules.succeed(
        "image_verify", images=list(images), trust=[key.authority], on_failure="report", **options
    )
    assert all(one["verified"] == (not one["reasons"]) for one in result["results"])
    return [[reason["code"] for reason in one["reasons"]] for one in result["results"]]


def _codes(modules: Modules, image: str, key: KeyFiles, **options: t.Any) -> list[str]:
    return _verdicts(modules, [image], key, **options)[0]


def _attached(registry: Registry, image: str) -> tuple[list[Json], list[str]]:
    return registry.layers(image), registry.referrers(image)


def _bundle(registry: Registry, image: str) -> Json:
    reference = references.parse(image)
    layer = registry.client.manifest(reference.at(registry.referrers(image)[0])).layers[0]
    return t.cast(Json, json.loads(registry.client.blob(reference, layer, limit=1 << 20)))


def _payload(registry: Registry, image: str) -> attachment.Layer:
    """Return the only layer of a .sig manifest."""
    found = registry.sig(image)
    assert found is not None
    (layer,) = found.layers
    return attachment.Layer(layer, registry.client.blob(references.parse(image), layer, limit=1 << 20))


def _with(layer: attachment.Layer, *, logged: str | None = None) -> attachment.Layer:
    """Return a layer with another log entry, or none."""
    annotations = {name: value for name, value in layer.descriptor.annotations.items() if name != LOGGED}
    annotations |= {} if logged is None else {LOGGED: logged}
    return attachment.Layer(dataclasses.replace(layer.descriptor, annotations=annotations, source={}), layer.payload)


# --- ours, read by everybody -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("services", ["log", "timestamps", "both"])
def test_what_we_have_witnessed_is_read_by_everybody(
    services: str, modules: Modules, registry: Registry, p256: KeyFiles, other: KeyFiles, cosigns: list[Cosign],
    transparency_log: TransparencyLog, timestamp_server: TimestampServer,
) -> None:
    image = registry.image()
    signing: Json = {}
    verifying: Json = {}
    theirs: Json = {}
    if services != "timestamps":
        signing |= _entered(transparency_log)
        verifying |= {"require_log": True, "rekor_logs": [_log_of(transparency_log)]}
        theirs["log"] = transparency_log
    if services != "log":
        signing |= _stamped(timestamp_server)
        verifying |= _stamps_of(timestamp_server)
        theirs["timestamps"] = timestamp_server
    asked, stamped = transparency_log.requests(), timestamp_server.requests()
    assert _sign(modules, image, p256, **signing)["changed"]
    new = transparency_log.requests()[len(asked):]
    assert new == ["POST /api/v1/log/entries"] * (2 if "log" in theirs else 0)
    assert timestamp_server.requests() - stamped == (2 if "timestamps" in theirs else 0)

    # From now on nobody is asked: not to sign again, and not to verify.
    asked, stamped = transparency_log.requests(), timestamp_server.requests()
    before = _attached(registry, image)
    again = _sign(modules, image, p256, **signing)
    assert not again["failed"]
    assert not again["changed"]
    assert not _sign(modules, image, p256)["changed"]
    assert _attached(registry, image) == before
    for format in FORMATS:
        assert _codes(modules, image, p256, formats=[format], **verifying) == []
        assert _codes(modules, image, p256, formats=[format]) == []
        assert _codes(modules, image, other, formats=[format], **verifying) == ["signature_invalid"]
        for cosign in cosigns:
            if format == "sig" or cosign.major >= 3:
                done = cosign.verify_logged(image, p256.public, format=format, **theirs)
                assert done.returncode == 0, f"{cosign.name}, {format}: {done.stderr}"
    missing = {**verifying, "require_log": True, "rekor_logs": [_log_of(transparency_log)]}
    assert _codes(modules, image, p256, **missing) == ([] if "log" in theirs else ["log_missing"] * 2)
    missing = {**verifying, **_stamps_of(timestamp_server)}
    assert _codes(modules, image, p256, **missing) == ([] if "timestamps" in theirs else ["timestamp_missing"] * 2)
    assert (transparency_log.requests(), timestamp_server.requests()) == (asked, stamped)


def test_what_was_not_witnessed_is_signed_again(
    modules: Modules, registry: Registry, p256: KeyFiles, transparency_log: TransparencyLog,
    timestamp_server: TimestampServer,
) -> None:
    image = registry.image()
    for number, services in enumerate((
        {}, _entered(transparency_log), {**_entered(transparency_log), **_stamped(timestamp_server)},
    ), start=1):
        assert _sign(modules, image, p256, **services)["changed"]
        assert not _sign(modules, image, p256, **services)["changed"]
        assert [len(one) for one in _attached(registry, image)] == [number] * 2


def test_check_mode_tells_nobody(
    modules: Modules, registry: Registry, p256: KeyFiles, transparency_log: TransparencyLog,
    timestamp_server: TimestampServer,
) -> None:
    index, children = registry.index()
    services = {**_entered(transparency_log), **_stamped(timestamp_server)}
    asked, stamped = transparency_log.requests(), timestamp_server.requests()
    planned = _sign(modules, index, p256, check=True, **services)
    assert planned["changed"]
    assert (transparency_log.requests(), timestamp_server.requests()) == (asked, stamped)
    assert [_attached(registry, one) for one in (index, *children)] == [([], [])] * 3
    assert _sign(modules, index, p256, **services)["changed"]
    assert transparency_log.requests()[len(asked):] == ["POST /api/v1/log/entries"] * 6
    assert timestamp_server.requests() == stamped + 6
    demand: Json = {"require_log": True, "rekor_logs": [_log_of(transparency_log)], **_stamps_of(timestamp_server)}
    for format in FORMATS:
        assert _codes(modules, index, p256, recursive=True, formats=[format], **demand) == []


def test_an_entry_that_is_there_already_is_taken(
    modules: Modules, registry: Registry, keys: dict[str, KeyFiles], transparency_log: TransparencyLog,
    cosigns: list[Cosign],
) -> None:
    """RSA signatures are equal each time."""
    image, key = registry.image(), keys["rsa-2048"]
    options: Json = {"formats": ["sig"], **_entered(transparency_log)}
    assert _sign(modules, image, key, **options)["changed"]
    (first,) = registry.layers(image)
    registry.put_sig(image, [])
    asked = len(transparency_log.requests())
    assert _sign(modules, image, key, **options)["changed"]
    post, get = transparency_log.requests()[asked:]
    assert post == "POST /api/v1/log/entries"
    assert get.startswith("GET /api/v1/log/entries/")
    (second,) = registry.layers(image)
    found, expected = (json.loads(one["annotations"][LOGGED])["Payload"]["logIndex"] for one in (first, second))
    assert found == expected
    for cosign in cosigns:
        assert cosign.verify_logged(image, key.public, log=transparency_log, format="sig").returncode == 0


def test_signatures_of_an_hsm_room_are_witnessed_too(
    modules: Modules, registry: Registry, p256: KeyFiles, cosigns: list[Cosign], transparency_log: TransparencyLog,
    timestamp_server: TimestampServer, tmp_path: pathlib.Path,
) -> None:
    image = registry.image()
    external = []
    for one in modules.succeed("image_payload", images=[image], dest=str(tmp_path / "payloads"))["payloads"]:
        path = f"{one['path']}.signature"
        openssl("dgst", "-sha256", "-sign", p256.pem, "-out", path, one["path"])
        external.append({"payload_path": one["path"], "signature_path": path, "public_key_path": str(p256.public)})
    services = {**_entered(transparency_log), **_stamped(timestamp_server)}
    options: Json = {"images": [image], "signers": [{"external": external}], **services}
    assert modules.succeed("image_signature", **options)["changed"]
    assert not modules.succeed("image_signature", **options)["changed"]
    for cosign in cosigns:
        for format in FORMATS if cosign.major >= 3 else ("sig",):
            done = cosign.verify_logged(
                image, p256.public, log=transparency_log, timestamps=timestamp_server, format=format
            )
            assert done.returncode == 0, done.stderr


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ecdsa-p384", "ecdsa-p521", "rsa-4096"])
def test_logs_take_larger_keys(
    algorithm: str, modules: Modules, registry: Registry, keys: dict[str, KeyFiles], cosigns: list[Cosign],
    transparency_log: TransparencyLog,
) -> None:
    """Rekor takes .sig signatures with the hash of the curve's size only, and envelopes with SHA-256 only.

    cosign reads entries of .sig signatures with SHA-256 only: none that it writes itself with these curves, either.
    """
    key, image = keys[algorithm], registry.image()
    hash = {"ecdsa-p384": "sha384", "ecdsa-p521": "sha512"}.get(algorithm, "sha256")
    signed = _sign(modules, image, key, **_entered(transparency_log))
    assert signed["changed"]
    codes = [warning["code"] for warning in signed["results"][0]["warnings"]]
    assert codes == ([] if hash == "sha256" else ["limited_readers"])
    assert not _sign(modules, image, key, **_entered(transparency_log))["changed"]
    demand: Json = {"require_log": True, "rekor_public_key_paths": [str(transparency_log.key)]}
    for format in FORMATS:
        assert _codes(modules, image, key, formats=[format], **demand) == []
        for cosign in cosigns:
            if format == "bundle" and cosign.major < 3:
                continue
            is_odd = format == "sig" and hash != "sha256"
            flags = [f"--signature-digest-algorithm={hash}"] if is_odd else []
            done = cosign.verify_logged(image, key.public, *flags, log=transparency_log, format=format)
            assert (done.returncode == 0) != is_odd, f"{cosign.name}, {format}: {done.stderr}"
            if is_odd:
                assert f'unexpected algorithm: "{hash}"' in done.stderr
                done = cosign.verify_logged(image, key.public, *flags, format=format)
                assert done.returncode == 0, f"{cosign.name}: {done.stderr}"


def test_logs_refuse_other_hashes(
    modules: Modules, registry: Registry, keys: dict[str, KeyFiles], transparency_log: TransparencyLog
) -> None:
    for algorithm, scheme, format, code in (
        ("ecdsa-p384", "ecdsa-sha256", "sig", _UNAVAILABLE), ("ecdsa-p256", "ecdsa-sha384", "sig", _UNAVAILABLE),
        ("rsa-2048", "rsa-pkcs1v15-sha512", "sig", _UNAVAILABLE),
        ("ecdsa-p384", "ecdsa-sha384", "bundle", "unsupported_algorithm"),
        ("rsa-2048", "rsa-pkcs1v15-sha384", "bundle", "unsupported_algorithm"),
        ("rsa-2048", "rsa-pss-sha256", "sig", "unsupported_algorithm"),
        ("rsa-2048", "rsa-pss-sha256", "bundle", "unsupported_algorithm"),
        ("ed25519", "ed25519ph", "bundle", "unsupported_algorithm"),
    ):
        image, asked = registry.image(), transparency_log.requests()
        failed = _sign(
            modules, image, keys[algorithm], signature_algorithm=scheme, formats=[format], **_entered(transparency_log)
        )
        # What is refused by us is not even sent.
        assert [reason["code"] for reason in failed["reasons"]] == [code], failed["msg"]
        assert (transparency_log.requests() == asked) == (code != _UNAVAILABLE)
        assert _attached(registry, image) == ([], [])


# --- theirs ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Theirs:
    """An image that a real cosign signed, by whom and how."""

    image: str
    cosign: Cosign
    format: str
    version: int
    is_stamped: bool

    def log_key(self, log: TransparencyLog) -> str:
        """Return the key that verifies its entry."""
        return str(log.key if self.version == 1 else log.key2)


@pytest.fixture(scope="module")
def theirs(
    registry: Registry, p256: KeyFiles, cosigns: list[Cosign], transparency_log: TransparencyLog,
    timestamp_server: TimestampServer,
) -> list[Theirs]:
    """What each cosign writes, with each version of the log."""
    found = []
    for cosign in cosigns:
        # Entries of the second version hold no time, so that cosign wants a timestamp beside them.
        ways = [("sig", 1, False), ("sig", 1, True)]
        ways += [("bundle", 1, False), ("bundle", 1, True), ("bundle", 2, True)] if cosign.major >= 3 else []
        for format, version, is_stamped in ways:
            image = registry.image()
            done = cosign.sign_logged(
                image, p256.cosign, log=transparency_log, version=version, format=format,
                timestamps=timestamp_server if is_stamped else None,
            )
            assert done.returncode == 0, done.stderr
            found.append(Theirs(image, cosign, format, version, is_stamped))
    return found


def test_what_cosign_had_witnessed_is_verified_by_us(
    theirs: list[Theirs], modules: Modules, p256: KeyFiles, other: KeyFiles, transparency_log: TransparencyLog,
    timestamp_server: TimestampServer,
) -> None:
    asked, stamped = transparency_log.requests(), timestamp_server.requests()
    for version in (1, 2):
        group = [one for one in theirs if one.version == version]
        keys = [str(key) for key in (transparency_log.key, transparency_log.key2)]
        key, foreign = keys if version == 1 else keys[::-1]

        def verdicts(group: list[Theirs] = group, **options: t.Any) -> list[list[str]]:
            return _verdicts(modules, [one.image for one in group], p256, **options)

        good: list[list[str]] = [[]] * len(group)
        bad = [["log_invalid"]] * len(group)
        for logs, expected in (
            ({"rekor_public_key_paths": [key]}, good),
            ({"rekor_public_key_paths": [foreign, key]}, good),
            ({"rekor_logs": [_log_of(transparency_log, public_key_path=key)]}, good),
            ({"rekor_public_key_paths": [foreign]}, bad),
            ({"rekor_public_key_paths": [str(other.public)]}, bad),
            # A .sig has no room for a checkpoint, so nothing in it says what the log is called.
            (
                {"rekor_logs": [_log_of(transparency_log, public_key_path=key, rekor_url="https://rekor.example.com")]},
                [["log_invalid"] if one.format == "bundle" else [] for one in group],
            ),
        ):
            assert verdicts(require_log=True, **logs) == expected, logs
        # Without that demand, entries of logs that are not trusted are passed over.
        assert verdicts(rekor_public_key_paths=[foreign]) == good
        expected = [[] if one.is_stamped else ["timestamp_missing"] for one in group]
        assert verdicts(**_stamps_of(timestamp_server)) == expected
        assert verdicts(require_log=True, rekor_public_key_paths=[key], **_stamps_of(timestamp_server)) == expected
    assert (transparency_log.requests(), timestamp_server.requests()) == (asked, stamped)


def test_keys_of_logs_count_for_their_time_only(
    theirs: list[Theirs], modules: Modules, p256: KeyFiles, transparency_log: TransparencyLog,
    timestamp_server: TimestampServer,
) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    early, late = (f"{now + datetime.timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in (-1, 1))
    for version in (1, 2):
        group = [one for one in theirs if one.version == version]
        key, images = group[0].log_key(transparency_log), [one.image for one in group]
        for window, codes in (
            ({"not_after": early}, ["log_invalid"]), ({"not_before": late}, ["log_invalid"]),
            ({"not_before": early, "not_after": late}, []), ({"not_before": early}, []), ({"not_after": late}, []),
        ):
            logs = [{"public_key_path": key, **window}]
            for options in ({"require_log": True}, {}, {"timestamp_authority_paths": [str(timestamp_server.chain)]}):
                found = _verdicts(modules, images, p256, rekor_logs=logs, **options)
                assert found == [codes] * len(group), (window, options)
    for moment in ("yesterday", "2026-11-21T08:00:00"):
        modules.fail(
            "image_verify", "input_invalid", images=[theirs[0].image], trust=[p256.authority],
            rekor_logs=[{"public_key_path": str(transparency_log.key), "not_after": moment}],
        )


def test_what_cosign_had_witnessed_is_not_signed_again(
    theirs: list[Theirs], modules: Modules, p256: KeyFiles, registry: Registry, transparency_log: TransparencyLog,
    timestamp_server: TimestampServer,
) -> None:
    asked = transparency_log.requests()
    for one in theirs:
        if one.version == 1:
            before = _attached(registry, one.image)
            services = {**_entered(transparency_log), **(_stamped(timestamp_server) if one.is_stamped else {})}
            assert not _sign(modules, one.image, p256, formats=[one.format], **services)["changed"], one
            assert _attached(registry, one.image) == before
    assert transparency_log.requests() == asked


def test_an_entry_of_another_signature_spoils_it(
    modules: Modules, registry: Registry, p256: KeyFiles, transparency_log: TransparencyLog
) -> None:
    """Even where no entry is demanded: somebody meddled with it."""
    image, another = registry.image(), registry.image()
    for one in (image, another):
        assert _sign(modules, one, p256, formats=["sig"], **_entered(transparency_log))["changed"]
    layer, foreign = _payload(registry, image), _payload(registry, another).descriptor.annotations[LOGGED]
    logs: Json = {"rekor_logs": [_log_of(transparency_log)]}
    document = json.loads(layer.descriptor.annotations[LOGGED])
    document["Payload"]["integratedTime"] -= 1
    for logged, codes in ((foreign, ["log_invalid"]), (json.dumps(document), ["log_invalid"]), ("{", ["malformed"])):
        registry.put_sig(image, [_with(layer, logged=logged)])
        for required in (True, False):
            assert _codes(modules, image, p256, require_log=required, **logs) == codes
        assert _codes(modules, image, p256) == []
    # Signed again, it has one that is good.
    assert _sign(modules, image, p256, formats=["sig"], **_entered(transparency_log))["changed"]
    assert _codes(modules, image, p256, require_log=True, **logs) == []


# --- liars -----------------------------------------------------------------------------------------------------------


_LIES: list[tuple[str, Json, str]] = [
    *((kind, {}, "log_invalid") for kind in (
        "set", "log_id", "time", "index", "proof", "long_proof", "short_proof", "no_proof", "tree_index", "root",
        "size", "checkpoint", "origin", "checkpoint_root", "checkpoint_size", "body", "other_entry",
    )),
    ("status500", {}, _UNAVAILABLE), ("cut", {}, _UNAVAILABLE), ("slow", {"seconds": 2}, _UNAVAILABLE),
    ("large", {}, "limit_exceeded"),
    ("answer", {"status": 201, "body": "{}"}, _UNAVAILABLE),
    ("answer", {"status": 201, "body": "[]"}, "malformed"),
    ("answer", {"status": 201, "body": '{"a": {}, "a": {}}'}, "malformed"),
    ("answer", {"status": 201, "body": "<html></html>"}, "malformed"),
    ("answer", {"status": 400, "body": '{"code": 400, "message": "no"}'}, _UNAVAILABLE),
    ("answer", {"status": 401, "body": "{}"}, "unauthorized"),
    ("answer", {"status": 409, "body": "{}", "headers": {"Location": "/api/v1/log/entries/../../x"}}, _UNAVAILABLE),
    ("answer", {"status": 409, "body": "{}"}, _UNAVAILABLE),
]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("kind", "options", "code"), _LIES, ids=[
    f"{kind}{options.get('status', '')}-{number}" for number, (kind, options, _code) in enumerate(_LIES)
])
def test_nothing_is_attached_if_the_log_lies(
    kind: str, options: Json, code: str, format: str, modules: Modules, registry: Registry, p256: KeyFiles,
    transparency_log: TransparencyLog,
) -> None:
    image = registry.image()
    with transparency_log.lying(kind, **options):
        failed = _sign(modules, image, p256, formats=[format], timeout=1, **_entered(transparency_log))
    assert failed["failed"]
    assert [reason["code"] for reason in failed["reasons"]] == [code], failed["msg"]
    assert not failed["changed"]
    assert not [one for one in failed["results"][0]["signatures"] if one["created"]]
    assert _attached(registry, image) == ([], [])


def test_what_is_no_lie_is_attached(
    modules: Modules, registry: Registry, p256: KeyFiles, transparency_log: TransparencyLog, bundle_cosign: Cosign
) -> None:
    """Witnesses may sign a checkpoint; and a log that promises nothing but proves, is one for bundles."""
    # Wrong clocks are for test_interop_pki.py.
    assert {kind for kind, _options, _code in _LIES} >= {*FAULTS} - {"witness", "no_set", "clock"}
    for kind, format, expected in (
        ("witness", "sig", None), ("witness", "bundle", None), ("no_set", "bundle", None),
        ("no_set", "sig", "malformed"),
    ):
        image = registry.image()
        with transparency_log.lying(kind):
            result = _sign(modules, image, p256, formats=[format], **_entered(transparency_log))
        assert [reason["code"] for reason in result["reasons"]] == ([expected] if expected else []), result["reasons"]
        assert any(_attached(registry, image)) == (expected is None)
        if expected is None:
            demand: Json = {"require_log": True, "rekor_logs": [_log_of(transparency_log)]}
            assert _codes(modules, image, p256, formats=[format], **demand) == []
            assert not _sign(modules, image, p256, formats=[format], **_entered(transparency_log))["changed"]


@pytest.mark.parametrize(("kind", "options", "code"), [
    ("imprint", {}, "timestamp_invalid"), ("denied", {}, "timestamp_invalid"),
    ("other_authority", {}, "timestamp_invalid"), ("status500", {}, _UNAVAILABLE), ("garbage", {}, "malformed"),
    ("slow", {"seconds": 2}, _UNAVAILABLE), ("cut", {}, _UNAVAILABLE),
], ids=str)
def test_nothing_is_attached_if_the_authority_lies(
    kind: str, options: Json, code: str, modules: Modules, registry: Registry, p256: KeyFiles,
    timestamp_server: TimestampServer, transparency_log: TransparencyLog,
) -> None:
    image = registry.image()
    services = {**_stamped(timestamp_server), **_entered(transparency_log)}
    for format in FORMATS:
        with timestamp_server.lying(kind, **options):
            failed = _sign(modules, image, p256, formats=[format], timeout=1, **services)
        assert [reason["code"] for reason in failed["reasons"]] == [code], failed["msg"]
        assert not failed["changed"]
        assert _attached(registry, image) == ([], [])


def test_services_that_are_not_there_or_are_others(
    modules: Modules, registry: Registry, p256: KeyFiles, other: KeyFiles, closed_port: str,
    transparency_log: TransparencyLog, timestamp_server: TimestampServer,
) -> None:
    image = registry.image()
    nowhere = f"http://{closed_port}"
    for services, code in (
        (_entered(transparency_log, rekor_url=nowhere), _UNAVAILABLE),
        ({"timestamp_authority": {"url": nowhere, "certificate_path": str(timestamp_server.chain)}}, _UNAVAILABLE),
        (_entered(transparency_log, rekor_url="rekor.example.com"), "input_invalid"),
        (_entered(transparency_log, rekor_url=f"{transparency_log.url}/elsewhere"), "not_found"),
        (_entered(transparency_log, rekor_public_key_path=str(other.public)), "log_invalid"),
        (_entered(transparency_log, rekor_public_key_path=str(transparency_log.key2)), "log_invalid"),
        (_entered(transparency_log, rekor_public_key_path="/nonexistent"), "not_found"),
    ):
        failed = _sign(modules, image, p256, timeout=1, **services)
        assert [reason["code"] for reason in failed["reasons"]] == [code], failed["msg"]
        assert _attached(registry, image) == ([], [])


# --- asking the log --------------------------------------------------------------------------------------------------


def _ok(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def test_entries_that_were_not_attached_are_searched_for(
    modules: Modules, registry: Registry, p256: KeyFiles, other: KeyFiles, legacy_cosign: Cosign,
    bundle_cosign: Cosign, transparency_log: TransparencyLog,
) -> None:
    logs: Json = {"require_log": True, "rekor_logs": [_log_of(transparency_log)]}
    for format, cosign in (("sig", legacy_cosign), ("bundle", bundle_cosign), ("sig", None), ("bundle", None)):
        image = registry.image()
        if cosign is None:
            assert _sign(modules, image, p256, formats=[format], **_entered(transparency_log))["changed"]
        else:
            _ok(cosign.sign_logged(image, p256.cosign, log=transparency_log))
        _forget_entry(registry, image, format)
        assert _codes(modules, image, p256, formats=[format], **logs) == ["log_missing"]
        asked = transparency_log.requests()
        assert _codes(modules, image, p256, formats=[format], search_log=True, **logs) == []
        assert transparency_log.requests() != asked
        assert _codes(modules, image, other, search_log=True, **logs) == ["signature_invalid"]
        with transparency_log.lying("checkpoint"):
            assert _codes(modules, image, p256, formats=[format], search_log=True, **logs) == ["log_missing"]
    with transparency_log.lying("status500"):
        assert _codes(modules, image, p256, search_log=True, timeout=1, **logs) == [_UNAVAILABLE]
    # What the log has is about another signature of the same key over the same bytes.
    unknown = registry.image()
    assert _sign(modules, unknown, p256, formats=["sig"], **_entered(transparency_log))["changed"]
    registry.put_sig(unknown, [])
    assert _sign(modules, unknown, p256)["changed"]
    assert _codes(modules, unknown, p256, search_log=True, **logs) == ["log_missing"] * 2
    for options in ({"rekor_logs": []}, {"rekor_logs": [{"public_key_path": str(transparency_log.key)}]}):
        modules.fail(
            "image_verify", "input_invalid", images=[unknown], trust=[p256.authority], search_log=True, **options
        )


def _forget_entry(registry: Registry, image: str, format: str) -> None:
    """Take the entry away from a signature, and leave the signature."""
    if format == "sig":
        registry.put_sig(image, [_with(_payload(registry, image))])
        return
    bundle = _bundle(registry, image)
    del bundle["verificationMaterial"]["tlogEntries"]
    reference = references.parse(image)
    old = registry.client.manifest(reference.at(registry.referrers(image)[0]))
    document = json.loads(old.raw)
    data = json.dumps(bundle).encode()
    document["layers"][0] |= {"digest": registry.client.put_blob(reference, data), "size": len(data)}
    document["annotations"].pop("org.hallmark-signing.bundle", None)
    raw = json.dumps(document).encode()
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    registry.client.put_manifest(reference.at(digest), raw, media_type=document["mediaType"])
    fallback = reference.tagged(str(reference.digest).replace(":", "-"))
    listed = json.loads(registry.client.manifest(fallback).raw)
    listed["manifests"][0] |= {"digest": digest, "size": len(raw), "annotations": document["annotations"]}
    registry.client.put_manifest(fallback, json.dumps(listed).encode(), media_type=listed["mediaType"])


def test_entries_of_rekor_cli_prove_signatures(
    modules: Modules, registry: Registry, p256: KeyFiles, transparency_log: TransparencyLog, tmp_path: pathlib.Path,
    rekor_cli: t.Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """A signature that nobody had witnessed when it was made."""
    image = registry.image()
    assert _sign(modules, image, p256, formats=["sig"])["changed"]
    layer = _payload(registry, image)
    signature = base64.b64decode(layer.descriptor.annotations["dev.cosignproject.cosign/signature"])
    (tmp_path / "signature").write_bytes(signature)
    logs: Json = {"require_log": True, "rekor_logs": [_log_of(transparency_log)]}
    assert _codes(modules, image, p256, search_log=True, **logs) == ["log_missing"]
    digest = hashlib.sha256(layer.payload).hexdigest()
    done = _ok(rekor_cli(
        transparency_log, "upload", "--type", "hashedrekord:0.0.1", "--artifact-hash", digest,
        "--signature", str(tmp_path / "signature"), "--public-key", str(p256.public), "--pki-format", "x509",
    ))
    assert _codes(modules, image, p256, search_log=True, **logs) == []
    index = int(done.stdout.split("index ")[1].partition(",")[0])
    (found,) = _entries(modules, transparency_log, digest=f"sha256:{digest}")
    assert (found["log_index"], found["kind"], found["verified"]) == (index, "hashedrekord 0.0.1", True)
    assert _entries(modules, transparency_log, log_index=index) == [found]
    assert found in _entries(modules, transparency_log, public_key_path=str(p256.public))


def _entries(modules: Modules, log: TransparencyLog, **query: t.Any) -> list[Json]:
    found = modules.succeed(
        "log_entry_info", rekor_url=log.url, rekor_public_key_path=str(log.key), **query
    )["entries"]
    return t.cast("list[Json]", found)


def test_entries_are_found_by_digest_key_address_and_index(
    modules: Modules, registry: Registry, transparency_log: TransparencyLog, bundle_cosign: Cosign,
    tmp_path: pathlib.Path, p256: KeyFiles, make_key: t.Callable[..., KeyFiles], found_cosigns: list[Cosign],
) -> None:
    pki, log, image = Pki(tmp_path / "found-by-address"), transparency_log, registry.image()
    pki.key("mailer")
    request = pki.request(
        "mailer", "/CN=mailer", f"subjectAltName=email:{MAIL}", "keyUsage=digitalSignature",
        "extendedKeyUsage=codeSigning",
    )
    certificate = pki.issue(request, name="mailer")
    signer = {
        "private_key_path": str(pki.folder / "mailer.key"), "certificate_path": str(certificate),
        "chain_path": str(pki.chain),
    }
    begun = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    options: Json = {"images": [image], "signers": [signer], "attach_certificate": True, **_entered(log)}
    made = modules.succeed("image_signature", **options)
    assert not modules.succeed("image_signature", **options)["changed"]
    signatures = {one["format"]: one for one in made["results"][0]["signatures"]}
    trust = {"ca_path": str(pki.root), "intermediates_path": str(pki.sub), "san": {"type": "email", "value": MAIL}}
    for format in FORMATS:
        modules.succeed(
            "image_verify", images=[image], trust=[trust], formats=[format], require_log=True, rekor_logs=[_log_of(log)]
        )
        for cosign in found_cosigns:
            if format == "sig" or cosign.major >= 3:
                _ok(cosign.verify_certified(image, MAIL, chain=pki.chain, log=log, format=format))

    (of_payload,) = _entries(modules, log, digest=signatures["sig"]["digest"])
    (of_image,) = _entries(modules, log, digest=image.rpartition("@")[2])
    assert (of_payload["kind"], of_image["kind"]) == ("hashedrekord 0.0.1", "dsse 0.0.1")
    for one in (of_payload, of_image):
        assert one["verified"], one["reasons"]
        assert one["key_id"] == signatures["sig"]["key_id"]
        moment = datetime.datetime.fromisoformat(one["integrated_time"].replace("Z", "+00:00"))
        assert begun <= moment <= datetime.datetime.now(datetime.timezone.utc)
        assert _entries(modules, log, log_index=one["log_index"]) == [one]
    assert _entries(modules, log, email=MAIL.upper()) == [of_payload, of_image]
    assert _entries(modules, log, email="nobody@example.com") == []
    assert _entries(modules, log, public_key_path=str(certificate)) == [of_payload]
    assert _entries(modules, log, digest="sha256:" + "0" * 64) == []

    # What cosign has uploaded is found in the same way; of its key alone, only what is no envelope.
    for cosign in found_cosigns:
        other, key = registry.image(), make_key("ecdsa-p256")
        _ok(cosign.sign_logged(other, key.cosign, log=log))
        by_key = _entries(modules, log, public_key_path=str(key.public))
        assert [one["key_id"] for one in by_key] == ([key.key_id] if cosign.major < 3 else [])
        if cosign.major >= 3:
            assert [one["key_id"] for one in _entries(modules, log, digest=other.rpartition("@")[2])] == [key.key_id]


def test_entries_that_the_log_does_not_vouch_for_are_told_apart(
    modules: Modules, registry: Registry, p256: KeyFiles, other: KeyFiles, transparency_log: TransparencyLog
) -> None:
    log, image = transparency_log, registry.image()
    made = _sign(modules, image, p256, formats=["sig"], **_entered(log))
    digest = made["results"][0]["signatures"][0]["digest"]
    (found,) = _entries(modules, log, digest=digest)
    for kind in ("set", "log_id", "time", "index", "proof", "no_proof", "root", "checkpoint", "origin", "body"):
        with log.lying(kind):
            (one,) = _entries(modules, log, digest=digest)
        assert (one["verified"], [reason["code"] for reason in one["reasons"]]) == (False, ["log_invalid"]), kind
    (one,) = modules.succeed(
        "log_entry_info", rekor_url=log.url, rekor_public_key_path=str(other.public), digest=digest
    )["entries"]
    assert (one["log_index"], one["verified"]) == (found["log_index"], False)
    query: Json = {"rekor_url": log.url, "rekor_public_key_path": str(log.key), "timeout": 1}
    for kind, code in (("status500", _UNAVAILABLE), ("cut", _UNAVAILABLE), ("large", "limit_exceeded")):
        with log.lying(kind):
            modules.fail("log_entry_info", code, **query, digest=digest)
    for body, code in (('{"a": 1}', _UNAVAILABLE), ('["x"]', _UNAVAILABLE), ("<html>", "malformed")):
        with log.lying("answer", status=200, body=body):
            modules.fail("log_entry_info", code, **query, digest=digest)
    modules.fail("log_entry_info", "not_found", **query, log_index=999_999)


# --- what leaves this host -------------------------------------------------------------------------------------------


class _Recorder(ThreadingHTTPServer):
    """Passes requests on, and keeps what was in them; without anybody to pass them on to, it wants a login."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarder)
        self.upstream = upstream.removeprefix("http://")
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.seen: list[bytes] = []


class _Forwarder(BaseHTTPRequestHandler):
    server: _Recorder

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen += [f"{self.path}\n{self.headers}".encode(), body]
        if not self.server.upstream:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="service"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        connection = http.client.HTTPConnection(self.server.upstream, timeout=10)
        with contextlib.closing(connection):
            connection.request("POST", self.path, body, {"Content-Type": self.headers["Content-Type"]})
            answer = connection.getresponse()
            data = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def _recording(upstream: str) -> t.Iterator[_Recorder]:
    server = _Recorder(upstream)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_services_get_what_they_need_and_no_secret(
    modules: Modules, registry: Registry, make_key: t.Callable[..., KeyFiles], transparency_log: TransparencyLog,
    timestamp_server: TimestampServer, tmp_path: pathlib.Path,
) -> None:
    """Neither the key, nor the passphrase, nor the login of a registry at the same host, nor the image's name."""
    key, image, password = make_key("ecdsa-p256"), registry.image(), "canary-of-a-password"
    with _recording(transparency_log.url) as log, _recording(timestamp_server.url) as stamps:
        hosts = [one.url.removeprefix("http://") for one in (log, stamps)]
        (tmp_path / "config.json").write_text(json.dumps({"auths": {
            host: {"auth": base64.b64encode(f"user:{password}".encode()).decode()} for host in hosts
        }}))
        result = modules.succeed(
            "image_signature", images=[image], registry_auth_file=str(tmp_path / "config.json"),
            signers=[{"private_key_path": str(key.cosign), "passphrase": "interoperable-passphrase"}],
            registries=[{"host": host, "username": "user", "password": password} for host in hosts],
            transparency={"rekor_url": log.url, "rekor_public_key_path": str(transparency_log.key)},
            timestamp_authority={
                "url": f"{stamps.url}/api/v1/timestamp", "certificate_path": str(timestamp_server.chain)
            },
        )
        seen = b"\n".join([*log.seen, *stamps.seen])
        assert (len(log.seen), len(stamps.seen)) == (4, 4)
    assert result["changed"]
    number = key.private.private_numbers().private_value.to_bytes(32, "big")
    basic = base64.b64encode(f"user:{password}".encode())
    # base64 of something in the middle depends on where it begins.
    forms = [base64.b64encode(b"\0" * shift + number)[4:-4] for shift in range(3)]
    documents = [base64.b64decode(part) for part in _texts(seen)]
    for secret in (
        number, number.hex().encode(), *forms, b"interoperable-passphrase", password.encode(), basic,
        b"authorization",
    ):
        for data in (seen, seen.lower() if secret == b"authorization" else seen, *documents):
            assert secret not in data
    # The log of signatures learns the digest of an image from an envelope, which names no registry.
    assert registry.host.encode() not in b"".join([seen, *documents])
    assert any(image.rpartition(":")[2].encode() in one for one in documents)


def test_services_that_want_a_login_get_none(
    modules: Modules, registry: Registry, p256: KeyFiles, transparency_log: TransparencyLog,
    timestamp_server: TimestampServer, tmp_path: pathlib.Path,
) -> None:
    """Not even where a registry, whose login is known, has the same host and port."""
    image = registry.image()
    for service in ("transparency", "timestamp_authority"):
        with _recording("") as challenger:
            host = challenger.url.removeprefix("http://")
            (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": "dXNlcjpwYXNzd29yZA=="}}}))
            option = {
                "transparency": {"rekor_url": challenger.url, "rekor_public_key_path": str(transparency_log.key)},
                "timestamp_authority": {"url": challenger.url, "certificate_path": str(timestamp_server.chain)},
            }[service]
            for login in ({}, {"username": "user", "password": "password"}):
                failed = _sign(
                    modules, image, p256, registry_auth_file=str(tmp_path / "config.json"), timeout=2,
                    registries=[{"host": host, **login}], **{service: option},
                )
                assert [reason["code"] for reason in failed["reasons"]] == ["unauthorized"], failed["msg"]
            assert challenger.seen
            assert b"authorization" not in b"".join(challenger.seen).lower()
    assert _attached(registry, image) == ([], [])


def _texts(data: bytes) -> t.Iterator[bytes]:
    """Yield every base64 text in JSON documents, whatever they are nested in."""
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            yield from _texts_of(json.loads(line))


def _texts_of(value: t.Any) -> t.Iterator[bytes]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _texts_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts_of(one)
    elif isinstance(value, str) and value.startswith("{"):
        yield from _texts_of(json.loads(value))
    elif isinstance(value, str):
        with contextlib.suppress(ValueError):
            base64.b64decode(value, validate=True)
            yield value.encode()
