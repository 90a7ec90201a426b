# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images for the demonstration and for tests, written to a registry without an engine.

    demo_images.py tamper REFERENCE --key K  cases beside a signed image; prints them as JSON

Needs the collection on PYTHONPATH, and its libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tarfile

from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file as file_signer
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest, reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import read_auth_file
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import Reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import attachment, candidate, payload


def layer(files: dict[str, bytes]) -> bytes:
    """Return an uncompressed tar with these files, the same for the same input."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def write_image(registries: Registries, image: Reference, files: dict[str, bytes]) -> Reference:
    """Push a one-layer image and return it at its digest."""
    content = layer(files)
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
    }).encode("utf-8")
    raw = manifest.encode_image(
        config=manifest.Descriptor(manifest.OCI_CONFIG, registries.put_blob(image, config), len(config)),
        layers=[manifest.Descriptor(
            "application/vnd.oci.image.layer.v1.tar", registries.put_blob(image, content), len(content)
        )],
    )
    registries.put_manifest(image, raw)
    return image.at(f"sha256:{hashlib.sha256(raw).hexdigest()}")


def tamper(registries: Registries, signed: Reference, key_path: str) -> list[dict[str, object]]:
    """Write one image per attack and return the cases, each with the answer it must get.

    C(cosign) says whether the real cosigns accept; it differs from C(verified) only where we are stricter.
    """
    cases: list[dict[str, object]] = [
        {"case": "the released image", "image": str(signed), "verified": True, "reason": None, "cosign": True}
    ]
    changed = write_image(registries, signed.tagged("tampered"), {"index.html": b"tampered with\n"})
    cases.append({
        "case": "changed content, no signature", "image": str(changed), "verified": False,
        "reason": "no_signatures", "cosign": False,
    })
    copied = write_image(registries, signed.tagged("copied"), {"index.html": b"with a foreign signature\n"})
    signatures = registries.manifest(signed.tagged(candidate.signature_tag(str(signed.digest))))
    registries.put_manifest(copied.tagged(candidate.signature_tag(str(copied.digest))), signatures.raw)
    cases.append({
        "case": "changed content, the released image's signature", "image": str(copied), "verified": False,
        "reason": "digest_mismatch", "cosign": False,
    })
    retyped = write_image(registries, signed.tagged("retyped"), {"index.html": b"signed as something else\n"})
    claim = payload.encode(payload.Payload(signed.signed_name, str(retyped.digest), {}))
    claim = claim.replace(payload.TYPE.encode("ascii"), b"some other kind of signature")
    signer = file_signer.load(key_path, passphrase=None, key_id=None)
    attachment.add_sig(registries, retyped, str(retyped.digest), [
        attachment.sig_layer(claim, signer.sign(claim), signer.public.key_id)
    ])
    cases.append({
        "case": "signed as something other than an image (stricter than cosign)", "image": str(retyped),
        "verified": False, "reason": "type_mismatch", "cosign": True,
    })
    return cases


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    tampering = commands.add_parser("tamper")
    tampering.add_argument("reference")
    tampering.add_argument("--key", required=True)
    given = parser.parse_args()
    registries = Registries(RegistrySettings(read_auth_file(None)))
    print(json.dumps(tamper(registries, reference.parse(given.reference), given.key)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
