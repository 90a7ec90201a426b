# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths of certificates, and names in them: what openssl and the real cosigns make of those that we judge.

The table is that of the unit tests. Where a peer thinks otherwise, the table says why; it must then really do so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import typing as t
from dataclasses import dataclass, field

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import writing
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._signing import certificate_path, identity
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as bench
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from interop_tools import PASSWORD, Cosign, Registry

if t.TYPE_CHECKING:
    import pathlib

CASES = bench.cases()
BLOB = b"content"
# A purpose holds all of a path to its usage. For signed code, openssl 3.0 has none.
PURPOSES = {"emailProtection": "smimesign", "serverAuth": "sslserver"}
ANYBODY = ("--certificate-identity-regexp=.*", "--certificate-oidc-issuer-regexp=.*")
NO_LOG = ("--insecure-ignore-tlog=true", "--insecure-ignore-sct=true")


def _accepts(case: bench.Case) -> bool:
    try:
        certificate_path.find_path(
            case.leaf, intermediates=case.intermediates, roots=case.roots, at=bench.NOW, eku=case.eku, where="test"
        )
    except HallmarkError:
        return False
    return True


def _write(case: bench.Case, folder: pathlib.Path) -> None:
    for name, certificates in (("leaf", (case.leaf,)), ("sub", case.intermediates), ("root", case.roots)):
        (folder / f"{name}.pem").write_bytes(bench.pem(*certificates))


# --- openssl ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_openssl_judges_alike(case: bench.Case, tmp_path: pathlib.Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    _write(case, tmp_path)
    done = subprocess.run(
        [
            "openssl", "verify", "-attime", str(int(bench.NOW.timestamp())), "-auth_level", "2", "-partial_chain",
            "-purpose", PURPOSES.get(case.eku, "any"), "-no-CApath", "-no-CAstore", "-CAfile", "root.pem",
            "-untrusted", "sub.pem", "leaf.pem",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )
    expected = _accepts(case) != bool(case.openssl)
    assert (done.returncode == 0) == expected, f"{case.openssl}\n{done.stdout}{done.stderr}"


# --- cosign ----------------------------------------------------------------------------------------------------------


def _signature(case: bench.Case) -> bytes:
    key = case.signer.key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(BLOB, ec.ECDSA(hashes.SHA256()))
    return key.sign(BLOB, padding.PKCS1v15(), hashes.SHA256()) if isinstance(key, rsa.RSAPrivateKey) else b"none"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _raw(certificate: bench.Cert) -> dict[str, str]:
    return {"rawBytes": _b64(certificate.public_bytes(serialization.Encoding.DER))}


def _trusted_root(case: bench.Case) -> dict[str, t.Any]:
    """The roots and intermediates as cosign 3 wants them: an authority for each root."""
    return {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "certificateAuthorities": [{
            "uri": "https://ca.example.com", "subject": {"organization": "Example", "commonName": "Example"},
            "certChain": {"certificates": [_raw(one) for one in (*case.intermediates, root)]},
            "validFor": {"start": "2000-01-01T00:00:00Z"},
        } for root in case.roots],
    }


def _bundle(case: bench.Case) -> dict[str, t.Any]:
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"certificate": _raw(case.leaf)},
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": _b64(hashlib.sha256(BLOB).digest())},
            "signature": _b64(_signature(case)),
        },
    }


def _verify_blob(cosign: Cosign, case: bench.Case, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    _write(case, folder)
    (folder / "blob").write_bytes(BLOB)
    (folder / "signature").write_text(_b64(_signature(case)))
    (folder / "bundle").write_text(json.dumps(_bundle(case)))
    (folder / "trusted").write_text(json.dumps(_trusted_root(case)))
    flags = ["--bundle", f"{folder}/bundle", "--trusted-root", f"{folder}/trusted"] if cosign.major >= 3 else [
        "--certificate", f"{folder}/leaf.pem", "--ca-roots", f"{folder}/root.pem",
        "--ca-intermediates", f"{folder}/sub.pem", "--signature", f"{folder}/signature",
    ]
    return cosign.run("verify-blob", *flags, *ANYBODY, *NO_LOG, f"{folder}/blob")


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES if case.eku == "codeSigning"])
def test_cosign_judges_alike(case: bench.Case, cosign: Cosign, tmp_path: pathlib.Path) -> None:
    done = _verify_blob(cosign, case, tmp_path)
    why = case.cosign or (case.legacy_cosign if cosign.major < 3 else "")
    assert (done.returncode == 0) == (_accepts(case) != bool(why)), f"{why}\n{done.stderr}"


