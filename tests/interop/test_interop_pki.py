# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A private code-signing PKI, from the request of signing_key to the verdicts of image_verify and the real cosigns.

The authorities are openssl's. Every certificate of a signer is issued from a request that the module wrote.
"""

from __future__ import annotations

import datetime
import json
import pathlib
import shutil
import time
import typing as t
from dataclasses import dataclass

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from interop_tools import PASSWORD, Cosign, Json, Registry, TimestampServer, TransparencyLog
from openssl_pki import Pki, openssl

if t.TYPE_CHECKING:
    from fast_modules import Modules

FORMATS = ("sig", "bundle")
SANS = {"dns": "build.example.com", "email": "release@example.com", "uri": "https://ci.example.com/release"}
# How long the certificate of a signer lives that expires during the tests: five tasks must sign within it.
_LIFETIME = 12


@dataclass(frozen=True)
class Leaf:
    """A key that signing_key made, also in cosign's format if asked for, and its certificate."""

    key: pathlib.Path
    cosign: pathlib.Path
    public: pathlib.Path
    request: pathlib.Path
    certificate: pathlib.Path
    pki: Pki
    key_id: str

    @property
    def signer(self) -> Json:
        """One entry of option signers."""
        return {
            "private_key_path": str(self.key), "certificate_path": str(self.certificate),
            "chain_path": str(self.pki.chain),
        }

    @property
    def flags(self) -> list[str]:
        """The same as arguments of cosign."""
        return ["--certificate", str(self.certificate), "--certificate-chain", str(self.pki.chain)]


def _for_cosign(modules: Modules, source: pathlib.Path) -> pathlib.Path:
    path = source.with_suffix(".cosign.key")
    modules.succeed(
        "signing_key", path=str(path), source_path=str(source), format="cosign", passphrase=PASSWORD
    )
    return path


def _request(modules: Modules, folder: pathlib.Path, name: str, *sans: str) -> Json:
    return modules.succeed(
        "signing_key", path=str(folder / f"{name}.key"), public_key_path=str(folder / f"{name}.pub"),
        csr_path=str(folder / f"{name}.csr"),
        csr_subject=f"CN={name},O=Example", csr_sans=list(sans),
    )


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def make_leaf(modules: Modules, pki: Pki) -> t.Callable[..., Leaf]:
    """Makes a key, and has a certificate issued: for a day, or for the time that is given."""

    def make(name: str, *sans: str, for_cosign: bool = False, **period: datetime.datetime) -> Leaf:
        made = _request(modules, pki.folder, name, *sans)
        path, request = pki.folder / f"{name}.key", pki.folder / f"{name}.csr"
        cosign = _for_cosign(modules, path) if for_cosign else path
        certificate = pki.issue_for(request, name=name, **period) if period else pki.issue(request, name=name)
        return Leaf(path, cosign, path.with_suffix(".pub"), request, certificate, pki, made["key_id"])

    return make


@pytest.fixture(scope="module")
def leaves(make_leaf: t.Callable[..., Leaf]) -> dict[str, Leaf]:
    """A signer for each kind of name."""
    return {kind: make_leaf(f"{kind}-signer", f"{kind}:{name}", for_cosign=True) for kind, name in SANS.items()}


def _trust(pki: Pki, kind: str, **options: t.Any) -> Json:
    return {
        "name": "pki", "ca_path": str(pki.root), "intermediates_path": str(pki.sub),
        "san": {"type": kind, "value": SANS[kind]}, **options,
    }


def _verify(modules: Modules, image: str, trust: Json, **options: t.Any) -> list[str]:
    """Return the codes of why an image is not verified; none if it is. None in C(trust) is what is left out."""
    trust = {name: value for name, value in trust.items() if value is not None}
    result = modules.succeed("image_verify", images=[image], trust=[trust], on_failure="report", **options)
    assert result["verified"] == (not result["reasons"])
    return [reason["code"] for reason in result["reasons"]]


