# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the client of a log: what it asks, and that no answer gets it out of step."""

from __future__ import annotations

import base64
import hashlib
import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, HallmarkError, RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import transport
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings, RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import body, rekor
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeLog
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

MESSAGE = b"what was signed"
UUID = "10c0ffee10c0ffee" + "ab" * 32
LEAF = UUID[16:]
ENTRIES = "/api/v1/log/entries"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.001)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def client(log: FakeLog | str, **settings: t.Any) -> rekor.Log:
    url = log if isinstance(log, str) else log.url
    return rekor.Log(url, RegistrySettings(AuthFile("none", {}), **{"timeout": 5.0, **settings}))


def proposed(key: ec.EllipticCurvePrivateKey, message: bytes = MESSAGE) -> bytes:
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return body.hashedrekord(
        digest=hashlib.sha256(message).digest(), hash_algorithm="sha256",
        signature=key.sign(message, ec.ECDSA(hashes.SHA256())), verifier_pem=pem.decode(),
    )


def refused(call: t.Callable[[], t.Any]) -> HallmarkError:
    with pytest.raises((RegistryError, FormatError)) as caught:
        call()
    return caught.value


# Addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://log.example.org", ("log.example.org", "", False)),
        ("https://log.example.org/", ("log.example.org", "", False)),
        ("http://127.0.0.1:3000", ("127.0.0.1:3000", "", True)),
        ("https://[::1]:3000/rekor//", ("[::1]:3000", "/rekor", False)),
        ("https://example.org/a/b/", ("example.org", "/a/b", False)),
    ],
)
def test_urls_are_taken_apart(url: str, parts: tuple[str, str, bool]) -> None:
    assert tuple(rekor.parse_url(url, option="x")) == parts


@pytest.mark.parametrize("url", [
    "", "log.example.org", "ftp://log.example.org", "HTTPS://log.example.org", "https://", "https:///path",
    "https://user:secret@log.example.org", "https://log.example.org?x=1", "https://log.example.org/#x",
    "https://log.example.org/\n", "https://a b/", "https://a\\b", " https://a", "https://a/b c", "x" * 10000,
])
def test_what_is_no_url_is_refused(url: str) -> None:
    error = refused(lambda: rekor.parse_url(url, option="rekor_url"))
    assert (error.code, error.object) == ("input_invalid", "rekor_url")
    assert len(str(error)) < 1000
    assert refused(lambda: client(url)).code == "input_invalid"


def test_path_of_the_url_comes_before_that_of_the_api() -> None:
    with FakeRegistry() as server:
        refused(lambda: client(f"{server.url}/some/where/").by_uuid(UUID))
        assert [seen.path for seen in server.log] == [f"/some/where{ENTRIES}/{UUID}"]


# Truth -------------------------------------------------------------------------------------------------------------


def test_entry_is_stored_and_found(log: FakeLog, p256: ec.EllipticCurvePrivateKey) -> None:
    asked = client(log)
    content = proposed(p256)
    entry = asked.add(content)
    assert entry.body == content
    assert (entry.index, log.entries) == (1001, 2)
    assert entry.signed_entry_timestamp
    assert entry.proof
    (uuid,) = asked.search(rekor.hash_query(f"sha256:{hashlib.sha256(MESSAGE).hexdigest()}"))
    leaf = hashlib.sha256(b"\0" + content).hexdigest()
    assert uuid.endswith(leaf)
    # Entries are the same; signatures over checkpoints are made anew.
    for found in (asked.by_uuid(uuid), asked.by_uuid(leaf), asked.by_index(1001)):
        assert (found.body, found.index, found.log_id) == (entry.body, entry.index, entry.log_id)
    assert log.requests == [
        f"POST {ENTRIES}", "POST /api/v1/index/retrieve", f"GET {ENTRIES}/{uuid}", f"GET {ENTRIES}/{leaf}",
        f"GET {ENTRIES}?logIndex=1001",
    ]


def test_entry_that_is_there_is_found(log: FakeLog, p256: ec.EllipticCurvePrivateKey) -> None:
    content = proposed(p256)
    first, again = client(log).add(content), client(log).add(content)
    assert (again.index, again.body, log.entries) == (first.index, content, 2)
    assert [one.partition(" ")[0] for one in log.requests] == ["POST", "POST", "GET"]


def test_public_keys_and_addresses_are_searched_for(log: FakeLog, p256: ec.EllipticCurvePrivateKey) -> None:
    asked = client(log)
    asked.add(proposed(p256))
    pem = p256.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert len(asked.search(rekor.key_query(pem))) == 1
    assert asked.search(rekor.email_query("nobody@example.com")) == ()
    assert asked.search(rekor.hash_query(f"sha256:{'0' * 64}")) == ()
    assert rekor.email_query("a@b") == {"email": "a@b"}
    assert base64.b64decode(rekor.key_query(b"x")["publicKey"]["content"]) == b"x"


