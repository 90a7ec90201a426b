# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where signatures are: tags, layers and referrers as cosign writes them, and candidates that spoil only themselves."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError, RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._signing import attachment
from ansible_collections.hallmark.signing.plugins.module_utils._signing.attachment import Candidate
from ansible_collections.hallmark.signing.tests.unit.fake_registry import OCI_MANIFEST, Fault
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    BUNDLE_TYPE,
    HINT_ANNOTATION,
    PROVENANCE_TYPE,
    REPOSITORY,
    SIG_ANNOTATION,
    SIG_TYPE,
    Bench,
    Key,
    b64,
    bundle,
    compact,
    pae,
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


def find(bench: Bench, format: t.Any) -> list[attachment.Found]:
    return list(attachment.find(bench.registries(), bench.reference, bench.digest, format))


def found_codes(found: t.Sequence[attachment.Found]) -> list[str]:
    return [one.code if isinstance(one, HallmarkError) else "candidate" for one in found]


def test_tag_of_signatures() -> None:
    assert attachment.signature_tag("sha256:ab") == "sha256-ab.sig"


def test_no_signatures(bench: Bench) -> None:
    assert find(bench, "sig") == []
    assert find(bench, "bundle") == []


def test_reads_a_layer(bench: Bench, alice: Key) -> None:
    layer = bench.sign_sig(b"content", alice)
    (found,) = find(bench, "sig")
    assert isinstance(found, Candidate)
    assert (found.format, found.digest) == ("sig", layer["digest"])
    assert (found.content, found.signed_bytes) == (b"content", b"content")
    assert (b64(found.signature), found.hinted_key_id) == (layer["annotations"][SIG_ANNOTATION], None)
    assert not found.has_certificate


def test_reads_a_hint(bench: Bench) -> None:
    annotations = {SIG_ANNOTATION: b64(b"sig"), HINT_ANNOTATION: "some key"}
    bench.put_layers([bench.layer(b"content", None, annotations=annotations)])
    (found,) = find(bench, "sig")
    assert isinstance(found, Candidate)
    assert (found.signature, found.hinted_key_id) == (b"sig", "some key")


@pytest.mark.parametrize("media_type", ["text/plain", "", "application/vnd.docker.image.rootfs.diff.tar.gzip"])
def test_media_types_of_layers_do_not_matter(fallback: Bench, media_type: str) -> None:
    fallback.put_layers([fallback.layer(b"content", b"sig", mediaType=media_type)])
    assert found_codes(find(fallback, "sig")) == ["candidate"]


def test_two_signatures_over_one_payload_are_two_candidates(fallback: Bench, alice: Key, bob: Key) -> None:
    fallback.sign_sig(b"content", alice)
    fallback.sign_sig(b"content", bob)
    first, second = find(fallback, "sig")
    assert isinstance(first, Candidate)
    assert isinstance(second, Candidate)
    assert first.digest == second.digest
    assert first.signature != second.signature


@pytest.mark.parametrize(("text", "code"), [
    ("c2ln", "candidate"),
    ("c2\nln\n", "candidate"),
    ("c2\r\nln", "candidate"),
    (None, "malformed"),
    ("", "malformed"),
    ("\n", "malformed"),
    (" c2ln", "malformed"),
    ("c2ln=", "malformed"),
    ("_-_-", "malformed"),
    ("c2lnZg", "malformed"),
    ("c2lnZh==", "malformed"),
    ("\u00e9", "malformed"),
])
def test_spellings_of_a_signature(fallback: Bench, text: str | None, code: str) -> None:
    fallback.put_layers([fallback.layer(b"content", text)])
    assert found_codes(find(fallback, "sig")) == [code]


def test_a_broken_layer_spoils_only_itself_and_is_named(bench: Bench, alice: Key) -> None:
    good = bench.layer(b"content", alice.sign(b"content"))
    missing = bench.layer(b"missing", b"sig")
    del bench.registry.blobs[REPOSITORY][missing["digest"]]
    large = bench.layer(b"large", b"sig", size=256 * 1024 + 1)
    bench.put_layers([bench.layer(b"unsigned", None), missing, large, good])
    found = find(bench, "sig")
    assert found_codes(found) == ["malformed", "not_found", "limit_exceeded", "candidate"]
    digests = [one.signature for one in found if isinstance(one, HallmarkError)]
    assert digests == [digest_of(b"unsigned"), missing["digest"], large["digest"]]


def test_a_payload_of_the_largest_size_is_read(fallback: Bench) -> None:
    fallback.put_layers([fallback.layer(b"x" * 256 * 1024, b"sig")])
    assert found_codes(find(fallback, "sig")) == ["candidate"]


def test_layers_are_read_one_at_a_time(fallback: Bench, alice: Key, bob: Key) -> None:
    fallback.sign_sig(b"one", alice)
    fallback.sign_sig(b"two", bob)
    next(iter(attachment.find(fallback.registries(), fallback.reference, fallback.digest, "sig")))
    assert len(fallback.registry.requests("GET", "/blobs/")) == 1


@pytest.mark.parametrize(("count", "allowed"), [(1000, True), (1001, False)])
def test_at_most_1000_layers(fallback: Bench, count: int, allowed: bool) -> None:
    fallback.put_layers([fallback.layer(b"content", None)] * count)
    if allowed:
        assert len(find(fallback, "sig")) == 1000
        return
    with pytest.raises(RegistryError) as caught:
        find(fallback, "sig")
    assert caught.value.code == "limit_exceeded"


