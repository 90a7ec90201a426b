# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DSSE envelopes: the pre-authentication encoding, and envelopes of exactly one signature."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _strict_json
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._signing import dsse
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    IN_TOTO,
    b64,
    compact,
)


def envelope(**members: t.Any) -> dict[str, t.Any]:
    return {"payload": b64(b"{}"), "payloadType": IN_TOTO, "signatures": [{"sig": b64(b"sig")}], **members}


def decode(document: t.Any) -> dsse.Envelope:
    return dsse.decode(_strict_json.loads(compact(document), what="envelope", where="x"))


@pytest.mark.parametrize(("content", "encoded"), [
    (b"", b"DSSEv1 28 application/vnd.in-toto+json 0 "),
    (b"hello world", b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"),
    ("é\n".encode(), b"DSSEv1 28 application/vnd.in-toto+json 3 \xc3\xa9\n"),
])
def test_pre_authentication_encoding(content: bytes, encoded: bytes) -> None:
    assert dsse.pae(content) == encoded
    assert dsse.Envelope(content, b"").signed_bytes == encoded


def test_writes_and_reads() -> None:
    written = dsse.Envelope(b"{}", b"sig")
    assert dsse.encode(written) == envelope()
    assert decode(envelope()) == written


@pytest.mark.parametrize("keyid", ["", "abc", None])
def test_a_key_id_is_not_looked_at(keyid: t.Any) -> None:
    assert decode(envelope(signatures=[{"sig": b64(b"sig"), "keyid": keyid}])).signature == b"sig"


@pytest.mark.parametrize("document", [
    pytest.param(envelope(payloadType="application/json"), id="another payload type"),
    pytest.param(envelope(payloadType=""), id="payload type empty"),
    pytest.param(envelope(payloadType=IN_TOTO.upper()), id="payload type upper-case"),
    pytest.param(envelope(payloadType=None), id="payload type null"),
    pytest.param(envelope(signatures=[]), id="no signature"),
    pytest.param(envelope(signatures=[{"sig": b64(b"sig")}] * 2), id="two signatures"),
    pytest.param(envelope(signatures={}), id="signatures an object"),
    pytest.param(envelope(signatures=[None]), id="signature null"),
    pytest.param(envelope(signatures=[{}]), id="sig missing"),
    pytest.param(envelope(signatures=[{"sig": b64(b"sig"), "cert": ""}]), id="unknown member of a signature"),
    pytest.param(envelope(comment=""), id="unknown member"),
    pytest.param(envelope(payload=None), id="payload null"),
    pytest.param(envelope(payload="e30"), id="payload without padding"),
    pytest.param(envelope(payload="e30=\n"), id="payload with a line end"),
    pytest.param(envelope(payload=b64(b"\xfb\xff").replace("+", "-").replace("/", "_")), id="payload URL-safe"),
    pytest.param(envelope(payload="e31="), id="payload with spare bits"),
    pytest.param(envelope(signatures=[{"sig": "c2ln\n"}]), id="sig with a line end"),
    pytest.param(envelope(signatures=[{"sig": "é"}]), id="sig not ASCII"),
])
def test_malformed(document: dict[str, t.Any]) -> None:
    with pytest.raises(FormatError) as caught:
        decode(document)
    assert (caught.value.code, caught.value.object) == ("malformed", "x")


def test_a_payload_type_of_any_length_makes_a_short_message() -> None:
    with pytest.raises(FormatError) as caught:
        decode(envelope(payloadType="x" * 100_000))
    assert len(str(caught.value)) < 400


def test_content_does_not_show_in_its_text() -> None:
    assert "sig" not in repr(dsse.Envelope(b"payload", b"sig")).replace("signature", "")
