# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who reads whose signatures: every writer, key and format before every reader, as one table says; README shows it.

A cell that refuses must refuse for the reason in the table, and what we warn of when signing must be what it says.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import re
import subprocess
import typing as t
from dataclasses import dataclass, field

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, making, pem
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file as files
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._signing import (
    authority,
    candidate,
    certified,
    identity,
    readers,
    sign,
    verify,
)
from ansible_collections.hallmark.signing.plugins.module_utils._signing.material import SignerCertificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from interop_tools import ROOT, Cosign, Registry

if t.TYPE_CHECKING:
    import pathlib

    from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import Format
    from conftest import KeyFiles

# --- the table -------------------------------------------------------------------------------------------------------

WRITERS = ("cosign 2", "cosign 3", "we")
BUNDLERS = WRITERS[1:]
# podman and CRI-O verify with the library of skopeo, and it is skopeo that is asked here.
PODMAN = "podman and CRI-O"
READERS = ("cosign 2", "cosign 3", PODMAN, "we")
# What we write only where option signature_algorithm says so.
ASKED = "we if asked"


@dataclass(frozen=True)
class Verdict:
    """What a reader makes of a signature: the words in README, and what readers that refuse say, by format."""

    words: str
    says: t.Mapping[tuple[str, Format], str] = field(default_factory=dict)


_BROKEN: dict[tuple[str, Format], str] = {
    ("cosign", "sig"): "no matching signatures: ",
    ("cosign", "bundle"): "accepted signatures do not match threshold",
    ("podman", "sig"): "cryptographic signature verification failed",
    ("we", "sig"): "signature_invalid", ("we", "bundle"): "signature_invalid",
}
READS = Verdict("yes")
# cosign by --signature-digest-algorithm, we by signature_algorithm.
IF_TOLD = Verdict("if told", _BROKEN)
NO_BUNDLES = Verdict("no: `sig` only", {
    ("cosign", "bundle"): "no signatures found",
    ("podman", "bundle"): "A signature was required, but no signature exists",
})
SHA256_ONLY = Verdict("no: SHA-256 only", _BROKEN)
PURE_ONLY = Verdict("no: pure only", _BROKEN)
NO_PSS = Verdict("no: PKCS #1 v1.5 only", _BROKEN)
NOT_BY_KEY = Verdict("no: by certificate only", {
    ("cosign", "bundle"): "expected key signature, not certificate", ("we", "bundle"): "certificate_untrusted",
})
EXPIRED = Verdict("no: expired", {
    ("cosign", "sig"): "expected a signed timestamp to verify an expired certificate",
    ("cosign", "bundle"): "leaf certificate verification failed",
    ("podman", "sig"): "certificate has expired or is not yet valid",
    ("we", "sig"): "certificate_expired", ("we", "bundle"): "certificate_expired",
})


class Kind(t.NamedTuple):
    """How a signature is made: by what key, in which scheme."""

    key: str
    scheme: str


@dataclass(frozen=True)
class Row:
    """Signatures that each reader treats alike, and the verdicts in the order of READERS.

    With a certificate attached, it may be what is trusted, or still the bare key. README shows rows that have a name.
    """

    name: str
    kinds: tuple[Kind, ...]
    format: Format
    writers: tuple[str, ...]
    verdicts: tuple[Verdict, Verdict, Verdict, Verdict]
    certificate: t.Literal["none", "valid", "expired"] = "none"
    trust: t.Literal["key", "certificate"] = "key"


