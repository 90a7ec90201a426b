# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module image_verify."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem, private_key
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers.file import FileSigner
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import sign
from ansible_collections.hallmark.signing.plugins.module_utils._signing.material import SignerCertificate
from ansible_collections.hallmark.signing.plugins.module_utils._signing.notary import Notary, Timestamper
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import log_key, rekor
from ansible_collections.hallmark.signing.plugins.module_utils._trust import ledger
from ansible_collections.hallmark.signing.plugins.modules import image_verify
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeLog, FakeStamper
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_story import at, found, step

ITEM = {"image", "reference", "digest", "verified", "signatures", "authorities", "reasons", "warnings"}
SIGNATURE = {"format", "digest", "subject", "key_id", "algorithm", "annotations", "created", "authority"}
REASON = {"code", "message", "object", "signature"}
Run = t.Callable[..., t.Any]
Write = t.Callable[..., bytes]


@pytest.fixture
def run(run_module: Run) -> Run:
    """Runs the module with images, and checks the shape of the results."""

    def call(*images: str, **options: t.Any) -> t.Any:
        ended = run_module(image_verify, ["verified", "results"], images=list(images), **options)
        assert not ended.result.get("changed")
        for item in ended.result.get("results", []):
            assert set(item) == ITEM
            assert all(set(signature) == SIGNATURE for signature in item["signatures"])
            assert all(set(reason) == REASON for reason in item["reasons"] + item["warnings"])
            assert item["verified"] is not bool(item["reasons"])
        return ended

    return call


def public(key: t.Any) -> pem.PublicKey:
    return pem.public_key(key.public_key(), where="key")


def put(registry: FakeRegistry, tag: str, *keys: t.Any, **wish: t.Any) -> str:
    """Make an image with signatures by these keys."""
    registry.put_image("team/app", tag)
    image = f"{registry.host}/team/app:{tag}"
    if keys:
        signers = tuple(FileSigner(private_key.PrivateKey(key, public(key), "pem", False)) for key in keys)
        registries = Registries(RegistrySettings(AuthFile("none", {})))
        assert not sign.sign_image(registries, image, sign.Wish(signers, **wish)).failed
    return image


@pytest.fixture
def trust(home: pathlib.Path, p256: t.Any, public_pem: Write) -> list[dict[str, str]]:
    """The option trust with p256."""
    (home / "pub").write_bytes(public_pem(p256))
    return [{"name": "release", "public_key_path": str(home / "pub")}]


@pytest.mark.parametrize("mode", [{}, {"check": True}, {"diff": True}])
def test_signed_image_is_verified(
    mode: dict[str, bool], run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any
) -> None:
    image = put(registry, "1", p256)
    digest = registry.manifests["team/app"]["1"].digest
    ended = run(image, trust=trust, **mode)
    assert (ended.failed, ended.result["verified"], ended.result["reasons"]) == (False, True, [])
    assert "diff" not in ended.result
    (item,) = ended.result["results"]
    assert {name: item[name] for name in ITEM - {"signatures"}} == {
        "image": image, "reference": f"{registry.host}/team/app@{digest}", "digest": digest, "verified": True,
        "authorities": ["release"], "reasons": [], "warnings": [],
    }
    (signature,) = item["signatures"]
    assert (signature["format"], signature["key_id"], signature["authority"]) == (
        "sig", public(p256).key_id, "release",
    )


def test_identity_of_a_ledger_is_trusted_by_the_keys_that_it_says(
    run: Run, registry: FakeRegistry, home: pathlib.Path, p256: t.Any, other_p256: t.Any
) -> None:
    path = str(home / "ledger.jsonl")
    with ledger.opened(path, now=at(0)) as book:
        found(book)
        step(book, "staged", 1, public_key=public(p256))
        step(book, "published", 1)
        step(book, "staged", 2, public_key=public(other_p256))
        head = ledger.text_of_head(book.head)
    trust = [{"name": "release", "ledger_path": path, "identity": "release", "ledger_head": head}]
    signed, by_staged = put(registry, "1", p256), put(registry, "2", other_p256)
    assert run(signed, trust=trust).result["results"][0]["authorities"] == ["release"]
    assert set(run(by_staged, trust=trust).codes) == {"signature_invalid"}
    assert run(signed, trust=[{**trust[0], "ledger_head": "0" * 64}]).codes == ["ledger_mismatch"]
    assert run(signed, trust=[{**trust[0], "identity": "other"}]).codes == ["not_found"]
    with ledger.opened(path, now=at(1)) as book:
        step(book, "revoked", 1, accepts_none=True)
    assert run(signed, trust=trust).codes == ["key_denied"]


