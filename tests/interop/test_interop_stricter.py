# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every place where we are stricter than cosign, measured against the real ones, and that it is documented."""

from __future__ import annotations

import ast
import base64
import dataclasses
import datetime
import gzip
import json
import re
import typing as t
import urllib.request

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import making
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest as manifests
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._signing import (
    attachment,
    bundle,
    dsse,
    payload,
    referring,
    statement,
)
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import timestamp
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.test_attacks import (
    as_json,
    with_note,
    with_proof,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency import log_bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency.log_bench import Log, LogEntry
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from interop_tools import ROOT, Ansible, Cosign, Json, Registry, Task, TimestampServer

if t.TYPE_CHECKING:
    import pathlib

    from conftest import KeyFiles
    from fast_modules import Modules

Mapping = t.Mapping[str, t.Any]


class Maker:
    """Writes images whose signatures are right in all but one thing."""

    def __init__(self, registry: Registry, key: KeyFiles) -> None:
        self.registry = registry
        self.key = key
        self.image = registry.image()
        self.reference = references.parse(self.image)
        self.digest = str(self.reference.digest)

    def claim(self, **annotations: str) -> bytes:
        """Return the right payload."""
        return payload.encode(payload.Payload(self.reference.signed_name, self.digest, annotations))

    def sig(
        self, content: bytes, *, spell: t.Callable[[bytes], str] | None = None,
        document: t.Callable[[bytes], bytes] | None = None, scheme: str | None = None,
    ) -> str:
        """Attach a payload, signed; C(spell) writes the signature, C(document) changes the manifest."""
        signature = making.sign(self.key.private, content, scheme=scheme)
        while spell is not None and len(signature) % 3 == 0:
            # A length whose base64 has spare bits.
            signature = making.sign(self.key.private, content)
        text = (spell or (lambda data: base64.b64encode(data).decode()))(signature)
        layer = attachment.Layer(manifests.Descriptor(
            payload.MEDIA_TYPE, digest_of(content), len(content), "", {attachment.SIGNATURE_ANNOTATION: text}
        ), content)
        raw = None
        if document is not None:
            config = manifests.Descriptor(manifests.OCI_CONFIG, digest_of(b"{}"), 2)
            raw = document(manifests.encode_image(config=config, layers=[layer.descriptor]))
        self.registry.put_sig(self.image, [layer], raw=raw)
        return self.image

    def statement(self, **members: t.Any) -> bytes:
        """Return the right statement with some members replaced; those that are None are left out."""
        document = {**json.loads(statement.encode(self.digest, {})), **members}
        return json.dumps({name: value for name, value in document.items() if value is not _LEFT_OUT}).encode()

    def bundle(
        self, content: bytes, change: t.Callable[[Json], object] = lambda document: None,
        spell: t.Callable[[bytes], bytes] = lambda data: data,
    ) -> str:
        """Attach a bundle over a statement; C(change) changes its members, C(spell) its bytes."""
        envelope = dsse.Envelope(content, making.sign(self.key.private, dsse.pae(content)))
        document = json.loads(bundle.encode(envelope, key_id=self.key.key_id))
        data = spell(json.dumps(change(document) or document).encode())
        subject = self.registry.client.manifest(self.reference).descriptor()
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        referring.add_bundle(self.registry.client, self.reference, subject, data, created=now)
        return self.image


_LEFT_OUT = object()


class Case(t.NamedTuple):
    """Something that cosigns from version C(since) on accept, and our answer to it."""

    row: str
    what: str
    code: str
    make: t.Callable[[Maker], str]
    since: int = 2

    def __str__(self) -> str:
        return f"{self.row}-{self.what}".replace(" ", "-")


def _other_digest(maker: Maker) -> bytes:
    return json.dumps(f"sha256:{'0' * 64}").encode()


def _twice(maker: Maker) -> bytes:
    """Return a payload whose digest stands there twice: a wrong one first, and the right one."""
    right = b'"docker-manifest-digest":'
    return maker.claim().replace(right, right + _other_digest(maker) + b"," + right)


def _spare_bits(signature: bytes) -> str:
    """Return base64 whose last character has bits set that mean nothing."""
    text = base64.b64encode(signature).decode().rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spoilt = text[:-1] + alphabet[alphabet.index(text[-1]) | 1]
    return spoilt + "=" * (-len(spoilt) % 4)


def _raw(signature: bytes) -> str:
    r, s = decode_dss_signature(signature)
    return base64.b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).decode()


