# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Challenges and tokens: what is understood, what is refused, and secrets that are never quoted."""

from __future__ import annotations

import json
import time
import traceback
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import authorization
from ansible_collections.hallmark.signing.plugins.module_utils._oci.authorization import Challenge, Token
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import Credentials

CANARY = "canary-of-a-secret"


def refused(header: str, *, base: str = "https://r.io") -> str:
    with pytest.raises(RegistryError) as caught:
        authorization.read_challenge(header, base=base, where="r.io")
    assert (caught.value.code, caught.value.object) == ("unauthorized", "r.io")
    return caught.value.cause


@pytest.mark.parametrize(("header", "expected"), [
    ('Basic realm="r"', Challenge("basic", "r", "")),
    ('basic realm="r"', Challenge("basic", "r", "")),
    ("BASIC", Challenge("basic", "", "")),
    ('Bearer realm="https://a.io/token"', Challenge("bearer", "https://a.io/token", "")),
    ('Bearer realm="https://a.io/token",service="r.io"', Challenge("bearer", "https://a.io/token", "r.io")),
    ('bearer Realm="https://a.io/token", SERVICE="r.io"', Challenge("bearer", "https://a.io/token", "r.io")),
    ('Bearer service="r.io",realm="https://a.io/t"', Challenge("bearer", "https://a.io/t", "r.io")),
    ('Bearer realm = "https://a.io/t" , service = "r"', Challenge("bearer", "https://a.io/t", "r")),
    # The scope a registry names is not believed: the caller knows what it wants.
    ('Bearer realm="https://a.io/t",scope="repository:other:*",error="x"', Challenge("bearer", "https://a.io/t", "")),
])
def test_reads_challenges(header: str, expected: Challenge) -> None:
    assert authorization.read_challenge(header, base="https://r.io", where="r.io") == expected


@pytest.mark.parametrize(("header", "words"), [
    ("", "neither Basic nor Bearer"),
    ("Negotiate", "neither Basic nor Bearer"),
    ('Digest realm="r", nonce="n"', "neither Basic nor Bearer"),
    ("NTLM", "neither Basic nor Bearer"),
    ('Basicrealm="r"', "neither Basic nor Bearer"),
    ('"Bearer" realm="https://a.io/token"', "neither Basic nor Bearer"),
    ("Bearer", "names no token service"),
    ('Bearer realm=""', "names no token service"),
    ('Bearer service="x"', "names no token service"),
    # The realm of another challenge is not that of this one.
    ('Bearer service="x", Digest realm="https://a.io/token"', "names no token service"),
    ('Bearer realm="file:///etc/passwd"', "no usable address"),
    ('Bearer realm="ftp://a.io/token"', "no usable address"),
    ('Bearer realm="javascript:1"', "no usable address"),
    ('Bearer realm="https://robot@a.io/token"', "no usable address"),
    ('Bearer realm="https://a.io\\@b.io/token"', "no usable address"),
    ('Bearer realm="https://a.io:0/token"', "no usable address"),
    ('Bearer realm="https://a.io/ token"', "no usable address"),
    ('Bearer realm="https://[::1/token"', "no usable address"),
    ('Bearer realm="https://[x]/token"', "no usable address"),
])
@pytest.mark.parametrize("base", ["https://r.io", "http://r.io"])
def test_refuses_other_challenges(header: str, words: str, base: str) -> None:
    assert words in refused(header, base=base)


# Found by tests/fuzz: several headers of 64 KiB each are one challenge, and nothing interrupts an expression.
@pytest.mark.parametrize("text", ["a", "a_", "a ", ",", 'a="', ", a", '"', "=", "Basic,"])
def test_a_long_challenge_is_read_in_linear_time(text: str) -> None:
    begun = time.process_time()
    refused("Bearer " + text * 30_000)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(("realm", "expected"), [
    ("/token", "r.io:5000/token"), ("token", "r.io:5000/token"), ("//a.io/token", "a.io/token"),
])
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_relative_realm_is_seen_from_the_registry(realm: str, expected: str, scheme: str) -> None:
    found = authorization.read_challenge(f'Bearer realm="{realm}"', base=f"{scheme}://r.io:5000", where="r.io")
    assert found.realm == f"{scheme}://{expected}"


@pytest.mark.parametrize("realm", ["http://a.io/token", "http://127.0.0.1/token", "http://r.io/token"])
def test_refuses_a_token_service_in_clear_for_a_registry_on_tls(realm: str) -> None:
    assert "plain HTTP" in refused(f'Bearer realm="{realm}"')
    assert authorization.read_challenge(f'Bearer realm="{realm}"', base="http://r.io", where="r.io").realm == realm


def test_refuses_a_token_service_in_clear_in_other_spellings() -> None:
    refused('Bearer realm="HTTP://a.io/token"')