COMMON = (Kind("ecdsa-p256", "ecdsa-sha256"), *(
    Kind(f"rsa-{size}", "rsa-pkcs1v15-sha256") for size in (2048, 3072, 4096)
))
LARGE = (Kind("ecdsa-p384", "ecdsa-sha384"), Kind("ecdsa-p521", "ecdsa-sha512"))
LARGE_SHA256 = (Kind("ecdsa-p384", "ecdsa-sha256"), Kind("ecdsa-p521", "ecdsa-sha256"))
OTHER = (
    Kind("ecdsa-p256", "ecdsa-sha384"), Kind("ecdsa-p384", "ecdsa-sha512"), Kind("rsa-2048", "rsa-pkcs1v15-sha512"),
)
PURE, PREHASHED = (Kind("ed25519", "ed25519"),), (Kind("ed25519", "ed25519ph"),)
PSS = (Kind("rsa-2048", "rsa-pss-sha256"),)

_LARGE = "P-384 with SHA-384, P-521 with SHA-512"
_OTHER = "other hashes, such as P-256 with SHA-384, RSA with SHA-512"
_ALL = (READS, READS, READS, READS)
_BUNDLE = (NO_BUNDLES, READS, NO_BUNDLES, READS)
_NOT_BY_KEY = (NO_BUNDLES, NOT_BY_KEY, NO_BUNDLES, NOT_BY_KEY)
_EXPIRED = (EXPIRED, EXPIRED, READS, READS)

ROWS = (
    Row("P-256, RSA", COMMON, "sig", WRITERS, _ALL),
    Row("P-256, RSA", COMMON, "bundle", BUNDLERS, _BUNDLE),
    Row("P-384, P-521 with SHA-256", LARGE_SHA256, "sig", ("cosign 2", "we"), _ALL),
    Row("P-384, P-521 with SHA-256", LARGE_SHA256, "bundle", (ASKED,), _BUNDLE),
    Row(_LARGE, LARGE, "sig", ("cosign 3", ASKED), (IF_TOLD, IF_TOLD, SHA256_ONLY, READS)),
    Row(_LARGE, LARGE, "bundle", BUNDLERS, (NO_BUNDLES, IF_TOLD, NO_BUNDLES, READS)),
    Row("Ed25519", PURE, "sig", ("cosign 2", "we"), _ALL),
    Row("Ed25519", PURE, "bundle", ("we",), _BUNDLE),
    Row("Ed25519ph", PREHASHED, "sig", ("cosign 3", ASKED), (PURE_ONLY, PURE_ONLY, PURE_ONLY, READS)),
    Row("Ed25519ph", PREHASHED, "bundle", ("cosign 3", ASKED), (NO_BUNDLES, PURE_ONLY, NO_BUNDLES, READS)),
    Row(_OTHER, OTHER, "sig", (ASKED,), (IF_TOLD, IF_TOLD, SHA256_ONLY, IF_TOLD)),
    Row(_OTHER, OTHER, "bundle", (ASKED,), (NO_BUNDLES, IF_TOLD, NO_BUNDLES, IF_TOLD)),
    Row("RSA-PSS", PSS, "sig", (ASKED,), (NO_PSS, NO_PSS, NO_PSS, IF_TOLD)),
    Row("RSA-PSS", PSS, "bundle", (ASKED,), (NO_BUNDLES, NO_PSS, NO_BUNDLES, IF_TOLD)),
)
# The same with a certificate: no cosign can be told a hash, if it is the certificate that is trusted.
CERTIFIED = (
    Row("P-256, RSA; certificate attached, key trusted", COMMON[:2], "sig", WRITERS, _ALL, "valid"),
    Row("P-256, RSA; certificate attached, key trusted", COMMON[:2], "bundle", BUNDLERS, _NOT_BY_KEY, "valid"),
    Row("P-256, RSA; certificate trusted", COMMON[:2], "sig", WRITERS, _ALL, "valid", "certificate"),
    Row("P-256, RSA; certificate trusted", COMMON[:2], "bundle", BUNDLERS, _BUNDLE, "valid", "certificate"),
    Row("P-256; expired certificate attached, key trusted", COMMON[:1], "sig", WRITERS, _EXPIRED, "expired"),
    Row("P-256; expired certificate attached, key trusted", COMMON[:1], "bundle", BUNDLERS, _NOT_BY_KEY, "expired"),
    Row("", COMMON[:1], "sig", WRITERS, (EXPIRED,) * 4, "expired", "certificate"),
    Row("", COMMON[:1], "bundle", BUNDLERS, (NO_BUNDLES, EXPIRED) * 2, "expired", "certificate"),
    Row("", (*LARGE_SHA256, *PURE), "sig", ("we",), _ALL, "valid"),
    Row("", (*LARGE_SHA256, *PURE), "sig", ("we",), _ALL, "valid", "certificate"),
    Row("", (*LARGE, *PURE), "bundle", ("we",), _NOT_BY_KEY, "valid"),
    Row("", (*LARGE, *PURE), "bundle", ("we",), _BUNDLE, "valid", "certificate"),
    Row("", LARGE_SHA256, "bundle", (ASKED,), _BUNDLE, "valid", "certificate"),
    Row("", LARGE, "sig", (ASKED,), (IF_TOLD, IF_TOLD, SHA256_ONLY, READS), "valid"),
    Row("", LARGE, "sig", (ASKED,), (SHA256_ONLY, SHA256_ONLY, SHA256_ONLY, READS), "valid", "certificate"),
    Row("", OTHER, "sig", (ASKED,), (IF_TOLD, IF_TOLD, SHA256_ONLY, IF_TOLD), "valid"),
    Row("", OTHER, "sig", (ASKED,), (SHA256_ONLY, SHA256_ONLY, SHA256_ONLY, IF_TOLD), "valid", "certificate"),
    Row("", (*OTHER, *PSS, *PREHASHED), "bundle", (ASKED,), _NOT_BY_KEY, "valid"),
    Row("", OTHER, "bundle", (ASKED,), (NO_BUNDLES, SHA256_ONLY, NO_BUNDLES, IF_TOLD), "valid", "certificate"),
    Row("", PSS, "sig", (ASKED,), (NO_PSS, NO_PSS, NO_PSS, IF_TOLD), "valid", "certificate"),
    Row("", PSS, "bundle", (ASKED,), (NO_BUNDLES, NO_PSS, NO_BUNDLES, IF_TOLD), "valid", "certificate"),
    Row("", PREHASHED, "sig", (ASKED,), (PURE_ONLY, PURE_ONLY, PURE_ONLY, READS), "valid", "certificate"),
    Row("", PREHASHED, "bundle", (ASKED,), (NO_BUNDLES, PURE_ONLY, NO_BUNDLES, READS), "valid", "certificate"),
)
SHOWN = [row for row in (*ROWS, *CERTIFIED) if row.name]


