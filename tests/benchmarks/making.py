# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys, images and signatures to measure with."""

from __future__ import annotations

import pathlib
import subprocess
import typing as t
import zlib

from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file as file_signer
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest as manifests
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference, referrers
from ansible_collections.hallmark.signing.plugins.module_utils._oci.concurrency import map_ordered
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import Reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import bundle, dsse, referring, sign, statement
from contest import Bench

import demo_images  # isort: skip

MEBIBYTE = 1024**2
Format = t.Literal["sig", "bundle"]


def images() -> Images:
    """Return a client of the registries that run here."""
    return Images(RegistrySettings(AuthFile("none", {}), timeout=60))


def key(bench: Bench, name: str = "k") -> None:
    """Write k.pem, a private key as Certbot leaves it, k.pub, and k.key: the same as cosign takes it, encrypted."""
    (bench.folder / f"{name}.pem").touch(0o600)
    bench.run([
        "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{name}.pem",
    ])
    bench.run(["openssl", "pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub"])
    if bench.peers:
        program = bench.peers[-1].program
        bench.run([program, "import-key-pair", "--key", f"{name}.pem", "--output-key-prefix", name, "-y"])


def signer(folder: pathlib.Path) -> t.Any:
    """Return the signer of k.pem."""
    return file_signer.load(str(folder / "k.pem"), passphrase=None, key_id=None)


def write(names: t.Sequence[str]) -> list[str]:
    """Write a small image, not like any other, under each name; return the names with digests."""
    known = images().registries
    return [str(pinned) for pinned in map_ordered(
        lambda name: demo_images.write_image(known, reference.parse(name), {"name": name.encode()}), names, workers=8
    )]


def add_signatures(bench: Bench, names: t.Sequence[str], format: Format) -> None:
    """Sign images in one format."""
    known, wish = images(), sign.Wish((signer(bench.folder),), formats=(format,))

    def one(name: str) -> None:
        outcome = sign.sign_image(known, name, wish)
        if outcome.reasons:
            raise RuntimeError(str(outcome.reasons))

    map_ordered(one, names, workers=8)


class Hostile:
    """Images that are a burden to verify."""

    def __init__(self, bench: Bench, host: str) -> None:
        self._registries = images().registries
        self._host = host
        foreign = bench.folder / "foreign.pem"
        foreign.touch(0o600)
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(foreign)],
            check=True, capture_output=True,
        )
        self._foreign = file_signer.load(str(foreign), passphrase=None, key_id=None)

    def referrers(self, name: str, count: int) -> str:
        """Write an image to which so many bundles refer, none of which is by the key that is trusted."""
        image, subject = self._image(name)
        claims = [statement.encode(subject.digest, {"number": str(number)}) for number in range(count)]
        return self._attach(image, subject, map_ordered(
            lambda claim: self._store(image, subject, self._bundle(claim)), claims, workers=8
        ))

    def bomb(self, name: str, mebibytes: int) -> str:
        """Write an image whose one bundle is right, but followed by white space, and compressed to almost nothing."""
        image, subject = self._image(name)
        packer = zlib.compressobj(9, wbits=31)
        data = packer.compress(self._bundle(statement.encode(subject.digest, {})))
        data += b"".join(packer.compress(b" " * MEBIBYTE) for _number in range(mebibytes)) + packer.flush()
        return self._attach(image, subject, [self._store(image, subject, data)])

    def _image(self, name: str) -> tuple[Reference, manifests.Descriptor]:
        image = reference.parse(f"{self._host}/{name}:1")
        at = demo_images.write_image(self._registries, image, {"name": name.encode()})
        return image, self._registries.manifest(at).descriptor()

    def _bundle(self, claim: bytes) -> bytes:
        envelope = dsse.Envelope(claim, self._foreign.sign(dsse.pae(claim)))
        return bundle.encode(envelope, key_id=self._foreign.public.key_id)

    def _store(self, image: Reference, subject: manifests.Descriptor, data: bytes) -> manifests.Descriptor:
        self._registries.put_blob(image, manifests.EMPTY_OBJECT)
        self._registries.put_blob(image, data)
        raw = referring.bundle_manifest(subject, data, created="2026-01-01T00:00:00Z")
        stored = manifests.parse(raw, content_type="", where=str(image))
        self._registries.put_manifest(image.at(stored.digest), raw)
        return stored.as_referrer()

    def _attach(
        self, image: Reference, subject: manifests.Descriptor, entries: t.Sequence[manifests.Descriptor]
    ) -> str:
        raw = manifests.encode_index(entries)
        tag = image.tagged(referrers.fallback_tag(subject.digest))
        self._registries.put_manifest(tag, raw, media_type=manifests.OCI_INDEX)
        return str(image)
