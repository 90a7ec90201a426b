# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests: exact grammar, and bytes that must have the digest they were asked for by."""

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import digest

SHA256 = "sha256:" + "0123456789abcdef" * 4
SHA512 = "sha512:" + "0123456789abcdef" * 8

MALFORMED = [
    "",
    "sha256",
    "sha256:",
    "a" * 64,
    SHA256[:-1],
    SHA256 + "0",
    SHA512[:-1],
    SHA512 + "0",
    "sha512:" + "0" * 64,
    "sha256:" + "0" * 128,
    SHA256.upper(),
    "sha256:" + "A" * 64,
    "SHA256:" + "a" * 64,
    "sha256:" + "g" * 64,
    "sha1:" + "a" * 40,
    "sha384:" + "a" * 96,
    "md5:" + "a" * 32,
    "sha256:../../../../etc/passwd",
    "sha256:../" + "a" * 61,
    "sha256:" + "a" * 63 + "/",
    SHA256 + "\n",
    "\n" + SHA256,
    " " + SHA256,
    SHA256 + " ",
    SHA256 + "\0",
    "sha256-" + "a" * 64,
    "sha256:" + "\u0661" * 64,
    "sha256:" + "\uff41" * 64,
    SHA256 + "@" + SHA256,
    "sha256+b64:" + "a" * 64,
]


@pytest.mark.parametrize("text", [SHA256, SHA512, "sha256:" + "0" * 64, "sha512:" + "f" * 128])
def test_takes_both_registered_algorithms(text: str) -> None:
    assert digest.is_digest(text)
    assert digest.require_digest(text, where="app") == text


@pytest.mark.parametrize("text", MALFORMED)
def test_refuses_everything_else(text: str) -> None:
    assert not digest.is_digest(text)
    with pytest.raises(FormatError) as caught:
        digest.require_digest(text, where="host/app")
    assert (caught.value.code, caught.value.object) == ("malformed", "host/app")


def test_an_error_quotes_a_bounded_part_of_the_text() -> None:
    with pytest.raises(FormatError) as caught:
        digest.require_digest("x" * 100_000, where="app")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("data", [b"", b"{}", b"\0" * 1000])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_computes_digests(data: bytes, algorithm: str) -> None:
    assert digest.digest_of(data, algorithm=algorithm) == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def test_sha256_is_the_default() -> None:
    # The digest of the empty object, as it stands in every bundle manifest.
    assert digest.digest_of(b"{}") == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_check_takes_the_right_bytes(algorithm: str) -> None:
    digest.check(b"right", digest.digest_of(b"right", algorithm=algorithm), where="app")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("data", [b"", b"wrong", b"right\n"])
def test_check_refuses_other_bytes(algorithm: str, data: bytes) -> None:
    expected = digest.digest_of(b"right", algorithm=algorithm)
    with pytest.raises(FormatError) as caught:
        digest.check(data, expected, where="host/app")
    assert (caught.value.code, caught.value.object) == ("digest_mismatch", "host/app")
    assert expected in str(caught.value)
    assert digest.digest_of(data, algorithm=algorithm) in str(caught.value)


@pytest.mark.parametrize("expected", ["", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha1:" + "a" * 40, "sha256:x"])
def test_check_refuses_what_is_no_digest(expected: str) -> None:
    with pytest.raises(FormatError) as caught:
        digest.check(b"", expected, where="app")
    assert caught.value.code == "malformed"
