# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image in a fake registry, and signatures on it made by hand: not one byte comes from the code under test."""

from __future__ import annotations

import base64
import json
import typing as t
from dataclasses import dataclass

from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem, private_key
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers.file import FileSigner
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority, remove, sign, verify
from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import Format
from ansible_collections.hallmark.signing.tests.unit import fake_registry
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Seen
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

REPOSITORY = "team/app"
SIG_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIG_ANNOTATION = "dev.cosignproject.cosign/signature"
HINT_ANNOTATION = "org.hallmark-signing.key-id"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
CLAIM_TYPE = "cosign container image signature"
IN_TOTO = "application/vnd.in-toto+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
OTHER_DIGEST = f"sha256:{'0123456789abcdef' * 4}"

BOTH: tuple[Format, ...] = ("sig", "bundle")

Json = dict[str, t.Any]


@dataclass(frozen=True)
class Key:
    """A key pair under a name."""

    name: str
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

    @property
    def public(self) -> pem.PublicKey:
        """The public half as the code under test knows it."""
        return pem.public_key(self.private.public_key(), where=self.name)

    @property
    def id(self) -> str:
        """The key id."""
        return self.public.key_id

    @property
    def signer(self) -> FileSigner:
        """What signs with this key."""
        return FileSigner(private_key.PrivateKey(self.private, self.public, "pem", False))

    @property
    def authority(self) -> authority.Authority:
        """This key as one that is trusted, under its name."""
        return authority.Authority(self.name, self.public)

    def sign(self, message: bytes, digest: hashes.HashAlgorithm | None = None) -> bytes:
        """Sign as cosign 2 does: ECDSA or RSA PKCS#1 v1.5, with SHA-256 unless told otherwise; Ed25519 plainly."""
        digest = digest or hashes.SHA256()
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(message)
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            return self.private.sign(message, ec.ECDSA(digest))
        return self.private.sign(message, padding.PKCS1v15(), digest)


