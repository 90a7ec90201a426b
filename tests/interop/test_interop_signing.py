# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signatures of ours before the real cosigns, and theirs before us: through the modules, and side by side.

What every kind of key comes to, in each format, is the table of test_interop_matrix.py.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._signing import attachment, payload
from interop_tools import PASSWORD, Ansible, Cosign, Json, Registry, Task, said

if t.TYPE_CHECKING:
    import pathlib

    from conftest import KeyFiles

FORMATS = ("sig", "bundle")
ANNOTATIONS = {"env": "prod", "text": "a <b> & c, é \u2028 \"quoted\""}


def _sign(images: list[str], key: KeyFiles, **options: t.Any) -> Task:
    return Task("image_signature", {"images": images, "signers": [key.signer], **options})


def _verify(images: list[str], *keys: KeyFiles, **options: t.Any) -> Task:
    return Task("image_verify", {
        "images": images, "trust": [{"name": key.key_id, "public_key_path": str(key.public)} for key in keys],
        "on_failure": "report", **options,
    })


def _codes(result: Json) -> list[str]:
    return [reason["code"] for reason in result["reasons"]]


def _reads(cosign: Cosign, format: str) -> bool:
    return format == "sig" or cosign.major >= 3


# --- ours, read by cosign --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours(registry: Registry, ansible: Ansible, p256: KeyFiles) -> dict[str, str]:
    """Images that we signed, by format: each with annotations, by its tag."""
    images = {format: registry.image() for format in FORMATS}
    results = ansible.run([
        _sign([f"{image.partition('@')[0]}:1"], p256, formats=[format], annotations=ANNOTATIONS)
        for format, image in images.items()
    ])
    for image, result in zip(images.values(), results, strict=True):
        assert result["changed"], result
        assert result["results"][0]["reference"] == image
    return images


def test_cosign_verifies_ours_by_tag_and_digest_with_annotations(
    ours: dict[str, str], p256: KeyFiles, cosign: Cosign
) -> None:
    for image in [image for format, image in ours.items() if _reads(cosign, format)]:
        for reference in (image, f"{image.partition('@')[0]}:1"):
            done = cosign.verify(reference, p256.public, annotations=ANNOTATIONS)
            assert done.returncode == 0, done.stderr
        claim = json.loads(done.stdout)[0]
        assert claim["critical"]["image"]["docker-manifest-digest"] == image.partition("@")[2]
        assert claim["optional"].items() >= ANNOTATIONS.items()


@pytest.mark.parametrize("format", FORMATS)
def test_cosign_refuses_ours_for_another_key_and_for_other_annotations(
    ours: dict[str, str], p256: KeyFiles, other: KeyFiles, cosign: Cosign, format: str
) -> None:
    image = ours[format]
    assert cosign.accepts(image, p256.public) == _reads(cosign, format)
    assert not cosign.accepts(image, other.public)
    assert not cosign.accepts(image, p256.public, annotations={"env": "test"})


# --- cosign's, read by us --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(registry: Registry, cosigns: list[Cosign], p256: KeyFiles) -> dict[str, list[str]]:
    """Images that each cosign signed, by the formats that they write."""
    images: dict[str, list[str]] = {format: [] for format in FORMATS}
    for cosign in cosigns:
        for format in FORMATS if cosign.major >= 3 else ("sig",):
            images[format].append(registry.image())
            cosign.sign(images[format][-1], p256.cosign, format=format, annotations=ANNOTATIONS)
    return images


@pytest.mark.parametrize("format", FORMATS)
def test_we_verify_cosigns(
    theirs: dict[str, list[str]], p256: KeyFiles, other: KeyFiles, ansible: Ansible, format: str
) -> None:
    images = theirs[format]
    if not images:
        pytest.skip(f"no cosign that writes format {format} is there")
    found, annotated, foreign, wrong, unlisted = ansible.run([
        _verify(images, other, p256),
        _verify(images, other, p256, formats=[format], annotations=ANNOTATIONS, docker_reference_check="repository"),
        _verify(images, other),
        _verify(images, p256, annotations={"env": "test"}),
        _verify(images, p256, formats=[one for one in FORMATS if one != format]),
    ])
    assert found["verified"], found["msg"]
    assert annotated["verified"], annotated["reasons"]
    for image, result in zip(images, found["results"], strict=True):
        signature = result["signatures"][0]
        assert (signature["format"], signature["algorithm"]) == (format, p256.algorithm)
        assert signature["key_id"] == p256.key_id == result["authorities"][0]
        assert signature["annotations"] == ANNOTATIONS
        assert result["reference"] == image
    for result, code in ((foreign, "signature_invalid"), (wrong, "annotation_mismatch"), (unlisted, "no_signatures")):
        assert [_codes(image)[0] for image in result["results"]] == [code] * len(images)
        assert not any(image["verified"] for image in result["results"])


