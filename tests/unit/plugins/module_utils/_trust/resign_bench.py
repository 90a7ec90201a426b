# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A live set in a fake registry, signed by hand: what covers and what proves comes from nowhere else."""

from __future__ import annotations

import functools
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._oci import transport
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import sign
from ansible_collections.hallmark.signing.plugins.module_utils._trust import coverage, resigning
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    REPOSITORY,
    Bench,
    Key,
    make_index,
)
from cryptography.hazmat.primitives.asymmetric import ec

Reference = references.Reference


@functools.cache
def key(name: str) -> Key:
    """The P-256 key of that name: old and new are generations, mallory is nobody."""
    return Key(name, ec.generate_private_key(ec.SECP256R1()))


def alone(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path) -> None:
    """Keep a test away from this user's files, and its retries short."""
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.005)


class World(Bench):
    """Images in one registry, of which old signs everything, and new is the key that stays."""

    def images(self, count: int) -> list[Reference]:
        """Write further images, each in a repository of its own; nobody has signed them."""
        names = [f"fleet/app{number}" for number in range(count)]
        return [
            references.parse(f"{self.registry.host}/{name}@{self.registry.put_image(name, '1')}") for name in names
        ]

    def index(self) -> tuple[Reference, list[Reference]]:
        """Write an index, and return it and its images."""
        digest, children = make_index(self)
        return self.reference.at(digest), [self.reference.at(child) for child in children]

    def signed(self, key: Key, *images: Reference, **wished: t.Any) -> None:
        """Sign images."""
        wish = sign.Wish((key.signer,), **{"recursive": False, **wished})
        for image in images or (self.reference,):
            assert sign.sign_image(self.store(), str(image), wish).reasons == ()

    settle_seconds = 0.0

    def store(self) -> Images:
        """A new run."""
        return Images(RegistrySettings(AuthFile("none", {}), timeout=20.0, settle_seconds=self.settle_seconds))

    def terms(self, *, trust: t.Sequence[str] = ("old", "new"), stay: t.Sequence[str] = ("new",), signer: str = "",
              **further: t.Any) -> coverage.Terms:
        """Terms by the names of keys."""
        return coverage.terms(
            [key(name).authority for name in trust], [key(name).id for name in stay],
            signer=key(signer).public if signer else None, **further,
        )

    def look(self, image: Reference | None = None, **further: t.Any) -> coverage.Coverage:
        """Look at one image in a new run, for a proof, too."""
        return coverage.look(coverage.Once(self.store()), image or self.reference, self.terms(**further), proves=True)

    def resign(
        self, *images: Reference, by: str | None = "new", dry_run: bool = False, cache: t.Any = None, workers: int = 4,
        **further: t.Any,
    ) -> list[resigning.Done]:
        """Re-sign images in a new run."""
        wish = sign.Wish((key(by).signer,), annotations=further.get("annotations", {})) if by else None
        plan = resigning.Plan(self.terms(signer=by or "", **further), wish, dry_run=dry_run, workers=workers)
        return list(resigning.resign(self.store(), images or (self.reference,), plan, cache=cache))

    def verifies(self, name: str, image: Reference | None = None) -> list[str]:
        """The formats in which an image verifies by a key."""
        at = str(image or self.reference)
        return [
            format for format in ("sig", "bundle") if self.verify(key(name), image=at, formats=(format,)).verified
        ]

    @property
    def written(self) -> int:
        """How many requests have changed something."""
        return len([seen for seen in self.registry.log if seen.method not in ("GET", "HEAD")])


__all__ = ["REPOSITORY", "FakeRegistry", "World", "alone", "key"]
