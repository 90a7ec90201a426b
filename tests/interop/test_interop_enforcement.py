# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rendered policies where they are enforced: images are pulled by the real podman and skopeo of Debian 13.

Both find what was rendered where users have it, in .config/containers of their home.
"""

from __future__ import annotations

import datetime
import hashlib
import pathlib
import shutil
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file as files
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest as manifests
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._policy import builds
from ansible_collections.hallmark.signing.plugins.module_utils._signing import (
    attachment,
    certificate_path,
    material,
    payload,
    sign,
)
from interop_tools import Json, Registry
from openssl_pki import Pki
from test_interop_trust_policy import NAMES, NOW, World

if t.TYPE_CHECKING:
    from conftest import KeyFiles, Podman

Admits = t.Callable[[str], tuple[bool, str]]

# What both say, and of nothing else.
UNSIGNED = "A signature was required, but no signature exists"
FOREIGN = "cryptographic signature verification failed"
# Nobody answers there: what is pulled by this name came from the mirror.
ORIGINAL = "release.example.com"
HOST = "build.example.com"
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def world(
    registry: Registry, make_key: t.Callable[[str], KeyFiles], skopeo13: str | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    folder = tmp_path_factory.mktemp("enforcement")
    (folder / ".config").mkdir()
    (folder / ".config" / "containers").symlink_to(folder)
    return World(registry, {name: make_key("ecdsa-p256") for name in NAMES}, skopeo13 or "", folder)


@pytest.fixture(params=["skopeo", "podman"])
def admits(request: pytest.FixtureRequest, world: World) -> Admits:
    """Has an image pulled under the policy that is installed; returns whether it was admitted, and what was said."""
    if request.param == "podman":
        podman: Podman = request.getfixturevalue("podman13")
        return lambda image: podman.pull(image, home=world.folder)
    if not world.skopeo:
        pytest.skip("the skopeo of Debian 13 is not there: HALLMARK_PEERS names none")
    return world.admits


def _rule(*images: str, **members: t.Any) -> Json:
    return {"name": "images", "images": list(images), "any_of": ["a"], **members}


def _expect(admits: Admits, *rows: tuple[str, str]) -> None:
    """Expect each image to be admitted, or to be denied with these words."""
    for image, words in rows:
        found, said = admits(image)
        assert (found, words in said) == (not words, True), (image, words, said)


def _copy_signatures(registry: Registry, source: str, target: str) -> None:
    found, reference = registry.sig(source), references.parse(target)
    assert found is not None
    registry.client.put_manifest(reference.tagged(attachment.signature_tag(str(reference.digest))), found.raw)


def test_what_was_signed_is_admitted_and_nothing_else(world: World, registry: Registry, admits: Admits) -> None:
    name = registry.name()
    good, foreign, bundled, unsigned, changed = (
        registry.image(tag, name=name, tag=tag) for tag in ("good", "foreign", "bundled", "unsigned", "changed")
    )
    world.sign(good, ("a",))
    world.sign(foreign, ("b",))
    world.sign(bundled, ("a",), formats=("bundle",))
    _copy_signatures(registry, good, changed)
    assert world.install(world.policy(_rule(name)))
    _expect(
        admits, (good, ""), (f"{name}:good", ""), (unsigned, UNSIGNED), (f"{name}:unsigned", UNSIGNED),
        (foreign, FOREIGN), (f"{name}:foreign", FOREIGN), (bundled, UNSIGNED),
        (changed, "Source image rejected: Signature for digest"), (f"{name}:changed", "Signature for digest"),
    )


def test_a_repository_that_no_rule_is_about_is_what_the_default_says(
    world: World, registry: Registry, admits: Admits
) -> None:
    signed, other = registry.image(), registry.image()
    world.sign(signed, ("a",))
    for default, words in (("reject", "rejected by policy"), ("accept", "")):
        assert world.install(world.policy(_rule(signed.partition("@")[0]), default=default))
        _expect(admits, (signed, ""), (other, words))


def _index(registry: Registry) -> str:
    """Write an index of an image for each of two platforms, and return it by tag."""
    name, entries = registry.name(), []
    for platform in ("amd64", "arm64"):
        image = registry.image(platform, name=name, tag=platform)
        entry = registry.client.manifest(references.parse(image)).descriptor().as_json()
        entry["platform"] = {"os": "linux", "architecture": platform}
        entries.append(manifests.Descriptor("", "", 0, source=entry))
    raw = manifests.encode_index(entries)
    registry.client.put_manifest(references.parse(f"{name}:multi"), raw, media_type=manifests.OCI_INDEX)
    return f"{name}@sha256:{hashlib.sha256(raw).hexdigest()}"


def test_an_index_is_admitted_if_its_images_are_signed(world: World, registry: Registry, admits: Admits) -> None:
    whole, only = _index(registry), _index(registry)
    world.sign(whole, ("a",))
    signer = files.load(str(world.keys["a"].pem), passphrase=None, key_id=None)
    wish = sign.Wish((signer,), ("sig",), recursive=False)
    assert sign.sign_image(registry.client, only, wish).reasons == ()
    names = [one.partition("@")[0] for one in (whole, only)]
    assert world.install(world.policy(_rule(*names)))
    _expect(admits, (whole, ""), (f"{names[0]}:multi", ""), (only, UNSIGNED), (f"{names[1]}:multi", UNSIGNED))


# --- mirrors ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(world: World, registry: Registry) -> t.Iterator[str]:
    """A place of the registry that has what ORIGINAL is said to have."""
    place = registry.name()
    path = world.folder / "registries.conf"
    path.write_text(
        f'[[registry]]\nprefix = "{ORIGINAL}"\nlocation = "{ORIGINAL}"\n'
        f'[[registry.mirror]]\nlocation = "{place}"\ninsecure = true\n'
    )
    yield place
    path.unlink()


@pytest.mark.parametrize("pattern", [f"{ORIGINAL}/app", f"{ORIGINAL}/**"])
def test_signatures_are_found_in_the_mirror_that_images_come_from(
    world: World, registry: Registry, mirror: str, admits: Admits, pattern: str
) -> None:
    good, foreign, _unsigned, renamed = (
        registry.image(tag, name=f"{mirror}/app", tag=tag) for tag in ("good", "foreign", "unsigned", "renamed")
    )
    for image, name, reference in (
        (good, "a", f"{ORIGINAL}/app"), (foreign, "b", f"{ORIGINAL}/app"), (renamed, "a", f"{mirror}/app"),
    ):
        signer = files.load(str(world.keys[name].pem), passphrase=None, key_id=None)
        wish = sign.Wish((signer,), ("sig",), docker_reference=reference)
        assert sign.sign_image(registry.client, image, wish).reasons == ()
    assert world.install(world.policy(_rule(pattern, mirrors=[mirror])))
    _expect(
        admits, (f"{ORIGINAL}/app:good", ""), (f"{ORIGINAL}/app@{good.partition('@')[2]}", ""),
        (f"{ORIGINAL}/app:unsigned", UNSIGNED), (f"{ORIGINAL}/app:foreign", FOREIGN),
        (f"{ORIGINAL}/app:renamed", "Signature for identity"),
    )


# --- rotation --------------------------------------------------------------------------------------------------------


def test_podman_admits_both_keys_while_a_rotation_lasts(world: World, registry: Registry, podman13: Podman) -> None:
    old, new, foreign = registry.image(), registry.image(), registry.image()
    for image, name in zip((old, new, foreign), NAMES, strict=True):
        world.sign(image, (name,))
    rule = _rule(*(image.partition("@")[0] for image in (old, new, foreign)), any_of=["release"])
    for states, rows in (
        (("active", "staged"), ((old, ""), (new, FOREIGN))), (("retiring", "active"), ((old, ""), (new, ""))),
        (("withdrawn", "active"), ((old, FOREIGN), (new, ""))),
    ):
        generations = [
            {"generation": number, "state": state, "public_key_path": str(world.keys[name].public)}
            for number, (name, state) in enumerate(zip(NAMES, states), 1)
        ]
        assert world.install(world.policy(rule, authorities={"release": {"generations": generations}}))
        _expect(lambda image: podman13.pull(image, home=world.folder), *rows, (foreign, FOREIGN))


# --- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return Pki(tmp_path_factory.mktemp("pki"))


def _leaf(pki: Pki, name: str, *, host: str = HOST, usage: str = "codeSigning", **period: datetime.datetime) -> Json:
    """Have a certificate issued for a new key; return the signer and the certificate."""
    key = pki.key(name)
    request = pki.request(
        name, f"/CN={name}", f"subjectAltName=DNS:{host}", "keyUsage=critical,digitalSignature",
        f"extendedKeyUsage={usage}",
    )
    path = pki.issue_for(request, name=name, **period) if period else pki.issue(request, name=name)
    return {"signer": files.load(str(key), passphrase=None, key_id=None), "certificate": path}


def _sign_anyway(registry: Registry, image: str, leaf: Json, *chain: pathlib.Path) -> None:
    """Attach a signature with its certificates by hand: with some, ours would refuse to sign."""
    data = b"".join(path.read_bytes() for path in (leaf["certificate"], *chain))
    first, *above = certificate_path.read_certificates(data, where="test")
    attached = material.Material(material.SignerCertificate(first, tuple(above))).as_annotations()
    reference = references.parse(image)
    claim = payload.encode(payload.Payload(reference.signed_name, str(reference.digest), {}))
    signer = leaf["signer"]
    registry.put_sig(image, [attachment.sig_layer(claim, signer.sign(claim), signer.public.key_id, attached)])


def _sign(registry: Registry, image: str, leaf: Json, pki: Pki) -> None:
    """Sign as the module does."""
    public, path = leaf["signer"].public, leaf["certificate"]
    found = material.read_certificate(path.read_bytes(), pki.chain.read_bytes(), public=public, where=str(path))
    wish = sign.Wish((leaf["signer"],), ("sig",), certificates={public.key_id: found})
    assert sign.sign_image(registry.client, image, wish).reasons == ()


def test_certificates_of_a_private_authority(
    world: World, registry: Registry, pki: Pki, admits: Admits, tmp_path: pathlib.Path
) -> None:
    stranger = Pki(tmp_path / "stranger", "Stranger")
    rows = []
    for leaf, chain, words in (
        (_leaf(pki, "good"), [pki.chain], ""), (_leaf(pki, "bare"), [], ""),
        (_leaf(pki, "expired", begin=NOW - 2 * DAY, end=NOW - DAY), [pki.chain], "certificate has expired"),
        (_leaf(pki, "server", usage="serverAuth"), [pki.chain], "incompatible key usage"),
        (_leaf(pki, "other", host=f"other.{HOST}"), [pki.chain], "Unexpected subject hostname"),
        (_leaf(stranger, "stranger"), [stranger.chain], "unknown authority"),
    ):
        image = registry.image()
        _sign_anyway(registry, image, leaf, *chain)
        rows.append((image, words))
    ours, plain = registry.image(), registry.image()
    _sign(registry, ours, _leaf(pki, "ours"), pki)
    world.sign(plain, ("a",))
    rows += [(ours, ""), (plain, "missing dev.sigstore.cosign/certificate annotation")]
    authority = {
        "ca_path": str(pki.root), "intermediates_path": str(pki.sub), "san": {"type": "dns", "value": HOST},
    }
    rule = _rule(*(image.partition("@")[0] for image, _words in rows))
    assert world.install(world.policy(rule, authorities={"a": authority}))
    _expect(admits, *rows)


# --- builds that verify nothing --------------------------------------------------------------------------------------


def test_the_builds_of_debian_12_are_told_from_others(
    skopeo13: str | None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = pathlib.Path("/etc/os-release").read_text().splitlines()
    release = dict(line.split("=", 1) for line in lines if "=" in line)
    found = shutil.which("skopeo")
    if found is None or (release.get("ID"), release.get("VERSION_ID")) != ("debian", '"12"'):
        pytest.skip("this is no Debian 12 with its own skopeo")
    monkeypatch.setenv("HOME", str(tmp_path))
    place = str(tmp_path / ".config" / "containers")
    (only,) = [one for one in builds.refusals(place) if found in one.message]
    assert (only.code, "as in Debian 12" in only.message) == ("build_unsupported", True)
    # Another folder is for other hosts.
    assert builds.refusals(str(tmp_path)) == ()
    if skopeo13:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "skopeo").symlink_to(pathlib.Path(skopeo13).resolve().parent / "skopeo")
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        assert builds.refusals(place) == ()