def _sign(modules: Modules, image: str, leaf: Leaf, **options: t.Any) -> Json:
    return modules.succeed(
        "image_signature", images=[image], signers=[leaf.signer], **{"attach_certificate": True, **options}
    )


@pytest.fixture(scope="module")
def signed(modules: Modules, leaves: dict[str, Leaf], registry: Registry) -> dict[str, str]:
    """An image for each kind of name, signed by us in both formats."""
    images = {kind: registry.image() for kind in leaves}
    for kind, image in images.items():
        assert _sign(modules, image, leaves[kind])["changed"]
    return images


def _key_id(certificate: pathlib.Path) -> str:
    """Return the key id of the key in a certificate, as openssl computes it."""
    public, der = (certificate.with_suffix(f".{end}") for end in ("public", "der"))
    openssl("x509", "-in", certificate, "-noout", "-pubkey", "-out", public)
    openssl("pkey", "-pubin", "-in", public, "-outform", "DER", "-out", der)
    return openssl("dgst", "-sha256", "-r", der).split()[0].decode()


def _state(registry: Registry, image: str) -> tuple[list[Json], list[str]]:
    return registry.layers(image), registry.referrers(image)


# --- the request -----------------------------------------------------------------------------------------------------


# Others run until the certificates of that fixture have expired.
@pytest.mark.usefixtures("past")
def test_a_request_is_what_openssl_reads_and_stays_as_it_is(modules: Modules, leaves: dict[str, Leaf]) -> None:
    for kind, leaf in leaves.items():
        again = _request(modules, leaf.key.parent, f"{kind}-signer", f"{kind}:{SANS[kind]}")
        assert not again["changed"]
        assert again["csr"] == leaf.request.read_text()
        text = openssl("req", "-verify", "-noout", "-text", "-in", leaf.request).decode()
        for part in (SANS[kind], "Code Signing", "Digital Signature", f"O = Example, CN = {kind}-signer"):
            assert part in text.replace("O=Example, CN=", "O = Example, CN = ")
        assert openssl("req", "-in", leaf.request, "-noout", "-pubkey").decode() == leaf.public.read_text()


# --- ours, read by everybody -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SANS)
def test_what_we_sign_is_read_by_the_cosigns(
    kind: str, signed: dict[str, str], cosigns: list[Cosign], pki: Pki, tmp_path: pathlib.Path
) -> None:
    other, image = Pki(tmp_path / "stranger", "Stranger"), signed[kind]
    for cosign in cosigns:
        for format in FORMATS if cosign.major >= 3 else ("sig",):
            # In bundles, cosign 3 looks for no names of hosts.
            is_blind = format == "bundle" and kind == "dns"
            blind = "no Subject Alternative Name found" if is_blind else ""
            mismatch = "expected SAN value" if format == "bundle" else "expected identities"
            for name, chain, words in (
                (SANS[kind], pki.chain, blind),
                ("another@example.com", pki.chain, blind or mismatch),
                (SANS[kind], other.chain, blind or "certificate"),
            ):
                done = cosign.verify_certified(image, name, chain=chain, format=format)
                assert (done.returncode == 0) == (not words), f"{cosign.name}, {format}: {done.stderr}"
                assert words in done.stderr, done.stderr