def compact(document: t.Any) -> bytes:
    """JSON without white space."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def b64(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode()


def pae(payload: bytes, kind: str = IN_TOTO) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 " + b" ".join([str(len(kind)).encode(), kind.encode(), str(len(payload)).encode(), payload])


def claim(digest: str, name: str, annotations: Json | None = None) -> Json:
    """The members of a SimpleSigning payload."""
    return {
        "critical": {
            "identity": {"docker-reference": name}, "image": {"docker-manifest-digest": digest}, "type": CLAIM_TYPE,
        },
        "optional": annotations,
    }


def statement(digest: str, annotations: Json | None = None, **members: t.Any) -> Json:
    """The members of an in-toto statement for an image signature, some of them replaced; None leaves one out."""
    algorithm, _colon, value = digest.partition(":")
    document = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {algorithm: value}, "annotations": annotations or {}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {},
        **members,
    }
    return {name: value for name, value in document.items() if value is not None}


def bundle(content: bytes, key: Key, **members: t.Any) -> Json:
    """The members of a bundle whose envelope holds the content signed by the key, some replaced; None leaves out."""
    document = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": b64(bytes.fromhex(key.id))}},
        "dsseEnvelope": {
            "payload": b64(content), "payloadType": IN_TOTO, "signatures": [{"sig": b64(key.sign(pae(content)))}],
        },
        **members,
    }
    return {name: value for name, value in document.items() if value is not None}


class Bench:
    """One image in one registry: REPOSITORY:1, whose digest is digest."""

    def __init__(self, registry: FakeRegistry) -> None:
        self.registry = registry
        self.name = f"{registry.host}/{REPOSITORY}"
        self.digest = registry.put_image(REPOSITORY, "1")

    @property
    def tagged(self) -> str:
        """The image by its tag."""
        return f"{self.name}:1"

    @property
    def pinned(self) -> str:
        """The image by its digest."""
        return f"{self.name}@{self.digest}"

    @property
    def reference(self) -> references.Reference:
        """The image by its digest, parsed."""
        return references.parse(self.pinned)

    @property
    def sig_tag(self) -> str:
        """Where the signatures of the old format are."""
        return f"{self.digest.replace(':', '-')}.sig"

    @property
    def fallback_tag(self) -> str:
        """Where referrers are listed by registries without the API."""
        return self.digest.replace(":", "-")

    @property
    def manifests(self) -> dict[str, fake_registry.Stored]:
        """Everything in the repository, by tag and digest."""
        return self.registry.manifests[REPOSITORY]

    def registries(self, timeout: float = 30.0) -> Registries:
        """A new run."""
        return Registries(RegistrySettings(AuthFile("none", {}), timeout=timeout))

    def verify(self, *keys: Key, image: str = "", **demanded: t.Any) -> verify.Verification:
        """Verify the image by its digest, with these keys as authorities, in a new run."""
        demand = authority.demand([key.authority for key in keys], **demanded)
        return verify.verify_image(self.registries(), image or self.pinned, demand)

    def claim(self, annotations: Json | None = None, **where: str) -> Json:
        """The members of a payload for this image."""
        return claim(where.get("digest", self.digest), where.get("name", self.name), annotations)

    def statement(self, annotations: Json | None = None, **members: t.Any) -> Json:
        """The members of a statement for this image."""
        return statement(self.digest, annotations, **members)

    # The old format ------------------------------------------------------------------------------------------------

    def layer(self, content: bytes, signature: bytes | str | None, **members: t.Any) -> Json:
        """Store a payload and return its layer descriptor; a text is put as it is, None leaves the annotation out."""
        text = b64(signature) if isinstance(signature, bytes) else signature
        return {
            "mediaType": SIG_TYPE, "size": len(content), "digest": self.registry.put_blob(REPOSITORY, content),
            "annotations": {} if text is None else {SIG_ANNOTATION: text},
            **members,
        }

    def put_layers(self, layers: t.Sequence[Json], *, of: str = "", **members: t.Any) -> str:
        """Store a signature manifest of exactly these layers and return its digest."""
        config = compact({"rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}})
        return self.registry.put_manifest(REPOSITORY, {
            "schemaVersion": 2,
            "mediaType": fake_registry.OCI_MANIFEST,
            "config": self.descriptor(config, fake_registry.OCI_CONFIG),
            "layers": list(layers),
            **members,
        }, tag=f"{(of or self.digest).replace(':', '-')}.sig")

    def layers(self, of: str = "") -> list[Json]:
        """The layers of the signature manifest as it is now."""
        stored = self.manifests.get(f"{(of or self.digest).replace(':', '-')}.sig")
        return t.cast("list[Json]", stored.members["layers"]) if stored else []

    def sign_sig(self, content: bytes | Json, key: Key, *, of: str = "", **members: t.Any) -> Json:
        """Add a layer with this payload, rightly signed by the key, and return it."""
        raw = content if isinstance(content, bytes) else compact(content)
        layer = self.layer(raw, key.sign(raw), **members)
        self.put_layers([*self.layers(of), layer], of=of)
        return layer

    # Bundles -------------------------------------------------------------------------------------------------------

    def refer(self, data: bytes, *, listed_under: str = "", layer: Json | None = None, **members: t.Any) -> str:
        """Store a bundle and a manifest that refers to the image, list it, and return the manifest's digest."""
        subject = self.manifests[self.digest]
        digest = self.registry.put_manifest(REPOSITORY, {
            "schemaVersion": 2,
            "mediaType": fake_registry.OCI_MANIFEST,
            "config": self.descriptor(b"{}", EMPTY_TYPE),
            "layers": [{**self.descriptor(data, BUNDLE_TYPE), **(layer or {})}],
            "annotations": {"dev.sigstore.bundle.predicateType": PREDICATE_TYPE},
            "subject": {"mediaType": subject.media_type, "size": len(subject.raw), "digest": self.digest},
            "artifactType": BUNDLE_TYPE,
            **members,
        })
        if not self.registry.referrers:
            self.list_referrers([*self.listed(listed_under), self.entry(digest)], of=listed_under)
        return digest

    def entry(self, digest: str, **members: t.Any) -> Json:
        """A descriptor of a stored manifest."""
        stored = self.manifests[digest]
        return {"mediaType": stored.media_type, "size": len(stored.raw), "digest": digest, **members}

    def list_referrers(self, entries: t.Sequence[Json], *, of: str = "", **members: t.Any) -> str:
        """Write the fallback tag."""
        return self.registry.put_manifest(REPOSITORY, {
            "schemaVersion": 2, "mediaType": fake_registry.OCI_INDEX, "manifests": list(entries), **members,
        }, tag=(of or self.digest).replace(":", "-"))

    def listed(self, of: str = "") -> list[Json]:
        """The entries of the fallback tag as it is now."""
        stored = self.manifests.get((of or self.digest).replace(":", "-"))
        return t.cast("list[Json]", stored.members.get("manifests", [])) if stored else []

    def referrers(self, of: str = "") -> list[str]:
        """The digests of all manifests that are listed as referring to the image, in either kind of registry."""
        if not self.registry.referrers:
            return [entry["digest"] for entry in self.listed(of)]
        return [
            reference for reference, stored in self.manifests.items()
            if ":" in reference and stored.members.get("subject", {}).get("digest") == (of or self.digest)
        ]

    def sign_bundle(self, content: bytes | Json, key: Key, **members: t.Any) -> str:
        """Attach a bundle with this statement, rightly signed by the key; return the referrer's digest."""
        raw = content if isinstance(content, bytes) else compact(content)
        return self.refer(compact(bundle(raw, key, **members)))

    def descriptor(self, data: bytes, media_type: str) -> Json:
        """Store a blob and return its descriptor."""
        return {"mediaType": media_type, "size": len(data), "digest": self.registry.put_blob(REPOSITORY, data)}

    # Observation ---------------------------------------------------------------------------------------------------

    @property
    def writes(self) -> list[str]:
        """All requests so far that change something, as METHOD and the path's last part."""
        return [
            f"{seen.method} {seen.path.rpartition('/')[2]}"
            for seen in self.registry.log if seen.method not in ("GET", "HEAD")
        ]

    def content(self) -> tuple[dict[str, t.Any], dict[str, bytes]]:
        """Everything that is stored, for comparisons."""
        return dict(self.manifests), dict(self.registry.blobs[REPOSITORY])