def _with(document: Json, path: str, change: t.Callable[[str], str]) -> None:
    """Change one text inside a document, named by its members."""
    *way, last = path.split(".")
    for name in way:
        document = document[int(name) if isinstance(document, list) else name]
    document[last] = change(document[last])


def _snake(document: Json) -> Json:
    material = document["verificationMaterial"]
    return {
        "media_type": document["mediaType"], "verification_material": {"public_key": material["publicKey"]},
        "dsse_envelope": document["dsseEnvelope"],
    }


def _unpadded(text: str) -> str:
    return text.rstrip("=")


def _long(maker: Maker) -> bytes:
    # The statement gets as long as makes its base64 end in padding.
    content = maker.statement()
    while len(content) % 3 == 0:
        content += b" "
    return content


CASES = [
    # Payloads.
    Case("N05", "digest twice, the right one last", "malformed", lambda m: m.sig(_twice(m))),
    Case("N07", "member in capitals", "malformed", lambda m: m.sig(m.claim().replace(b'"critical"', b'"CRITICAL"'))),
    Case("N07", "digest member in capitals", "malformed", lambda m: m.sig(
        m.claim().replace(b"docker-manifest-digest", b"Docker-Manifest-Digest")
    )),
    Case("N10", "foreign type", "type_mismatch", lambda m: m.sig(
        m.claim().replace(payload.TYPE.encode(), b"atomic container signature")
    )),
    Case("N10", "empty type", "type_mismatch", lambda m: m.sig(m.claim().replace(payload.TYPE.encode(), b""))),
    Case("N10", "no type", "malformed", lambda m: m.sig(
        m.claim().replace(f',"type":"{payload.TYPE}"'.encode(), b"")
    )),
    Case("N12", "identity is null", "malformed", lambda m: m.sig(
        re.sub(rb'"identity":\{[^}]*\}', b'"identity":null', m.claim())
    )),
    Case("N73", "number of 40 digits", "malformed", lambda m: m.sig(
        m.claim().replace(b'"optional":null', b'"optional":{"n":' + b"1" * 40 + b"}")
    )),
    Case("J01", "lone surrogate", "malformed", lambda m: m.sig(
        m.claim().replace(b'"optional":null', b'"optional":{"n":"\\ud800"}')
    )),
    Case("J01", "bytes that are not UTF-8", "malformed", lambda m: m.sig(
        m.claim().replace(b'"optional":null', b'"optional":{"n":"\xff"}')
    )),
    Case("N72", "payload of 300 KiB", "limit_exceeded", lambda m: m.sig(m.claim(n="x" * 300 * 1024))),
    # How signatures are spelled, and the manifest around them.
    Case("S03", "spare bits in base64", "malformed", lambda m: m.sig(m.claim(), spell=_spare_bits)),
    Case("S07", "r and s without DER", "signature_invalid", lambda m: m.sig(m.claim(), spell=_raw)),
    Case("M01", "manifest with layers twice", "malformed", lambda m: m.sig(
        m.claim(), document=lambda raw: raw.replace(b'"layers":', b'"layers":[],"layers":')
    )),
    # Bundles.
    Case("N52", "attestation only", "type_mismatch", lambda m: m.bundle(
        m.statement(predicateType="https://slsa.dev/provenance/v1")
    ), 3),
    Case("N53c", "foreign statement type", "type_mismatch", lambda m: m.bundle(m.statement(_type="something")), 3),
    Case("N53c", "no statement type", "malformed", lambda m: m.bundle(m.statement(_type=_LEFT_OUT)), 3),
    Case("N53c", "empty predicate type", "type_mismatch", lambda m: m.bundle(m.statement(predicateType="")), 3),
    Case("N53c", "no predicate type", "type_mismatch", lambda m: m.bundle(m.statement(predicateType=_LEFT_OUT)), 3),
    Case("N59", "members in snake case", "malformed", lambda m: m.bundle(m.statement(), _snake), 3),
    Case("N59", "payload without padding", "malformed", lambda m: m.bundle(
        _long(m), lambda document: _with(document, "dsseEnvelope.payload", _unpadded)
    ), 3),
    Case("N59", "URL-safe base64", "malformed", lambda m: m.bundle(
        # Bytes that have both special characters of the alphabet.
        m.statement(predicate={"n": "\u07ff\u07ff\u07ff ~~~ ??? >>>"}),
        lambda document: _with(
            document, "dsseEnvelope.payload",
            lambda _text: base64.urlsafe_b64encode(base64.b64decode(_text)).decode()
        ),
    ), 3),
    Case("N72", "bundle of 6 MiB", "limit_exceeded", lambda m: m.bundle(
        m.statement(), spell=lambda data: data + b" " * 6 * 1024 * 1024
    ), 3),
    Case("N72b", "compressed bundle", "malformed", lambda m: m.bundle(m.statement(), spell=gzip.compress), 3),
]
# Those that are not about the content of one signature, and have tests of their own below.
FURTHER = ("N11", "N25", "N44", "K02", "K03")
LENIENT = ("N31a", "N63", "C01", "K01", "K04", "L01", "L02")
# Rows of the table that other files measure: a table there, and the rows in it.
ELSEWHERE = {
    ("N32", "test_interop_certificates.py"): "regexp-in-part",
    ("N34", "test_interop_certificates.py"): "intermediate-expired",
    ("N40", "test_interop_certificates.py"): "another-type",
    ("C02", "test_interop_certificates.py"): "dns",
}


