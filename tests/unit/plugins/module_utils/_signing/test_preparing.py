# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytes for signers elsewhere: exactly those that would be signed here."""

from __future__ import annotations

import hashlib
import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import making
from ansible_collections.hallmark.signing.plugins.module_utils._keys.pem import PublicKey
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers.external import ExternalSigner
from ansible_collections.hallmark.signing.plugins.module_utils._signing import preparing, sign
from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import Format
from ansible_collections.hallmark.signing.tests.unit.fake_registry import Fault
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    BOTH,
    Bench,
    Json,
    Key,
    codes,
    compact,
    make_index,
    pae,
)

OPTIONS: list[Json] = [
    {},
    {"annotations": {"b": "2", "a": "<1>", "ü": "\u2028"}},
    {"docker_reference": "mirror.example.org/app:1"},
    {"formats": ("bundle",)},
    {"formats": ("sig",), "annotations": {"a": ""}},
]


class Listening:
    """A signer that notes what it signs."""

    chooses_scheme = True

    def __init__(self, key: Key) -> None:
        self.key = key
        self.prepared: list[bytes] = []
        self.signed: list[bytes] = []

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return self.key.public

    def answers_in(self, asked: str) -> str:
        """Return C(asked)."""
        return asked

    def prepare(self, messages: t.Collection[bytes]) -> None:
        """Note what is going to be signed."""
        self.prepared.extend(messages)

    def sign(self, message: bytes, *, scheme: str | None = None) -> bytes:
        """Sign and note it."""
        self.signed.append(message)
        return making.sign(self.key.private, message, scheme=scheme)


def prepare(bench: Bench, image: str = "", *, recursive: bool = True, **options: t.Any) -> preparing.Prepared:
    options = {"annotations": {}, "docker_reference": None, **options}
    return preparing.prepare(bench.registries(), image or bench.tagged, recursive=recursive, **options)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("recursive", [True, False])
def test_payloads_are_what_would_be_signed(bench: Bench, alice: Key, options: Json, recursive: bool) -> None:
    make_index(bench)
    for image in (bench.tagged, bench.pinned, f"{bench.name}:2"):
        prepared = prepare(bench, image, recursive=recursive, **options)
        assert (prepared.image, prepared.reasons) == (image, ())
        signer = Listening(alice)
        outcome = sign.sign_image(bench.registries(), image, sign.Wish(
            (signer,), recursive=recursive, **options,
        ))
        assert not outcome.failed
        assert [one.content for one in prepared.payloads] == signer.prepared
        assert {one.content for one in prepared.payloads} >= set(signer.signed)
        if image == f"{bench.name}:2":
            assert [one.content for one in prepared.payloads] == signer.signed
        assert [(one.digest, one.format) for one in prepared.payloads] == [
            (one.subject, one.format) for one in outcome.signatures
        ]


def test_payloads_say_what_they_are(bench: Bench) -> None:
    sig, bundle = prepare(bench, annotations={"a": "1"}).payloads
    assert json.loads(sig.content) == bench.claim({"a": "1"})
    assert bundle.content == pae(compact(bench.statement({"a": "1"})))
    for one in (sig, bundle):
        assert (one.image, one.digest) == (bench.tagged, bench.digest)
        assert one.sha256 == hashlib.sha256(one.content).hexdigest()
        assert one.file_name == f"sha256-{bench.digest[7:]}.{one.format}.{one.sha256[:16]}.payload"
        assert repr(one.content) not in repr(one)


def test_what_is_signed_elsewhere_is_attached_without_further_questions(bench: Bench, dave: Key) -> None:
    make_index(bench)
    image = f"{bench.name}:2"
    signer = ExternalSigner(dave.public, {
        one.content: making.sign(dave.private, one.content) for one in prepare(bench, image).payloads
    })
    for changed in (True, False):
        outcome = sign.sign_image(bench.registries(), image, sign.Wish((signer,)))
        assert (outcome.changed, outcome.reasons, len(outcome.signatures)) == (changed, (), 6)
    for format in BOTH:
        assert bench.verify(dave, image=image, formats=(format,), recursive=True).verified


def test_nothing_is_written(bench: Bench) -> None:
    before = bench.content()
    prepare(bench)
    assert (bench.writes, bench.content()) == ([], before)


def test_same_options_give_the_same_files(bench: Bench) -> None:
    assert prepare(bench) == prepare(bench)
    assert [one.file_name for one in prepare(bench).payloads] == [
        one.file_name for one in prepare(bench, bench.pinned).payloads
    ]


def test_one_digest_under_several_names_gets_several_files(bench: Bench) -> None:
    files: dict[Format, set[str]] = {"sig": set(), "bundle": set()}
    for options in OPTIONS:
        for one in prepare(bench, **options).payloads:
            files[one.format].add(one.file_name)
    # A bundle holds no name.
    assert (len(files["sig"]), len(files["bundle"])) == (4, 2)
    assert not files["sig"] & files["bundle"]


def test_same_digest_twice_in_an_index_is_prepared_once(bench: Bench) -> None:
    digest, children = make_index(bench)
    make_index(bench, *bench.manifests[digest].members["manifests"])
    prepared = prepare(bench, f"{bench.name}:2", formats=("sig",))
    assert [one.digest for one in prepared.payloads][1:] == children


@pytest.mark.parametrize(("image", "code"), [(":none", "not_found"), (":UPPER CASE", "malformed")])
def test_image_that_cannot_be_resolved_has_a_reason(bench: Bench, image: str, code: str) -> None:
    prepared = prepare(bench, bench.name + image)
    assert (prepared.image, prepared.payloads) == (bench.name + image, ())
    assert codes(prepared.reasons) == [code]


def test_registry_that_fails_is_a_reason(bench: Bench) -> None:
    bench.registry.fail(Fault(status=403), path="/manifests/1")
    prepared = prepare(bench)
    assert (codes(prepared.reasons), prepared.payloads) == (["unauthorized"], ())