def test_key_may_be_given_as_text_and_without_a_name(
    run: Run, registry: FakeRegistry, p256: t.Any, other_p256: t.Any, public_pem: Write
) -> None:
    image = put(registry, "1", p256)
    keys = [{"public_key_content": public_pem(key).decode()} for key in (other_p256, p256)]
    assert run(image, trust=keys).result["results"][0]["authorities"] == ["1"]


@pytest.mark.parametrize("format", ["sig", "bundle"])
def test_only_listed_formats_count(
    format: str, run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any
) -> None:
    image = put(registry, "1", p256, formats=(format,))
    assert run(image, trust=trust, formats=[format]).result["verified"]
    other = "bundle" if format == "sig" else "sig"
    assert run(image, trust=trust, formats=[other]).codes == ["no_signatures"]


def test_failure_comes_after_all_images_were_looked_at(
    run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any, other_p256: t.Any
) -> None:
    good, foreign, unsigned = put(registry, "1", p256), put(registry, "2", other_p256), put(registry, "3")
    missing = f"{registry.host}/team/app:missing"
    images = [foreign, good, unsigned, missing]
    ended = run(*images, trust=trust)
    assert (ended.failed, ended.result["verified"]) == (True, False)
    items = ended.result["results"]
    assert [item["image"] for item in items] == images
    assert [item["verified"] for item in items] == [False, True, False, False]
    assert [[reason["code"] for reason in item["reasons"]] for item in items] == [
        ["signature_invalid", "signature_invalid"], [], ["no_signatures"], ["not_found"],
    ]
    assert ended.codes == ["signature_invalid", "signature_invalid", "no_signatures", "not_found"]
    assert [item["digest"] is None for item in items] == [False, False, False, True]


def test_report_goes_well_and_says_the_same(
    run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any
) -> None:
    images = [put(registry, "1", p256), put(registry, "2")]
    failed, reported = run(*images, trust=trust), run(*images, trust=trust, on_failure="report")
    assert (failed.failed, reported.failed) == (True, False)
    for name in ("verified", "results", "reasons"):
        assert reported.result[name] == failed.result[name]
    assert reported.codes == ["no_signatures"]


@pytest.mark.parametrize("on_failure", ["fail", "report"])
def test_wrong_options_fail_even_with_report(on_failure: str, run: Run, registry: FakeRegistry, trust: t.Any) -> None:
    ended = run(put(registry, "1"), trust=trust, threshold=2, on_failure=on_failure)
    assert (ended.failed, ended.codes, ended.result["verified"]) == (True, ["input_invalid"], False)


def test_each_option_reaches_the_verification(
    run: Run, registry: FakeRegistry, trust: t.Any, home: pathlib.Path, p256: t.Any, other_p256: t.Any,
    public_pem: Write,
) -> None:
    (home / "other").write_bytes(public_pem(other_p256))
    both = [*trust, {"name": "second", "public_key_path": str(home / "other")}]
    image = put(registry, "1", p256, annotations={"a": "1"}, docker_reference="elsewhere.example.org/app")
    assert run(image, trust=both, threshold=2).codes[-1] == "threshold_not_met"
    assert run(image, trust=trust, annotations={"a": 1}).result["verified"]
    assert set(run(image, trust=trust, annotations={"a": "2"}).codes) == {"annotation_mismatch"}
    assert "key_denied" in run(image, trust=trust, denied_key_ids=[public(p256).key_id]).codes
    sig = {"trust": trust, "formats": ["sig"]}
    assert run(image, docker_reference_check="repository", **sig).codes == ["reference_mismatch"]
    warned = run(image, **sig)
    assert [warning["code"] for warning in warned.result["results"][0]["warnings"]] == ["reference_mismatch"]
    assert warned.warnings == [warned.result["results"][0]["warnings"][0]["message"]]
    assert not run(image, docker_reference_check="ignore", **sig).warnings