@pytest.fixture(scope="module")
def measured(registry: Registry, ansible: Ansible, p256: KeyFiles) -> dict[Case, tuple[str, Json]]:
    """The image of each case, and our verdict on it."""
    images = {case: case.make(Maker(registry, p256)) for case in CASES}
    (result,) = ansible.run([Task("image_verify", {
        "images": list(images.values()), "trust": [p256.authority], "on_failure": "report",
    })])
    return {case: (image, verdict) for (case, image), verdict in zip(images.items(), result["results"], strict=True)}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_we_refuse_what_cosign_accepts(
    measured: dict[Case, tuple[str, Json]], found_cosigns: list[Cosign], p256: KeyFiles, case: Case
) -> None:
    image, verdict = measured[case]
    assert not verdict["verified"]
    assert verdict["reasons"][0]["code"] == case.code, verdict["reasons"]
    asked = [cosign for cosign in found_cosigns if cosign.major >= case.since]
    if not asked:
        pytest.skip(f"we refuse it, but there is no cosign of version {case.since} or newer to compare with")
    for cosign in asked:
        done = cosign.verify(image, p256.public)
        assert done.returncode == 0, f"{cosign.name} is as strict as we are by now: {done.stderr}"


def test_we_refuse_a_foreign_name_when_asked_to(
    registry: Registry, ansible: Ansible, p256: KeyFiles, cosigns: list[Cosign]
) -> None:
    """N11: cosign never compares the name; we do so on request, and warn otherwise."""
    maker = Maker(registry, p256)
    image = maker.sig(payload.encode(payload.Payload("registry.example.org/other", maker.digest, {})))
    asked = {"images": [image], "trust": [p256.authority], "on_failure": "report"}
    strict, usual = ansible.run([
        Task("image_verify", {**asked, "docker_reference_check": "repository"}), Task("image_verify", asked),
    ])
    assert strict["results"][0]["reasons"][0]["code"] == "reference_mismatch"
    assert usual["verified"]
    assert [warning["code"] for warning in usual["results"][0]["warnings"]] == ["reference_mismatch"]
    assert all(cosign.accepts(image, p256.public) for cosign in cosigns)