def table() -> str:
    """Return what README shows: of each name, the row of either format."""
    lines = [[
        "signature", "`sig` written by", *(f"read by {reader}" for reader in READERS[:3]), "`bundle` written by",
        "read by cosign 3", "read by us",
    ]]
    lines.append(["---"] * len(lines[0]))
    for sig, bundle in ((one, other) for one, other in itertools.combinations(SHOWN, 2) if one.name == other.name):
        *others, ours = [verdict.words for verdict in sig.verdicts]
        also_ours = bundle.verdicts[-1].words
        lines.append([
            sig.name, _listed(sig.writers), *others, _listed(bundle.writers), bundle.verdicts[1].words,
            ours if ours == also_ours else f"{ours}; `bundle` {also_ours}",
        ])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _listed(writers: tuple[str, ...]) -> str:
    return "all" if writers == WRITERS else ", ".join(writers)


def test_readme_shows_the_table() -> None:
    shown = re.search(r"<!-- matrix -->\n(.*?)\n<!-- /matrix -->", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    assert shown[1] == table(), f"README.md must show\n{table()}"


def test_the_table_has_every_writer_key_and_format_once() -> None:
    there = sorted(
        (writer, kind.key, row.format) for row in ROWS for writer in row.writers for kind in row.kinds
        if writer != ASKED
    )
    every = itertools.product(WRITERS, [one.name for one in algorithms.ALGORITHMS], ("sig", "bundle"))
    assert there == sorted(one for one in every if one[0] != "cosign 2" or one[2] == "sig")


# --- writers ---------------------------------------------------------------------------------------------------------

EMAIL = "signer@example.org"
_DAY = datetime.timedelta(days=1)


class Authority:
    """A private authority that issues certificates for code signing to one name."""

    def __init__(self, path: pathlib.Path) -> None:
        self.now = datetime.datetime.now(datetime.timezone.utc)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "matrix")])
        self.root = self._sign(
            self._begin(self.name, self.key.public_key()).not_valid_after(self.now + 9 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        )
        self.path = path
        path.write_bytes(self.root.public_bytes(Encoding.PEM))

    def issue(self, key: t.Any, *, expired: bool) -> SignerCertificate:
        """Certify a public key."""
        leaf = self._sign(
            self._begin(x509.Name([]), key).not_valid_after(self.now + (-_DAY if expired else _DAY))
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(EMAIL)]), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        )
        return SignerCertificate(leaf, (self.root,))

    def _begin(self, subject: x509.Name, key: t.Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(self.now - 9 * _DAY)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self.key, hashes.SHA256())


