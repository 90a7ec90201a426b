# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors: read first where they are allowed, never believed, never written."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import Reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings, RegistrySettings
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault

Start = t.Callable[..., FakeRegistry]
DATA = b"some layer"
BLOB = Descriptor("x/y", digest_of(DATA), len(DATA))


class Place:
    """An origin with two mirrors; what the second has lies below a prefix."""

    def __init__(self, registry: Start, **origin: t.Any) -> None:
        self.origin, self.first, self.second = registry(**origin), registry(), registry()
        self.all = {"origin": (self.origin, "app"), "first": (self.first, "app"), "second": (self.second, "hub/app")}

    def fill(self, *places: str) -> str:
        digests = set()
        for name in places:
            fake, repository = self.all[name]
            source = FakeRegistry()
            digest = source.put_image("app", "1")
            fake.manifests[repository] = dict(source.manifests["app"])
            fake.blobs[repository] = dict(source.blobs["app"])
            fake.put_blob(repository, DATA)
            digests.add(digest)
            source._server.server_close()
        (digest,) = digests
        return digest

    def client(self, *, uses_mirrors: bool = True, **settings: t.Any) -> Registries:
        hosts = {self.origin.host: HostSettings(mirrors=(self.first.host, f"{self.second.host}/hub/"), **settings)}
        return Registries(RegistrySettings(AuthFile("none", {}), hosts, 2.0, uses_mirrors=uses_mirrors))

    @property
    def image(self) -> Reference:
        return Reference(self.origin.host, "app", "1")

    @property
    def asked(self) -> list[str]:
        return [name for name, (fake, _repository) in self.all.items() if fake.log]


@pytest.fixture
def place(registry: Start) -> Place:
    return Place(registry)


@pytest.mark.parametrize(("filled", "asked"), [
    (("origin", "first", "second"), ["first"]),
    (("origin", "second"), ["first", "second"]),
    (("origin",), ["origin", "first", "second"]),
])
def test_mirrors_are_read_in_their_order(place: Place, filled: tuple[str, ...], asked: list[str]) -> None:
    digest = place.fill(*filled)
    client = place.client()
    assert client.manifest(place.image.at(digest)).digest == digest
    assert client.blob(place.image, BLOB, limit=100) == DATA
    assert b"".join(client.stream_blob(place.image, BLOB)) == DATA
    assert place.asked == asked


def test_mirrors_are_left_alone_where_something_is_to_be_written(place: Place) -> None:
    digest = place.fill("origin", "first", "second")
    client = place.client(uses_mirrors=False)
    client.manifest(place.image.at(digest))
    client.blob(place.image, BLOB, limit=100)
    client.referrers(place.image, digest)
    assert place.asked == ["origin"]


@pytest.mark.parametrize("fault", [
    Fault.wrong_bytes(), Fault(status=500), Fault(status=401), Fault(status=403), Fault(status=404),
    Fault(hang_up=True), Fault.html(), Fault(status=302, headers={"Location": "http://169.254.169.254/"}),
    Fault(cut_after=3),
], ids=["lies", "500", "401", "403", "404", "cut", "html", "redirect", "short"])
def test_a_mirror_that_fails_or_lies_is_passed_over(place: Place, fault: Fault) -> None:
    digest = place.fill("origin", "first", "second")
    for fake in (place.first, place.second):
        fake.fail(fault)
    client = place.client()
    assert client.manifest(place.image.at(digest)).digest == digest
    assert client.blob(place.image, BLOB, limit=100) == DATA
    assert place.asked == ["origin", "first", "second"]


def test_what_nobody_has_is_an_error_of_the_origin(place: Place) -> None:
    with pytest.raises(HallmarkError) as caught:
        place.client().manifest(place.image)
    assert (caught.value.code, caught.value.object) == ("not_found", str(place.image))


def test_nothing_is_written_to_a_mirror(place: Place) -> None:
    digest = place.fill("origin", "first", "second")
    client = place.client()
    client.put_blob(place.image, b"new")
    raw = place.origin.manifests["app"]["1"].raw
    client.put_manifest(place.image.tagged("2"), raw)
    client.delete_manifest(place.image.at(digest))
    for fake in (place.first, place.second):
        assert {seen.method for seen in fake.log} <= {"GET", "HEAD"}
    assert digest_of(b"new") in place.origin.blobs["app"]


def test_a_mirror_gets_no_password_of_the_origin(registry: Start) -> None:
    place = Place(registry, auth="basic", username="robot", password="canary")
    digest = place.fill("origin", "second")
    for fake in (place.first, place.second):
        fake.auth = "basic"
    client = place.client(username="robot", password="canary")
    assert client.manifest(place.image.at(digest)).digest == digest
    assert not any(seen.authorized for fake in (place.first, place.second) for seen in fake.log)


def test_referrers_are_those_of_the_first_that_has_some(registry: Start) -> None:
    place = Place(registry, referrers=True)
    digest = place.fill("origin", "first", "second")
    expected = place.origin.put_referrer("app", digest)
    assert [one.digest for one in place.client().referrers(place.image, digest)] == [expected]


# What a mirror says a tag means cannot be checked: it is a place the user named, and the digest is returned.
def test_a_tag_means_what_the_mirror_says(place: Place) -> None:
    place.fill("origin", "first")
    other = place.first.put_image("app", "1", platform="linux/riscv64")
    assert place.client().manifest(place.image).digest == other
