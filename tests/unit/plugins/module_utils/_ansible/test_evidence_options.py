# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options about certificates, logs and timestamps: what becomes of them, and everything that is refused."""

from __future__ import annotations

import datetime
import pathlib
import sys
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._ansible import evidence
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeLog, FakeStamper
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs

SETTINGS = RegistrySettings(AuthFile("none", {}), timeout=5.0)
SAN = {"type": "uri", "value": certs.JOB.value, "regexp": None}
SUB, ROOT = certs.authority("sub", "root"), certs.authority("root")
Options = dict[str, t.Any]
Put = t.Callable[[str, bytes], str]


@pytest.fixture
def put(tmp_path: pathlib.Path) -> Put:
    """Writes a file and returns its path."""

    def write(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return write


def refused(call: t.Callable[[], t.Any]) -> HallmarkError:
    with pytest.raises(HallmarkError) as caught:
        call()
    return caught.value


# An issuer ---------------------------------------------------------------------------------------------------------


def issuer(**options: t.Any) -> t.Any:
    given = {"ca_path": None, "ca_content": None, "intermediates_path": None, "san": SAN, "eku": "codeSigning"}
    return evidence.issuer({**given, **options}, name="ci")


def test_issuer_is_what_the_options_say(put: Put) -> None:
    text = certs.pem(ROOT, certs.authority("stranger"))
    made = issuer(ca_content=text.decode(), intermediates_path=put("sub.pem", certs.pem(SUB)), eku="1.2.3.4")
    assert (len(made.roots), made.roots[0], made.intermediates, made.eku) == (2, ROOT, (SUB,), "1.2.3.4")
    assert made.identity.matches(certs.leaf())
    assert not made.identity.matches(certs.leaf(sans=[]))
    assert issuer(ca_path=put("ca.pem", text)).roots == made.roots
    assert issuer(ca_path=put("ca.pem", text)).intermediates == ()


@pytest.mark.parametrize(
    ("options", "code", "where"),
    [
        ({"san": None}, "input_invalid", "authority ci"),
        ({"san": {"type": "uri", "value": None, "regexp": None}}, "input_invalid", "san"),
        ({"san": {"type": "uri", "value": "x", "regexp": "x"}}, "input_invalid", "san"),
        ({"san": {"type": "uri", "value": "", "regexp": None}}, "input_invalid", "san"),
        ({"san": {"type": "uri", "value": None, "regexp": "("}}, "input_invalid", "san"),
        ({"eku": "nobodyKnows"}, "input_invalid", "eku of authority ci"),
        ({"eku": ""}, "input_invalid", "eku of authority ci"),
        ({"ca_content": "rubbish"}, "malformed", "ca_content of authority ci"),
        ({"ca_content": ""}, "malformed", "ca_content of authority ci"),
        ({"ca_content": "\udcff"}, "malformed", "ca_content of authority ci"),
        ({"ca_path": "/srv/missing"}, "not_found", "/srv/missing"),
        ({"intermediates_path": "/srv/missing"}, "not_found", "/srv/missing"),
    ],
)
def test_issuers_that_say_nothing_are_refused(options: Options, code: str, where: str) -> None:
    error = refused(lambda: issuer(**{"ca_content": certs.pem(ROOT).decode(), **options}))
    assert (error.code, error.object) == (code, where)


def test_files_of_an_issuer_hold_certificates(put: Put) -> None:
    key = put("key.pem", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    content = certs.pem(ROOT).decode()
    for options in ({"ca_path": key}, {"ca_content": content, "intermediates_path": key}):
        error = refused(lambda options=options: issuer(**options))
        assert (error.code, error.object) == ("malformed", key)


# Logs and timestamps -----------------------------------------------------------------------------------------------


def made(**options: t.Any) -> t.Any:
    given: Options = {
        "rekor_logs": [], "rekor_public_key_paths": [], "timestamp_authority_paths": [], "require_log": False,
        "search_log": False, "require_timestamp": False,
    }
    return evidence.evidence({**given, **options}, SETTINGS)


def entry(path: str, **options: t.Any) -> Options:
    return {"public_key_path": path, "rekor_url": None, "not_before": None, "not_after": None, **options}


def test_logs_are_those_named(log: FakeLog, put: Put) -> None:
    path = put("rekor.pub", log.public_pem)
    wanted = made(
        rekor_logs=[entry(path, rekor_url=log.url, not_before="2026-01-01T00:00:00Z",
                          not_after="2027-01-01T00:00:00+02:00")],
        rekor_public_key_paths=[path], require_log=True,
    )
    first, second = wanted.logs
    assert (first.host, second.host) == ("127.0.0.1", None)
    assert first.not_before == datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    assert first.not_after == datetime.datetime(2026, 12, 31, 22, tzinfo=datetime.timezone.utc)
    assert (second.not_before, second.not_after) == (None, None)
    assert (wanted.require_log, wanted.find, wanted.timestamp_authorities) == (True, None, ())


def test_log_to_search_is_the_one_with_a_url(log: FakeLog, put: Put) -> None:
    path = put("rekor.pub", log.public_pem)
    wanted = made(rekor_logs=[entry(path), entry(path, rekor_url=log.url)], search_log=True)
    assert wanted.find is not None
    assert wanted.require_log is False


@pytest.mark.parametrize("urls", [[], [None], ["https://a.example", "https://b.example"]])
def test_search_is_in_one_log(log: FakeLog, put: Put, urls: list[str | None]) -> None:
    path = put("rekor.pub", log.public_pem)
    error = refused(lambda: made(
        rekor_logs=[entry(path, rekor_url=url) for url in urls], rekor_public_key_paths=[path], search_log=True,
    ))
    assert (error.code, error.object) == ("input_invalid", "search_log")


@pytest.mark.parametrize(
    ("option", "named"),
    [("require_log", "rekor_logs"), ("search_log", "rekor_logs"), ("require_timestamp", "timestamp_authority_paths")],
)
def test_demands_that_nothing_could_satisfy_are_refused(option: str, named: str) -> None:
    error = refused(lambda: made(**{option: True}))
    assert (error.code, error.object) == ("input_invalid", option)
    assert error.cause == f"{named} is empty, so nothing could satisfy it"


@pytest.mark.parametrize("option", ["not_before", "not_after"])
@pytest.mark.parametrize("text", [
    "", "x", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "1767225600", "x" * 10000, "\udcff",
])
def test_times_that_are_none_are_refused(log: FakeLog, put: Put, option: str, text: str) -> None:
    path = put("rekor.pub", log.public_pem)
    error = refused(lambda: made(rekor_logs=[entry(path, **{option: text})]))
    assert (error.code, error.object) == ("input_invalid", option)
    assert len(str(error)) < 500


@pytest.mark.parametrize("url", ["", "log.example.org", "https://", "file:///x"])
def test_logs_that_are_no_host_are_refused(log: FakeLog, put: Put, url: str) -> None:
    path = put("rekor.pub", log.public_pem)
    if url:
        assert refused(lambda: made(rekor_logs=[entry(path, rekor_url=url)], search_log=True)).code == "input_invalid"
    else:
        error = refused(lambda: made(rekor_logs=[entry(path, rekor_url=url)], search_log=True))
        assert error.object in ("search_log", "rekor_url")


def test_key_of_a_log_is_a_public_key(put: Put) -> None:
    for options in ({"rekor_public_key_paths": ["/srv/missing"]}, {"rekor_logs": [entry("/srv/missing")]}):
        assert refused(lambda options=options: made(**options)).code == "not_found"
    path = put("certificate.pem", certs.pem(ROOT))
    for options in ({"rekor_public_key_paths": [path]}, {"rekor_logs": [entry(path)]}):
        error = refused(lambda options=options: made(**options))
        assert (error.code, error.object) == ("malformed", path)


def test_timestamp_authorities_are_those_named(stamper: FakeStamper, put: Put) -> None:
    wanted = made(timestamp_authority_paths=[str(stamper.chain)], require_timestamp=True)
    (authority,) = wanted.timestamp_authorities
    assert (len(authority.certificates), wanted.require_timestamp) == (2, True)
    assert refused(lambda: made(timestamp_authority_paths=["/srv/missing"])).code == "not_found"
    path = put("rubbish", b"rubbish")
    error = refused(lambda: made(timestamp_authority_paths=[path]))
    assert (error.code, error.object) == ("malformed", path)


def test_library_for_timestamps_is_asked_for(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    error = refused(lambda: made(timestamp_authority_paths=[put("ca.pem", certs.pem(ROOT))]))
    assert (error.code, error.object) == ("library_missing", "rfc3161-client")
    assert made().logs == ()


# What is attached --------------------------------------------------------------------------------------------------


def signer(path: str | None = None, chain: str | None = None) -> Options:
    return {"certificate_path": path, "chain_path": chain}


def publics(*subjects: str) -> list[pem.PublicKey]:
    return [pem.public_key(certs.who(one).key.public_key(), where="x") for one in subjects]


def test_certificates_are_found_by_the_key_of_their_signer(put: Put) -> None:
    leaf, other = certs.leaf(), certs.leaf(subject="other")
    keys = publics("leaf", "other")
    signers = [
        signer(put("leaf.pem", certs.pem(leaf)), put("chain.pem", certs.pem(SUB, ROOT))),
        signer(put("other.pem", certs.pem(other, SUB))),
    ]
    found = evidence.certificates(signers, keys, attach=True)
    assert {key_id: (one.leaf, one.chain) for key_id, one in found.items()} == {
        keys[0].key_id: (leaf, (SUB, ROOT)), keys[1].key_id: (other, (SUB,)),
    }
    assert evidence.certificates(signers, keys, attach=False) == {}


@pytest.mark.parametrize("attach", [True, False])
def test_certificates_are_read_even_if_none_is_attached(put: Put, attach: bool) -> None:
    foreign = put("other.pem", certs.pem(certs.leaf(subject="other")))
    error = refused(lambda: evidence.certificates([signer(foreign)], publics("leaf"), attach=attach))
    assert (error.code, error.object) == ("key_mismatch", foreign)
    own = put("leaf.pem", certs.pem(certs.leaf()))
    for path, chain in (("/srv/missing", None), (own, "/srv/missing")):
        error = refused(
            lambda path=path, chain=chain: evidence.certificates(
                [signer(path, chain)], publics("leaf"), attach=attach
            )
        )
        assert (error.code, error.object) == ("not_found", "/srv/missing")


def test_certificate_that_is_missing_is_told(put: Put) -> None:
    own = put("leaf.pem", certs.pem(certs.leaf()))
    keys = publics("leaf", "other")
    error = refused(lambda: evidence.certificates([signer(own), signer()], keys, attach=True))
    assert (error.code, error.object) == ("input_invalid", "attach_certificate")
    assert keys[1].key_id in error.cause
    assert evidence.certificates([signer(own), signer()], keys, attach=False) == {}


def test_witnesses_are_those_named(log: FakeLog, stamper: FakeStamper, put: Put) -> None:
    assert evidence.notary({"transparency": None, "timestamp_authority": None}, SETTINGS) is None
    transparency = {"rekor_url": log.url, "rekor_public_key_path": put("rekor.pub", log.public_pem)}
    stamps = {"url": stamper.url, "certificate_path": str(stamper.chain)}
    both = evidence.notary({"transparency": transparency, "timestamp_authority": stamps}, SETTINGS)
    assert both is not None
    assert both.log is not None
    assert (both.log.url, both.log_keys[0].host) == (log.url, "127.0.0.1")
    assert both.timestamper is not None
    assert len(both.timestamper.authorities[0].certificates) == 2
    one = evidence.notary({"transparency": transparency, "timestamp_authority": None}, SETTINGS)
    assert one is not None
    assert one.timestamper is None
    one = evidence.notary({"transparency": None, "timestamp_authority": stamps}, SETTINGS)
    assert one is not None
    assert (one.log, one.log_keys) == (None, ())


@pytest.mark.parametrize(
    ("name", "options", "code", "where"),
    [
        ("transparency", {"rekor_url": "log.example.org"}, "input_invalid", "rekor_url"),
        ("transparency", {"rekor_url": ""}, "input_invalid", "rekor_url"),
        ("transparency", {"rekor_public_key_path": "/srv/missing"}, "not_found", "/srv/missing"),
        ("timestamp_authority", {"url": "ftp://tsa.example.org"}, "input_invalid", "timestamp_authority.url"),
        ("timestamp_authority", {"certificate_path": "/srv/missing"}, "not_found", "/srv/missing"),
    ],
)
def test_witnesses_that_cannot_be_are_refused(
    name: str, options: Options, code: str, where: str, log: FakeLog, stamper: FakeStamper, put: Put
) -> None:
    good: dict[str, Options] = {
        "transparency": {"rekor_url": log.url, "rekor_public_key_path": put("rekor.pub", log.public_pem)},
        "timestamp_authority": {"url": stamper.url, "certificate_path": str(stamper.chain)},
    }
    params = {"transparency": None, "timestamp_authority": None, name: {**good[name], **options}}
    error = refused(lambda: evidence.notary(params, SETTINGS))
    assert (error.code, error.object) == (code, where)