def test_children_are_verified_if_asked(run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any) -> None:
    registry.put_index("team/app", "2", ["linux/amd64", "linux/arm64"])
    image = f"{registry.host}/team/app:2"
    signer = FileSigner(private_key.PrivateKey(p256, public(p256), "pem", False))
    registries = Registries(RegistrySettings(AuthFile("none", {})))
    sign.sign_image(registries, image, sign.Wish((signer,), recursive=False))
    assert run(image, trust=trust).result["verified"]
    assert not run(image, trust=trust, recursive=True, on_failure="report").result["verified"]


# Through an index ----------------------------------------------------------------------------------------------------


@pytest.fixture
def index(registry: FakeRegistry, p256: t.Any) -> str:
    """An index of which nothing but itself is signed."""
    registry.put_index("team/app", "2", ["linux/amd64", "linux/arm64"])
    image = f"{registry.host}/team/app:2"
    signer = FileSigner(private_key.PrivateKey(p256, public(p256), "pem", False))
    done = sign.sign_image(
        Registries(RegistrySettings(AuthFile("none", {}))), image, sign.Wish((signer,), recursive=False)
    )
    assert not done.failed
    return image


def children(registry: FakeRegistry, tag: str = "2") -> list[str]:
    return [entry["digest"] for entry in registry.manifests["team/app"][tag].members["manifests"]]


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_child_of_a_verified_index_is_verified(
    run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any, index: str, by: str, check: bool
) -> None:
    name, top = f"{registry.host}/team/app", registry.manifests["team/app"]["2"].digest
    images = [f"{name}@{child}" for child in children(registry)]
    assert run(images[0], trust=trust).codes == ["no_signatures"]
    ended = run(*images, trust=trust, index=index if by == "tag" else f"{name}@{top}", check=check)
    assert (ended.failed, ended.result["verified"], ended.result["reasons"]) == (False, True, [])
    for image, child, item in zip(images, children(registry), ended.result["results"]):
        assert {name: item[name] for name in ITEM - {"signatures"}} == {
            "image": image, "reference": image, "digest": child, "verified": True, "authorities": ["release"],
            "reasons": [], "warnings": [],
        }
        # They are those of the index.
        assert [(one["subject"], one["key_id"]) for one in item["signatures"]] == [(top, public(p256).key_id)]


def test_tag_of_a_child_is_resolved_and_compared(run: Run, registry: FakeRegistry, trust: t.Any, index: str) -> None:
    first, second = children(registry)
    registry.manifests["team/app"]["amd64"] = registry.manifests["team/app"][first]
    ended = run(f"{registry.host}/team/app:amd64", f"{registry.host}/team/app:2", trust=trust, index=index)
    assert [item["digest"] for item in ended.result["results"]] == [first, registry.manifests["team/app"]["2"].digest]
    assert ended.result["verified"]
    # It is what the tag leads to that counts, not its name.
    registry.put_image("team/app", "amd64", platform="linux/other")
    assert run(f"{registry.host}/team/app:amd64", trust=trust, index=index).codes == ["not_in_index"]
    assert second


@pytest.mark.parametrize("on_failure", ["fail", "report"])
@pytest.mark.parametrize("check", [False, True])
def test_image_that_the_index_does_not_list_is_refused(
    run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any, index: str, on_failure: str, check: bool
) -> None:
    child = f"{registry.host}/team/app@{children(registry)[1]}"
    # Signed by itself, even: asked for was that the index lists it.
    foreign = put(registry, "1", p256)
    missing, rubbish = f"{registry.host}/team/app:missing", f"{registry.host}/UPPER"
    images = [foreign, child, missing, rubbish]
    ended = run(*images, trust=trust, index=index, on_failure=on_failure, check=check)
    assert (ended.failed, ended.result["verified"]) == (on_failure == "fail", False)
    assert ended.codes == ["not_in_index", "not_found", "malformed"]
    items = ended.result["results"]
    assert [item["image"] for item in items] == images
    assert [item["verified"] for item in items] == [False, True, False, False]
    assert items[0]["digest"] == registry.manifests["team/app"]["1"].digest
    assert (items[0]["signatures"], items[0]["authorities"]) == ([], [])