# --- idempotence, and life beside cosign -----------------------------------------------------------------------------


@dataclass
class Scene:
    """An image, what lies beside it, and what shall happen to it."""

    image: str
    registry: Registry

    def state(self) -> tuple[list[Json], list[str]]:
        """Return the layers of the .sig manifest and the referrers."""
        return self.registry.layers(self.image), self.registry.referrers(self.image)


@pytest.fixture
def scene(registry: Registry) -> Scene:
    """A new image without signatures."""
    return Scene(registry.image(), registry)


def test_signing_again_adds_nothing_by_tag_or_digest_or_after_cosign(
    registry: Registry, ansible: Ansible, p256: KeyFiles, cosigns: list[Cosign]
) -> None:
    own = registry.image()
    theirs = {cosign.name: registry.image() for cosign in cosigns}
    mixed = registry.image()
    for cosign in cosigns:
        cosign.sign(theirs[cosign.name], p256.cosign)
        cosign.sign(mixed, p256.cosign)
    by_tag = f"{own.partition('@')[0]}:1"
    before_mixed = (registry.layers(mixed), registry.referrers(mixed))
    first, again, tagged, after = ansible.run([
        _sign([own], p256), _sign([own], p256), _sign([by_tag, f"{by_tag}@{own.partition('@')[2]}"], p256),
        _sign([mixed, *theirs.values()], p256),
    ])
    assert first["changed"]
    assert [signature["created"] for signature in first["results"][0]["signatures"]] == [True, True]
    for result in (again, tagged):
        assert not result["changed"], result
        assert {one["reference"] for one in result["results"]} == {own}
    assert len(registry.layers(own)) == len(registry.referrers(own)) == 1
    # After each cosign signed in its own format, we add only what is missing.
    both = {cosign.own_format for cosign in cosigns} == set(FORMATS)
    assert after["results"][0]["changed"] is not both
    if both:
        assert (registry.layers(mixed), registry.referrers(mixed)) == before_mixed
    for cosign, result in zip(cosigns, after["results"][1:], strict=True):
        created = {signature["format"]: signature["created"] for signature in result["signatures"]}
        assert created == {format: format != cosign.own_format for format in FORMATS}
        assert len(registry.layers(result["reference"])) == len(registry.referrers(result["reference"])) == 1


def test_cosign_adds_nothing_to_ours_in_the_old_format(
    scene: Scene, run_module: t.Callable[..., Json], p256: KeyFiles, cosigns: list[Cosign]
) -> None:
    run_module("image_signature", {"images": [scene.image], "signers": [p256.signer]})
    before = scene.registry.layers(scene.image)
    for cosign in cosigns:
        cosign.sign(scene.image, p256.cosign, format="sig")
    after = scene.registry.layers(scene.image)
    # cosign compares every annotation that it would write: ours has one more, and that does not matter.
    assert after == before
    # In bundles it looks for no duplicates: what is there stays.
    for cosign in cosigns:
        if cosign.major >= 3:
            bundles = scene.registry.referrers(scene.image)
            cosign.sign(scene.image, p256.cosign)
            assert set(bundles) < set(scene.registry.referrers(scene.image))


