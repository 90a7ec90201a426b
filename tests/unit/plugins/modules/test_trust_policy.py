# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module trust_policy."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import pathlib
import stat
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import private_file
from ansible_collections.hallmark.signing.plugins.module_utils._policy import probing
from ansible_collections.hallmark.signing.plugins.modules import trust_policy
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.policy_bench import (
    Json,
    key,
    public,
    rule,
)

RETURNED = [
    "policy_version", "policy_hash", "effective_hash", "files", "removed", "not_after", "rendered", "refused",
]
APP = "registry.example.org/app"
Run = t.Callable[..., t.Any]


@pytest.fixture
def dest(home: pathlib.Path) -> pathlib.Path:
    """A folder that is not there yet."""
    return home / "etc" / "containers"


@pytest.fixture
def run(run_module: Run, dest: pathlib.Path) -> Run:
    """Runs the module for containers/image, unless told otherwise."""

    def call(policy: Json | None, **options: t.Any) -> t.Any:
        given = {"enforcer": "containers", "enforcer_version": "5.34.2", "dest": str(dest), **options}
        if policy is not None:
            given["policy"] = policy
        return run_module(trust_policy, RETURNED, **given)

    return call


def policy(*rules: Json, version: int = 1, **members: t.Any) -> Json:
    """A policy whose keys are in it."""
    known = {name: {"public_key_content": public(name).pem} for name in ("release", "backup")}
    return {"version": version, "authorities": known, "rules": list(rules) or [rule(APP)], **members}


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_policy_is_installed_once(run: Run, dest: pathlib.Path) -> None:
    first = run(policy())
    assert (first.failed, first.result["changed"], first.result["refused"]) == (False, True, [])
    assert [one["path"] for one in first.result["files"]] == ["registries.d/hallmark-signing.yaml", "policy.json"]
    written = files(dest)
    assert {name: data.decode() for name, data in written.items()} == first.result["rendered"]
    for one in first.result["files"]:
        assert one["changed"]
        assert hashlib.sha256(written[one["path"]]).hexdigest() == one["sha256"]
        assert stat.S_IMODE(os.stat(dest / one["path"]).st_mode) == 0o644
    # Whoever pulls reads it, whatever the mask of whoever wrote it.
    assert stat.S_IMODE(os.stat(dest / "registries.d").st_mode) == 0o755
    record = json.loads((dest.parent / "containers.hallmark-signing.json").read_bytes())
    assert record == {
        "enforcer": "containers", "policy_version": 1, "policy_hash": first.result["policy_hash"],
        "effective_hash": first.result["effective_hash"], "floor": 1,
        "files": {one["path"]: one["sha256"] for one in first.result["files"]},
    }
    again = run(policy())
    assert not again.result["changed"]
    assert {name: again.result[name] for name in RETURNED if name != "files"} == {
        name: first.result[name] for name in RETURNED if name != "files"
    }
    assert [one["changed"] for one in again.result["files"]] == [False, False]
    assert files(dest) == written


def test_check_mode_writes_nothing_and_says_the_same(run: Run, dest: pathlib.Path) -> None:
    planned = run(policy(), check=True)
    assert (planned.result["changed"], dest.exists()) == (True, False)
    done = run(policy())
    assert done.result == planned.result
    assert not run(policy(), check=True).result["changed"]


def test_a_change_needs_a_higher_version(run: Run, dest: pathlib.Path) -> None:
    assert run(policy(version=3)).result["changed"]
    before = files(dest)
    for wrong, words in (
        (policy(version=2), "version 3 is installed, and 2 is lower"),
        (policy(rule("r.io/other"), version=3), "another policy is installed as version 3"),
    ):
        ended = run(wrong)
        assert (ended.failed, ended.result["changed"]) == (True, False)
        assert words in ended.result["msg"]
        assert files(dest) == before
    done = run(policy(rule("r.io/other"), version=4))
    assert (done.result["changed"], done.result["policy_version"]) == (True, 4)
    # What is rendered alike is the new version all the same.
    assert run(policy(rule("r.io/other"), version=5)).result["changed"]