def test_digest_that_no_registry_has_is_not_in_the_index(
    run: Run, registry: FakeRegistry, trust: t.Any, index: str
) -> None:
    assert run(f"{registry.host}/team/app@sha256:{'0' * 64}", trust=trust, index=index).codes == ["not_in_index"]


@pytest.mark.parametrize("on_failure", ["fail", "report"])
def test_nothing_is_verified_through_an_index_that_is_not(
    run: Run, registry: FakeRegistry, trust: t.Any, home: pathlib.Path, index: str, other_p256: t.Any,
    public_pem: Write, on_failure: str,
) -> None:
    images = [f"{registry.host}/team/app@{child}" for child in children(registry)]
    (home / "other").write_bytes(public_pem(other_p256))
    foreign = [{"name": "other", "public_key_path": str(home / "other")}]
    ended = run(*images, trust=foreign, index=index, on_failure=on_failure)
    assert (ended.failed, ended.result["verified"]) == (on_failure == "fail", False)
    assert set(ended.codes) == {"signature_invalid"}
    for item, child in zip(ended.result["results"], children(registry)):
        assert (item["verified"], item["digest"], item["signatures"]) == (False, child, [])
        assert item["reasons"]
    # Neither a missing index, nor one that is no index, nor one that cannot be parsed.
    for name, codes in (
        (f"{registry.host}/team/app:missing", {"not_found"}), (f"{registry.host}/UPPER", {"malformed"}),
        (f"{registry.host}/team/app@{children(registry)[0]}", {"no_signatures"}),
    ):
        told = run(*images, trust=trust, index=name, on_failure=on_failure)
        assert (set(told.codes), told.result["verified"], len(told.result["results"])) == (codes, False, 2)


def test_index_that_demands_annotations_or_more_authorities_is_judged_like_any_image(
    run: Run, registry: FakeRegistry, trust: t.Any, home: pathlib.Path, index: str, p256: t.Any, other_p256: t.Any,
    public_pem: Write,
) -> None:
    (home / "other").write_bytes(public_pem(other_p256))
    both = [*trust, {"name": "second", "public_key_path": str(home / "other")}]
    child = f"{registry.host}/team/app@{children(registry)[0]}"
    assert "threshold_not_met" in run(child, trust=both, threshold=2, index=index).codes
    assert set(run(child, trust=trust, annotations={"a": "1"}, index=index).codes) == {"annotation_mismatch"}
    assert "key_denied" in run(child, trust=trust, denied_key_ids=[public(p256).key_id], index=index).codes
    # All children must be signed then, and none is.
    assert "no_signatures" in run(child, trust=trust, recursive=True, index=index).codes


def test_index_is_verified_once_for_all_its_children(
    run: Run, registry: FakeRegistry, trust: t.Any, index: str
) -> None:
    images = [f"{registry.host}/team/app@{child}" for child in children(registry)] * 5
    registry.log.clear()
    assert run(*images, trust=trust, index=index).result["verified"]
    assert len(registry.requests("GET", "/manifests/2")) == 1
    assert len([seen for seen in registry.log if seen.path.endswith(".sig")]) == 1


# The bytes count that were verified, not what the tag leads to a moment later.
def test_index_that_is_exchanged_meanwhile_lists_nothing_new(
    run: Run, registry: FakeRegistry, trust: t.Any, index: str
) -> None:
    listed, evil = children(registry)[0], registry.put_image("team/app", "evil")
    changed = registry.manifests["team/app"]["2"].members
    changed["manifests"].append({
        **changed["manifests"][0], "digest": evil, "size": len(registry.manifests["team/app"][evil].raw),
    })

    def exchange(seen: t.Any) -> None:
        # As soon as the tag was read.
        if seen.path.endswith((".sig", ".att")):
            registry.put_manifest("team/app", changed, tag="2")

    registry.faults.append(exchange)
    ended = run(*[f"{registry.host}/team/app@{one}" for one in (listed, evil)], trust=trust, index=index)
    assert registry.manifests["team/app"]["2"].members == changed
    assert [item["verified"] for item in ended.result["results"]] == [True, False]
    assert ended.codes == ["not_in_index"]