def test_we_refuse_keys_that_cosigns_take(
    registry: Registry, ansible: Ansible, cosigns: list[Cosign], p256: KeyFiles, other: KeyFiles,
    tmp_path: pathlib.Path,
) -> None:
    """K02: short RSA keys. K03: a second key in one file."""
    rsa1024 = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    made: list[tuple[str, str, pathlib.Path, str]] = []
    maker = Maker(registry, p256)
    signature = rsa1024.sign(maker.claim(), padding.PKCS1v15(), hashes.SHA256())
    registry.put_sig(maker.image, [attachment.sig_layer(maker.claim(), signature, p256.key_id)])
    made.append(("K02", maker.image, _write_public(rsa1024, tmp_path / "K02.pub"), "unsupported_algorithm"))
    maker = Maker(registry, p256)
    both = tmp_path / "K03.pub"
    both.write_bytes(p256.public.read_bytes() + other.public.read_bytes())
    made.append(("K03", maker.sig(maker.claim()), both, "malformed"))
    results = ansible.run([
        Task("image_verify", {"images": [image], "trust": [{"public_key_path": str(public)}], "on_failure": "report"})
        for _row, image, public, _code in made
    ])
    for (row, image, public, code), result in zip(made, results, strict=True):
        assert result["failed"], row
        assert result["reasons"][0]["code"] == code, result["reasons"]
        for cosign in cosigns:
            done = cosign.verify(image, public)
            assert done.returncode == 0, f"{row}: {cosign.name}: {done.stderr}"


def _write_public(key: t.Any, path: pathlib.Path) -> pathlib.Path:
    path.write_bytes(key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ))
    return path


@pytest.mark.parametrize(("row", "algorithm", "scheme"), [
    ("K01", "ecdsa-p384", "ecdsa-sha384"), ("K01", "ecdsa-p521", "ecdsa-sha512"), ("K04", "ed25519", "ed25519ph"),
])
def test_we_take_signatures_that_only_their_maker_could_read(
    registry: Registry, modules: Modules, cosigns: list[Cosign], make_key: t.Callable[[str], KeyFiles], row: str,
    algorithm: str, scheme: str,
) -> None:
    """K01: C(.sig) over the hash of the curve. K04: prehashed Ed25519. cosign 3 makes both, and does not read them."""
    key = make_key(algorithm)
    maker = Maker(registry, key)
    image = maker.sig(maker.claim(), scheme=scheme)
    result = modules.succeed("image_verify", images=[image], trust=[key.authority], on_failure="report")
    assert result["verified"], row
    assert not [cosign.name for cosign in cosigns if cosign.accepts(image, key.public)]


def test_where_we_are_not_stricter(
    registry: Registry, ansible: Ansible, p256: KeyFiles, other: KeyFiles, bundle_cosign: Cosign
) -> None:
    """N61: only the signed statement binds, for cosign as well. N63: a foreign bundle hides no good signature."""
    misplaced = Maker(registry, p256)
    elsewhere = Maker(registry, p256)
    content = misplaced.statement()
    envelope = dsse.Envelope(content, making.sign(p256.private, dsse.pae(content)))
    client = registry.client
    raw = referring.bundle_manifest(
        client.manifest(elsewhere.reference).descriptor(), bundle.encode(envelope, key_id=p256.key_id),
        created="2026-11-20T00:00:00Z",
    )
    client.put_blob(misplaced.reference, bundle.encode(envelope, key_id=p256.key_id))
    client.put_blob(misplaced.reference, manifests.EMPTY_OBJECT)
    client.put_manifest(misplaced.reference.at(digest_of(raw)), raw)
    client.put_manifest(
        misplaced.reference.tagged(misplaced.digest.replace(":", "-")),
        manifests.encode_index([manifests.Descriptor(manifests.OCI_MANIFEST, digest_of(raw), len(raw))]),
        media_type=manifests.OCI_INDEX,
    )
    hidden = Maker(registry, p256)
    hidden.sig(hidden.claim())
    Maker.bundle(_as(hidden, other), hidden.statement())
    (result,) = ansible.run([Task("image_verify", {
        "images": [misplaced.image, hidden.image], "trust": [p256.authority], "on_failure": "report",
    })])
    assert result["verified"], result["reasons"]
    assert bundle_cosign.accepts(misplaced.image, p256.public)
    assert not bundle_cosign.accepts(hidden.image, p256.public)