def test_cosign_appends_to_ours_and_we_to_cosigns(
    registry: Registry, ansible: Ansible, p256: KeyFiles, other: KeyFiles, make_key: t.Callable[[], KeyFiles],
    cosigns: list[Cosign],
) -> None:
    third = make_key()
    images = {cosign.name: registry.image() for cosign in cosigns}
    everything = list(images.values())
    ansible.run([_sign(everything, p256)])
    first = {image: (registry.layers(image), registry.referrers(image)) for image in everything}
    for cosign in cosigns:
        cosign.sign(images[cosign.name], other.cosign)
        if cosign.major >= 3:
            cosign.sign(images[cosign.name], other.cosign, format="sig")
    second = {image: (registry.layers(image), registry.referrers(image)) for image in everything}
    added, threshold = ansible.run([
        _sign(everything, third), _verify(everything, p256, other, third, threshold=3, formats=["sig"]),
    ])
    assert added["changed"]
    assert threshold["verified"], threshold["reasons"]
    for cosign in cosigns:
        image = images[cosign.name]
        last = (registry.layers(image), registry.referrers(image))
        for older, newer in ((first[image], second[image]), (second[image], last)):
            # cosign may write the members of a layer in another order; no layer and no annotation is lost.
            assert newer[0][: len(older[0])] == older[0]
            assert set(older[1]) <= set(newer[1])
        assert len(last[0]) == 3
        for reader in cosigns:
            for key in (p256, third, *([other] if cosign.major >= 3 or reader.major < 3 else [])):
                done = reader.verify(image, key.public)
                assert done.returncode == 0, f"{reader.name} on {cosign.name}'s: {done.stderr}"


def test_a_bundle_hides_sig_signatures_from_newer_cosigns_and_we_warn(
    registry: Registry, ansible: Ansible, p256: KeyFiles, other: KeyFiles, bundle_cosign: Cosign
) -> None:
    image = registry.image()
    bundle_cosign.sign(image, other.cosign)
    signed, verified, mended = ansible.run([
        _sign([image], p256, formats=["sig"]), _verify([image], p256), _sign([image], p256),
    ])
    assert [warning["code"] for warning in signed["results"][0]["warnings"]] == ["bundle_hides_sig"]
    assert verified["verified"]
    assert mended["results"][0]["warnings"] == []
    assert bundle_cosign.accepts(image, p256.public)


def test_cosign_does_not_see_what_a_bundle_hides(
    registry: Registry, run_module: t.Callable[..., Json], p256: KeyFiles, other: KeyFiles, bundle_cosign: Cosign
) -> None:
    image = registry.image()
    bundle_cosign.sign(image, other.cosign)
    run_module("image_signature", {"images": [image], "signers": [p256.signer], "formats": ["sig"]})
    assert not bundle_cosign.accepts(image, p256.public)


# --- indexes ---------------------------------------------------------------------------------------------------------


def test_recursive_signatures_of_ours_are_verified_by_cosign(
    registry: Registry, ansible: Ansible, p256: KeyFiles, cosigns: list[Cosign]
) -> None:
    index, children = registry.index()
    flat, flat_children = registry.index()
    signed, alone, again, report, missing = ansible.run([
        _sign([index], p256), _sign([flat], p256, recursive=False), _sign([index], p256),
        _verify([index, *children], p256, recursive=True, threshold=1), _verify([flat], p256, recursive=True),
    ])
    assert signed["changed"]
    assert alone["changed"]
    assert not again["changed"]
    subjects = [one["subject"] for one in signed["results"][0]["signatures"]]
    assert sorted(subjects) == sorted(one.partition("@")[2] for one in [index, *children] * 2)
    assert report["verified"], report["reasons"]
    assert set(_codes(missing)) == {"no_signatures"}
    for cosign in cosigns:
        for image in (index, *children, flat):
            assert cosign.accepts(image, p256.public)
        assert not cosign.accepts(flat_children[0], p256.public)


def test_recursive_signatures_of_cosign_are_verified_by_us(
    registry: Registry, ansible: Ansible, p256: KeyFiles, cosigns: list[Cosign]
) -> None:
    made = [registry.index() for _cosign in cosigns]
    for cosign, (index, _children) in zip(cosigns, made, strict=True):
        cosign.sign(index, p256.cosign, "--recursive")
    (result,) = ansible.run([_verify([index for index, _children in made], p256, recursive=True)])
    assert result["verified"], result["reasons"]
    assert [len(one["signatures"]) for one in result["results"]] == [3] * len(made)


# --- broken and foreign ----------------------------------------------------------------------------------------------


