# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where signatures are written: tags, layers and referrers as cosign writes them; what others attached is kept."""

from __future__ import annotations

import json

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._signing import attachment, referring
from ansible_collections.hallmark.signing.plugins.module_utils._signing import candidate as candidates
from ansible_collections.hallmark.signing.plugins.module_utils._signing.candidate import Candidate
from ansible_collections.hallmark.signing.tests.unit.fake_registry import OCI_MANIFEST
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    HINT_ANNOTATION,
    REPOSITORY,
    SIG_ANNOTATION,
    SIG_TYPE,
    Bench,
    Key,
    b64,
    compact,
)

# Both as cosign wrote them: the config of 2.5.0 for one layer, the referrer of 3.1.1 (whose bundle has 671 bytes).
COSIGN_CONFIG = (
    '{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{"created":"0001-01-01T00:00:00Z"}],"os":"",'
    '"rootfs":{"type":"layers","diff_ids":["%s"]},"config":{}}'
)
COSIGN_REFERRER = (
    '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":'
    '"application/vnd.oci.empty.v1+json","size":2,"digest":'
    '"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","artifactType":'
    '"application/vnd.dev.sigstore.bundle.v0.3+json"},"layers":[{"mediaType":'
    '"application/vnd.dev.sigstore.bundle.v0.3+json","size":%d,"digest":"%s"}],"annotations":{'
    '"dev.sigstore.bundle.content":"dsse-envelope","dev.sigstore.bundle.predicateType":'
    '"https://sigstore.dev/cosign/sign/v1","org.opencontainers.image.created":"2026-11-21T01:56:00Z"},"subject":{'
    '"mediaType":"application/vnd.oci.image.manifest.v1+json","size":395,"digest":"%s"},"artifactType":'
    '"application/vnd.dev.sigstore.bundle.v0.3+json"}'
)


def test_a_layer_is_that_of_its_signature(fallback: Bench, alice: Key, bob: Key) -> None:
    fallback.sign_sig(b"content", alice)
    fallback.put_layers([*fallback.layers(), fallback.layer(b"content", f"\n{b64(bob.sign(b'content'))}")])
    manifest = fallback.registries().manifest(fallback.reference.tagged(fallback.sig_tag))
    found = [
        one for one in candidates.find(fallback.registries(), fallback.reference, fallback.digest, "sig")
        if isinstance(one, Candidate)
    ]
    same = [[attachment.is_layer_of(layer, one) for one in found] for layer in manifest.layers]
    assert same == [[True, False], [False, True]]


def test_writes_a_signature_as_cosign_2(fallback: Bench) -> None:
    layer = attachment.sig_layer(b"content", b"sig", "the key id")
    attachment.add_sig(fallback.registries(), fallback.reference, fallback.digest, [layer])
    stored = fallback.manifests[fallback.sig_tag]
    digest = digest_of(b"content")
    config = (COSIGN_CONFIG % digest).encode()
    assert stored.media_type == OCI_MANIFEST
    assert stored.raw == compact({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config), "digest": digest_of(config),
        },
        "layers": [{
            "mediaType": SIG_TYPE, "size": 7, "digest": digest,
            "annotations": {SIG_ANNOTATION: "c2ln", HINT_ANNOTATION: "the key id"},
        }],
    })
    assert fallback.registry.blobs[REPOSITORY][digest_of(config)] == config


def test_digest_whose_tag_would_be_too_long_is_refused_before_anything_is_written(fallback: Bench) -> None:
    layer = attachment.sig_layer(b"content", b"sig", "the key id")
    with pytest.raises(RegistryError) as caught:
        attachment.add_sig(fallback.registries(), fallback.reference, f"sha512:{'0' * 128}", [layer])
    assert (caught.value.code, "formats: [bundle]" in caught.value.advice) == ("input_invalid", True)
    assert not fallback.registry.log


def test_adding_what_is_there_writes_no_manifest(fallback: Bench) -> None:
    layer = attachment.sig_layer(b"content", b"sig", "the key id")
    for _time in range(2):
        attachment.add_sig(fallback.registries(), fallback.reference, fallback.digest, [layer])
    assert len(fallback.registry.requests("PUT", "/manifests/")) == 1


def test_a_layer_with_wrapped_base64_counts_as_there(fallback: Bench) -> None:
    fallback.put_layers([fallback.layer(b"content", "c2\nln\n")])
    layer = attachment.sig_layer(b"content", b"sig", "the key id")
    attachment.add_sig(fallback.registries(), fallback.reference, fallback.digest, [layer])
    assert fallback.writes == []


def test_annotations_of_the_manifest_stay(fallback: Bench) -> None:
    fallback.put_layers([fallback.layer(b"other", b"sig")], annotations={"note": "<mine>"})
    layer = attachment.sig_layer(b"content", b"sig", "the key id")
    attachment.add_sig(fallback.registries(), fallback.reference, fallback.digest, [layer])
    assert fallback.manifests[fallback.sig_tag].members["annotations"] == {"note": "<mine>"}


def test_the_config_lists_every_layer(fallback: Bench) -> None:
    for content in (b"one", b"two"):
        layer = attachment.sig_layer(content, b"sig", "the key id")
        attachment.add_sig(fallback.registries(), fallback.reference, fallback.digest, [layer])
    manifest = fallback.manifests[fallback.sig_tag].members
    config = json.loads(fallback.registry.blobs[REPOSITORY][manifest["config"]["digest"]])
    assert config["rootfs"]["diff_ids"] == [digest_of(b"one"), digest_of(b"two")]
    assert len(config["history"]) == 2


def test_writes_a_referrer_as_cosign_3() -> None:
    subject = Descriptor(OCI_MANIFEST, digest_of(b"image"), 395, "ignored", {"ignored": "too"})
    raw = referring.bundle_manifest(subject, b"bundle", created="2026-11-21T01:56:00Z")
    # One annotation is ours: a copy for readers of lists.
    own = ',"org.hallmark-signing.bundle":"YnVuZGxl"'
    assert own in raw.decode()
    assert raw.decode().replace(own, "") == COSIGN_REFERRER % (6, digest_of(b"bundle"), digest_of(b"image"))


def test_attaches_a_bundle(bench: Bench) -> None:
    subject = bench.registries().manifest(bench.reference).descriptor()
    digest, _written = referring.add_bundle(bench.registries(), bench.reference, subject, b"bundle", created="now")
    assert bench.referrers() == [digest]
    assert bench.manifests[digest].raw == referring.bundle_manifest(subject, b"bundle", created="now")
    assert bench.registry.blobs[REPOSITORY][digest_of(b"bundle")] == b"bundle"
    assert bench.registry.blobs[REPOSITORY][digest_of(b"{}")] == b"{}"
    assert (bench.fallback_tag in bench.manifests) is not bench.registry.referrers


def test_payload_of_a_layer_does_not_show_in_texts() -> None:
    assert "canary" not in repr(attachment.sig_layer(b"canary", b"", ""))