def test_an_expired_certificate_beside_a_signature_by_a_trusted_key_is_not_asked(
    registry: Registry, ansible: Ansible, p256: KeyFiles, cosigns: list[Cosign]
) -> None:
    """C01: the key is trusted, whatever somebody hung beside its signature; cosign refuses the key then."""
    maker = Maker(registry, p256)
    claim = maker.claim()
    layer = attachment.sig_layer(claim, making.sign(p256.private, claim), p256.key_id)
    annotations = {**layer.descriptor.annotations, "dev.sigstore.cosign/certificate": _expired_certificate(p256)}
    described = manifests.Descriptor(payload.MEDIA_TYPE, digest_of(claim), len(claim), "", annotations)
    registry.put_sig(maker.image, [attachment.Layer(described, claim)])
    (result,) = ansible.run([Task("image_verify", {
        "images": [maker.image], "trust": [p256.authority], "on_failure": "report",
    })])
    assert result["verified"], result["reasons"]
    for cosign in cosigns:
        assert not cosign.accepts(maker.image, p256.public), cosign.name


def _expired_certificate(key: KeyFiles) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "expired")])
    end = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=1)).not_valid_after(end)
        .sign(key.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    )


def _as(maker: Maker, key: KeyFiles) -> Maker:
    """Return a maker for the same image with another key."""
    made = Maker.__new__(Maker)
    made.__dict__ = {**maker.__dict__, "key": key}
    return made


# --- logs and timestamps ----------------------------------------------------------------------------------------------

# The logs of these tests are paper: nobody asks them anything. Their names are those of cosign's flags in the tests.
_HOST, _URL = "127.0.0.1", "http://127.0.0.1:9"
LOG = Log(ec.generate_private_key(ec.SECP256R1()), 1, origin=f"{_HOST} - 77", name=_HOST)
TILES = Log(ed25519.Ed25519PrivateKey.generate(), 2, origin=_HOST, name=_HOST)
_WITNESS = f"\u2014 witness.example {base64.b64encode(bytes(70)).decode()}\n"


class Paper(t.NamedTuple):
    """Both logs, as C(Cosign.verify_logged) wants them."""

    url: str
    key: pathlib.Path
    key2: pathlib.Path
    port: str = "paper"

    @property
    def options(self) -> Json:
        """The options of image_verify that demand an entry of one of them."""
        return {"require_log": True, "rekor_logs": [
            {"public_key_path": str(key), "rekor_url": self.url} for key in (self.key, self.key2)
        ]}


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Paper:
    """The logs."""
    folder = tmp_path_factory.mktemp("logs")
    return Paper(_URL, *(_write_public(log.key, folder / f"{log.version}.pub") for log in (LOG, TILES)))


def _logged(
    maker: Maker, log: Log, edit: t.Callable[[LogEntry], LogEntry | list[Json]] = lambda entry: entry, *,
    kind: str = "", **of_checkpoint: t.Any,
) -> str:
    """Attach a bundle with an entry of a log; C(edit) changes that, or gives others."""

    def change(document: Json) -> None:
        envelope = document["dsseEnvelope"]
        content, signature = (
            base64.b64decode(text) for text in (envelope["payload"], envelope["signatures"][0]["sig"])
        )
        logged = kind or ("dsse" if log.version == 1 else "hashedrekord")
        entry = log.enter(log_bench.body(
            logged, log.version, log_bench.Signer(maker.key.private),
            content if logged == "dsse" else log_bench.pae(content), signature=signature,
        ), **of_checkpoint)
        made = edit(entry)
        found = made if isinstance(made, list) else [as_json(made, "bundle")]
        document["verificationMaterial"]["tlogEntries"] = found

    return maker.bundle(maker.statement(), change)


def _of_kind(kind: str, version: str) -> t.Callable[[LogEntry], list[Json]]:
    return lambda entry: [{**as_json(entry, "bundle"), "kindVersion": {"kind": kind, "version": version}}]


def _doubled(entry: LogEntry) -> list[Json]:
    return [as_json(entry, "bundle")] * 2


def _of_size(log: Log, size: str) -> t.Callable[[LogEntry], LogEntry]:
    return lambda entry: with_note(entry, log, lambda text: text.replace("\n7\n", f"\n{size}\n"))