@pytest.mark.parametrize("header", [
    # A token without quotes, and several challenges in one field (RFC 9110 section 11.2).
    'Bearer realm="https://a.io/token",service=r.io',
    'Negotiate, Bearer realm="https://a.io/token",service="r.io"',
    'Bearer realm="https://a.io/token",service="r.io", Negotiate',
    'Bearer realm="https://a.io/token",service="r.io", Digest realm="https://b.io/token", service="b.io"',
    'Bearer realm="https://a.io/token",error="no, Digest x",service="r.io"',
    # Bearer is preferred wherever it stands.
    'Basic realm="r", Bearer realm="https://a.io/token",service="r.io"',
    'Bearer realm="https://a.io/token",service="r.io", Basic realm="r"',
    # The first of two equals counts.
    'Bearer realm="https://a.io/token",service="r.io",realm="https://b.io/token",service="b.io"',
    'Bearer realm="https://a.io/token",service="r.io", Bearer realm="https://b.io/token",service="b.io"',
])
def test_reads_what_rfc_9110_allows(header: str) -> None:
    found = authorization.read_challenge(header, base="https://r.io", where="r.io")
    assert found == Challenge("bearer", "https://a.io/token", "r.io")


@pytest.mark.parametrize(("challenge", "expected"), [
    (Challenge("bearer", "https://a.io/token", "r.io"),
     "https://a.io/token?service=r.io&scope=repository%3Ateam%2Fapp%3Apull"),
    (Challenge("bearer", "https://a.io/token", ""), "https://a.io/token?scope=repository%3Ateam%2Fapp%3Apull"),
    (Challenge("bearer", "https://a.io/token?x=1", "r"),
     "https://a.io/token?x=1&service=r&scope=repository%3Ateam%2Fapp%3Apull"),
    (Challenge("bearer", "https://a.io/token", "a&scope=*"),
     "https://a.io/token?service=a%26scope%3D%2A&scope=repository%3Ateam%2Fapp%3Apull"),
])
def test_makes_token_urls(challenge: Challenge, expected: str) -> None:
    assert challenge.token_url("repository:team/app:pull") == expected


@pytest.mark.parametrize(("answer", "value", "lifetime"), [
    ({"token": "x"}, "x", 50),
    ({"access_token": "x"}, "x", 50),
    ({"token": "x", "access_token": "y"}, "x", 50),
    ({"token": "", "access_token": "y"}, "y", 50),
    ({"token": "x", "expires_in": 300}, "x", 290),
    ({"token": "x", "expires_in": 1}, "x", 50),
    ({"token": "x", "expires_in": 0}, "x", 50),
    ({"token": "x", "expires_in": -5}, "x", 50),
    ({"token": "x", "expires_in": 61, "issued_at": "2026-01-01T00:00:00Z", "scope": "y"}, "x", 51),
])
def test_reads_tokens(answer: dict[str, t.Any], value: str, lifetime: int) -> None:
    token = authorization.read_token(json.dumps(answer).encode(), where="r.io")
    assert token.value == value
    assert token.is_fresh
    assert token.stale_at - time.monotonic() == pytest.approx(lifetime, abs=2)


@pytest.mark.parametrize("body", [
    b"",
    b"[]",
    b"null",
    b"{}",
    b'{"token":""}',
    b'{"token":null}',
    b'{"token":1}',
    b'{"token":"%s","token":"%s"}' % (CANARY.encode(), CANARY.encode()),
    b'{"token":"%s","expires_in":"60"}' % CANARY.encode(),
    b'{"token":"%s","expires_in":true}' % CANARY.encode(),
    b'{"token":"%s\\r\\nX-Evil: 1"}' % CANARY.encode(),
    b'{"token":"%s\\n"}' % CANARY.encode(),
    b'{"token":"\\u0000%s"}' % CANARY.encode(),
    b'{"token":"%s"' % CANARY.encode(),
    b"<html>%s</html>" % CANARY.encode(),
    CANARY.encode() + b"\xff",
])
def test_refuses_other_answers_and_does_not_quote_them(body: bytes) -> None:
    with pytest.raises(RegistryError) as caught:
        authorization.read_token(body, where="r.io")
    assert (caught.value.code, caught.value.object) == ("unauthorized", "r.io")
    shown = "".join(traceback.format_exception(type(caught.value), caught.value, None))
    assert CANARY not in str(caught.value) + shown


@pytest.mark.parametrize("token", ["\\u2192", "\\u00e9", "a b", " ", "a\\tb", "a\\u007f"])
def test_refuses_a_token_that_no_header_can_carry(token: str) -> None:
    with pytest.raises(RegistryError) as caught:
        authorization.read_token(b'{"token":"%s"}' % token.encode(), where="r.io")
    assert (caught.value.code, caught.value.cause) == ("unauthorized", "its token service gave no token")


def test_a_token_is_fresh_until_it_is_stale() -> None:
    assert Token("x", time.monotonic() + 1).is_fresh
    assert not Token("x", time.monotonic() - 0.001).is_fresh


def test_a_token_is_in_no_repr() -> None:
    assert CANARY not in repr(Token(CANARY, 1.0))


@pytest.mark.parametrize(("credentials", "words"), [
    (Credentials("robot", CANARY, "registries"), "refuses user 'robot' (credentials from registries)"),
    (Credentials("robot", CANARY, "/root/auth.json"), "credentials from /root/auth.json"),
    (Credentials("<token>", "", "/auth.json", CANARY), "refuses the identity token (credentials from /auth.json)"),
    (None, "no credentials are known"),
])
def test_a_refusal_says_whose_credentials_were_used(
    credentials: Credentials | None, words: str
) -> None:
    error = authorization.no_credentials(credentials, where="r.io")
    assert (error.code, error.object) == ("unauthorized", "r.io")
    assert words in error.cause
    assert CANARY not in str(error)