@pytest.mark.parametrize("kind", SANS)
@pytest.mark.parametrize("format", FORMATS)
def test_what_we_sign_is_verified_by_us(
    kind: str, format: str, signed: dict[str, str], modules: Modules, leaves: dict[str, Leaf], pki: Pki
) -> None:
    image, trust, formats = signed[kind], _trust(pki, kind), [format]
    result = modules.succeed("image_verify", images=[image], trust=[trust], formats=formats)
    (signature,) = result["results"][0]["signatures"]
    assert (signature["format"], signature["key_id"]) == (format, leaves[kind].key_id)
    assert result["results"][0]["authorities"] == ["pki"]
    content = {**trust, "ca_path": None, "ca_content": pki.root.read_text()}
    pattern = {**trust, "san": {"type": kind, "regexp": ".*" + SANS[kind][3:].replace(".", "[.]")}}
    for good in (content, pattern, {**trust, "eku": "1.3.6.1.5.5.7.3.3"}):
        assert _verify(modules, image, good, formats=formats) == []
    another = next(one for one in SANS if one != kind)
    for wrong, code in (
        ({**trust, "san": {"type": kind, "value": SANS[kind][1:]}}, "identity_mismatch"),
        ({**trust, "san": {"type": another, "value": SANS[kind]}}, "identity_mismatch"),
        ({**trust, "san": {"type": kind, "regexp": SANS[kind][:-1]}}, "identity_mismatch"),
        ({**trust, "eku": "emailProtection"}, "eku_mismatch"),
    ):
        assert _verify(modules, image, wrong, formats=formats) == [code]
    # The root does not vouch for the leaf itself, and a bundle has no room for what is between.
    alone = {**trust, "intermediates_path": None}
    assert _verify(modules, image, alone, formats=formats) == ([] if format == "sig" else ["certificate_untrusted"])
    for certificate in (pki.sub, pki.root):
        denied = [_key_id(certificate)]
        assert _verify(modules, image, trust, formats=formats, denied_key_ids=denied) == ["key_denied"]
    assert _verify(modules, image, {"public_key_path": str(leaves[kind].public)}, formats=formats) == (
        [] if format == "sig" else ["certificate_untrusted"]
    )


def test_another_root_of_the_same_name_vouches_for_nothing(
    signed: dict[str, str], modules: Modules, pki: Pki, tmp_path: pathlib.Path
) -> None:
    imitation = Pki(tmp_path / "imitation")
    for format in FORMATS:
        for trust in (
            _trust(imitation, "email"), {**_trust(pki, "email"), "ca_path": str(imitation.root)},
        ):
            assert _verify(modules, signed["email"], trust, formats=[format]) == ["certificate_untrusted"]


def test_signing_again_adds_nothing_until_the_certificate_is_renewed(
    modules: Modules, make_leaf: t.Callable[..., Leaf], registry: Registry, pki: Pki
) -> None:
    leaf, image = make_leaf("renewed", f"email:{SANS['email']}"), registry.image()
    # Who trusts the key alone can read the old format only; so one of each is made before.
    assert modules.succeed("image_signature", images=[image], signers=[leaf.signer])["changed"]
    bare = _state(registry, image)
    assert _sign(modules, image, leaf)["changed"]
    before = _state(registry, image)
    assert (len(before[0]), len(before[1])) == (len(bare[0]) + 1, len(bare[1]) + 1)
    assert not _sign(modules, image, leaf)["changed"]
    assert not modules.succeed("image_signature", images=[image], signers=[leaf.signer])["changed"]
    assert _state(registry, image) == before
    pki.issue(leaf.request, name="renewed")
    assert _sign(modules, image, leaf, check=True)["changed"]
    assert _state(registry, image) == before
    assert _sign(modules, image, leaf)["changed"]
    assert not _sign(modules, image, leaf)["changed"]
    after = _state(registry, image)
    assert (len(after[0]), len(after[1])) == (len(bare[0]) + 2, len(bare[1]) + 2)


# --- theirs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SANS)
def test_what_cosign_signs_is_verified_by_us(
    kind: str, cosign: Cosign, modules: Modules, leaves: dict[str, Leaf], pki: Pki, registry: Registry
) -> None:
    leaf = leaves[kind]
    for format in FORMATS if cosign.major >= 3 else ("sig",):
        image = registry.image()
        cosign.sign(image, leaf.cosign, *leaf.flags, format=format)
        assert _verify(modules, image, _trust(pki, kind)) == []
        assert _verify(modules, image, _trust(pki, kind, san={"type": kind, "value": "x"})) == ["identity_mismatch"]
        # It is what we would write: nothing is added in this format.
        before = _state(registry, image)
        assert not _sign(modules, image, leaf, formats=[format])["changed"]
        assert _state(registry, image) == before