# --- images, signed by cosign with a certificate ---------------------------------------------------------------------


JOB = {"type": "uri", "value": "https://ci.example.com/job"}
MAIL = {"type": "email", "value": "dev@example.com"}
NODE = {"type": "dns", "value": "ci.example.com"}
MISMATCH = "identity_mismatch"
# A subject that looks like the name of a host.
HOST = bench.Subject("leaf", name=bench.name(CN="ci.example.com"))
FULCIO = bench.other_name("1.3.6.1.4.1.57264.1.7", bench.utf8("user!example.com"))
LEAVES = {
    "usual": bench.leaf(),
    "email": bench.leaf(sans=[bench.email("dev@example.com")]),
    "other-name": bench.leaf(sans=[FULCIO], critical_sans=True),
    "dns": bench.leaf(sans=[bench.dns("ci.example.com")]),
    "several": bench.leaf(sans=[bench.JOB, bench.email("dev@example.com")]),
    "wildcard": bench.leaf(sans=[bench.dns("*.example.com")]),
    "common-name": bench.leaf(subject=HOST),
    "no-name": bench.leaf(subject=HOST, sans=[]),
    "no-usage": bench.leaf(eku=[]),
    "any-usage": bench.leaf(eku=["any"]),
    "web-server": bench.leaf(eku=["serverAuth", "clientAuth"]),
    "expired": bench.leaf(**bench.PAST),
    "not-yet-valid": bench.leaf(**bench.FUTURE),
    "old": bench.leaf(start=bench.PAST["start"]),
}
# cosign does not sign with a chain that it does not like; critical other names it likes only where it verifies.
SIGNED_WITHOUT_CHAIN = ("other-name", "web-server")


@dataclass(frozen=True)
class Row:
    """A certificate, the name that is asked for, and our verdict: None, or the code of the refusal.

    C(theirs) are those that think otherwise: cosign2, cosign3 (both of the old format) and bundle (of cosign 3).
    """

    id: str
    code: str | None
    leaf: str
    san: t.Mapping[str, str]
    sub: t.Mapping[str, t.Any] = field(default_factory=dict)
    root: bench.Cert | None = None
    theirs: tuple[str, ...] = ()

    @property
    def case(self) -> bench.Case:
        """The certificates."""
        return bench.chain(
            self.id, self.code, leaf=LEAVES[self.leaf], sub=bench.authority("sub", "root", **self.sub), root=self.root
        )


EVERYBODY = ("cosign2", "cosign3", "bundle")
ROWS = (
    Row("uri", None, "usual", JOB),
    Row("email", None, "email", MAIL),
    Row("other-name", None, "other-name", {"type": "other", "value": "user!example.com"}),
    Row("dns", None, "dns", NODE, theirs=("bundle",)),
    Row("one-of-several", None, "several", MAIL, theirs=("bundle",)),
    Row("no-usage", None, "no-usage", JOB),
    Row("any-usage", None, "any-usage", JOB),
    Row("usage-of-web-servers", "eku_mismatch", "web-server", JOB),
    Row("intermediate-for-web-servers", "eku_mismatch", "usual", JOB, sub={"eku": ["serverAuth"]}),
    Row("leaf-expired", "certificate_expired", "expired", JOB),
    Row("leaf-not-yet-valid", "certificate_expired", "not-yet-valid", JOB),
    Row("intermediate-expired", "certificate_expired", "old", JOB, sub=bench.PAST, theirs=("cosign2",)),
    Row("another-root", "certificate_untrusted", "usual", JOB, root=bench.authority("stranger")),
    Row("another-uri", MISMATCH, "usual", {"type": "uri", "value": "https://ci.example.com/other"}),
    Row("uri-in-part", MISMATCH, "usual", {"type": "uri", "value": "https://ci.example.com"}),
    Row("case-of-an-address", MISMATCH, "email", {"type": "email", "value": "Dev@example.com"}),
    Row("wildcard", MISMATCH, "wildcard", NODE),
    Row("wildcard-as-text", None, "wildcard", {"type": "dns", "value": "*.example.com"}, theirs=("bundle",)),
    Row("common-name", MISMATCH, "common-name", NODE),
    Row("no-name", MISMATCH, "no-name", NODE),
    # cosign's flags name no type.
    Row("another-type", MISMATCH, "email", {"type": "dns", "value": "dev@example.com"}, theirs=EVERYBODY),
    Row("regexp", None, "usual", {"type": "uri", "regexp": r"https://ci\.example\.com/[a-z]+"}),
    # And its regular expressions match any part of a name.
    Row("regexp-in-part", MISMATCH, "usual", {"type": "uri", "regexp": r"example\.com"}, theirs=EVERYBODY),
)