@pytest.mark.parametrize(("images", "keys", "name"), [(0, 1, "images"), (1, 0, "trust")])
def test_empty_lists_are_errors(images: int, keys: int, name: str, run: Run, trust: t.Any) -> None:
    for on_failure in ("fail", "report"):
        ended = run(*["r.example.org/x"] * images, trust=trust * keys, on_failure=on_failure)
        assert (ended.failed, ended.codes, ended.result["verified"]) == (True, ["input_invalid"], False)
        assert ended.result["reasons"][0]["object"] == name


def test_empty_formats_are_an_error(run: Run, registry: FakeRegistry, trust: t.Any) -> None:
    assert run(put(registry, "1"), trust=trust, formats=[]).codes == ["input_invalid"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"public_key_path": "/missing"}, "not_found"), ({"public_key_content": "rubbish"}, "malformed"),
        ({"public_key_content": ""}, "malformed"),
    ],
)
def test_authority_that_cannot_be_read_is_an_error(
    change: dict[str, str], code: str, run: Run, registry: FakeRegistry
) -> None:
    ended = run(put(registry, "1"), trust=[{"name": "x", **change}])
    assert (ended.failed, ended.codes) == (True, [code])


def test_private_key_as_an_authority_is_refused_and_not_shown(
    run: Run, registry: FakeRegistry, p256: t.Any, private_pem: Write
) -> None:
    secret = private_pem(p256).decode()
    ended = run(put(registry, "1"), trust=[{"public_key_content": secret}])
    assert (ended.codes, ended.result["reasons"][0]["object"]) == (["malformed"], "public_key_content of authority 0")
    result = {name: value for name, value in ended.result.items() if name != "invocation"}
    assert not any(line in str(result) for line in secret.splitlines()[1:-1])


def test_malformed_denied_key_id_is_an_error(run: Run, registry: FakeRegistry, trust: t.Any) -> None:
    ended = run(put(registry, "1"), trust=trust, denied_key_ids=["x"])
    assert (ended.codes, ended.result["reasons"][0]["object"]) == (["input_invalid"], "denied_key_ids")


# The contract: same order and length as the input, also on failure.
@pytest.mark.parametrize("options", [{"threshold": 2}, {"denied_key_ids": ["x"]}, {"registry_auth_file": "/missing"}])
def test_failure_has_a_result_for_each_image(options: dict[str, t.Any], run: Run, trust: t.Any) -> None:
    images = ["r.example.org/x", "r.example.org/y"]
    ended = run(*images, trust=trust, **options)
    assert (ended.failed, [item["image"] for item in ended.result["results"]]) == (True, images)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "missing required arguments: trust"), ({"trust": [{"name": "x"}]}, "one of the following is required"),
        ({"trust": [{"public_key_path": "/x", "public_key_content": "y"}]}, "mutually exclusive"),
        ({"trust": [{"public_key_path": "/x"}], "on_failure": "ignore"}, "must be one of"),
        ({"trust": [{"public_key_path": "/x"}], "docker_reference_check": "no"}, "must be one of"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, t.Any], text: str, run: Run) -> None:
    ended = run("r.example.org/x", **options)
    assert ended.failed
    assert text in ended.result["msg"]


