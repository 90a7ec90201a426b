# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that certificates must bear: which count, and how they are asked for."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import VerificationError
from ansible_collections.hallmark.signing.plugins.module_utils._keys.certificate import AlternativeName
from ansible_collections.hallmark.signing.plugins.module_utils._signing import identity
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as bench
from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

FULCIO, UPN = "1.3.6.1.4.1.57264.1.7", "1.3.6.1.4.1.311.20.2.3"
CI, DEV = bench.dns("ci.example.com"), bench.email("dev@example.com")
USER = bench.other_name(FULCIO, bench.utf8("user!example.com"))
# A user's principal name, as Active Directory writes it.
PRINCIPAL = bench.other_name(UPN, bench.utf8("dev@example.com"))
PRINCIPAL_TEXT = f"{UPN}:0c0f" + b"dev@example.com".hex()


def matches(kind: str, sans: t.Sequence[x509.GeneralName], **asked: t.Any) -> bool:
    return identity.read_identity({"type": kind, **asked}).matches(bench.leaf(sans=sans))


@pytest.mark.parametrize(("kind", "value", "sans"), [
    ("dns", "ci.example.com", [CI]),
    ("email", "dev@example.com", [DEV]),
    ("uri", "https://ci.example.com/job", [bench.JOB]),
    ("other", "user!example.com", [USER]),
    ("other", PRINCIPAL_TEXT, [PRINCIPAL]),
    pytest.param("dns", "ci.example.com", [DEV, bench.dns("a.example.com"), CI], id="any of several"),
    pytest.param("dns", "*.example.com", [bench.dns("*.example.com")], id="a wildcard as a text"),
    pytest.param("email", "Dev@Example.COM", [bench.email("Dev@Example.COM")], id="upper case as it is"),
    pytest.param("dns", "xn--bcher-kva.example", [bench.dns("xn--bcher-kva.example")], id="encoded for the DNS"),
])
def test_names_that_count(kind: str, value: str, sans: list[x509.GeneralName]) -> None:
    assert matches(kind, sans, value=value)
    assert matches(kind, sans, value=value, regexp=None)
    assert matches(kind, sans, regexp=value.replace(".", r"\.").replace("*", r"\*"))
    assert matches(kind, sans, value=None, regexp=".+")


@pytest.mark.parametrize(("kind", "value", "sans"), [
    ("dns", "ci.example.com", [bench.dns("ci.example.org")]),
    ("dns", "ci.example.com", []),
    pytest.param("dns", "ci.example.com", [bench.dns("*.example.com")], id="a wildcard is no pattern"),
    pytest.param("dns", "ci.example.com", [bench.dns("CI.example.com")], id="another case"),
    pytest.param("dns", "ci.example.com", [bench.dns("ci.example.com.")], id="a point behind"),
    pytest.param("dns", "ci.example.com", [bench.dns("a.ci.example.com")], id="below"),
    pytest.param("dns", "dev@example.com", [DEV], id="an address as a host"),
    pytest.param("uri", "ci.example.com", [CI], id="a host as a URI"),
    pytest.param("email", "user!example.com", [USER], id="another name as an address"),
    pytest.param("other", "ci.example.com", [CI], id="a host as another name"),
    pytest.param("other", "dev@example.com", [PRINCIPAL], id="an unknown other name by its text"),
    pytest.param("other", f"{FULCIO}:{bench.utf8('user!example.com').hex()}", [USER], id="Fulcio's name by its value"),
    pytest.param("other", PRINCIPAL_TEXT.upper(), [PRINCIPAL], id="hex in upper case"),
    pytest.param("other", "DirectoryName", [bench.directory(CN="ci")], id="a directory name"),
    pytest.param("other", "RegisteredID", [x509.RegisteredID(ObjectIdentifier("1.2.3"))], id="a registered id"),
    pytest.param("dns", "192.0.2.7", [bench.address("192.0.2.7")], id="an address as a host name"),
])
def test_names_that_do_not_count(kind: str, value: str, sans: list[x509.GeneralName]) -> None:
    assert not matches(kind, sans, value=value)


@pytest.mark.parametrize("kind", ["dns", "email", "uri", "other"])
def test_names_that_no_type_can_ask_for(kind: str) -> None:
    sans = [bench.directory(CN="ci"), x509.RegisteredID(ObjectIdentifier("1.2.3")), bench.address("192.0.2.7")]
    assert not matches(kind, sans, regexp=".*")
    assert not matches(kind, [], regexp=".*")