_NOT_THERE = log_bench.body("hashedrekord", 2, log_bench.Signer(LOG.key), b"something")
EVIDENCE = [
    Case("N27", "proof for a tree of another size than the checkpoint's", "log_invalid", lambda m: _logged(
        m, LOG, lambda entry: with_proof(entry, size=8)), 3),
    Case("N27", "checkpoint for a tree of another size than the proof's", "log_invalid", lambda m: _logged(
        m, LOG, _of_size(LOG, "8")), 3),
    Case("N29", "checkpoint of another origin", "log_invalid", lambda m: _logged(
        m, dataclasses.replace(LOG, origin="evil.example - 77", name="evil.example")), 3),
    Case("N29", "checkpoint signed under another name", "log_invalid", lambda m: _logged(
        m, dataclasses.replace(LOG, name="evil.example")), 3),
    Case("N31b", "kind is not the body's", "malformed", lambda m: _logged(
        m, LOG, _of_kind("hashedrekord", "0.0.1")), 3),
    Case("N31b", "kind is not the body's, Rekor 2", "malformed", lambda m: _logged(
        m, TILES, _of_kind("dsse", "0.0.2")), 3),
    Case("N31e", "body of another entry", "log_invalid", lambda m: _logged(
        m, TILES, lambda entry: dataclasses.replace(entry, body=_NOT_THERE)), 3),
    *(Case("N31f", f"zero before the size, Rekor {log.version}", "malformed", lambda m, log=log: _logged(
        m, log, _of_size(log, "07")), 3) for log in (LOG, TILES)),
    Case("N71", "checkpoint of 41 signatures", "malformed", lambda m: _logged(m, TILES, after=_WITNESS * 40), 3),
    Case("N71", "checkpoint of 17 KiB", "malformed", lambda m: _logged(m, LOG, extension=f"{'x' * 17_000}\n"), 3),
]


def test_whole_entries_count_for_everybody(
    registry: Registry, modules: Modules, p256: KeyFiles, bundle_cosign: Cosign, paper: Paper
) -> None:
    for log in (LOG, TILES):
        image = _logged(Maker(registry, p256), log)
        modules.succeed("image_verify", images=[image], trust=[p256.authority], **paper.options)
        assert bundle_cosign.verify_logged(image, p256.public, log=paper).returncode == 0


@pytest.mark.parametrize("case", EVIDENCE, ids=str)
def test_we_refuse_evidence_that_cosign_accepts(
    registry: Registry, modules: Modules, p256: KeyFiles, bundle_cosign: Cosign, paper: Paper, case: Case
) -> None:
    image = case.make(Maker(registry, p256))
    result = modules.succeed(
        "image_verify", images=[image], trust=[p256.authority], on_failure="report", **paper.options
    )
    assert [reason["code"] for reason in result["results"][0]["reasons"]] == [case.code]
    done = bundle_cosign.verify_logged(image, p256.public, log=paper)
    assert done.returncode == 0, f"{bundle_cosign.name} is as strict as we are by now: {done.stderr}"


@pytest.mark.parametrize(("row", "make"), [
    ("N31a", lambda m: _logged(m, LOG, _doubled)), ("N31a", lambda m: _logged(m, TILES, _doubled)),
    ("L01", lambda m: _logged(m, LOG, after=_WITNESS)), ("L01", lambda m: _logged(m, LOG, before=_WITNESS)),
    ("L02", lambda m: _logged(m, TILES, kind="dsse")),
])
def test_we_accept_evidence_that_cosign_refuses(
    registry: Registry, modules: Modules, p256: KeyFiles, bundle_cosign: Cosign, paper: Paper, row: str,
    make: t.Callable[[Maker], str],
) -> None:
    """N31a: an entry twice. L01: the line of a witness, Rekor 1. L02: an envelope logged as such by Rekor 2."""
    image = make(Maker(registry, p256))
    modules.succeed("image_verify", images=[image], trust=[p256.authority], **paper.options)
    done = bundle_cosign.verify_logged(image, p256.public, log=paper)
    assert done.returncode not in (0, 2), f"{row}: {done.stdout}{done.stderr}"