def test_old_library_is_told(run: Run, trust: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import cryptography

    monkeypatch.setattr(cryptography, "__version__", "41.0.7")
    ended = run("r.example.org/x", trust=trust, on_failure="report")
    assert (ended.failed, ended.codes, ended.result["verified"]) == (True, ["library_missing"], False)


def test_nothing_is_written(run: Run, registry: FakeRegistry, trust: t.Any) -> None:
    run(put(registry, "1"), trust=trust)
    assert {seen.method for seen in registry.log} <= {"GET", "HEAD"}


# Certificates, logs and timestamps -----------------------------------------------------------------------------------

SUB, ROOT = certs.authority("sub", "root"), certs.authority("root")
SAN = {"type": "uri", "value": certs.JOB.value}


@pytest.fixture
def ca(home: pathlib.Path) -> dict[str, t.Any]:
    """An entry of trust that is an issuer."""
    (home / "ca.pem").write_bytes(certs.pem(ROOT))
    (home / "sub.pem").write_bytes(certs.pem(SUB))
    return {
        "name": "ci", "ca_path": str(home / "ca.pem"), "intermediates_path": str(home / "sub.pem"), "san": SAN,
    }


def certified(registry: FakeRegistry, tag: str = "1", leaf: t.Any = None, **wish: t.Any) -> str:
    """Make an image with signatures by a certificate."""
    key = certs.Subject("leaf").key
    chosen = {public(key).key_id: SignerCertificate(leaf or certs.leaf())}
    return put(registry, tag, key, certificates=chosen, **wish)


def notary(log: FakeLog, stamper: FakeStamper | None = None) -> Notary:
    """Who has signatures witnessed."""
    settings = RegistrySettings(AuthFile("none", {}), timeout=5.0)
    timestamper = None
    if stamper is not None:
        from ansible_collections.hallmark.signing.plugins.module_utils._transparency import timestamp

        known = timestamp.read_authority(stamper.chain.read_bytes(), where="x")
        timestamper = Timestamper(stamper.url, settings, (known,))
    return Notary(rekor.Log(log.url, settings), (log_key.read(log.public_pem, where="x"),), timestamper)


@pytest.mark.parametrize("format", ["sig", "bundle"])
def test_certified_image_is_verified(
    run: Run, registry: FakeRegistry, ca: dict[str, t.Any], format: str, home: pathlib.Path
) -> None:
    image = certified(registry, formats=(format,))
    ended = run(image, trust=[ca])
    assert (ended.result["verified"], ended.result["results"][0]["authorities"]) == (True, ["ci"])
    as_text = {name: value for name, value in ca.items() if name != "ca_path"}
    as_text["ca_content"] = (home / "ca.pem").read_text()
    assert run(image, trust=[as_text]).result["verified"]
    pattern = {**ca, "san": {"type": "uri", "regexp": "https://ci[.]example[.]com/(job|other)"}}
    assert run(image, trust=[pattern]).result["verified"]
    for changes, code in (
        ({"san": {"type": "uri", "value": "https://ci.example.com"}}, "identity_mismatch"),
        ({"san": {"type": "dns", "value": SAN["value"]}}, "identity_mismatch"),
        ({"eku": "emailProtection"}, "eku_mismatch"),
        ({"signature_algorithm": "ecdsa-sha512"}, "signature_invalid"),
    ):
        ended = run(image, trust=[{**ca, **changes}])
        assert (ended.failed, ended.codes) == (True, [code])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"san": None}, "input_invalid"),
        ({"san": {"type": "uri"}}, "input_invalid"),
        ({"san": {"type": "uri", "value": "x", "regexp": "x"}}, "input_invalid"),
        ({"san": {"type": "uri", "regexp": "(("}}, "input_invalid"),
        ({"eku": "nobodyKnows"}, "input_invalid"),
        ({"ca_path": "/missing"}, "not_found"),
        ({"intermediates_path": "/missing"}, "not_found"),
        ({"ca_path": __file__}, "malformed"),
    ],
)
def test_wrong_issuers_are_told(
    run: Run, registry: FakeRegistry, ca: dict[str, t.Any], changes: dict[str, t.Any], code: str
) -> None:
    ended = run(put(registry, "1"), trust=[{**ca, **changes}], on_failure="report")
    assert (ended.failed, ended.codes, ended.result["verified"]) == (True, [code], False)


@pytest.mark.parametrize("option", ["ca_content", "public_key_content"])
def test_text_that_is_no_unicode_is_refused(run: Run, registry: FakeRegistry, option: str) -> None:
    ended = run(put(registry, "1"), trust=[{option: "\udcff", **({"san": SAN} if option == "ca_content" else {})}])
    assert (ended.failed, ended.codes) == (True, ["malformed"])


def test_conditions_on_certificates_do_not_go_with_keys(
    run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any, home: pathlib.Path
) -> None:
    # They would not be looked at, and whoever wrote them thinks that they are.
    image = put(registry, "1", p256)
    (home / "sub.pem").write_bytes(certs.pem(SUB))
    for more in ({"san": SAN}, {"intermediates_path": str(home / "sub.pem")}):
        ended = run(image, trust=[{**trust[0], **more}])
        assert (ended.failed, ended.codes) == (True, ["input_invalid"])