def test_credentials_of_registries_are_not_sent_to_a_log(tmp_path: t.Any) -> None:
    with FakeRegistry(auth="basic", username="robot", password="canary") as server:
        login = base64.b64encode(b"robot:canary").decode()
        settings = RegistrySettings(
            AuthFile("file", {server.host: {"auth": login}}), timeout=5.0, uses_mirrors=True,
            hosts={server.host: HostSettings(plain_http=True, mirrors=("mirror.example.org",))},
        )
        for url in (server.url, f"http://{server.host}/path"):
            error = refused(lambda url=url: rekor.Log(url, settings).by_uuid(UUID))
            assert error.code == "unauthorized"
        assert server.log
        assert not any(seen.authorized for seen in server.log)


# Lies: whatever is answered, an entry comes out or one of our errors ------------------------------------------------

ENTRY = {"body": "e30=", "integratedTime": 1, "logID": "00" * 32, "logIndex": 1, "verification": {}}
ANSWERS: list[tuple[str, str]] = [
    ("empty", ""),
    ("no JSON", "<html>log in</html>"),
    ("no UTF-8", '{"\udcff": 1}'),
    ("list", "[]"),
    ("null", "null"),
    ("no entry", "{}"),
    ("two entries", json.dumps({UUID: ENTRY, LEAF: ENTRY})),
    ("entry twice", f'{{"{UUID}": {json.dumps(ENTRY)}, "{UUID}": {json.dumps(ENTRY)}}}'),
    ("entry is a list", json.dumps({UUID: [ENTRY]})),
    ("entry is null", json.dumps({UUID: None})),
    *(
        (f"{name} is {value!r}", json.dumps({UUID: {**ENTRY, name: value}}))
        for name, values in {
            "body": (None, 1, "?", "e30"), "integratedTime": (None, "x", -1, 2**63, 1.5, True, 10**400),
            "logID": (None, "00", "zz" * 32, "AB" * 32), "logIndex": (None, -1, "1x", [1]),
            "verification": (1, [], "x", {"signedEntryTimestamp": 1}, {"inclusionProof": {}},
                             {"inclusionProof": {"hashes": ["00" * 32] * 10000}}),
        }.items()
        for value in values
    ),
    ("deep", '{"a":' * 100000),
    ("more behind it", json.dumps({UUID: ENTRY}) + "x"),
]


@pytest.mark.parametrize("answer", [text for _words, text in ANSWERS], ids=[words for words, _text in ANSWERS])
def test_answer_that_is_no_entry_is_refused(log: FakeLog, p256: t.Any, answer: str) -> None:
    # The server writes UTF-8 only: what is none is tested elsewhere.
    log.answer(answer.replace("\udcff", "\\udcff"))
    asked = client(log)
    for call in (lambda: asked.by_uuid(UUID), lambda: asked.by_index(0)):
        error = refused(call)
        assert error.code in ("malformed", "service_unavailable", "limit_exceeded")
        assert error.object == log.host
        assert len(str(error)) < 1000
    log.answer(answer.replace("\udcff", "\\udcff"), status=201)
    refused(lambda: asked.add(proposed(p256)))


@pytest.mark.parametrize("answer", [
    "", "{}", "null", "1", '"x"', "[1]", "[null]", '["x"]', f'["{UUID}", "{UUID}0"]', f'["{UUID.upper()}"]',
    f'["{UUID}\\n"]', f'["../{LEAF}"]', f'["{UUID}"], "more": []', f'["{UUID}"]}} {{', '[' * 100000,
    f'["{UUID}"],"uuids":["{LEAF}"]',
])
def test_answer_that_is_no_list_of_uuids_is_refused(log: FakeLog, answer: str) -> None:
    log.answer(answer)
    error = refused(lambda: client(log).search(rekor.email_query("x")))
    assert error.code in ("malformed", "service_unavailable")
    assert error.object == log.host


def test_more_than_a_thousand_uuids_are_refused(log: FakeLog) -> None:
    log.answer(json.dumps([UUID] * 1000))
    assert len(client(log).search(rekor.email_query("x"))) == 1000
    log.answer(json.dumps([UUID] * 1001))
    assert refused(lambda: client(log).search(rekor.email_query("x"))).code == "limit_exceeded"