def test_reads_a_bundle(bench: Bench, alice: Key) -> None:
    digest = bench.sign_bundle(b"statement", alice)
    (found,) = find(bench, "bundle")
    assert isinstance(found, Candidate)
    assert (found.format, found.digest, found.content) == ("bundle", digest, b"statement")
    assert (found.signed_bytes, found.hinted_key_id, found.has_certificate) == (pae(b"statement"), alice.id, False)


def test_referrers_that_are_no_bundles_are_passed_over(bench: Bench, alice: Key) -> None:
    bench.refer(b"{}", layer={"mediaType": "application/spdx+json"})
    bench.refer(compact(bundle(b"x", alice)), layer={"mediaType": "application/vnd.dev.sigstore"})
    bench.refer(compact(bundle(b"x", alice)), layers=[])
    bench.refer(compact(bundle(b"x", alice)), layers=[bench.descriptor(b"{}", BUNDLE_TYPE)] * 2)
    assert find(bench, "bundle") == []
    assert not list(bench.registry.requests("GET", "/blobs/"))


def test_annotations_only_decide_what_is_looked_at_first(native: Bench, alice: Key) -> None:
    for number in range(4):
        native.sign_bundle(b"%d" % number, alice)
    other = native.refer(
        compact(bundle(b"other", alice)), annotations={"dev.sigstore.bundle.predicateType": PROVENANCE_TYPE}
    )
    last = find(native, "bundle")[-1]
    assert isinstance(last, Candidate)
    assert last.digest == other


def test_a_wrong_type_in_the_list_does_not_matter(fallback: Bench, alice: Key) -> None:
    # go-containerregistry before 0.22.1 writes the config's media type (cosign issue 4641).
    digest = fallback.sign_bundle(b"statement", alice)
    fallback.list_referrers([fallback.entry(digest, artifactType="application/vnd.oci.empty.v1+json")])
    assert found_codes(find(fallback, "bundle")) == ["candidate"]


def test_a_broken_bundle_spoils_only_itself_and_is_named(fallback: Bench, alice: Key) -> None:
    good = fallback.sign_bundle(b"statement", alice)
    malformed = fallback.refer(b"not JSON")
    missing = fallback.refer(b"missing")
    del fallback.registry.blobs[REPOSITORY][digest_of(b"missing")]
    gone = {**fallback.entry(good), "digest": digest_of(b"gone")}
    large = fallback.refer(b"large", layer={"size": 5 * 1024 * 1024 + 1})
    fallback.list_referrers([gone, *(fallback.entry(digest) for digest in (malformed, missing, large, good))])
    found = find(fallback, "bundle")
    assert found_codes(found) == ["not_found", "malformed", "not_found", "limit_exceeded", "candidate"]
    named = [one.signature for one in found if isinstance(one, HallmarkError)]
    assert named == [gone["digest"], malformed, missing, large]


def test_a_bundle_of_the_largest_size_is_read(fallback: Bench, alice: Key) -> None:
    data = compact(bundle(b"statement", alice))
    fallback.refer(data + b" " * (5 * 1024 * 1024 - len(data)))
    assert found_codes(find(fallback, "bundle")) == ["candidate"]


def test_a_layer_is_that_of_its_signature(fallback: Bench, alice: Key, bob: Key) -> None:
    fallback.sign_sig(b"content", alice)
    fallback.put_layers([*fallback.layers(), fallback.layer(b"content", f"\n{b64(bob.sign(b'content'))}")])
    manifest = fallback.registries().manifest(fallback.reference.tagged(fallback.sig_tag))
    found = [one for one in find(fallback, "sig") if isinstance(one, Candidate)]
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
    raw = attachment.bundle_manifest(subject, b"bundle", created="2026-11-21T01:56:00Z")
    assert raw.decode() == COSIGN_REFERRER % (6, digest_of(b"bundle"), digest_of(b"image"))


def test_attaches_a_bundle(bench: Bench) -> None:
    subject = bench.registries().manifest(bench.reference).descriptor()
    digest = attachment.add_bundle(bench.registries(), bench.reference, subject, b"bundle", created="now")
    assert bench.referrers() == [digest]
    assert bench.manifests[digest].raw == attachment.bundle_manifest(subject, b"bundle", created="now")
    assert bench.registry.blobs[REPOSITORY][digest_of(b"bundle")] == b"bundle"
    assert bench.registry.blobs[REPOSITORY][digest_of(b"{}")] == b"{}"
    assert (bench.fallback_tag in bench.manifests) is not bench.registry.referrers


def test_the_list_that_is_not_there_is_no_error_but_an_unreadable_one_is(bench: Bench) -> None:
    path = "/referrers/" if bench.registry.referrers else f"/manifests/{bench.fallback_tag}"
    bench.registry.fail(Fault(status=500), path=path)
    with pytest.raises(RegistryError) as caught:
        find(bench, "bundle")
    assert caught.value.code == "registry_error"


def test_private_content_does_not_show_in_texts(fallback: Bench, alice: Key) -> None:
    fallback.sign_sig(b"canary", alice)
    assert "canary" not in repr(find(fallback, "sig"))
    assert "canary" not in repr(attachment.sig_layer(b"canary", b"", ""))
