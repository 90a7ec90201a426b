# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who does not read what: the words. That they are true is measured in tests/interop/test_interop_matrix.py."""

from __future__ import annotations

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys.algorithms import ALGORITHMS, SCHEMES
from ansible_collections.hallmark.signing.plugins.module_utils._signing.readers import limits
from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import FORMATS, Format

EVERYBODY = "cosign 2, cosign 3, podman and CRI-O refuse it"
FLAG = "--signature-digest-algorithm"


@pytest.mark.parametrize(("algorithm", "scheme", "format", "is_certified", "words"), [
    ("ecdsa-p256", "ecdsa-sha256", "sig", False, None),
    ("ecdsa-p256", "ecdsa-sha256", "bundle", False, None),
    ("rsa-3072", "rsa-pkcs1v15-sha256", "bundle", False, None),
    ("ecdsa-p521", "ecdsa-sha256", "sig", False, None),
    ("ed25519", "ed25519", "sig", False, None),
    ("ecdsa-p384", "ecdsa-sha384", "sig", False,
     f"podman and CRI-O refuse it; cosign 2 and cosign 3 take it only with {FLAG} sha384"),
    ("ecdsa-p521", "ecdsa-sha512", "bundle", False, f"cosign 3 takes it only with {FLAG} sha512"),
    ("rsa-2048", "rsa-pkcs1v15-sha512", "bundle", False, f"cosign 3 takes it only with {FLAG} sha512"),
    ("rsa-2048", "rsa-pss-sha256", "sig", False, EVERYBODY),
    ("rsa-2048", "rsa-pss-sha512", "bundle", False, "cosign 3 refuses it"),
    ("ed25519", "ed25519ph", "sig", False, EVERYBODY),
    ("ed25519", "ed25519ph", "bundle", False, "cosign 3 refuses it"),
    ("ecdsa-p256", "ecdsa-sha256", "sig", True,
     "with the bare key, cosign 2 and cosign 3 take it only until its certificate expires"),
    ("ecdsa-p256", "ecdsa-sha384", "sig", True,
     "podman and CRI-O refuse it; cosign 2 and cosign 3 take it only with the bare key, until its certificate "
     f"expires, and with {FLAG} sha384"),
    ("rsa-4096", "rsa-pss-sha384", "sig", True, EVERYBODY),
    ("ecdsa-p384", "ecdsa-sha384", "bundle", True,
     "with the bare key, cosign 3 does not take it, only with the roots of its certificate"),
    ("ecdsa-p256", "ecdsa-sha384", "bundle", True, "cosign 3 refuses it"),
    ("ecdsa-p384", "ecdsa-sha512", "bundle", True, "cosign 3 refuses it"),
    ("rsa-2048", "rsa-pkcs1v15-sha512", "bundle", True, "cosign 3 refuses it"),
    ("ed25519", "ed25519ph", "bundle", True, "cosign 3 refuses it"),
])
def test_words(algorithm: str, scheme: str, format: Format, is_certified: bool, words: str | None) -> None:
    assert limits(algorithm, scheme, format, with_certificate=is_certified) == words


@pytest.mark.parametrize(("algorithm", "scheme", "format", "is_logged", "is_told"), [
    ("ecdsa-p384", "ecdsa-sha384", "sig", True, True), ("ecdsa-p384", "ecdsa-sha384", "sig", False, False),
    ("ecdsa-p384", "ecdsa-sha256", "sig", True, False), ("ecdsa-p384", "ecdsa-sha384", "bundle", True, False),
    ("rsa-4096", "rsa-pss-sha384", "sig", True, False),
])
def test_log_entries_that_no_cosign_takes(
    algorithm: str, scheme: str, format: Format, is_logged: bool, is_told: bool
) -> None:
    words = limits(algorithm, scheme, format, with_certificate=False, is_logged=is_logged) or ""
    assert ("--insecure-ignore-tlog" in words) is is_told


@pytest.mark.parametrize("is_certified", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_every_scheme_of_every_key_is_known(format: Format, is_certified: bool) -> None:
    for algorithm in ALGORITHMS:
        for scheme in SCHEMES.values():
            if scheme.family == algorithm.family:
                words = limits(algorithm.name, scheme.name, format, with_certificate=is_certified)
                is_usual = scheme.name in ("ecdsa-sha256", "rsa-pkcs1v15-sha256", "ed25519")
                assert (words is None) == (is_usual and not is_certified)
                assert "{" not in (words or "")