@pytest.mark.parametrize("size", [4 * 1024 * 1024 - 2, 4 * 1024 * 1024 + 1, 20 * 1024 * 1024])
def test_answer_is_read_up_to_a_limit(log: FakeLog, size: int) -> None:
    log.answer("[]" + " " * size)
    if size < 4 * 1024 * 1024:
        assert client(log).search(rekor.email_query("x")) == ()
    else:
        assert refused(lambda: client(log).search(rekor.email_query("x"))).code == "limit_exceeded"


@pytest.mark.parametrize("status", [200, 202, 204, 400, 404, 422, 429, 500, 503])
def test_status_that_does_not_belong_there_is_an_error(log: FakeLog, p256: t.Any, status: int) -> None:
    log.answer(json.dumps({UUID: ENTRY}), status=status)
    error = refused(lambda: client(log).add(proposed(p256)))
    assert (error.code, error.object) == ("not_found" if status == 404 else "service_unavailable", log.host)
    assert "registr" not in str(error).replace("TLS settings in registries", "")
    if status != 200:
        assert refused(lambda: client(log).by_uuid(UUID)).object == log.host


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["http://127.0.0.1:1/x", "/x", "", "file:///etc/passwd"])
def test_redirect_of_an_upload_leads_to_no_entry(log: FakeLog, p256: t.Any, status: int, target: str) -> None:
    log.answer(json.dumps({UUID: ENTRY}), status=status, Location=target)
    error = refused(lambda: client(log).add(proposed(p256)))
    assert error.code == "service_unavailable"


@pytest.mark.parametrize("location", [
    None, "", "/", f"{ENTRIES}/", f"{ENTRIES}/x", f"{ENTRIES}/{UUID}/", f"{ENTRIES}/{UUID[:-1]}",
    f"{ENTRIES}/{UUID.upper()}", f"{ENTRIES}/{LEAF}?x", f"{ENTRIES}/..%2f..%2f",
])
def test_conflict_without_a_uuid_is_refused(log: FakeLog, p256: t.Any, location: str | None) -> None:
    log.answer("{}", status=409, **({} if location is None else {"Location": location}))
    error = refused(lambda: client(log).add(proposed(p256)))
    assert (error.code, len(log.requests)) == ("service_unavailable", 1)
    assert "is no UUID of an entry" in error.cause


def test_conflict_leads_to_no_other_host(log: FakeLog, p256: t.Any) -> None:
    with FakeRegistry() as other:
        log.lie("answer", status=409, body="{}", headers={"Location": f"{other.url}{ENTRIES}/{UUID}"}, times=1)
        assert refused(lambda: client(log).add(proposed(p256))).code == "not_found"
        assert (log.requests[-1], other.log) == (f"GET {ENTRIES}/{UUID}", [])


def test_conflict_about_nothing_is_told(log: FakeLog, p256: t.Any) -> None:
    log.answer("{}", status=409, Location=f"{ENTRIES}/{UUID}", path="entries")
    assert refused(lambda: client(log).add(proposed(p256))).code == "service_unavailable"
    assert len(log.requests) == 2


@pytest.mark.parametrize("uuid", ["", "x", UUID[:-1], UUID + "0", UUID.upper(), f"{LEAF}\n", "../../x", "0" * 10000])
def test_what_is_no_uuid_is_not_asked_for(log: FakeLog, uuid: str) -> None:
    error = refused(lambda: client(log).by_uuid(uuid))
    assert (error.code, log.requests) == ("service_unavailable", [])
    assert len(str(error)) < 1000


@pytest.mark.parametrize("kind", ["cut", "status500"])
def test_broken_answers_are_told(log: FakeLog, kind: str) -> None:
    log.lie(kind)
    assert refused(lambda: client(log).by_index(1000)).code == "service_unavailable"


def test_answer_that_never_ends_meets_the_timeout() -> None:
    with FakeRegistry() as server:
        server.fail(Fault(status=200, body=b"{" + b" " * 1000, trickle=0.05))
        assert refused(lambda: client(server.url, timeout=0.3).by_uuid(UUID)).code == "service_unavailable"


def test_log_that_is_not_there_is_told() -> None:
    error = refused(lambda: client("http://127.0.0.1:1", timeout=0.5).by_uuid(UUID))
    assert (error.code, error.object) == ("service_unavailable", "127.0.0.1:1")
    assert "Check its address" in error.advice


def test_plain_http_is_what_the_url_says(log: FakeLog) -> None:
    # A host that speaks plain HTTP is no reason to do so where https was asked for.
    asked = client(f"https://{log.host}", hosts={log.host: HostSettings(plain_http=True)})
    assert refused(lambda: asked.by_index(1000)).code == "service_unavailable"
    assert log.requests == []
