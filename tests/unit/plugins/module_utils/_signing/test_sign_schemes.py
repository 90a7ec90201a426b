# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which schemes keys of every kind sign images, in each format, and which signatures count as there already."""

from __future__ import annotations

import base64
import json
import sys
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import making
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers.external import ExternalSigner
from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority, sign, verify
from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import Format
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeLog
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    REPOSITORY,
    SIG_ANNOTATION,
    Bench,
    Json,
    Key,
    b64,
    bundle,
    codes,
    compact,
    do_remove,
    do_sign,
    pae,
    verified,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.test_notary import of_log
from cryptography.hazmat.primitives.asymmetric import ed25519

# Who signs in what, in format sig and in format bundle, unless told otherwise.
DEFAULTS = {
    "alice": ("ecdsa-sha256", "ecdsa-sha256"),
    "dave": ("ecdsa-sha256", "ecdsa-sha384"),
    "erin": ("ecdsa-sha256", "ecdsa-sha512"),
    "carol": ("rsa-pkcs1v15-sha256", "rsa-pkcs1v15-sha256"),
    "frank": ("ed25519", "ed25519"),
}
# What a key can be told to sign in, and does not by itself.
CHOSEN = [
    ("alice", "ecdsa-sha384"), ("alice", "ecdsa-sha512"), ("dave", "ecdsa-sha512"), ("erin", "ecdsa-sha384"),
    ("carol", "rsa-pss-sha256"), ("carol", "rsa-pss-sha512"), ("carol", "rsa-pkcs1v15-sha512"),
]
# What cosign 3 signs in and we do not, and the other way round.
OTHERS: list[tuple[str, Format, str]] = [
    ("dave", "sig", "ecdsa-sha384"), ("erin", "sig", "ecdsa-sha512"), ("frank", "sig", "ed25519ph"),
    ("dave", "bundle", "ecdsa-sha256"), ("erin", "bundle", "ecdsa-sha256"), ("frank", "bundle", "ed25519ph"),
]
SIG: tuple[Format, ...] = ("sig",)
BUNDLE: tuple[Format, ...] = ("bundle",)
Get = t.Callable[[str], Key]


@pytest.fixture
def get(request: pytest.FixtureRequest) -> Get:
    """Returns a key by its name."""
    return lambda name: t.cast(Key, request.getfixturevalue(name))


def unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def written(bench: Bench, key: Key) -> tuple[list[str], list[str]]:
    """The schemes of all signatures that are there: those of format sig, and of format bundle."""
    blobs = bench.registry.blobs[REPOSITORY]
    public = key.private.public_key()
    sigs = [
        making.scheme_of(public, unb64(layer["annotations"][SIG_ANNOTATION]), blobs[layer["digest"]])
        for layer in bench.layers()
    ]
    return sigs, [making.scheme_of(public, signature, pae(payload)) for payload, signature in bundled(bench)]


def bundled(bench: Bench) -> list[tuple[bytes, bytes]]:
    """The statements of all bundles, with their signatures."""
    found = []
    for digest in bench.referrers():
        layer = bench.manifests[digest].members["layers"][0]
        envelope = json.loads(bench.registry.blobs[REPOSITORY][layer["digest"]])["dsseEnvelope"]
        found.append((unb64(envelope["payload"]), unb64(envelope["signatures"][0]["sig"])))
    return found


def put(bench: Bench, format: Format, key: Key, scheme: str) -> None:
    """Let somebody else sign in another scheme."""
    if format == "sig":
        content = compact(bench.claim())
        signature = making.sign(key.private, content, scheme=scheme)
        bench.put_layers([*bench.layers(), bench.layer(content, signature)])
    else:
        content = compact(bench.statement())
        document: Json = bundle(content, key)
        signature = making.sign(key.private, pae(content), scheme=scheme)
        document["dsseEnvelope"]["signatures"][0]["sig"] = b64(signature)
        bench.refer(compact(document))


def surprises(outcome: sign.Outcome) -> list[str]:
    """The codes of warnings, but for those of readers that do not know a scheme: see test_readers.py."""
    return [code for code in codes(outcome.warnings) if code != "limited_readers"]