def test_the_subject_is_never_looked_at() -> None:
    subject = bench.Subject("leaf", name=bench.name(CN="ci.example.com", E="dev@example.com"))
    leaf = bench.leaf(subject=subject, sans=[])
    for kind, value in (("dns", "ci.example.com"), ("email", "dev@example.com")):
        assert not identity.read_identity({"type": kind, "value": value}).matches(leaf)
        assert not identity.read_identity({"type": kind, "regexp": ".*"}).matches(leaf)


@pytest.mark.parametrize(("regexp", "matching"), [
    ("example", False), (r"ci\.example", False), (r"example\.com", False), (r".*example\.com", True),
    (r"(ci|cd)\.example\.com", True), ("(?i)CI[.]EXAMPLE[.]COM", True), ("ci|cd", False), ("^ci.*$", True),
])
def test_expressions_match_the_whole_name(regexp: str, matching: bool) -> None:
    assert matches("dns", [CI], regexp=regexp) == matching


def test_names_are_told_as_they_are_asked_for() -> None:
    sans = [CI, DEV, bench.JOB, USER, PRINCIPAL, bench.address("192.0.2.7"), bench.directory(CN="ci")]
    assert identity.names_of(bench.leaf(sans=sans)) == (
        AlternativeName("dns", "ci.example.com"), AlternativeName("email", "dev@example.com"),
        AlternativeName("uri", "https://ci.example.com/job"), AlternativeName("other", "user!example.com"),
        AlternativeName("other", PRINCIPAL_TEXT), AlternativeName("ip", "192.0.2.7"),
    )
    assert identity.names_of(bench.leaf(sans=[])) == ()


@pytest.mark.parametrize("value", [
    pytest.param(b"\x05\x00", id="null"),
    pytest.param(b"\x16\x02ab", id="another type"),
    pytest.param(b"\x0c\x02\xff\xfe", id="no UTF-8"),
    pytest.param(bench.utf8("a\0b"), id="NUL"),
    pytest.param(bench.utf8("a\nb"), id="new line"),
    pytest.param(bench.utf8("a\u202eb"), id="right to left"),
    pytest.param(bench.utf8(PRINCIPAL_TEXT), id="like another other name"),
    pytest.param(bench.utf8("1.2:"), id="like an empty other name"),
])
def test_odd_texts_of_fulcio_are_told_by_their_value(value: bytes) -> None:
    leaf = bench.leaf(sans=[bench.other_name(FULCIO, value)])
    assert identity.names_of(leaf) == (AlternativeName("other", f"{FULCIO}:{value.hex()}"),)


def test_a_name_of_fulcio_cannot_pass_for_another() -> None:
    assert not matches("other", [bench.other_name(FULCIO, bench.utf8(PRINCIPAL_TEXT))], value=PRINCIPAL_TEXT)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 1000])
def test_names_of_fulcio_of_any_length(length: int) -> None:
    name = bench.other_name(FULCIO, bench.der(bench.UTF8_STRING, b"a" * length))
    assert identity.names_of(bench.leaf(sans=[name])) == (AlternativeName("other", "a" * length),)


@pytest.mark.parametrize("option", [
    pytest.param({}, id="nothing"),
    pytest.param({"value": "a"}, id="no type"),
    pytest.param({"type": "ip", "value": "192.0.2.7"}, id="a type that is not offered"),
    pytest.param({"type": "DNS", "value": "a"}, id="type in upper case"),
    pytest.param({"type": ["dns"], "value": "a"}, id="type a list"),
    pytest.param({"type": "dns"}, id="neither"),
    pytest.param({"type": "dns", "value": None, "regexp": None}, id="both null"),
    pytest.param({"type": "dns", "value": "a", "regexp": "a"}, id="both"),
    pytest.param({"type": "dns", "value": "a", "regexp": ""}, id="both, one empty"),
    pytest.param({"type": "dns", "value": ""}, id="value empty"),
    pytest.param({"type": "dns", "regexp": ""}, id="regexp empty"),
    pytest.param({"type": "dns", "value": 5}, id="value a number"),
    pytest.param({"type": "dns", "regexp": ["a"]}, id="regexp a list"),
    pytest.param({"type": "dns", "regexp": "("}, id="regexp broken"),
    pytest.param({"type": "dns", "regexp": r"(a)\1"}, id="regexp with a back-reference"),
])
def test_what_cannot_be_asked_for(option: dict[str, t.Any]) -> None:
    with pytest.raises(VerificationError) as caught:
        identity.read_identity(option)
    assert (caught.value.code, caught.value.object) == ("input_invalid", "san")