def test_everybody_refuses_a_payload_that_was_changed(
    registry: Registry, ansible: Ansible, p256: KeyFiles, cosigns: list[Cosign]
) -> None:
    genuine, image = registry.image("genuine"), registry.image("replaced")
    ansible.run([_sign([genuine], p256)])
    (layer,) = registry.layers(genuine)
    client = registry.client
    reference = references.parse(genuine)
    signed = client.blob(
        reference, client.manifest(
            reference.tagged(attachment.signature_tag(str(reference.digest)))
        ).layers[0], limit=payload.MAX_SIZE,
    )
    # The same signature, beside a payload that names another image.
    changed = signed.replace(genuine.partition("@")[2].encode(), image.partition("@")[2].encode())
    copied = attachment.sig_layer(changed, b"", p256.key_id)
    copied.descriptor.annotations[attachment.SIGNATURE_ANNOTATION] = (  # type: ignore[index]
        layer["annotations"][attachment.SIGNATURE_ANNOTATION]
    )
    registry.put_sig(image, [copied])
    (result,) = ansible.run([_verify([image], p256)])
    assert _codes(result) == ["signature_invalid"]
    for cosign in cosigns:
        assert not cosign.accepts(image, p256.public)
    # The genuine payload beside the wrong image.
    copied_whole = registry.image("copied")
    registry.put_sig(copied_whole, [attachment.Layer(
        client.manifest(reference.tagged(attachment.signature_tag(str(reference.digest)))).layers[0], signed,
    )])
    (result,) = ansible.run([_verify([copied_whole], p256)])
    assert _codes(result) == ["digest_mismatch"]
    for cosign in cosigns:
        assert not cosign.accepts(copied_whole, p256.public)


# --- keys and payloads -----------------------------------------------------------------------------------------------


def test_cosign_loads_keys_that_we_wrote(
    registry: Registry, ansible: Ansible, cosigns: list[Cosign], tmp_path: pathlib.Path, keys: dict[str, KeyFiles]
) -> None:
    wished = [("ecdsa-p256", None), ("rsa-3072", None), ("rsa-2048", keys["rsa-2048"].pem)]
    results = ansible.run([
        Task("signing_key", {
            "path": str(tmp_path / f"{algorithm}.key"), "public_key_path": str(tmp_path / f"{algorithm}.pub"),
            "format": "cosign", "passphrase": PASSWORD,
            **({"source_path": str(source)} if source else {"algorithm": algorithm}),
        }) for algorithm, source in wished
    ])
    for (algorithm, _source), result in zip(wished, results, strict=True):
        assert (result["algorithm"], result["format"], result["encrypted"]) == (algorithm, "cosign", True)
        for cosign in cosigns:
            printed = cosign.run("public-key", "--key", str(tmp_path / f"{algorithm}.key"))
            assert printed.stdout == result["public_key"], printed.stderr
            assert printed.stdout == (tmp_path / f"{algorithm}.pub").read_text()
            image = registry.image()
            cosign.sign(image, tmp_path / f"{algorithm}.key")
            assert cosign.accepts(image, tmp_path / f"{algorithm}.pub")
            refused = cosign.run("public-key", "--key", str(tmp_path / f"{algorithm}.key"), password="wrong-password")
            assert refused.returncode != 0


def test_we_load_keys_that_cosign_wrote(
    registry: Registry, ansible: Ansible, cosigns: list[Cosign], tmp_path: pathlib.Path
) -> None:
    given = tmp_path / "passphrase"
    given.write_text(PASSWORD + "\n")
    tasks: list[Task] = []
    images = []
    for cosign in cosigns:
        prefix = tmp_path / f"cosign{cosign.major}"
        made = cosign.run("generate-key-pair", "--output-key-prefix", str(prefix))
        assert made.returncode == 0, made.stderr
        images.append(registry.image())
        tasks += [
            Task("signing_key_info", {"paths": [f"{prefix}.key", f"{prefix}.pub"], "passphrase_path": str(given)}),
            Task("image_signature", {
                "images": [images[-1]],
                "signers": [{"private_key_path": f"{prefix}.key", "passphrase_path": str(given)}],
            }),
            Task("signing_key", {
                "path": f"{prefix}.pem", "source_path": f"{prefix}.key", "source_passphrase_path": str(given),
            }),
            Task("image_signature", {
                "images": [images[-1]],
                "signers": [{"private_key_path": f"{prefix}.key", "passphrase": "not this passphrase"}],
            }),
        ]
    results = ansible.run(tasks)
    for number, cosign in enumerate(cosigns):
        info, signed, converted, refused = results[4 * number:4 * number + 4]
        private, public = info["signing_keys"]
        assert (private["format"], public["format"]) == ("cosign", "spki")
        assert private["key_id"] == public["key_id"] == converted["key_id"]
        assert signed["changed"], signed
        assert _codes(refused) == ["passphrase_invalid"]
        assert cosign.accepts(images[number], tmp_path / f"cosign{cosign.major}.pub")