def trusting(key: Key, scheme: str) -> authority.Authority:
    """The key as an authority that must sign in this scheme."""
    return authority.Authority(key.name, key.public, signature_algorithm=scheme)


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_key_signs_in_its_schemes_once(name: str, get: Get, bench: Bench) -> None:
    key = get(name)
    outcome = do_sign(bench, key)
    assert (outcome.changed, codes(outcome.reasons), surprises(outcome)) == (True, [], [])
    assert {one.algorithm for one in outcome.signatures} == {key.public.algorithm.name}
    of_sig, of_bundle = DEFAULTS[name]
    assert written(bench, key) == ([of_sig], [of_bundle])
    for format in ("sig", "bundle"):
        assert verified(bench, key, t.cast(Format, format))
    before = bench.content()
    again = do_sign(bench, key)
    assert (again.changed, again.reasons, surprises(again), bench.content()) == (False, (), [], before)


@pytest.mark.parametrize(("name", "scheme", "formats"), [
    ("alice", None, []), ("carol", None, []), ("dave", None, ["bundle"]), ("alice", "ecdsa-sha512", ["sig", "bundle"]),
])
def test_readers_that_do_not_take_it_are_told_of(
    name: str, scheme: str | None, formats: list[str], get: Get, bench: Bench
) -> None:
    outcome = do_sign(bench, get(name), signature_algorithm=scheme)
    said = [warning.message for warning in outcome.warnings if warning.code == "limited_readers"]
    assert [format for format in ("sig", "bundle") for text in said if f"the {format} signature" in text] == formats


class Bound:
    """A signer whose key a service bound to one scheme, whatever is asked for."""

    chooses_scheme = False

    def __init__(self, key: Key, scheme: str) -> None:
        self.key, self.scheme = key, scheme
        self.public = key.public

    def answers_in(self, asked: str) -> str:
        """Return its own."""
        return self.scheme

    def prepare(self, messages: t.Collection[bytes]) -> None:
        """As a key file."""

    def sign(self, message: bytes, *, scheme: str | None = None) -> bytes:
        """Sign in its own."""
        return making.sign(self.key.private, message, scheme=self.scheme)


@pytest.mark.parametrize("dry_run", [True, False])
def test_key_that_is_bound_to_a_scheme_is_told_of_by_that_scheme(dry_run: bool, get: Get, bench: Bench) -> None:
    # By itself a .sig of this key would be in SHA-256, which every cosign reads.
    wish = sign.Wish((Bound(get("dave"), "ecdsa-sha384"),), dry_run=dry_run)
    outcome = sign.sign_image(bench.registries(), bench.tagged, wish)
    said = [warning.message for warning in outcome.warnings if warning.code == "limited_readers"]
    assert (outcome.reasons, len(said)) == ((), 2)
    assert {format for format in ("sig", "bundle") for text in said if f"the {format} signature" in text} == {
        "sig", "bundle"
    }


@pytest.mark.parametrize(("name", "scheme"), CHOSEN)
def test_a_scheme_can_be_chosen(name: str, scheme: str, get: Get, bench: Bench) -> None:
    key = get(name)
    assert do_sign(bench, key, signature_algorithm=scheme).changed
    assert written(bench, key) == ([scheme], [scheme])
    before = bench.content()
    again = do_sign(bench, key, signature_algorithm=scheme)
    assert (again.changed, again.reasons, bench.content()) == (False, (), before)
    for format in (SIG, BUNDLE):
        asked = authority.demand([trusting(key, scheme)], formats=format)
        assert verify.verify_image(bench.registries(), bench.pinned, asked).verified


@pytest.mark.parametrize(("name", "scheme"), CHOSEN)
def test_what_signed_in_a_chosen_scheme_is_known_again(name: str, scheme: str, get: Get, native: Bench) -> None:
    # Nothing is hidden from anybody, and nothing is unknown.
    key = get(name)
    do_sign(native, key, signature_algorithm=scheme)
    assert surprises(do_sign(native, key, signature_algorithm=scheme)) == []
    removed = do_remove(native, key, known_keys=(key.public,))
    assert (removed.changed, codes(removed.warnings), len(removed.signatures)) == (True, [], 2)