def test_certificates_that_cosign_had_logged_are_verified_by_us(
    cosign: Cosign, modules: Modules, leaves: dict[str, Leaf], pki: Pki, registry: Registry,
    transparency_log: TransparencyLog,
) -> None:
    """The entry names the certificate, not its bare key."""
    leaf, trust = leaves["uri"], _trust(pki, "uri")
    log: Json = {
        "require_log": True,
        "rekor_logs": [{"public_key_path": str(transparency_log.key), "rekor_url": transparency_log.url}],
    }
    for format in FORMATS if cosign.major >= 3 else ("sig",):
        image = registry.image()
        done = cosign.sign_logged(
            image, leaf.cosign, *leaf.flags, log=transparency_log, format=format, chain=pki.chain
        )
        assert done.returncode == 0, done.stderr
        assert _verify(modules, image, trust, **log) == []
        assert _verify(modules, image, {"public_key_path": str(leaf.public)}, **log) == (
            [] if format == "sig" else ["certificate_untrusted"]
        )


def test_what_is_attached_is_what_cosign_attaches(
    signed: dict[str, str], legacy_cosign: Cosign, bundle_cosign: Cosign, leaves: dict[str, Leaf], registry: Registry
) -> None:
    leaf, ours = leaves["uri"], signed["uri"]
    theirs = registry.image()
    legacy_cosign.sign(theirs, leaf.cosign, *leaf.flags)
    bundle_cosign.sign(theirs, leaf.cosign, *leaf.flags)
    found, expected = (registry.layers(image)[0]["annotations"] for image in (ours, theirs))
    for name in ("certificate", "chain"):
        assert found[f"dev.sigstore.cosign/{name}"] == expected[f"dev.sigstore.cosign/{name}"]
    assert _material(registry, ours) == _material(registry, theirs)


def _material(registry: Registry, image: str) -> Json:
    reference = references.parse(image)
    layer = registry.client.manifest(reference.at(registry.referrers(image)[0])).layers[0]
    return t.cast(Json, json.loads(registry.client.blob(reference, layer, limit=1 << 20))["verificationMaterial"])


# --- certificates that are not fit -----------------------------------------------------------------------------------


def test_unfit_certificates_are_refused_before_anything_is_pushed(
    modules: Modules, leaves: dict[str, Leaf], make_leaf: t.Callable[..., Leaf], pki: Pki, registry: Registry
) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    leaf, image = leaves["dns"], registry.image()
    pki.key("server")
    request = pki.request(
        "server", "/CN=server", "subjectAltName=DNS:build.example.com", "keyUsage=digitalSignature",
        "extendedKeyUsage=serverAuth",
    )
    server = {
        "private_key_path": str(pki.folder / "server.key"), "certificate_path": str(pki.issue(request, name="server"))
    }
    expired = make_leaf("expired", f"dns:{SANS['dns']}", begin=now - 2 * day, end=now - day)
    early = make_leaf("early", f"dns:{SANS['dns']}", begin=now + day, end=now + 2 * day)
    swapped = {**leaf.signer, "certificate_path": str(leaves["uri"].certificate)}
    for signer, code in (
        (server, "eku_mismatch"), (expired.signer, "certificate_expired"), (early.signer, "certificate_expired"),
        (swapped, "key_mismatch"), ({"private_key_path": str(leaf.key)}, "input_invalid"),
    ):
        for check in (True, False):
            modules.fail(
                "image_signature", code, images=[image], signers=[leaves["email"].signer, signer],
                attach_certificate=True, check=check,
            )
    assert _state(registry, image) == ([], [])


