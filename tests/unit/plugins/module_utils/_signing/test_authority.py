# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Demands: whatever could be vacuously true is refused before anything is verified."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
from ansible_collections.hallmark.signing.plugins.module_utils._signing.authority import Authority, Demand, demand
from ansible_collections.hallmark.signing.plugins.module_utils._signing.certified import Issuer
from ansible_collections.hallmark.signing.plugins.module_utils._signing.identity import Identity
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import Key


@pytest.fixture
def issuer() -> Issuer:
    """An issuer of certificates; which ones does not matter here."""
    return Issuer((), Identity("email", "dev@example.com"))


def test_defaults(alice: Key) -> None:
    made = demand([alice.authority])
    assert made == Demand((alice.authority,), 1, ("sig", "bundle"), {}, frozenset(), "warn", False)
    assert made == Demand((alice.authority,))


def test_all_members_are_kept(alice: Key, bob: Key) -> None:
    made = demand(
        [alice.authority, bob.authority], threshold=2, formats=("bundle", "sig", "bundle"), annotations={"a": "1"},
        denied_key_ids=[bob.id], docker_reference_check="repository", recursive=True,
    )
    assert made == Demand(
        (alice.authority, bob.authority), 2, ("bundle", "sig"), {"a": "1"}, frozenset({bob.id}), "repository", True
    )


@pytest.mark.parametrize(("names", "options", "said"), [
    pytest.param([], {}, "no authority", id="no authority"),
    pytest.param(["alice", "alice"], {"threshold": 2}, "occurs twice", id="the same key twice under one name"),
    pytest.param(["alice", "bob"], {"threshold": 0}, "threshold", id="threshold 0"),
    pytest.param(["alice", "bob"], {"threshold": -1}, "threshold", id="threshold negative"),
    pytest.param(["alice", "bob"], {"threshold": 3}, "threshold", id="threshold above the number"),
    pytest.param(["alice"], {"formats": ()}, "formats", id="no format"),
])
def test_vacuous_demands_are_refused(
    request: pytest.FixtureRequest, names: list[str], options: dict[str, t.Any], said: str
) -> None:
    with pytest.raises(HallmarkError, match=said) as caught:
        demand([request.getfixturevalue(name).authority for name in names], **options)
    assert caught.value.code == "input_invalid"


def test_one_key_under_two_names_is_refused(alice: Key) -> None:
    with pytest.raises(HallmarkError, match="a name or a key occurs twice"):
        demand([alice.authority, Authority("other", alice.public)])


def test_generations_of_one_identity_have_one_name_and_count_once(alice: Key, bob: Key) -> None:
    generations = [Authority("release", one.public, is_generation=True) for one in (alice, bob)]
    assert demand(generations).is_satisfiable
    with pytest.raises(HallmarkError, match="2 is not between 1 and the number of authorities, 1"):
        demand(generations, threshold=2)
    assert demand(generations, denied_key_ids=[alice.id]).is_satisfiable
    assert not demand(generations, denied_key_ids=[alice.id, bob.id]).is_satisfiable


def test_generations_share_neither_a_name_nor_a_key_with_others(alice: Key, bob: Key) -> None:
    for other in (Authority("release", bob.public), Authority("other", alice.public)):
        with pytest.raises(HallmarkError, match="a name or a key occurs twice"):
            demand([Authority("release", alice.public, is_generation=True), other])


def test_two_keys_under_one_name_are_refused(alice: Key, bob: Key) -> None:
    with pytest.raises(HallmarkError, match="a name or a key occurs twice"):
        demand([alice.authority, Authority("alice", bob.public)])


@pytest.mark.parametrize("name", ["p256", "p384", "p521", "rsa2048", "ed25519_key"])
def test_keys_of_all_kinds_are_taken(request: pytest.FixtureRequest, name: str) -> None:
    public = pem.public_key(request.getfixturevalue(name).public_key(), where="x")
    (made,) = demand([Authority("other", public)]).authorities
    assert (made.public, made.schemes) == (public, None)


def test_signature_algorithm_is_the_only_scheme_that_counts(alice: Key) -> None:
    (made,) = demand([Authority("alice", alice.public, signature_algorithm="ecdsa-sha512")]).authorities
    assert made.schemes == ("ecdsa-sha512",)


@pytest.mark.parametrize("scheme", ["rsa-pss-sha256", "ed25519", "ecdsa-sha1", "x"])
def test_signature_algorithm_of_another_kind_of_key_is_refused(alice: Key, bob: Key, scheme: str) -> None:
    with pytest.raises(HallmarkError, match="authority alice: could not use the signature algorithm") as caught:
        demand([bob.authority, Authority("alice", alice.public, signature_algorithm=scheme)])
    assert caught.value.code == "unsupported_algorithm"


def test_issuers_of_certificates_have_no_key_that_could_occur_twice(alice: Key, issuer: Issuer) -> None:
    made = demand([Authority("one", issuer=issuer), Authority("two", issuer=issuer), alice.authority], threshold=3)
    assert [one.public for one in made.authorities] == [None, None, alice.public]
    assert made.denied_authorities == ()
    assert made.is_satisfiable
    denied = demand([Authority("one", issuer=issuer), alice.authority], threshold=2, denied_key_ids=[alice.id])
    assert [one.name for one in denied.denied_authorities] == ["alice"]
    assert not denied.is_satisfiable
    # Which algorithm fits is known once a certificate comes with a signature.
    demand([Authority("one", issuer=issuer, signature_algorithm="ed25519")])


@pytest.mark.parametrize(("denied", "threshold", "satisfiable"), [
    ([], 1, True),
    ([], 2, True),
    (["alice"], 1, True),
    (["alice"], 2, False),
    (["alice", "bob"], 1, False),
    (["mallory"], 2, True),
])
def test_denied_authorities_do_not_count(
    request: pytest.FixtureRequest, alice: Key, bob: Key, denied: list[str], threshold: int, satisfiable: bool
) -> None:
    ids = [request.getfixturevalue(name).id for name in denied]
    made = demand([alice.authority, bob.authority], threshold=threshold, denied_key_ids=ids)
    assert [one.name for one in made.denied_authorities] == [name for name in denied if name != "mallory"]
    assert made.is_satisfiable is satisfiable
    assert [made.is_denied(one) for one in made.authorities] == [alice.id in ids, bob.id in ids]