def test_signature_algorithm_is_the_only_one(run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any) -> None:
    image = put(registry, "1", p256, signature_algorithm="ecdsa-sha512")
    assert run(image, trust=trust).codes == ["signature_invalid", "signature_invalid"]
    assert run(image, trust=[{**trust[0], "signature_algorithm": "ecdsa-sha512"}]).result["verified"]
    ended = run(image, trust=[{**trust[0], "signature_algorithm": "rsa-pss-sha256"}])
    assert (ended.failed, ended.codes) == (True, ["unsupported_algorithm"])


def test_log_entries_are_demanded(
    run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any, log: FakeLog, home: pathlib.Path
) -> None:
    (home / "rekor.pub").write_bytes(log.public_pem)
    path = str(home / "rekor.pub")
    plain, logged = put(registry, "1", p256), put(registry, "2", p256, notary=notary(log))
    for options in ({"rekor_public_key_paths": [path]}, {"rekor_logs": [{"public_key_path": path}]}):
        assert run(logged, trust=trust, require_log=True, **options).result["verified"]
        assert set(run(plain, trust=trust, require_log=True, **options).codes) == {"log_missing"}
        assert run(plain, trust=trust, **options).result["verified"]
    for limits, verified in (
        ({"not_before": "2020-01-01T00:00:00Z"}, True), ({"not_before": "2100-01-01T00:00:00Z"}, False),
        ({"not_after": "2020-01-01T00:00:00Z"}, False), ({"rekor_url": log.url}, True),
    ):
        logs = [{"public_key_path": path, **limits}]
        ended = run(logged, trust=trust, require_log=True, rekor_logs=logs, formats=["bundle"])
        assert ended.result["verified"] is verified
        assert verified or ended.codes == ["log_invalid"]


def test_log_is_searched(
    run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any, log: FakeLog, home: pathlib.Path
) -> None:
    (home / "rekor.pub").write_bytes(log.public_pem)
    logs = [{"public_key_path": str(home / "rekor.pub"), "rekor_url": log.url}]
    image = put(registry, "1", p256)
    options = {"trust": trust, "rekor_logs": logs, "require_log": True}
    before = len(log.requests)
    assert set(run(image, **options).codes) == {"log_missing"}
    assert len(log.requests) == before
    assert set(run(image, search_log=True, **options).codes) == {"log_missing"}
    assert len(log.requests) > before
    log.lie("status500")
    assert set(run(image, search_log=True, **options).codes) == {"service_unavailable"}


def test_timestamps_are_demanded(
    run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any, log: FakeLog, stamper: FakeStamper
) -> None:
    plain, stamped = put(registry, "1", p256), put(registry, "2", p256, notary=notary(log, stamper))
    options = {"trust": trust, "timestamp_authority_paths": [str(stamper.chain)]}
    assert run(stamped, require_timestamp=True, **options).result["verified"]
    assert set(run(plain, require_timestamp=True, **options).codes) == {"timestamp_missing"}
    assert run(plain, **options).result["verified"]


@pytest.mark.parametrize("option", ["require_log", "search_log", "require_timestamp"])
def test_demands_that_nothing_could_satisfy_are_refused(
    run: Run, registry: FakeRegistry, trust: t.Any, p256: t.Any, option: str
) -> None:
    ended = run(put(registry, "1", p256), trust=trust, **{option: True})
    assert (ended.failed, ended.codes, ended.result["reasons"][0]["object"]) == (True, ["input_invalid"], option)


def test_time_of_the_log_decides_whether_a_certificate_was_valid(
    run: Run, registry: FakeRegistry, ca: dict[str, t.Any], log: FakeLog, home: pathlib.Path
) -> None:
    (home / "rekor.pub").write_bytes(log.public_pem)
    log.lie("clock", seconds=-1800)
    expired = certs.leaf(start=certs.NOW - certs.DAY, end=certs.NOW - certs.DAY / 240)
    image = certified(registry, leaf=expired, notary=notary(log))
    assert set(run(image, trust=[ca]).codes) == {"certificate_expired"}
    assert run(image, trust=[ca], rekor_public_key_paths=[str(home / "rekor.pub")]).result["verified"]