class Lab:
    """Where all of them sign and verify: an image for each writer, kind of signature and format."""

    def __init__(
        self, registry: Registry, cosigns: t.Sequence[Cosign], skopeo: str | None, keys: dict[str, KeyFiles],
        folder: pathlib.Path,
    ) -> None:
        self.registry, self.skopeo, self.keys, self.folder = registry, skopeo, keys, folder
        self.cosigns = {f"cosign {one.major}": one for one in cosigns}
        self.authority = Authority(folder / "ca.pem")
        self.trusted_root = folder / "trusted-root.json"
        self._images: dict[tuple[str, ...], str] = {}
        self._numbers = itertools.count()
        # For skopeo: look for signatures, in every registry.
        (folder / "registries.d").mkdir()
        (folder / "registries.d" / "all.yaml").write_text("default-docker: {use-sigstore-attachments: true}\n")

    def require(self, name: str) -> None:
        """Skip the test if one of WRITERS or READERS is missing."""
        if name not in ("we", ASKED, PODMAN, *self.cosigns) or (name == PODMAN and self.skopeo is None):
            pytest.skip(f"the real {'skopeo of Debian 13' if name == PODMAN else name} is not there")

    def image(self, writer: str, kind: Kind, row: Row) -> str:
        """Return an image with this one signature."""
        self.require(writer)
        place = (writer, *kind, row.format, row.certificate)
        if place not in self._images:
            image = self.registry.image()
            self._sign(writer, kind, row, image)
            reference = references.parse(image)
            (found,) = candidate.find(self.registry.client, reference, str(reference.digest), row.format)
            assert isinstance(found, candidate.Candidate)
            public = self.keys[kind.key].private.public_key()
            assert making.scheme_of(public, found.signature, found.signed_bytes) == kind.scheme
            assert found.has_certificate == (row.certificate != "none")
            self._images[place] = image
        return self._images[place]

    def _sign(self, writer: str, kind: Kind, row: Row, image: str) -> None:
        key = self.keys[kind.key]
        certificate = None if row.certificate == "none" else self.authority.issue(
            key.private.public_key(), expired=row.certificate == "expired"
        )
        if writer in self.cosigns:
            flags = []
            if certificate:
                leaf = self.folder / f"leaf-{next(self._numbers)}.pem"
                leaf.write_text(certificate.pem)
                flags = ["--certificate", str(leaf), "--certificate-chain", str(self.authority.path)]
            self.cosigns[writer].sign(image, key.cosign, *flags, format=row.format)
            return
        outcome = sign.sign_image(self.registry.client, image, sign.Wish(
            (files.load(str(key.pem), passphrase=None, key_id=None),), (row.format,),
            signature_algorithm=kind.scheme if writer == ASKED else None,
            certificates={key.key_id: certificate} if certificate else {},
        ))
        assert outcome.changed, outcome.reasons

    # --- readers -----------------------------------------------------------------------------------------------------

    def ask(self, reader: str, image: str, key: KeyFiles, row: Row, *, scheme: str | None = None) -> tuple[bool, str]:
        """Return whether a reader takes the signature, and what it said; C(scheme) is what it is told to expect."""
        if reader == "we":
            return self._ask_us(image, key, row, scheme)
        if reader == PODMAN:
            return self._ask_skopeo(image, key, row)
        return self._ask_cosign(self.cosigns[reader], image, key, row, scheme)

    def _ask_us(self, image: str, key: KeyFiles, row: Row, scheme: str | None) -> tuple[bool, str]:
        public = pem.public_key(key.private.public_key(), where="test")
        issuer = certified.Issuer((self.authority.root,), identity.Identity("email", EMAIL))
        trusted = (
            authority.Authority("it", public, signature_algorithm=scheme) if row.trust == "key"
            else authority.Authority("it", issuer=issuer, signature_algorithm=scheme)
        )
        found = verify.verify_image(self.registry.client, image, authority.demand([trusted]))
        return found.verified, " ".join(reason.code for reason in found.reasons)

    def _ask_skopeo(self, image: str, key: KeyFiles, row: Row) -> tuple[bool, str]:
        trusted = {"keyPath": str(key.public)} if row.trust == "key" else {
            "pki": {"caRootsPath": str(self.authority.path), "subjectEmail": EMAIL}
        }
        requirement = {"type": "sigstoreSigned", "signedIdentity": {"type": "matchRepository"}, **trusted}
        policy = {"default": [{"type": "reject"}], "transports": {"docker": {self.registry.host: [requirement]}}}
        (self.folder / "policy.json").write_text(json.dumps(policy))
        return _run(
            str(self.skopeo), "--policy", f"{self.folder}/policy.json", "--registries.d", f"{self.folder}/registries.d",
            "copy", "--src-tls-verify=false", f"docker://{image}", f"dir:{self.folder}/copy-{next(self._numbers)}",
            home=self.folder,
        )

    def _ask_cosign(
        self, cosign: Cosign, image: str, key: KeyFiles, row: Row, scheme: str | None
    ) -> tuple[bool, str]:
        flags = ["--key", str(key.public)]
        if row.trust == "certificate":
            flags = ["--certificate-identity", EMAIL, "--certificate-oidc-issuer-regexp", "^$", "--insecure-ignore-sct"]
            flags += (
                ["--trusted-root", str(self._trusted_root(cosign))] if row.format == "bundle" and cosign.major >= 3
                else ["--ca-roots", str(self.authority.path)]
            )
        if scheme:
            flags += ["--signature-digest-algorithm", algorithms.SCHEMES[scheme].hash]
        done = cosign.run("verify", *flags, "--insecure-ignore-tlog=true", image)
        return done.returncode == 0, done.stderr

    def _trusted_root(self, cosign: Cosign) -> pathlib.Path:
        if not self.trusted_root.exists():
            service = f"url=http://127.0.0.1:1,certificate-chain={self.authority.path},start-time=2020-01-01T00:00:00Z"
            done = cosign.run("trusted-root", "create", f"--fulcio={service}", "--out", str(self.trusted_root))
            assert done.returncode == 0, done.stderr
        return self.trusted_root