def test_what_was_changed_by_hand_is_put_right(run: Run, dest: pathlib.Path) -> None:
    good = run(policy()).result
    (dest / "policy.json").write_text("{}")
    done = run(policy())
    assert [one["changed"] for one in done.result["files"]] == [False, True]
    assert done.result["effective_hash"] == good["effective_hash"]


def test_what_somebody_else_wrote_is_kept(run: Run, dest: pathlib.Path) -> None:
    dest.mkdir(parents=True)
    (dest / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    run(policy())
    assert "insecureAcceptAnything" in (dest / "policy.json.former").read_text()
    run(policy(rule("r.io/other"), version=2))
    assert "insecureAcceptAnything" in (dest / "policy.json.former").read_text()
    # As if the first run had been cut off before its record was written.
    (dest.parent / "containers.hallmark-signing.json").unlink()
    run(policy(version=3))
    assert "insecureAcceptAnything" in (dest / "policy.json.former").read_text()


@pytest.mark.parametrize(("text", "is_taken"), [
    (f"docker:\n  {APP}:\n    lookaside: https://x.example.org\n", True),
    (f"docker:\n    '{APP}' :\n      x: y\n", True),
    (f'docker:\n  "{APP}":\n    x: y\n', True), ("docker:\n  registry.example.org:\n    x: y\n", False),
    (f"docker:\n  # {APP}:\n  {APP}/below:\n    x: y\n", False), ("default-docker:\n  x: y\n", False),
])
def test_a_scope_that_another_file_defines(run: Run, dest: pathlib.Path, text: str, is_taken: bool) -> None:
    (dest / "registries.d").mkdir(parents=True)
    (dest / "registries.d" / "other.yaml").write_text(text)
    ended = run(policy())
    assert (ended.failed, (dest / "policy.json").exists()) == (is_taken, not is_taken)
    if is_taken:
        assert [reason["code"] for reason in ended.result["reasons"]] == ["destination_occupied"]
        assert "other.yaml" in ended.result["msg"]


@pytest.mark.parametrize("fails", ["registries.d/hallmark-signing.yaml", "policy.json", ".hallmark-signing.json"])
def test_the_former_policy_stands_if_anything_fails(
    run: Run, dest: pathlib.Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    run(policy())
    before = files(dest)
    replace = private_file.PrivateFolder.replace

    def broken(folder: t.Any, name: str, data: bytes, wanted: t.Any) -> None:
        replace(folder, name, data, wanted)
        if os.path.join(folder.path, name).endswith(fails) and data not in before.values():
            raise private_file.CustodyError(
                code="write_failed", object=name, attempt="replace it", cause="No space left", advice="Make room."
            )

    monkeypatch.setattr(private_file.PrivateFolder, "replace", broken)
    ended = run(policy(rule("r.io/other"), version=2))
    assert (ended.failed, ended.result["reasons"][0]["code"]) == (True, "write_failed")
    monkeypatch.undo()
    if fails.startswith("."):
        # All of the policy is there, and the next run notes it down.
        assert not any(one["changed"] for one in run(policy(rule("r.io/other"), version=2)).result["files"])
    else:
        assert files(dest) == before
        assert not run(policy()).result["changed"]


def test_nothing_is_written_of_what_cannot_be_expressed(run: Run, dest: pathlib.Path) -> None:
    ended = run(policy(rule("docker.io/acme/rs-*"), rule("r.io/a", any_of=["release", "backup"])),
                enforcer_version="5.32")
    assert (ended.failed, ended.result["changed"], dest.exists()) == (True, False, False)
    assert [(one["code"], one["policy_path"]) for one in ended.result["refused"]] == [
        ("pattern_unsupported", "rules[0].images[0]"), ("choice_unsupported", "rules[1].any_of"),
    ]
    assert [reason["code"] for reason in ended.result["reasons"]] == ["policy_refused"] * 2
    assert all(one["instead"] in ended.result["msg"] for one in ended.result["refused"])
    assert ended.result["policy_version"] == 1


def test_all_mistakes_are_told(run: Run, dest: pathlib.Path) -> None:
    ended = run({"version": 0, "authorities": {"release": key("nowhere")}, "rules": [rule("r.io/A")]})
    assert ended.failed
    assert [reason["object"] for reason in ended.result["reasons"]] == [
        "authorities.release.public_key_path", "rules[0].images[0]", "version",
    ]
    assert (ended.result["policy_version"], dest.exists()) == (None, False)


def test_no_version(run: Run) -> None:
    assert "no version" in run(policy(), enforcer_version="latest").result["msg"]


# --- probes: what skopeo says is played here, and what it really says in tests/interop ------------------------------


@pytest.fixture
def skopeo(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A program that keeps its arguments, and ends as the name of the image says."""
    program = home / "bin" / "skopeo"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\nprintf '%s ' \"$@\" >>{home}/log; echo >>{home}/log\n"
        f'case "$*" in *denied*) echo "FATA[0000] Source image rejected: A signature was required" >&2; exit 1;; '
        '*lost*) echo "FATA[0000] connection refused" >&2; exit 1;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return home / "log"


@pytest.mark.parametrize(("admit", "deny", "code", "words"), [
    (["r.io/good:1"], ["r.io/denied:1"], None, ""), ([], ["r.io/denied:1"], None, ""),
    (["r.io/denied:1"], [], "probe_failed", "was denied: A signature was required"),
    (["r.io/good:1"], ["r.io/good:2"], "probe_failed", "was admitted"),
    # What cannot be fetched is no proof of anything.
    ([], ["r.io/lost:1"], "registry_error", "connection refused"), (["r.io/lost:1"], [], "registry_error", "refused"),
    (["--insecure-policy"], [], "malformed", "--insecure-policy"),
])
@pytest.mark.parametrize("check", [False, True])
def test_probes_decide_before_anything_is_installed(
    run: Run, dest: pathlib.Path, skopeo: pathlib.Path, admit: list[str], deny: list[str], code: str | None, words: str,
    check: bool,
) -> None:
    ended = run(policy(), probes={"admit": admit, "deny": deny}, check=check)
    assert (ended.failed, dest.exists()) == (bool(code), not code and not check)
    assert [reason["code"] for reason in ended.result["reasons"]] == ([code] if code else [])
    assert words in ended.result.get("msg", "")
    if code != "malformed":
        tried = skopeo.read_text().splitlines()
        assert all("--policy" in one and "--registries.d" in one and "docker://r.io/" in one for one in tried)
        assert str(dest) not in skopeo.read_text()


def test_a_probe_that_does_not_end_is_told(
    run: Run, dest: pathlib.Path, skopeo: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_TIMEOUT", 0.2)
    program = skopeo.parent / "bin" / "skopeo"
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    ended = run(policy(), probes={"deny": ["r.io/a:1"]})
    assert (ended.result["reasons"][0]["code"], dest.exists()) == ("registry_error", False)
    assert "did not end well" in ended.result["msg"]


def test_probes_need_skopeo_and_containers(run: Run, dest: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    ended = run(policy(), probes={"admit": ["r.io/a:1"]})
    assert (ended.result["reasons"][0]["code"], dest.exists()) == ("not_found", False)
    pytest.importorskip("yaml")
    ended = run(policy(), enforcer="policy_controller", enforcer_version="0.15.1", probes={"admit": ["r.io/a:1"]})
    assert (ended.result["reasons"][0]["object"], dest.exists()) == ("probes", False)


def test_the_diff_is_of_the_files(run: Run) -> None:
    first = run(policy(), diff=True).result
    assert {one["after_header"]: one["after"] for one in first["diff"]} == first["rendered"]
    assert [one["before"] for one in first["diff"]] == ["", ""]
    second = run(policy(default="accept", version=2), diff=True).result
    # What is as it was is not in it, apart from a line with the version.
    assert {one["before_header"]: one["before"] for one in second["diff"]} == first["rendered"]
    assert run(policy(default="accept", version=2), diff=True).result["diff"] == []


def test_a_folder_is_named_from_the_root_on(run: Run) -> None:
    ended = run(policy(), dest="etc/containers")
    assert [one["code"] for one in ended.result["reasons"]] == ["input_invalid"]
    assert "no absolute path" in ended.result["msg"]


def test_two_enforcers_do_not_share_a_folder(run: Run, dest: pathlib.Path) -> None:
    pytest.importorskip("yaml")
    run(policy())
    former = files(dest)
    ended = run(policy(version=2), enforcer="policy_controller", enforcer_version="0.15.1")
    assert [one["code"] for one in ended.result["reasons"]] == ["destination_occupied"]
    assert files(dest) == former


def test_keys_lie_beside_the_file_of_the_policy(run: Run, home: pathlib.Path) -> None:
    pytest.importorskip("yaml")
    (home / "release.pub").write_text(public("release").pem)
    given = policy()
    given["authorities"] = {"release": {"public_key_path": "release.pub"}}
    (home / "policy.yaml").write_text(json.dumps(given))
    assert not run(None, policy_path=str(home / "policy.yaml")).failed
    # Elsewhere there is nothing that they could be beside.
    ended = run({**given, "version": 2, "authorities": {"release": {"public_key_path": "none/release.pub"}}})
    assert "none/release.pub: No such file or directory" in ended.result["msg"]


# --- files of policies, and manifests: these need PyYAML -------------------------------------------------------------


def test_a_policy_in_a_file(run: Run, home: pathlib.Path) -> None:
    yaml = pytest.importorskip("yaml")
    path = home / "policy.yaml"
    path.write_text(yaml.safe_dump(policy()) + "not_after: 2099-01-01T00:00:00Z\n")
    done = run(None, policy_path=str(path))
    assert (done.failed, done.result["policy_hash"]) == (False, run(
        policy(not_after="2099-01-01T00:00:00Z"), check=True
    ).result["policy_hash"])


@pytest.mark.parametrize(("text", "words"), [
    ("version: 1\nversion: 2\n", "a name occurs twice"), ("a: [", "could not read the policy"), ("--- 1\n--- 2\n", ""),
    ("[]", "not a mapping"), ("\x00", "could not read the policy"), ("!!python/object:os.system {}", "could not"),
    ("a: &a [*a]", ""), ("[" * 5000, "could not read the policy"),
])
def test_a_file_that_is_no_policy(run: Run, home: pathlib.Path, text: str, words: str) -> None:
    pytest.importorskip("yaml")
    path = home / "policy.yaml"
    path.write_text(text)
    ended = run(None, policy_path=str(path))
    assert ended.failed
    assert words in ended.result["msg"]


@pytest.mark.parametrize(("enforcer", "version", "names"), [
    ("openshift", "4.21", ["cluster-image-policies.yaml"]),
    ("policy_controller", "0.15.1", ["cluster-image-policies.yaml", "config-policy-controller.yaml"]),
    ("kyverno_cluster_policy", "1.18.2", ["cluster-policy.yaml"]),
    ("kyverno_image_validating_policy", "1.18.2", ["image-validating-policies.yaml"]),
    ("connaisseur", "3.10.0", ["values.yaml"]), ("wiz", "3.13", ["image-integrity-validators.json", "wiz.tf.json"]),
    ("ratify", "1.4.0", ["constraint-template.yaml", "constraint.yaml", "ratify-values.yaml"]),
])
def test_manifests_are_written(run: Run, dest: pathlib.Path, enforcer: str, version: str, names: list[str]) -> None:
    pytest.importorskip("yaml")
    done = run(policy(default="accept"), enforcer=enforcer, enforcer_version=version)
    assert (done.failed, sorted(files(dest))) == (False, names)
    assert not run(policy(default="accept"), enforcer=enforcer, enforcer_version=version).result["changed"]


def in_a_namespace(version: int, *namespaces: str) -> Json:
    """A policy with rules for namespaces."""
    return policy(
        rule(APP), *(rule(APP, name=one, any_of=["backup"], namespaces=[one]) for one in namespaces), version=version
    )


def test_what_a_policy_has_no_more_is_taken_away(run: Run, dest: pathlib.Path) -> None:
    run(in_a_namespace(1, "team-a", "team-b"))
    former = files(dest)
    planned = run(in_a_namespace(2, "team-b"), _ansible_check_mode=True)
    assert files(dest) == former
    done = run(in_a_namespace(2, "team-b"))
    assert (done.failed, done.result["changed"]) == (False, True)
    assert planned.result["removed"] == done.result["removed"] == ["policies/team-a.json"]
    assert sorted(files(dest)) == ["policies/team-b.json", "policy.json", "registries.d/hallmark-signing.yaml"]
    again = run(in_a_namespace(2, "team-b"))
    assert (again.result["changed"], again.result["removed"]) == (False, [])


def test_what_somebody_changed_is_not_taken_away(run: Run, dest: pathlib.Path) -> None:
    run(in_a_namespace(1, "team-a"))
    (dest / "policies" / "team-a.json").write_text("{}")
    former = files(dest)
    ended = run(policy(version=2))
    assert [one["code"] for one in ended.result["reasons"]] == ["destination_occupied"]
    assert files(dest) == former


def test_files_that_a_record_names_elsewhere_are_left(run: Run, dest: pathlib.Path) -> None:
    run(in_a_namespace(1, "team-a"))
    path, record = dest.parent / "containers.hallmark-signing.json", dest.parent / "precious"
    record.write_text("x")
    digest = hashlib.sha256(b"x").hexdigest()
    known = json.loads(path.read_bytes())
    path.write_text(json.dumps({**known, "files": {"../precious": digest, str(record): digest}}))
    assert run(policy(version=2)).result["removed"] == []
    assert record.read_text() == "x"


def test_a_version_below_the_floor_is_refused_though_the_record_is_gone(run: Run, dest: pathlib.Path) -> None:
    ended = run(policy(version=40), floor=41)
    assert ended.failed
    assert "version 41 was installed here before" in ended.result["msg"]
    assert files(dest.parent) == {}
    assert not run(policy(version=41), floor=41).failed


@pytest.mark.parametrize(("days", "announce", "is_told"), [(29, 30, True), (31, 30, False), (31, 60, True)])
def test_the_end_of_a_policy_is_announced(run: Run, days: int, announce: int, is_told: bool) -> None:
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days, hours=1)
    done = run(policy(not_after=end.strftime("%Y-%m-%dT%H:%M:%SZ")), announce=announce)
    assert done.result["not_after"] == end.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert any("ends at" in one for one in done.warnings) is is_told


@pytest.mark.parametrize(("content", "is_refused"), [
    (b"\x7fELF Debian-local change: sigstore disabled \0", True), (b"\x7fELF sigstore", False), (b"", False),
])
@pytest.mark.parametrize("program", ["podman", "skopeo", "buildah", "crio"])
def test_programs_that_verify_nothing_are_refused(
    run: Run, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch, content: bytes, is_refused: bool, program: str
) -> None:
    (home / "bin").mkdir()
    (home / "bin" / program).write_bytes(content)
    (home / "bin" / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(home / "bin"))
    monkeypatch.setenv("HOME", str(home))
    ended = run(policy(), dest=str(home / ".config" / "containers"))
    assert [one["code"] for one in ended.result["refused"]] == (["build_unsupported"] if is_refused else [])
    # For another host it can be rendered all the same.
    assert not run(policy(), dest=str(home / "other")).failed
    assert (home / ".config").exists() is not is_refused


@pytest.mark.parametrize(("copies", "words"), [(0, "it has 0 documents"), (2, "it has 2 documents")])
def test_a_file_of_a_policy_has_one_document(run: Run, home: pathlib.Path, copies: int, words: str) -> None:
    pytest.importorskip("yaml")
    (home / "policy.yaml").write_text(f"---\n{json.dumps(policy())}\n" * copies)
    ended = run(None, policy_path=str(home / "policy.yaml"))
    assert [one["code"] for one in ended.result["reasons"]] == ["malformed"]
    assert words in ended.result["msg"]