@pytest.fixture(scope="module")
def leaf_key(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The private key of every leaf, in cosign's format."""
    path = tmp_path_factory.mktemp("leaf") / "leaf.key"
    path.write_bytes(writing.write_private_key(
        bench.Subject("leaf").key, format="cosign", passphrase=PASSWORD.encode()
    ))
    return path


@pytest.fixture(scope="module")
def signed(
    registry: Registry, leaf_key: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> t.Callable[[Cosign, str, str], str]:
    """Have an image signed with a leaf, each once."""
    images: dict[tuple[str, str, str], str] = {}
    folder = tmp_path_factory.mktemp("signed")

    def sign(cosign: Cosign, format: str, name: str) -> str:
        if (cosign.name, format, name) not in images:
            image = images[cosign.name, format, name] = registry.image()
            (folder / "leaf.pem").write_bytes(bench.pem(LEAVES[name]))
            flags = ["--certificate", f"{folder}/leaf.pem"]
            if name not in SIGNED_WITHOUT_CHAIN:
                # It looks at the chain at the time when the leaf began.
                start = LEAVES[name].not_valid_before_utc
                chain = [bench.authority("sub", "root", start=start), bench.authority("root", start=start)]
                (folder / "chain.pem").write_bytes(bench.pem(*chain))
                flags += ["--certificate-chain", f"{folder}/chain.pem"]
            cosign.sign(image, leaf_key, *flags, format=format)
        return images[cosign.name, format, name]

    return sign


def _read_leaf(registry: Registry, image: str, format: str) -> bench.Cert:
    if format == "sig":
        annotations = registry.layers(image)[0]["annotations"]
        data = annotations["dev.sigstore.cosign/certificate"].encode()
        return certificate_path.read_certificates(data, where=image)[0]
    reference = references.parse(image)
    layer = registry.client.manifest(reference.at(registry.referrers(image)[0])).layers[0]
    bundle = json.loads(registry.client.blob(reference, layer, limit=1 << 20))
    data = base64.b64decode(bundle["verificationMaterial"]["certificate"]["rawBytes"])
    return certificate_path.read_leaf_der(data, where=image)


def _verify(
    cosign: Cosign, format: str, image: str, row: Row, case: bench.Case, folder: pathlib.Path
) -> subprocess.CompletedProcess[str]:
    name = [
        f"--certificate-identity{'-regexp' if what == 'regexp' else ''}={text}"
        for what, text in row.san.items() if what != "type"
    ]
    (folder / "trusted").write_text(json.dumps(_trusted_root(case)))
    authorities = ["--trusted-root", f"{folder}/trusted"] if format == "bundle" else [
        "--ca-roots", f"{folder}/root.pem", "--ca-intermediates", f"{folder}/sub.pem",
    ]
    if cosign.major >= 3 and format == "sig":
        authorities.append("--new-bundle-format=false")
    return cosign.run("verify", *name, "--certificate-oidc-issuer-regexp=.*", *NO_LOG, *authorities, image)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_images_with_certificates(
    row: Row, cosign: Cosign, registry: Registry, signed: t.Callable[[Cosign, str, str], str], tmp_path: pathlib.Path
) -> None:
    case = row.case
    _write(case, tmp_path)
    for format in ("sig", "bundle") if cosign.major >= 3 else ("sig",):
        image = signed(cosign, format, row.leaf)
        leaf = _read_leaf(registry, image, format)
        assert leaf == case.leaf
        assert _verdict(row, leaf, case) == row.code
        done = _verify(cosign, format, image, row, case, tmp_path)
        peer = "bundle" if format == "bundle" else f"cosign{cosign.major}"
        expected = (row.code is None) != (peer in row.theirs)
        assert (done.returncode == 0) == expected, f"{peer}\n{done.stdout}{done.stderr}"


def _verdict(row: Row, leaf: bench.Cert, case: bench.Case) -> str | None:
    try:
        certificate_path.find_path(
            leaf, intermediates=case.intermediates, roots=case.roots, at=bench.NOW, where="test"
        )
    except HallmarkError as exc:
        return exc.code
    return None if identity.read_identity(row.san).matches(leaf) else MISMATCH