@pytest.mark.parametrize(("name", "scheme"), CHOSEN)
def test_a_chosen_scheme_counts_only_where_it_is_asked_for(name: str, scheme: str, get: Get, native: Bench) -> None:
    key = get(name)
    do_sign(native, key, signature_algorithm=scheme)
    for format in (SIG, BUNDLE):
        verdict = native.verify(key, formats=format)
        assert codes(verdict.reasons) == ["signature_invalid"]
    # Those that everybody reads come beside them.
    assert do_sign(native, key).changed
    assert written(native, key) == ([scheme, DEFAULTS[name][0]], [scheme, DEFAULTS[name][1]])
    assert not do_sign(native, key, signature_algorithm=scheme).changed


@pytest.mark.parametrize(("name", "format", "scheme"), OTHERS)
def test_the_usual_signature_comes_beside_one_of_another_scheme(
    name: str, format: Format, scheme: str, get: Get, bench: Bench
) -> None:
    key = get(name)
    put(bench, format, key, scheme)
    # It counts, but not for every reader.
    assert verified(bench, key, format)
    outcome = do_sign(bench, key, formats=(format,))
    assert (outcome.changed, outcome.failed) == (True, False)
    ours = DEFAULTS[name][format == "bundle"]
    # Referrers have no order that would be the same in every registry.
    assert [sorted(one) for one in written(bench, key)] == [
        sorted([scheme, ours]) if one == format else [] for one in ("sig", "bundle")
    ]
    assert not do_sign(bench, key, formats=(format,)).changed
    for one in (scheme, ours):
        asked = authority.demand([trusting(key, one)], formats=(format,))
        assert verify.verify_image(bench.registries(), bench.pinned, asked).verified


@pytest.mark.parametrize(("name", "format", "scheme"), OTHERS)
def test_a_scheme_that_is_demanded_is_the_only_one(
    name: str, format: Format, scheme: str, get: Get, native: Bench
) -> None:
    key = get(name)
    asked = authority.demand([trusting(key, scheme)], formats=(format,))
    do_sign(native, key, formats=(format,))
    verdict = verify.verify_image(native.registries(), native.pinned, asked)
    assert codes(verdict.reasons) == ["signature_invalid"]
    put(native, format, key, scheme)
    assert verify.verify_image(native.registries(), native.pinned, asked).verified


def test_each_key_has_its_own_scheme(native: Bench, get: Get) -> None:
    keys = [get(name) for name in DEFAULTS]
    outcome = do_sign(native, *keys)
    assert len(outcome.signatures) == 2 * len(keys)
    for format in (SIG, BUNDLE):
        assert native.verify(*keys, formats=format, threshold=len(keys)).verified
    assert not do_sign(native, *keys).changed


@pytest.mark.parametrize(("name", "schemes"), [
    ("alice", ("ecdsa-sha256", "ecdsa-sha256")), ("dave", ("ecdsa-sha384", "ecdsa-sha256")),
    ("erin", ("ecdsa-sha512", "ecdsa-sha256")), ("carol", ("rsa-pkcs1v15-sha256", "rsa-pkcs1v15-sha256")),
])
def test_logged_signatures_are_in_the_schemes_that_logs_take(
    name: str, schemes: tuple[str, str], get: Get, bench: Bench, log: FakeLog
) -> None:
    key = get(name)
    outcome = do_sign(bench, key, notary=of_log(log))
    assert (outcome.changed, codes(outcome.reasons), log.entries) == (True, [], 3)
    assert written(bench, key) == ([schemes[0]], [schemes[1]])
    assert not do_sign(bench, key, notary=of_log(log)).changed
    for format in (SIG, BUNDLE):
        assert bench.verify(key, formats=format).verified


def test_what_no_log_takes_is_told_and_not_attached(native: Bench, frank: Key, carol: Key, log: FakeLog) -> None:
    for key, wish in (
        (frank, {"formats": SIG}), (carol, {"signature_algorithm": "rsa-pss-sha256"}),
        (carol, {"signature_algorithm": "rsa-pkcs1v15-sha512", "formats": BUNDLE}),
    ):
        outcome = do_sign(native, key, notary=of_log(log), **wish)
        assert (outcome.changed, codes(outcome.reasons)) == (False, ["unsupported_algorithm"])
    assert (native.writes, log.requests) == ([], [])
    assert do_sign(native, frank, formats=BUNDLE, notary=of_log(log)).changed


