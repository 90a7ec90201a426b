# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of logs: ids, what they verify, when they are valid."""

from __future__ import annotations

import datetime
import hashlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import log_key
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency import log_bench
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

MOMENT = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.timezone.utc)
SECOND = datetime.timedelta(seconds=1)


@pytest.fixture(params=["p256", "p384", "rsa2048", "ed25519_key"])
def private(request: pytest.FixtureRequest) -> log_bench.AnyPrivate:
    return t.cast(log_bench.AnyPrivate, request.getfixturevalue(request.param))


def known(private: t.Any, **options: t.Any) -> log_key.LogKey:
    return log_key.read(log_bench.pem("PUBLIC KEY", log_bench.spki(private)), where="rekor.pub", **options)


def test_reads_a_key(private: log_bench.AnyPrivate) -> None:
    found = known(private)
    assert (found.der, found.host, found.not_before, found.not_after) == (log_bench.spki(private), None, None, None)
    assert found.id_v1 == hashlib.sha256(log_bench.spki(private)).hexdigest()


def test_verifies_with_sha256(private: log_bench.AnyPrivate) -> None:
    found, signature = known(private), log_bench.sign(private, b"message")
    assert found.verifies(signature=signature, message=b"message")
    assert not found.verifies(signature=signature, message=b"messagE")
    assert not found.verifies(signature=signature[:-1], message=b"message")
    assert not found.verifies(signature=b"", message=b"message")


def test_verifies_with_no_other_hash(p384: ec.EllipticCurvePrivateKey, rsa2048: t.Any) -> None:
    by_p384 = p384.sign(b"message", ec.ECDSA(hashes.SHA384()))
    assert not known(p384).verifies(signature=by_p384, message=b"message")
    by_rsa = rsa2048.sign(b"message", padding.PKCS1v15(), hashes.SHA512())
    assert not known(rsa2048).verifies(signature=by_rsa, message=b"message")


def test_ids_of_version_2(
    p256: ec.EllipticCurvePrivateKey, rsa2048: log_bench.AnyPrivate, ed25519_key: log_bench.AnyPrivate
) -> None:
    raw = ed25519_key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert known(ed25519_key).id_v2("log.example") == hashlib.sha256(b"log.example\n\x01" + raw).digest()
    assert known(p256).id_v2("any") == hashlib.sha256(log_bench.spki(p256)).digest()
    expected = hashlib.sha256(b"log.example\n\xffPKIX-RSA-PKCS#1v1.5" + log_bench.spki(rsa2048)).digest()
    assert known(rsa2048).id_v2("log.example") == expected


@pytest.mark.parametrize(("url", "host"), [
    ("https://rekor.example", "rekor.example"),
    ("https://rekor.example/", "rekor.example"),
    ("https://rekor.example:8443/api", "rekor.example"),
    ("http://Rekor.Example:3000", "rekor.example"),
    ("http://127.0.0.1:3000", "127.0.0.1"),
    ("http://[::1]:3000", "::1"),
])
def test_the_host_is_that_of_the_url_without_its_port(p256: t.Any, url: str, host: str) -> None:
    assert known(p256, rekor_url=url).host == host


@pytest.mark.parametrize("url", ["", "rekor.example", "https://", "https://[", "/path"])
def test_a_url_without_a_host(p256: t.Any, url: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        known(p256, rekor_url=url)
    assert (caught.value.code, caught.value.object) == ("input_invalid", "rekor_url")


@pytest.mark.parametrize(("not_before", "not_after", "moment", "valid"), [
    (None, None, MOMENT, True),
    (MOMENT, None, MOMENT, True),
    (MOMENT, None, MOMENT - SECOND, False),
    (None, MOMENT, MOMENT, True),
    (None, MOMENT, MOMENT + SECOND, False),
    (MOMENT - SECOND, MOMENT + SECOND, MOMENT, True),
    (MOMENT + SECOND, MOMENT - SECOND, MOMENT, False),
])
def test_validity(p256: t.Any, not_before: t.Any, not_after: t.Any, moment: datetime.datetime, valid: bool) -> None:
    assert known(p256, not_before=not_before, not_after=not_after).is_valid_at(moment) is valid


def test_other_files_are_refused(p256: t.Any) -> None:
    der = log_bench.spki(p256)
    for data in (b"", der, log_bench.pem("PUBLIC KEY", der) * 2, log_bench.pem("CERTIFICATE", der)):
        with pytest.raises(KeyFileError) as caught:
            log_key.read(data, where="rekor.pub")
        assert (caught.value.code, caught.value.object) == ("malformed", "rekor.pub")


def test_keys_compare_by_what_they_are(p256: t.Any, p384: t.Any) -> None:
    assert known(p256) == known(p256) != known(p384)
    assert known(p256) != known(p256, rekor_url="https://rekor.example")