def do_sign(bench: Bench, *keys: Key, image: str = "", **wished: t.Any) -> sign.Outcome:
    """Sign the image by its digest in a new run."""
    wish = sign.Wish(tuple(key.signer for key in keys), **wished)
    return sign.sign_image(bench.registries(), image or bench.pinned, wish)


def do_remove(bench: Bench, *keys: Key, image: str = "", **meant: t.Any) -> sign.Outcome:
    """Remove the signatures of these keys, or all without a key, in a new run."""
    removal = remove.Removal(frozenset(key.id for key in keys), not keys, **meant)
    return remove.remove_signatures(bench.registries(), image or bench.pinned, removal)


def codes(reasons: t.Sequence[t.Any]) -> list[str]:
    """The codes of reasons or warnings."""
    return [reason.code for reason in reasons]


def verified(bench: Bench, key: Key, format: Format, **demanded: t.Any) -> bool:
    """Say whether the image counts as signed by the key in this format."""
    return bench.verify(key, formats=(format,), **demanded).verified


def overwrite(bench: Bench, tag: str, times: int) -> None:
    """Let another writer, who never saw ours, overwrite the tag right after our writes."""
    before = bench.manifests.get(tag)
    state = {"left": times, "written": False}

    def hook(seen: Seen) -> None:
        if not seen.path.endswith(f"/{tag}"):
            return
        if seen.method == "GET" and state["written"] and state["left"]:
            state["left"] -= 1
            bench.manifests.pop(tag, None)
            if before is not None:
                bench.manifests[tag] = before
        state["written"] = seen.method == "PUT"

    bench.registry.faults.append(hook)


def make_index(bench: Bench, *further: Json) -> tuple[str, list[str]]:
    """An index of two images under tag 2; return its digest and theirs."""
    digest = bench.registry.put_index(REPOSITORY, "2", ["linux/amd64", "linux/arm64"])
    entries = bench.manifests[digest].members["manifests"]
    digest = bench.registry.put_manifest(REPOSITORY, {
        "schemaVersion": 2, "mediaType": fake_registry.OCI_INDEX, "manifests": [*entries, *further],
    }, tag="2")
    return digest, [entry["digest"] for entry in entries]