def _run(*command: str, home: pathlib.Path) -> tuple[bool, str]:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={"PATH": os.defpath, "HOME": str(home)}
    )
    return done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def lab(
    registry: Registry, found_cosigns: list[Cosign], skopeo13: str | None, keys: dict[str, KeyFiles],
    tmp_path_factory: pytest.TempPathFactory,
) -> Lab:
    """All writers and readers that are there."""
    return Lab(registry, found_cosigns, skopeo13, keys, tmp_path_factory.mktemp("matrix"))


# --- the cells -------------------------------------------------------------------------------------------------------


def _cells() -> t.Iterator[t.Any]:
    for row in (*ROWS, *CERTIFIED):
        trust = "" if row.certificate == "none" else f" certificate {row.certificate}, {row.trust} trusted,"
        for writer, kind, (number, reader) in itertools.product(row.writers, row.kinds, enumerate(READERS)):
            yield pytest.param(
                row, writer, kind, reader, row.verdicts[number],
                id=f"{row.format} by {writer}, {kind.key}, {kind.scheme},{trust} read by {reader}".replace(" ", "-"),
            )


@pytest.mark.parametrize(("row", "writer", "kind", "reader", "verdict"), list(_cells()))
def test_cell(lab: Lab, row: Row, writer: str, kind: Kind, reader: str, verdict: Verdict) -> None:
    lab.require(reader)
    image, key = lab.image(writer, kind, row), lab.keys[kind.key]
    accepted, said = lab.ask(reader, image, key, row)
    assert accepted == (verdict is READS), said
    if not accepted:
        assert verdict.says[reader.split(maxsplit=1)[0], row.format] in said
    # cosign is told a hash, and SHA-256 it expects anyway; skopeo can be told nothing.
    if reader == "we" or (reader != PODMAN and algorithms.SCHEMES[kind.scheme].hash not in ("", "sha256")):
        accepted, said = lab.ask(reader, image, key, row, scheme=kind.scheme)
        assert accepted == (verdict in (READS, IF_TOLD)), said


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("format", ["sig", "bundle"])
def test_nobody_takes_the_signature_of_another_key(lab: Lab, other: KeyFiles, format: Format, reader: str) -> None:
    lab.require(reader)
    row = next(row for row in ROWS if row.format == format)
    accepted, said = lab.ask(reader, lab.image("we", row.kinds[0], row), other, row)
    assert not accepted
    says = _BROKEN if row.verdicts[READERS.index(reader)] is READS else NO_BUNDLES.says
    assert says[reader.split(maxsplit=1)[0], format] in said


