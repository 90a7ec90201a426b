# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An HSM room: openssl signs what image_payload wrote, and image_signature attaches what came back.

The keys are openssl's. No module, and no cosign, is ever given one.
"""

from __future__ import annotations

import base64
import json
import pathlib
import re
import shutil
import subprocess
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from cryptography.hazmat.primitives.asymmetric import utils
from interop_tools import Ansible, Cosign, Json, Registry, Task, said
from openssl_pki import Pki, openssl

if t.TYPE_CHECKING:
    from fast_modules import Modules

FORMATS = ("sig", "bundle")
NAME = "https://hsm.example.com/room"
ANNOTATIONS = {"build": "17", "text": "it's <b>\u00fc</b>"}


def _raw(der: bytes) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in utils.decode_dss_signature(der))


# What comes out of HSMs and signing servers, for the same signature.
SPELLINGS: dict[str, t.Callable[[bytes], bytes]] = {
    "der": lambda der: der,
    "base64": base64.b64encode,
    "wrapped-base64": base64.encodebytes,
    "raw": _raw,
    "raw-in-base64": lambda der: base64.b64encode(_raw(der)) + b"\n",
}
RSA = ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072")


class Room:
    """Where a key is: whoever has a payload signed gets a signature out, and a certificate."""

    def __init__(self, pki: Pki, name: str, *algorithm: str) -> None:
        self.pki = pki
        self._key = pki.key(name, *algorithm)
        request = pki.request(
            name, f"/O=Example/CN={name}", f"subjectAltName=URI:{NAME}", "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=codeSigning",
        )
        self.certificate = pki.issue(request, name=name)
        self.public = pki.folder / f"{name}.pub"
        openssl("pkey", "-in", self._key, "-pubout", "-out", self.public)

    def sign(self, payload: str, spelling: str = "der") -> str:
        """Sign a file, and return the path of the signature."""
        path = pathlib.Path(f"{payload}.{self._key.stem}.{spelling}")
        path.write_bytes(SPELLINGS[spelling](openssl("dgst", "-sha256", "-sign", self._key, payload)))
        return str(path)

    def signer(self, payloads: t.Iterable[Json], spelling: str = "der", *, certified: bool = True) -> Json:
        """Sign files; return an entry of option signers."""
        found = [{"payload_path": one["path"], "signature_path": self.sign(one["path"], spelling)} for one in payloads]
        if certified:
            paths = {"certificate_path": str(self.certificate), "chain_path": str(self.pki.chain)}
            return {"external": found, **paths}
        return {"external": [{**one, "public_key_path": str(self.public)} for one in found]}

    @property
    def authority(self) -> Json:
        """One entry of option trust, by its certificate."""
        paths = {"ca_path": str(self.pki.root), "intermediates_path": str(self.pki.sub)}
        return {**paths, "san": {"type": "uri", "value": NAME}}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return Pki(tmp_path_factory.mktemp("hsm"))


@pytest.fixture(scope="module")
def room(pki: Pki) -> Room:
    """A room with a P-256 key."""
    return Room(pki, "room")


@pytest.fixture(scope="module")
def rsa_room(pki: Pki) -> Room:
    """A room with an RSA key."""
    return Room(pki, "rsa-room", *RSA)


@pytest.fixture
def prepare(modules: Modules, tmp_path: pathlib.Path) -> t.Callable[..., list[Json]]:
    """Has payloads written."""

    def run(*images: str, **options: t.Any) -> list[Json]:
        made = modules.succeed("image_payload", images=list(images), dest=str(tmp_path / "to-sign"), **options)
        return t.cast("list[Json]", made["payloads"])

    return run


def _stored(registry: Registry, image: str) -> set[str]:
    """Return everything that the registry has of a repository: its tags, its manifests, its blobs."""
    reference = references.parse(image)
    folder = registry.folder / "data" / "docker" / "registry" / "v2" / "repositories" / reference.repository
    assert folder.is_dir()
    return {
        f"{path.relative_to(folder)}: {path.read_text()}" for path in folder.rglob("*")
        if path.is_file() and "_uploads" not in path.parts
    }


def _counted(registry: Registry, image: str) -> tuple[int, int]:
    return len(registry.layers(image)), len(registry.referrers(image))


# --- one image -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_openssl_signed_is_verified_by_everybody(
    spelling: str, modules: Modules, prepare: t.Callable[..., list[Json]], room: Room, registry: Registry,
    cosigns: list[Cosign],
) -> None:
    image = registry.image()
    payloads = prepare(image)
    digest = image.rpartition("@")[2]
    assert [(one["digest"], one["format"]) for one in payloads] == [(digest, format) for format in FORMATS]
    for one in payloads:
        assert openssl("dgst", "-sha256", "-r", one["path"]).split()[0].decode() == one["sha256"]
    options: Json = {
        "images": [image], "signers": [room.signer(payloads, spelling)], "attach_certificate": True,
    }
    assert modules.succeed("image_signature", check=True, **options)["changed"]
    assert _counted(registry, image) == (0, 0)
    assert modules.succeed("image_signature", **options)["changed"]
    before = _stored(registry, image)
    assert not modules.succeed("image_signature", **options)["changed"]
    assert _stored(registry, image) == before
    # Another signature of the same key over the same bytes is none that is missing.
    again = {**options, "signers": [room.signer(payloads, spelling)]}
    assert not modules.succeed("image_signature", **again)["changed"]
    assert _stored(registry, image) == before
    for format in FORMATS:
        modules.succeed("image_verify", images=[image], trust=[room.authority], formats=[format])
        for cosign in cosigns:
            if format == "sig" or cosign.major >= 3:
                done = cosign.verify_certified(image, NAME, chain=room.pki.chain, format=format)
                assert done.returncode == 0, f"{cosign.name}, {format}: {done.stderr}"


def test_keys_without_certificates_and_of_two_rooms(
    modules: Modules, prepare: t.Callable[..., list[Json]], room: Room, rsa_room: Room, registry: Registry,
    cosigns: list[Cosign],
) -> None:
    image = registry.image()
    payloads = prepare(image, annotations=ANNOTATIONS, docker_reference="registry.example.org/app")
    options: Json = {
        "images": [image], "annotations": ANNOTATIONS, "docker_reference": "registry.example.org/app", "signers": [
            room.signer(payloads, "raw", certified=False), rsa_room.signer(payloads, "base64", certified=False),
        ],
    }
    assert modules.succeed("image_signature", **options)["changed"]
    assert not modules.succeed("image_signature", **options)["changed"]
    assert _counted(registry, image) == (2, 2)
    trust = [{"public_key_path": str(one.public)} for one in (room, rsa_room)]
    for format in FORMATS:
        modules.succeed(
            "image_verify", images=[image], trust=trust, threshold=2, formats=[format], annotations=ANNOTATIONS
        )
    for cosign in cosigns:
        for one in (room, rsa_room):
            assert cosign.accepts(image, one.public, annotations=ANNOTATIONS)


# --- an index --------------------------------------------------------------------------------------------------------


def test_an_index_with_everything_in_it(
    modules: Modules, prepare: t.Callable[..., list[Json]], room: Room, registry: Registry, cosigns: list[Cosign]
) -> None:
    index, children = registry.index()
    everything = [index, *children]
    payloads = prepare(index)
    assert [(one["digest"], one["format"]) for one in payloads] == [
        (one.rpartition("@")[2], format) for one in everything for format in FORMATS
    ]
    options: Json = {"images": [index], "signers": [room.signer(payloads)], "attach_certificate": True}
    before = _stored(registry, index)
    # Without one of them, whichever it is, none is attached.
    for number in range(len(payloads)):
        some = {**options["signers"][0], "external": [
            one for place, one in enumerate(options["signers"][0]["external"]) if place != number
        ]}
        failed = modules.fail("image_signature", "not_found", **{**options, "signers": [some]})
        assert payloads[number]["sha256"] in failed["msg"]
        assert _stored(registry, index) == before
    assert modules.succeed("image_signature", **options)["changed"]
    assert not modules.succeed("image_signature", **options)["changed"]
    assert [_counted(registry, one) for one in everything] == [(1, 1)] * 3
    for format in FORMATS:
        modules.succeed("image_verify", images=[index], trust=[room.authority], formats=[format], recursive=True)
    for cosign in cosigns:
        for one in everything:
            done = cosign.verify_certified(one, NAME, chain=room.pki.chain)
            assert done.returncode == 0, f"{cosign.name}: {done.stderr}"


# --- what is wrong ---------------------------------------------------------------------------------------------------


def test_nothing_is_pushed_if_anything_is_wrong(
    modules: Modules, prepare: t.Callable[..., list[Json]], room: Room, rsa_room: Room, registry: Registry,
    tmp_path: pathlib.Path,
) -> None:
    image, another = registry.image(), registry.image()
    payloads = prepare(image)
    good = room.signer(payloads, certified=False)
    (first, second), certified = good["external"], room.signer(payloads)
    signature = pathlib.Path(first["signature_path"]).read_bytes()

    def file(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    def instead(**changed: str) -> Json:
        return {"external": [{**first, **changed}, second]}

    payload = pathlib.Path(first["payload_path"]).read_bytes()
    others = room.signer(prepare(another), certified=False)["external"]
    annotated = room.signer(prepare(image, annotations=ANNOTATIONS), certified=False)["external"]
    before = _stored(registry, image), _stored(registry, another)
    for code, signer in (
        ("signature_invalid", instead(signature_path=second["signature_path"])),
        ("signature_invalid", instead(signature_path=others[0]["signature_path"])),
        ("signature_invalid", instead(signature_path=rsa_room.sign(first["payload_path"]))),
        ("signature_invalid", instead(signature_path=file("flipped", signature[:-1] + bytes([signature[-1] ^ 1])))),
        ("signature_invalid", instead(signature_path=file("cut", signature[:-1]))),
        ("signature_invalid", instead(signature_path=file("twice", signature * 2))),
        ("signature_invalid", instead(signature_path=file("empty", b""))),
        ("signature_invalid", instead(signature_path=file("text", b"no signature\n"))),
        ("signature_invalid", instead(payload_path=file("newline", payload + b"\n"))),
        ("signature_invalid", instead(public_key_path=str(rsa_room.public))),
        ("not_found", instead(signature_path=str(tmp_path / "missing"))),
        ("not_found", {"external": [first]}),
        # Good signatures, of something else.
        ("not_found", {"external": [*others, second]}),
        ("not_found", {"external": annotated}),
        ("key_mismatch", {**good, "key_id": "0" * 64}),
        ("key_mismatch", {**good, "certificate_path": str(rsa_room.certificate)}),
        ("signature_invalid", {**certified, "certificate_path": str(rsa_room.certificate)}),
        ("input_invalid", {"external": []}),
        ("input_invalid", {"external": [{name: first[name] for name in ("payload_path", "signature_path")}, second]}),
    ):
        for check in (True, False):
            result = modules.run("image_signature", images=[image], signers=[signer], check=check)
            codes = {reason["code"] for reason in result["reasons"]}
            assert result["failed"], (code, signer)
            # Which key is wrong shows in either way: it is not that of the certificate, or did not sign.
            assert codes == {code} or (codes | {code} == {"signature_invalid", "key_mismatch"}), result["msg"]
            assert not result["changed"]
    # With a signer that has all it needs beside one that has not; with options that change the bytes.
    rsa = rsa_room.signer(payloads, certified=False)
    for options in (
        {"signers": [rsa, {"external": [first]}]}, {"signers": [good], "annotations": ANNOTATIONS},
        {"signers": [good], "docker_reference": "registry.example.org/app"},
    ):
        modules.fail("image_signature", "not_found", images=[image], **options)
    assert (_stored(registry, image), _stored(registry, another)) == before
    assert modules.succeed("image_signature", images=[image], signers=[good])["changed"]


def test_payloads_are_the_same_each_time(
    modules: Modules, registry: Registry, tmp_path: pathlib.Path
) -> None:
    index, _children = registry.index()
    options: Json = {"images": [index], "dest": str(tmp_path / "new" / "folder")}
    planned = modules.succeed("image_payload", check=True, **options)
    assert planned["changed"]
    assert not (tmp_path / "new").exists()
    first, second = (modules.succeed("image_payload", **options) for _number in range(2))
    assert [first["changed"], second["changed"]] == [True, False]
    assert planned["payloads"] == first["payloads"] == second["payloads"]
    assert len({one["path"] for one in first["payloads"]}) == 6


# --- beside cosign ---------------------------------------------------------------------------------------------------


def test_cosign_generates_the_same_bytes_and_attaches_the_same_signature(
    cosigns: list[Cosign], modules: Modules, prepare: t.Callable[..., list[Json]], room: Room, registry: Registry,
    tmp_path: pathlib.Path,
) -> None:
    image, annotated = registry.image(), registry.image()
    for one, signed in ((image, {}), (annotated, ANNOTATIONS)):
        (payload,) = prepare(one, annotations=signed, formats=["sig"])
        for cosign in cosigns:
            done = cosign.run("generate", *said(signed), one)
            assert done.returncode == 0, done.stderr
            assert done.stdout.encode() == pathlib.Path(payload["path"]).read_bytes(), cosign.name
    for cosign in cosigns:
        image = registry.image()
        (payload,) = prepare(image, formats=["sig"])
        text = room.sign(payload["path"], "base64")
        arguments = ["--payload", payload["path"], "--signature", text, "--certificate", str(room.certificate)]
        done = cosign.run("attach", "signature", *arguments, "--certificate-chain", str(room.pki.chain), image)
        assert done.returncode == 0, done.stderr
        modules.succeed("image_verify", images=[image], trust=[room.authority], formats=["sig"])
        modules.succeed("image_verify", images=[image], trust=[{"public_key_path": str(room.public)}])
        # What is there need not be attached.
        before = _stored(registry, image)
        signer = {
            "external": [{"payload_path": payload["path"], "signature_path": text}],
            "certificate_path": str(room.certificate), "chain_path": str(room.pki.chain),
        }
        options: Json = {"images": [image], "signers": [signer], "attach_certificate": True, "formats": ["sig"]}
        assert not modules.succeed("image_signature", **options)["changed"]
        assert _stored(registry, image) == before
        # And ours is as cosign's, but for the hint that names the key.
        (theirs,) = registry.layers(image)
        registry.put_sig(image, [])
        assert modules.succeed("image_signature", **options)["changed"]
        (layer,) = registry.layers(image)
        layer["annotations"].pop("org.hallmark-signing.key-id")
        assert layer == theirs


# --- as users do it --------------------------------------------------------------------------------------------------


def test_a_playbook_of_two_phases(ansible: Ansible, room: Room, registry: Registry, tmp_path: pathlib.Path) -> None:
    """The list of C(external) is made from what image_payload returned."""
    index, _children = registry.index()
    key = room.pki.folder / "room.key"
    external = (
        "{{ dict(paths | zip(paths | map('regex_replace', '$', '.signature'))) "
        "| dict2items(key_name='payload_path', value_name='signature_path') }}"
    )
    tasks = [
        Task("image_payload", {"images": [index], "dest": str(tmp_path)}, {"register": "prepared"}),
        Task(
            "ansible.builtin.command",
            {"argv": [
                "openssl", "dgst", "-sha256", "-sign", str(key), "-out", "{{ item.path }}.signature", "{{ item.path }}",
            ]},
            {"loop": "{{ prepared.payloads }}"},
        ),
        Task("image_signature", {
            "images": [index], "attach_certificate": True, "signers": [{
                "external": external, "certificate_path": str(room.certificate), "chain_path": str(room.pki.chain),
            }],
        }, {"vars": {"paths": "{{ prepared.payloads | map(attribute='path') | list }}"}}),
        Task("image_verify", {"images": [index], "trust": [room.authority], "recursive": True}),
    ]
    run = ansible.play([{"tasks": [task.as_json() for task in tasks]}]).require()
    assert not [result for result in run.results if result["failed"]], run.stdout
    assert run.results[-1]["verified"]
    secret = re.sub(r"-----.*?-----|\s", "", key.read_text())
    assert secret[:40] not in run.stdout + json.dumps(run.results)
    assert subprocess.run(["grep", "-rqF", secret[:40], str(tmp_path)], check=False).returncode == 1