@pytest.mark.parametrize("scheme", ["rsa-pss-sha256", "ed25519", "ecdsa-sha1"])
def test_a_scheme_must_be_one_of_every_signer(alice: Key, carol: Key, scheme: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        sign.Wish((carol.signer, alice.signer), signature_algorithm=scheme)
    assert (caught.value.code, caught.value.object) == ("unsupported_algorithm", "signers")


# Signatures that were made elsewhere -------------------------------------------------------------------------------


def external(bench: Bench, key: Key, schemes: tuple[str, str]) -> ExternalSigner:
    """A signer who has signed both formats, each in a scheme."""
    contents = (compact(bench.claim()), pae(compact(bench.statement())))
    return ExternalSigner(key.public, {
        content: making.sign(key.private, content, scheme=scheme) for content, scheme in zip(contents, schemes)
    })


@pytest.mark.parametrize("schemes", [("ecdsa-sha384", "ecdsa-sha384"), ("ecdsa-sha256", "ecdsa-sha256")])
def test_what_came_from_elsewhere_is_attached_in_its_scheme_once(
    bench: Bench, dave: Key, schemes: tuple[str, str]
) -> None:
    wish = sign.Wish((external(bench, dave, schemes),))
    assert sign.sign_image(bench.registries(), bench.pinned, wish).changed
    assert written(bench, dave) == ([schemes[0]], [schemes[1]])
    assert not sign.sign_image(bench.registries(), bench.pinned, wish).changed


def test_what_came_from_elsewhere_is_not_attached_beside_its_like(bench: Bench, dave: Key) -> None:
    # Whoever signed chose the scheme: any usual one that is there already says the same.
    do_sign(bench, dave)
    wish = sign.Wish((external(bench, dave, ("ecdsa-sha384", "ecdsa-sha256")),))
    outcome = sign.sign_image(bench.registries(), bench.pinned, wish)
    assert (outcome.changed, outcome.failed) == (False, False)


def test_nothing_is_written_if_anything_was_not_signed_elsewhere(bench: Bench, alice: Key, dave: Key) -> None:
    signer = external(bench, dave, ("ecdsa-sha384", "ecdsa-sha384"))
    wish = sign.Wish((alice.signer, signer), annotations={"a": "1"})
    outcome = sign.sign_image(bench.registries(), bench.pinned, wish)
    assert (outcome.changed, codes(outcome.reasons), bench.writes) == (False, ["not_found"], [])
    assert "the 2 payloads with SHA-256" in outcome.reasons[0].message
    assert sign.sign_image(bench.registries(), bench.pinned, sign.Wish((signer,), formats=SIG)).changed


# Without PyNaCl ----------------------------------------------------------------------------------------------------


def test_ed25519_signs_without_the_library_for_prehashed_ones(
    bench: Bench, frank: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nacl", None)
    assert do_sign(bench, frank).changed
    assert not do_sign(bench, frank).changed
    for format in ("sig", "bundle"):
        assert verified(bench, frank, t.cast(Format, format))


def test_foreign_signatures_do_not_keep_ed25519_from_signing_without_the_library(
    bench: Bench, frank: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bench, "sig", Key("stranger", ed25519.Ed25519PrivateKey.generate()), "ed25519")
    monkeypatch.setitem(sys.modules, "nacl", None)
    outcome = do_sign(bench, frank, formats=SIG)
    assert (outcome.changed, codes(outcome.reasons)) == (True, [])
    assert not do_sign(bench, frank, formats=SIG).failed


def test_lack_of_the_library_is_told_if_nothing_else_is_found(
    bench: Bench, alice: Key, frank: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bench, "sig", frank, "ed25519ph")
    monkeypatch.setitem(sys.modules, "nacl", None)
    assert codes(bench.verify(frank, formats=SIG).reasons) == ["library_missing"]
    # Others may still be found without it.
    do_sign(bench, alice, formats=SIG)
    assert bench.verify(frank, alice, formats=SIG).authorities == ("alice",)