# --- what we warn of -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_certified", [False, True], ids=["key", "certificate"])
@pytest.mark.parametrize("format", ["sig", "bundle"])
@pytest.mark.parametrize("kind", sorted({kind for row in CERTIFIED for kind in row.kinds}), ids="-".join)
def test_warnings_name_the_readers_that_refuse(kind: Kind, format: Format, is_certified: bool) -> None:
    """The readers that know the format, and do not simply take the signature."""
    ours = [
        row for row in (CERTIFIED if is_certified else ROWS)
        if row.format == format and {"we", ASKED} & set(row.writers)
        # That of an expired certificate holds for every kind; that nobody trusts one goes without saying.
        and (kind in row.kinds if row.certificate != "expired" else row.trust == "key")
    ]
    assert any(kind in row.kinds for row in ours)
    limited, taking, is_told = set(), set(), False
    for row, (number, reader) in itertools.product(ours, enumerate(READERS[:3])):
        verdict = row.verdicts[number]
        if verdict not in (READS, NO_BUNDLES):
            limited.add(reader)
        if verdict in (READS, IF_TOLD) and row.certificate != "expired":
            taking.add(reader)
        is_told = is_told or verdict is IF_TOLD
    words = readers.limits(kind.key, kind.scheme, format, with_certificate=is_certified) or ""
    assert {reader for reader in READERS[:3] if reader in words} == limited
    refusing = re.search(r"^(.*?) refuses? it", words)
    assert {reader for reader in READERS[:3] if refusing and reader in refusing[1]} == limited - taking
    assert (f"--signature-digest-algorithm {algorithms.SCHEMES[kind.scheme].hash}" in words) == is_told