def test_empty_password_of_cosign_can_be_read(
    ansible: Ansible, registry: Registry, cosigns: list[Cosign], tmp_path: pathlib.Path
) -> None:
    cosign = cosigns[0]
    prefix = tmp_path / "empty"
    assert cosign.run("generate-key-pair", "--output-key-prefix", str(prefix), password="").returncode == 0
    image = registry.image()
    (signed,) = ansible.run([Task("image_signature", {
        "images": [image], "signers": [{"private_key_path": f"{prefix}.key", "passphrase": ""}],
    })])
    assert signed["changed"], signed
    assert cosign.accepts(image, f"{prefix}.pub")


@pytest.mark.parametrize("annotations", [{}, {"a": "1", "B": "2"}, ANNOTATIONS], ids=["none", "two", "special"])
def test_cosign_generates_byte_for_byte_our_payload(
    registry: Registry, cosign: Cosign, annotations: dict[str, str]
) -> None:
    image = registry.image()
    done = cosign.run("generate", *said(annotations), image)
    if done.returncode != 0 and cosign.major > 3:
        pytest.skip(f"{cosign.name} has no generate any more")
    reference = references.parse(image)
    ours = payload.encode(payload.Payload(reference.signed_name, str(reference.digest), annotations))
    assert done.stdout.encode() == ours


# --- removing --------------------------------------------------------------------------------------------------------


def test_removing_by_key_id_leaves_the_other_keys_signatures(
    registry: Registry, ansible: Ansible, p256: KeyFiles, other: KeyFiles, cosigns: list[Cosign]
) -> None:
    image, foreign = registry.image(), registry.image()
    for cosign in cosigns:
        cosign.sign(foreign, p256.cosign)
        cosign.sign(foreign, other.cosign)
    absent = {"state": "absent", "key_ids": [p256.key_id]}
    known = {**absent, "public_key_paths": [str(p256.public)]}
    signed, removed, again, unknown, recognised, report = ansible.run([
        Task("image_signature", {"images": [image], "signers": [p256.signer, other.signer]}),
        Task("image_signature", {"images": [image], **absent}), Task("image_signature", {"images": [image], **absent}),
        Task("image_signature", {"images": [foreign], **absent, "formats": ["sig"]}),
        Task("image_signature", {"images": [foreign], **known}),
        _verify([image, foreign], p256),
    ])
    assert len(signed["results"][0]["signatures"]) == 4
    assert sorted(one["format"] for one in removed["results"][0]["signatures"]) == ["bundle", "sig"]
    assert {one["key_id"] for one in removed["results"][0]["signatures"]} == {p256.key_id}
    assert not again["changed"]
    assert again["results"][0]["signatures"] == []
    # The old format of cosign names no key: nothing is guessed.
    assert not unknown["changed"]
    if any(cosign.major == 2 for cosign in cosigns):
        assert [warning["code"] for warning in unknown["results"][0]["warnings"]] == ["key_unknown"]
    assert recognised["changed"]
    assert [one["verified"] for one in report["results"]] == [False, False]
    for cosign in cosigns:
        for one in (image, foreign):
            assert cosign.accepts(one, other.public)
            assert not cosign.accepts(one, p256.public)


def test_removing_all_leaves_an_unsigned_image(
    registry: Registry, ansible: Ansible, p256: KeyFiles, other: KeyFiles, cosigns: list[Cosign]
) -> None:
    image = registry.image()
    for cosign in cosigns:
        cosign.sign(image, other.cosign)
    ansible.run([_sign([image], p256), Task("image_signature", {"images": [image], "state": "absent", "all": True})])
    assert (registry.layers(image), registry.referrers(image)) == ([], [])
    assert [cosign.verify(image, other.public).returncode for cosign in cosigns] == [10] * len(cosigns)
    for cosign in cosigns:
        # And it can be signed again.
        cosign.sign(image, other.cosign)
        assert cosign.accepts(image, other.public)


def test_check_mode_writes_nothing_and_tells_what_it_would_do(
    scene: Scene, run_module: t.Callable[..., Json], p256: KeyFiles, cosigns: list[Cosign]
) -> None:
    result = run_module("image_signature", {"images": [scene.image], "signers": [p256.signer]}, check=True)
    assert result["changed"]
    assert [one["created"] for one in result["results"][0]["signatures"]] == [True, True]
    assert scene.state() == ([], [])
    assert not any(cosign.accepts(scene.image, p256.public) for cosign in cosigns)