def test_we_refuse_entries_of_a_log_whose_key_has_ended(
    registry: Registry, modules: Modules, p256: KeyFiles, bundle_cosign: Cosign, paper: Paper
) -> None:
    """N25: cosign looks at the time of a log's key only where the log tells one, and Rekor 2 tells none."""
    images = {log.version: _logged(Maker(registry, p256), log) for log in (LOG, TILES)}
    end = "2021-01-01T00:00:00Z"
    root = bundle_cosign.home / "ended.json"
    span = f"start-time=2020-01-01T00:00:00Z,end-time={end}"
    done = bundle_cosign.run(
        "trusted-root", "create", f"--rekor=url={_URL},public-key={paper.key},{span}",
        f"--rekor=url={_URL},public-key={paper.key2},{span},origin={_HOST}", "--out", str(root),
    )
    assert done.returncode == 0, done.stderr
    options = {**paper.options, "rekor_logs": [{**log, "not_after": end} for log in paper.options["rekor_logs"]]}
    result = modules.succeed(
        "image_verify", images=list(images.values()), trust=[p256.authority], on_failure="report", **options
    )
    assert [one["reasons"][0]["code"] for one in result["results"]] == ["log_invalid", "log_invalid"]
    for version, image in images.items():
        done = bundle_cosign.run(
            "verify", "--key", str(p256.public), "--offline=true", "--trusted-root", str(root), image
        )
        assert (done.returncode == 0) == (version == 2), done.stderr


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _stamp(server: TimestampServer, signature: bytes) -> Json:
    """Return what a bundle has as its timestamps."""
    headers = {"Content-Type": "application/timestamp-query"}
    asked = urllib.request.Request(server.endpoint, timestamp.request(signature), headers)
    with _OPENER.open(asked, timeout=30) as response:
        return {"rfc3161Timestamps": [{"signedTimestamp": base64.b64encode(response.read()).decode()}]}


def test_we_refuse_timestamps_that_cosign_passes_over(
    registry: Registry, modules: Modules, p256: KeyFiles, bundle_cosign: Cosign, timestamp_server: TimestampServer
) -> None:
    """N44: a timestamp of another signature, where an authority is given, but no timestamp required."""

    def stamped(of_other: bool) -> str:
        def change(document: Json) -> None:
            signature = base64.b64decode(document["dsseEnvelope"]["signatures"][0]["sig"])
            stamp = _stamp(timestamp_server, b"another" if of_other else signature)
            document["verificationMaterial"]["timestampVerificationData"] = stamp

        maker = Maker(registry, p256)
        return maker.bundle(maker.statement(), change)

    images = [stamped(of_other=False), stamped(of_other=True)]
    result = modules.succeed(
        "image_verify", images=images, trust=[p256.authority], on_failure="report",
        timestamp_authority_paths=[str(timestamp_server.chain)],
    )
    assert [[reason["code"] for reason in one["reasons"]] for one in result["results"]] == [[], ["timestamp_invalid"]]
    root = f"--trusted-root={bundle_cosign.trusted_root(timestamps=timestamp_server)}"
    for image, is_good in zip(images, (True, False)):
        assert bundle_cosign.accepts(image, p256.public, root)
        # Asked for, it is refused.
        done = bundle_cosign.verify_logged(image, p256.public, timestamps=timestamp_server)
        assert (done.returncode == 0) is is_good, done.stderr


def test_the_table_of_the_documentation_has_exactly_these_rows() -> None:
    text = (ROOT / "docs" / "stricter_than_cosign.md").read_text(encoding="utf-8")
    first, _rows, other = text.partition("other way")
    rows = {case.row for case in (*CASES, *EVIDENCE)} | {*FURTHER, *LENIENT, *(row for row, _file in ELSEWHERE)}
    lenient = {*LENIENT, *(row for row in rows if row.startswith("C"))}
    for part, used in ((first, rows - lenient), (other, lenient)):
        documented = re.findall(r"^\|\s*`?([A-Z]\d+[a-z]?)`?\s*\|", part, re.MULTILINE)
        assert len(documented) == len(set(documented))
        assert (used - set(documented), set(documented) - used) == (set(), set()), "(not documented, not tested)"


def test_rows_that_are_measured_elsewhere_are_there() -> None:
    for (row, file), name in ELSEWHERE.items():
        tree = ast.parse((ROOT / "tests" / "interop" / file).read_text(encoding="utf-8"))
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert name in texts, row