def test_signatures_of_cosign_with_unfit_certificates_do_not_count(
    cosigns: list[Cosign], modules: Modules, make_leaf: t.Callable[..., Leaf], pki: Pki, registry: Registry,
) -> None:
    """It does not look at certificates that come without a chain."""
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    old = make_leaf("old", f"email:{SANS['email']}", for_cosign=True, begin=now - 2 * day, end=now - day)
    server = _for_cosign(modules, pki.key("web"))
    request = pki.request("web", "/CN=web", f"subjectAltName=email:{SANS['email']}", "extendedKeyUsage=serverAuth")
    web = pki.issue(request, name="web")
    trust = _trust(pki, "email")
    for cosign in cosigns:
        image = registry.image()
        cosign.sign(image, old.cosign, "--certificate", str(old.certificate))
        assert _verify(modules, image, trust) == ["certificate_expired"]
        image = registry.image()
        cosign.sign(image, server, "--certificate", str(web))
        assert _verify(modules, image, trust) == ["eku_mismatch"]
        assert _verify(modules, image, {**trust, "eku": "serverAuth"}) == []


# --- certificates that expire ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Past:
    """What was signed while a certificate was valid, and until when."""

    images: dict[str, str]
    end: float


@pytest.fixture(scope="module")
def past(
    modules: Modules, make_leaf: t.Callable[..., Leaf], registry: Registry, transparency_log: TransparencyLog,
    timestamp_server: TimestampServer,
) -> Past:
    """Images that were signed shortly before the certificate expired: with nothing, an entry in a log, a timestamp.

    The clock of the log that made the last one is wrong: the entry is said to be older than the certificate.
    """
    begin = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    end = begin + datetime.timedelta(seconds=_LIFETIME)
    leaf = make_leaf("short-lived", f"email:{SANS['email']}", begin=begin, end=end)
    log = {"rekor_url": transparency_log.url, "rekor_public_key_path": str(transparency_log.key)}
    stamps = {"url": timestamp_server.endpoint, "certificate_path": str(timestamp_server.chain)}
    images = {name: registry.image() for name in ("nothing", "log", "timestamp", "both", "early")}
    _sign(modules, images["nothing"], leaf)
    _sign(modules, images["log"], leaf, transparency=log)
    _sign(modules, images["timestamp"], leaf, timestamp_authority=stamps)
    _sign(modules, images["both"], leaf, transparency=log, timestamp_authority=stamps)
    with transparency_log.lying("clock", seconds=-3600):
        _sign(modules, images["early"], leaf, transparency=log)
    return Past(images, end.timestamp())


@pytest.mark.parametrize("format", FORMATS)
def test_only_what_is_proven_to_be_older_outlives_its_certificate(
    format: str, past: Past, modules: Modules, pki: Pki, cosigns: list[Cosign], transparency_log: TransparencyLog,
    timestamp_server: TimestampServer,
) -> None:
    time.sleep(max(0.0, past.end + 1 - time.time()))
    trust, formats = _trust(pki, "email"), [format]
    logs: Json = {"rekor_logs": [{"public_key_path": str(transparency_log.key), "rekor_url": transparency_log.url}]}
    stamps: Json = {"timestamp_authority_paths": [str(timestamp_server.chain)]}
    expired = ["certificate_expired"]
    for name, accepted in (
        ("nothing", []), ("log", [logs]), ("timestamp", [stamps]), ("both", [logs, stamps]), ("early", []),
    ):
        for services in ({}, logs, stamps):
            codes = _verify(modules, past.images[name], trust, formats=formats, **services)
            assert codes == ([] if services in accepted else expired), (name, services)
    assert _verify(
        modules, past.images["both"], trust, formats=formats, require_log=True, require_timestamp=True, **logs, **stamps
    ) == []
    for cosign in cosigns:
        if format == "bundle" and cosign.major < 3:
            continue
        common: Json = {"chain": pki.chain, "format": format}
        for name, services, expected in (
            ("nothing", {}, False), ("log", {"log": transparency_log}, True),
            ("early", {"log": transparency_log}, False), ("timestamp", {"timestamps": timestamp_server}, True),
        ):
            done = cosign.verify_certified(past.images[name], SANS["email"], **services, **common)
            assert (done.returncode == 0) == expected, f"{cosign.name}, {name}: {done.stderr}"
