# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The example of GitHub Actions: its rules, and its scripts as a runner has them run, with every real cosign.

Actions are not run. What stands in for them does what the steps after them need: files of the checkout, a pushed image,
cosign on the PATH.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import typing as t
from dataclasses import dataclass, field

import pytest
import yaml
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest as manifests
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from fast_modules import Modules
from interop_tools import PASSWORD, ROOT, Cosign, Json, Registry

if t.TYPE_CHECKING:
    from conftest import KeyFiles, Podman

FOLDER = ROOT / "playbooks" / "files" / "nginx-demo"
WORKFLOW = (FOLDER / "github-workflow.yml").read_text()
DEPLOYMENT = (FOLDER / "deployment.yaml").read_text()
SERVICE = (FOLDER / "service.yaml").read_text()
PLACEHOLDER = f"registry.example.org/acme/nginx-demo@sha256:{'0' * 64}"
SHELL = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
CONDITIONS = ("github.event_name == 'push'", "github.event_name == 'pull_request'")
TOKEN = "canary-of-the-token-of-the-job"


def _load(text: str) -> Json:
    document = yaml.safe_load(text)
    # YAML 1.1 takes the word on for a boolean; GitHub does not.
    document["on"] = document.pop(True, None) or document["on"]
    return t.cast(Json, document)


# --- rules of the workflow -------------------------------------------------------------------------------------------


def _mentions(value: object, word: str) -> bool:
    return word in json.dumps(value)


def _faults(text: str) -> set[str]:
    """Return which of the rules a workflow breaks."""
    workflow = _load(text)
    jobs: dict[str, Json] = workflow["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    pushed, pulled = ([job for job in jobs.values() if job.get("if") == condition] for condition in CONDITIONS)
    holders = [step for step in steps if _mentions(step, "secrets.")]
    # The workflow without what its steps have in their environment.
    outside = {**workflow, "jobs": {
        name: {**job, "steps": [{**step, "env": None} for step in job["steps"]]} for name, job in jobs.items()
    }}
    pins = re.findall(r"^ *(?:- )?uses: (.*)$", text, re.MULTILINE)
    using = [(step["uses"].partition("@")[0], step.get("with", {})) for step in steps if "uses" in step]
    rules = {
        "triggers": set(workflow["on"]) == {"push", "pull_request"} and workflow["on"]["push"] == {"tags": ["v*"]},
        "conditions": len(pushed) == len(pulled) == 1 and len(jobs) == 2,
        "permissions": workflow.get("permissions") == {} and all(
            job.get("permissions") == {"contents": "read", "packages": "write"} for job in pushed
        ) and all(job.get("permissions") == {"contents": "read"} for job in jobs.values() if job not in pushed),
        "secrets of a pull request": not any(
            _mentions(job, word) for job in jobs.values() if job not in pushed for word in ("secrets.", "github.token")
        ),
        "secrets outside the environment of one step": (
            len(holders) == 1 and "run" in holders[0] and not _mentions(outside, "secrets.")
        ),
        "token": [name for name, given in using if _mentions(given, "github.token")] == ["docker/login-action"],
        "expressions in scripts": not any("${{" in step.get("run", "") or "shell" in step for step in steps),
        "shell": workflow.get("defaults") == {"run": {"shell": "bash"}},
        # All in one way, and each action at one commit.
        "pins": len(pins) == len(using) and len({pin.partition("@")[0] for pin in pins}) == len(set(pins)) and all(
            re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", pin) for pin in pins
        ),
        "credentials in the checkout": all(
            given.get("persist-credentials") is False for name, given in using if name == "actions/checkout"
        ),
        "release of cosign": re.fullmatch(r"v3\.\d+\.\d+", workflow["env"]["COSIGN_RELEASE"]) and all(
            given == {"cosign-release": "${{ env.COSIGN_RELEASE }}"}
            for name, given in using if name == "sigstore/cosign-installer"
        ),
    }
    return {name for name, kept in rules.items() if not kept}


def test_the_workflow_keeps_the_rules() -> None:
    assert _faults(WORKFLOW) == set()


@pytest.mark.parametrize(("old", "new", "fault"), [
    ("  pull_request:\n", "  pull_request_target:\n", "triggers"),
    ('    tags: ["v*"]\n', "    branches: [main]\n", "triggers"),
    ("    if: github.event_name == 'push'\n", "    if: github.event_name != ''\n", "conditions"),
    ("permissions: {}\n", "permissions: write-all\n", "permissions"),
    ("      packages: write\n", "      packages: write\n      id-token: write\n", "permissions"),
    ("    permissions:\n      contents: read\n    steps:", "    permissions:\n      contents: write\n    steps:",
     "permissions"),
    ("          path: base\n", "          path: base\n          token: ${{ secrets.PAT }}\n",
     "secrets of a pull request"),
    ("          path: base\n", "          path: base\n          token: ${{ github.token }}\n",
     "secrets of a pull request"),
    ("  REGISTRY: ghcr.io\n", "  REGISTRY: ghcr.io\n  COSIGN_PASSWORD: ${{ secrets.COSIGN_PASSWORD }}\n",
     "secrets outside the environment of one step"),
    ("          REPOSITORY: ${{ github.repository }}\n", "          REPOSITORY: ${{ secrets.COSIGN_PASSWORD }}\n",
     "secrets outside the environment of one step"),
    ("--key env://COSIGN_PRIVATE_KEY ", "--key ${{ secrets.COSIGN_PRIVATE_KEY }} ",
     "secrets outside the environment of one step"),
    ("          context: .\n", "          context: .\n          github-token: ${{ github.token }}\n", "token"),
    ('run: echo "image=$REGISTRY/', 'run: echo "image=${{ github.ref_name }}/', "expressions in scripts"),
    ("    shell: bash\n", "    shell: sh\n", "shell"),
    ("@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7", "pins"),
    (" # v4.1.0", "", "pins"),
    ("          persist-credentials: false\n", "          persist-credentials: true\n", "credentials in the checkout"),
    ("  COSIGN_RELEASE: v3.1.1\n", "  COSIGN_RELEASE: latest\n", "release of cosign"),
])
def test_a_workflow_that_breaks_a_rule_is_found_out(old: str, new: str, fault: str) -> None:
    assert WORKFLOW.count(old) >= 1
    assert fault in _faults(WORKFLOW.replace(old, new, 1))


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing_in_the_scripts(tmp_path: pathlib.Path) -> None:
    scripts = [step["run"] for job in _load(WORKFLOW)["jobs"].values() for step in job["steps"] if "run" in step]
    assert len(scripts) == 5
    for script in scripts:
        path = tmp_path / "script"
        path.write_text(script)
        done = subprocess.run(
            ["shellcheck", "--shell=bash", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


# --- rules of the deployment -----------------------------------------------------------------------------------------


def _deployment_faults(text: str) -> set[str]:
    """Return which of the rules a deployment breaks; the rest must be what the files beside it say."""
    deployment, service = yaml.safe_load(text), yaml.safe_load(SERVICE)
    found = set()
    if [(one["apiVersion"], one["kind"]) for one in (deployment, service)] != [
        ("apps/v1", "Deployment"), ("v1", "Service")
    ]:
        found.add("kinds")
    template = deployment["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    (container,) = pod["containers"]
    if not (deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels):
        found.add("selectors")
    if not re.fullmatch(r"[^@:]+@sha256:[0-9a-f]{64}", container["image"]):
        found.add("image")
    (user,) = re.findall(r"^USER (\d+):\1$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    if pod.get("securityContext") != {
        "runAsNonRoot": True, "runAsUser": int(user), "runAsGroup": int(user),
        "seccompProfile": {"type": "RuntimeDefault"},
    }:
        found.add("security of the pod")
    if container.get("securityContext") != {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }:
        found.add("security of the container")
    if pod.get("automountServiceAccountToken") is not False:
        found.add("token")
    if not {"cpu", "memory"} <= container["resources"]["requests"].keys() or "memory" not in (
        container["resources"].get("limits", {})
    ):
        found.add("resources")
    served = (FOLDER / "nginx.conf").read_text()
    (port,) = re.findall(r"^ *listen (\d+);$", served, re.MULTILINE)
    if container["ports"] != [{"name": "http", "containerPort": int(port)}] or (
        service["spec"]["ports"] != [{"name": "http", "port": 80, "targetPort": "http"}]
    ):
        found.add("ports")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container.get(probe, {}).get("httpGet", {})
        if asked.get("port") != "http" or f"location = {asked.get('path')} {{\n            return 200 " not in served:
            found.add("probes")
    written = re.findall(r"^ *(?:pid|\w+_temp_path) (\S+);$", served, re.MULTILINE)
    assert len(written) == 6
    empty = {volume["name"] for volume in pod["volumes"] if "sizeLimit" in volume.get("emptyDir", {})}
    places = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in empty]
    if not all(any(path.startswith(f"{place}/") for place in places) for path in written):
        found.add("places to write to")
    return found


def test_the_deployment_keeps_the_rules() -> None:
    assert _deployment_faults(DEPLOYMENT) == set()
    assert DEPLOYMENT.count(PLACEHOLDER) == 1


@pytest.mark.parametrize(("old", "new", "fault"), [
    ("kind: Deployment", "kind: StatefulSet", "kinds"),
    ("      labels:\n        app.kubernetes.io/name: nginx-demo\n", "      labels: {app: nginx-demo}\n", "selectors"),
    (f"@sha256:{'0' * 64}", ":latest", "image"),
    ("runAsNonRoot: true", "runAsNonRoot: false", "security of the pod"),
    ("runAsUser: 101", "runAsUser: 0", "security of the pod"),
    ("type: RuntimeDefault", "type: Unconfined", "security of the pod"),
    ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "security of the container"),
    ("drop: [ALL]", "drop: [NET_RAW]", "security of the container"),
    ("automountServiceAccountToken: false", "automountServiceAccountToken: true", "token"),
    ("            limits:\n              memory: 64Mi\n", "", "resources"),
    ("containerPort: 8080", "containerPort: 80", "ports"),
    ("path: /health", "path: /ready", "probes"),
    ("mountPath: /tmp", "mountPath: /var/cache/nginx", "places to write to"),
])
def test_a_deployment_that_breaks_a_rule_is_found_out(old: str, new: str, fault: str) -> None:
    assert DEPLOYMENT.count(old) >= 1
    assert _deployment_faults(DEPLOYMENT.replace(old, new, 1)) == {fault}


# --- a runner --------------------------------------------------------------------------------------------------------


Action = t.Callable[["Runner", dict[str, t.Any]], dict[str, str]]
Files = dict[str, str]


@dataclass
class Outcome:
    """What came of a job."""

    failed: str | None
    done: list[str] = field(default_factory=list)
    output: str = ""


class Runner:
    """Runs the steps of a job in new folders: nothing is there but what the workflow and its actions bring."""

    def __init__(
        self, folder: pathlib.Path, cosign: Cosign, *, context: t.Mapping[str, str], trees: t.Mapping[str, Files],
        registry: str, push: Action | None = None,
    ) -> None:
        self.folder, self.cosign, self.trees, self.context = folder, cosign, trees, dict(context)
        self.workspace, self.tools, self.commands = folder / "work", folder / "tools", folder / "commands"
        for place in (self.workspace, self.tools, folder / "home", folder / "files"):
            place.mkdir(parents=True)
        self.commands.touch()
        self.workflow = _load(WORKFLOW)
        # The one thing that is changed: where the registry is.
        self.variables = {**self.workflow["env"], "REGISTRY": registry}
        self.context.update({f"env.{name}": value for name, value in self.variables.items()})
        self.actions: dict[str, Action] = {
            "actions/checkout": _check_out, "docker/login-action": _log_in,
            "docker/setup-buildx-action": lambda _runner, _given: {}, "sigstore/cosign-installer": _install_cosign,
        }
        if push:
            self.actions["docker/build-push-action"] = push

    def run(self, event: str) -> Outcome:
        """Run the job of an event until a step fails."""
        (job,) = [one for one in self.workflow["jobs"].values() if one["if"] == f"github.event_name == '{event}'"]
        outcome = Outcome(None)
        for number, step in enumerate(job["steps"]):
            outputs: dict[str, str] = {}
            if "uses" in step:
                given = {name: self._resolve(value) for name, value in step.get("with", {}).items()}
                outputs = self.actions[step["uses"].partition("@")[0]](self, given)
            else:
                status, output, outputs = self._script(step, number)
                outcome.output += output
                if status:
                    outcome.failed = step["name"]
                    break
            outcome.done.append(step["name"])
            self.context.update(
                {f"steps.{step['id']}.outputs.{name}": value for name, value in outputs.items()} if "id" in step else {}
            )
        return outcome

    def _resolve(self, value: object) -> t.Any:
        if not isinstance(value, str):
            return value
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda match: self.context[match[1]], value)

    def _script(self, step: Json, number: int) -> tuple[int, str, dict[str, str]]:
        files = {name: self.folder / "files" / f"{name}-{number}" for name in ("output", "env", "step_summary")}
        script = self.folder / "files" / f"script-{number}"
        script.write_text(step["run"])
        for path in files.values():
            path.touch()
        done = subprocess.run(
            [*SHELL, str(script)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=120, check=False, cwd=self.workspace, env={
                "PATH": f"{self.tools}:{os.defpath}", "HOME": str(self.folder / "home"), "CI": "true",
                # Whatever is not on this machine cannot be reached: no log, and no list of trusted roots.
                "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9",
                **{f"GITHUB_{name.upper()}": str(path) for name, path in files.items()},
                **self.variables, **{name: self._resolve(value) for name, value in step.get("env", {}).items()},
            },
        )
        lines = [line.partition("=") for line in files["output"].read_text().splitlines()]
        return done.returncode, done.stdout, {name: value for name, _equals, value in lines}

    @property
    def summary(self) -> str:
        """What all steps wrote for the summary."""
        return "".join(path.read_text() for path in sorted((self.folder / "files").glob("step_summary-*")))

    def calls(self, verb: str) -> list[list[str]]:
        """Return the arguments of each call of cosign that signed or verified an image."""
        lines = [shlex.split(line) for line in self.commands.read_text().splitlines()]
        return [words for words in lines if words[0] == verb and "--help" not in words]

    def everything(self) -> bytes:
        """Return all that is left of the job on the runner: command lines, files, what steps handed on."""
        return b"\0".join(path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file())


def _check_out(runner: Runner, given: dict[str, t.Any]) -> dict[str, str]:
    target = runner.workspace / given.get("path", ".")
    target.mkdir(exist_ok=True)
    wanted = given.get("sparse-checkout", "").split()
    for name, content in runner.trees[given.get("ref", "event")].items():
        if not wanted or name in wanted:
            (target / name).write_text(content)
    return {}


def _log_in(runner: Runner, given: dict[str, t.Any]) -> dict[str, str]:
    assert given == {"registry": runner.variables["REGISTRY"], "username": "octocat", "password": TOKEN}
    return {}


def _install_cosign(runner: Runner, given: dict[str, t.Any]) -> dict[str, str]:
    assert given == {"cosign-release": runner.variables["COSIGN_RELEASE"]}
    program = runner.tools / "cosign"
    commands, real = shlex.quote(str(runner.commands)), shlex.quote(runner.cosign.program)
    program.write_text(f'#!/bin/bash\necho "${{@@Q}}" >> {commands}\nexec {real} "$@"\n')
    program.chmod(0o755)
    return {}


# --- releases --------------------------------------------------------------------------------------------------------


@dataclass
class Release:
    """One run of the job that signs, and what it was about."""

    cosign: Cosign
    runner: Runner
    outcome: Outcome
    image: str
    children: list[str]
    retagged: str


def _index(registry: Registry, name: str) -> tuple[str, list[str]]:
    """Push an image for each platform and their index; return it and them by digest."""
    entries, children = [], []
    for platform in ("amd64", "arm64"):
        children.append(registry.image(platform, name=name, tag=f"build-{platform}"))
        entry = registry.client.manifest(references.parse(children[-1])).descriptor().as_json()
        entry["platform"] = {"os": "linux", "architecture": platform}
        entries.append(manifests.Descriptor("", "", 0, source=entry))
    raw = manifests.encode_index(entries)
    registry.client.put_manifest(references.parse(f"{name}:build"), raw, media_type=manifests.OCI_INDEX)
    return f"{name}@sha256:{hashlib.sha256(raw).hexdigest()}", children


def _release(
    registry: Registry, cosign: Cosign, folder: pathlib.Path, *, secret: KeyFiles, trusted: KeyFiles,
    password: str = PASSWORD, digest: t.Callable[[str], str] = lambda digest: digest,
) -> Release:
    """Push a tag: run the job that signs with a secret key, beside a public one."""
    name = registry.name()
    image, children = _index(registry, name)
    retagged: list[str] = []

    def push(runner: Runner, given: dict[str, t.Any]) -> dict[str, str]:
        assert given == {
            "context": ".", "platforms": "linux/amd64,linux/arm64", "push": True, "tags": f"{name}:v1.2.3",
        }
        # Somebody else moves the tag as soon as it is there.
        retagged.append(registry.image("something else", name=name, tag="v1.2.3"))
        return {"digest": digest(image.partition("@")[2])}

    runner = Runner(
        folder, cosign, registry=registry.host, push=push, trees={"event": {"cosign.pub": trusted.public.read_text()}},
        context={
            # With capitals, as names of owners may have.
            "github.repository": name.partition("/")[2].title(), "github.ref_name": "v1.2.3",
            "github.actor": "octocat", "github.token": TOKEN,
            "secrets.COSIGN_PRIVATE_KEY": secret.cosign.read_text(), "secrets.COSIGN_PASSWORD": password,
        },
    )
    outcome = runner.run("push")
    (moved,) = retagged
    return Release(cosign, runner, outcome, image, children, moved)


@pytest.fixture(scope="module")
def released(
    registry: Registry, cosign: Cosign, p256: KeyFiles, tmp_path_factory: pytest.TempPathFactory
) -> Release:
    """A release that succeeded."""
    release = _release(registry, cosign, tmp_path_factory.mktemp("release") / "runner", secret=p256, trusted=p256)
    assert release.outcome.failed is None, release.outcome.output
    return release


def _authorities(*keys: KeyFiles) -> list[Json]:
    return [{"name": key.key_id, "public_key_path": str(key.public)} for key in keys]


def test_we_verify_what_the_workflow_signed_and_nothing_more_is_signed(
    released: Release, modules: Modules, p256: KeyFiles, other: KeyFiles
) -> None:
    formats = ["sig", "bundle"] if released.cosign.major >= 3 else ["sig"]
    for format in formats:
        result = modules.succeed(
            "image_verify", images=[released.image, *released.children], trust=_authorities(p256), formats=[format],
            recursive=True,
        )
        assert [one["reference"] for one in result["results"]] == [released.image, *released.children]
    foreign = modules.run("image_verify", images=[released.image], trust=_authorities(other))
    assert foreign["failed"]
    assert {reason["code"] for reason in foreign["reasons"]} == {"signature_invalid"}
    moved = f"{released.image.partition('@')[0]}:v1.2.3"
    result = modules.fail("image_verify", "no_signatures", images=[moved], trust=_authorities(p256))
    assert result["results"][0]["reference"] == released.retagged


def test_every_cosign_verifies_what_the_workflow_signed(
    released: Release, cosigns: list[Cosign], p256: KeyFiles, other: KeyFiles
) -> None:
    for reader in cosigns:
        for image in (released.image, *released.children):
            done = reader.verify(image, p256.public)
            assert done.returncode == 0, f"{reader.name}: {done.stderr}"
            assert reader.accepts(image, p256.public, "--new-bundle-format=false")
        assert not reader.accepts(released.image, other.public)
        assert not reader.accepts(released.retagged, p256.public)


def _node(folder: pathlib.Path, name: str, key: KeyFiles) -> pathlib.Path:
    """Write what a node has that pulls nothing from a repository but what a key signed; return its home."""
    place = folder / ".config" / "containers"
    (place / "registries.d").mkdir(parents=True)
    (place / "registries.d" / "all.yaml").write_text("default-docker: {use-sigstore-attachments: true}\n")
    rule = {"type": "sigstoreSigned", "keyPath": str(key.public), "signedIdentity": {"type": "matchRepository"}}
    (place / "policy.json").write_text(json.dumps({
        "default": [{"type": "reject"}], "transports": {"docker": {name: [rule]}}
    }))
    return folder


def test_podman_pulls_what_the_workflow_signed(
    released: Release, podman13: Podman, p256: KeyFiles, other: KeyFiles, tmp_path: pathlib.Path
) -> None:
    name = released.image.partition("@")[0]
    home = _node(tmp_path / "node", name, p256)
    pulled, said = podman13.pull(released.image, home=home)
    assert pulled, said
    assert not podman13.pull(released.retagged, home=home)[0]
    assert not podman13.pull(released.image, home=_node(tmp_path / "other", name, other))[0]


def test_the_library_of_podman_and_cri_o_reads_each_platform(
    released: Release, skopeo13: str | None, p256: KeyFiles, tmp_path: pathlib.Path
) -> None:
    if skopeo13 is None:
        pytest.skip("the skopeo of Debian 13 is not there: HALLMARK_PEERS names none")
    home = _node(tmp_path / "node", released.image.partition("@")[0], p256)
    for number, image in enumerate([released.image, *released.children, released.retagged]):
        done = subprocess.run(
            [skopeo13, "--policy", str(home / ".config/containers/policy.json"), "--registries.d",
             str(home / ".config/containers/registries.d"), "--override-arch=arm64" if number == 0 else "--debug=false",
             "copy", "--quiet", "--src-tls-verify=false", f"docker://{image}", f"dir:{tmp_path / str(number)}"],
            capture_output=True, text=True, timeout=60, check=False, env={"PATH": os.defpath, "HOME": str(home)},
        )
        assert (done.returncode == 0) is (image != released.retagged), done.stderr


def test_cosign_is_called_by_digest_and_without_the_public_log(released: Release) -> None:
    signed, verified = released.runner.calls("sign"), released.runner.calls("verify")
    assert len(signed) == (2 if released.cosign.major >= 3 else 1)
    assert len(verified) == 2
    for words in [*signed, *verified]:
        assert words[-1] == released.image
    for words in signed:
        assert {"--tlog-upload=false", "--recursive"} <= set(words)
        assert words[words.index("--key") + 1] == "env://COSIGN_PRIVATE_KEY"
        if released.cosign.major >= 3:
            assert "--use-signing-config=false" in words
    if released.cosign.major >= 3:
        # The other way round, a job that ends between the two leaves what no older reader can read.
        assert [words[-2] for words in signed] == ["--new-bundle-format=false", "--new-bundle-format=true"]


def test_nothing_was_entered_into_a_log(released: Release, registry: Registry) -> None:
    assert "tlog entry created" not in released.outcome.output
    for image in (released.image, *released.children):
        (layer,) = registry.layers(image)
        assert layer["annotations"].keys() == {"dev.cosignproject.cosign/signature"}
        bundles = registry.referrers(image)
        assert len(bundles) == (1 if released.cosign.major >= 3 else 0)
        for digest in bundles:
            reference = references.parse(image)
            (bundle,) = registry.client.manifest(reference.at(digest)).layers
            material = json.loads(registry.client.blob(reference, bundle, limit=1 << 20))["verificationMaterial"]
            assert not material.get("tlogEntries")


def test_the_summary_names_what_to_deploy(released: Release) -> None:
    assert f"`{released.image}`" in released.runner.summary


# --- secrets ---------------------------------------------------------------------------------------------------------


def _canaries(key: KeyFiles) -> dict[str, bytes]:
    """Return what must not be seen anywhere: a line of the key is enough."""
    text = key.cosign.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("-----")]
    return {
        **{f"line {number} of the key": line.encode() for number, line in enumerate(lines) if len(line) >= 32},
        "key in base64": base64.b64encode(text.encode())[:64], "password": PASSWORD.encode(),
        "password in base64": base64.b64encode(PASSWORD.encode()).rstrip(b"="), "token": TOKEN.encode(),
        "private number": format(key.private.private_numbers().private_value, "064x").encode(),
    }


def _seen(release: Release, key: KeyFiles) -> list[str]:
    data = release.outcome.output.encode() + b"\0" + release.runner.everything()
    return [name for name, canary in _canaries(key).items() if canary in data]


def test_no_secret_is_printed_handed_on_left_behind_or_in_a_command_line(released: Release, p256: KeyFiles) -> None:
    assert len(_canaries(p256)) > 8
    assert _seen(released, p256) == []


@pytest.mark.parametrize("broken", ["password", "digest", "key"])
def test_a_release_that_fails_shows_no_secret_and_says_nothing_to_deploy(
    registry: Registry, cosign: Cosign, p256: KeyFiles, other: KeyFiles, tmp_path: pathlib.Path, broken: str
) -> None:
    options: Json = {
        "password": {"password": "wrong"}, "digest": {"digest": lambda _digest: ""}, "key": {"trusted": other},
    }[broken]
    release = _release(registry, cosign, tmp_path / "runner", **{"secret": p256, "trusted": p256, **options})
    expected = "Verify it" if broken == "key" else "Sign the digest that the push reported"
    assert release.outcome.failed == expected, release.outcome.output
    assert release.runner.summary == ""
    assert _seen(release, p256) == []
    if broken != "key":
        assert registry.sig(release.image) is None
    if broken == "digest":
        assert release.runner.calls("sign") == []


# --- pull requests ---------------------------------------------------------------------------------------------------


Judge = t.Callable[..., Outcome]


@pytest.fixture
def judge(registry: Registry, p256: KeyFiles, tmp_path: pathlib.Path) -> Judge:
    """Runs the job of a pull request: its deployment, and the key that it brings, if any, beside that of its base."""

    def run(cosign: Cosign, deployment: str, *, brings: KeyFiles | None = None) -> Outcome:
        runner = Runner(
            tmp_path / f"pull-{len(list(tmp_path.iterdir()))}", cosign, registry=registry.host,
            context={"github.base_ref": "main"}, trees={
                "main": {"cosign.pub": p256.public.read_text(), "deployment.yaml": DEPLOYMENT},
                "event": {"cosign.pub": (brings or p256).public.read_text(), "deployment.yaml": deployment},
            },
        )
        outcome = runner.run("pull_request")
        for words in runner.calls("verify"):
            assert re.search(r"@sha256:[0-9a-f]{64}$", words[-1])
        return outcome

    return run


def _deploy(image: str) -> str:
    return DEPLOYMENT.replace(PLACEHOLDER, image)


def test_a_pull_request_that_deploys_a_release_passes_with_every_cosign(
    released: Release, cosigns: list[Cosign], judge: Judge
) -> None:
    named = released.image.replace("@", ":v1.2.3@")
    for reader in cosigns:
        for image in (released.image, named):
            outcome = judge(reader, _deploy(image))
            assert outcome.failed is None, outcome.output
            assert "docker-manifest-digest" in outcome.output


STEP = "Verify each image of the deployment, by digest"


def _refused(outcome: Outcome, words: str) -> None:
    assert outcome.failed == STEP
    assert words in outcome.output


def test_a_pull_request_that_deploys_what_the_key_did_not_sign_fails(
    released: Release, registry: Registry, cosign: Cosign, p256: KeyFiles, other: KeyFiles, judge: Judge
) -> None:
    foreign = registry.image()
    cosign.sign(foreign, other.cosign, format="sig")
    assert cosign.accepts(foreign, other.public)
    _refused(judge(cosign, _deploy(released.retagged)), "no signatures found")
    _refused(judge(cosign, _deploy(foreign)), "invalid signature")
    # Not even with the key beside it.
    _refused(judge(cosign, _deploy(foreign), brings=other), "invalid signature")
    assert judge(cosign, _deploy(released.image), brings=other).failed is None
    # Nor beside one that it signed, or as what was never pushed.
    two = "      initContainers:\n        - image: {}\n          name: first\n      containers:\n"
    good = released.image
    for first, second, failed in (
        (foreign, good, STEP), (good, foreign, STEP), (good, released.retagged, STEP), (good, good, None)
    ):
        text = _deploy(second).replace("      containers:\n", two.format(first), 1)
        assert judge(cosign, text).failed == failed
    assert judge(cosign, _deploy(f"{foreign.partition('@')[0]}@sha256:{'0' * 64}")).failed == STEP


def test_a_pull_request_that_deploys_what_no_node_can_read_fails(
    registry: Registry, bundle_cosign: Cosign, p256: KeyFiles, judge: Judge
) -> None:
    bundled = registry.image()
    bundle_cosign.sign(bundled, p256.cosign)
    assert bundle_cosign.accepts(bundled, p256.public)
    _refused(judge(bundle_cosign, _deploy(bundled)), "no signatures found")


@pytest.mark.parametrize("written", [
    "image: {name}:v1.2.3", "image: {name}", "image: {name}@sha256:00", 'image: "{image}"', "image : {image}",
    '"image": {image}', "image: *other", "image: --output-file=/tmp/x@{digest}", "image: {image} # {image}",
    "image: &a {image}", "image: {name}:v1.2.3 # image: {image}", "command: [sh]",
])
def test_a_pull_request_that_names_images_in_another_way_fails(
    released: Release, cosign: Cosign, judge: Judge, written: str
) -> None:
    name, _at, digest = released.image.partition("@")
    line = written.format(name=name, image=released.image, digest=digest)
    outcome = judge(cosign, DEPLOYMENT.replace(f"image: {PLACEHOLDER}", line))
    _refused(outcome, "names no image" if "image" not in written else "names an image otherwise than by its digest")


def test_a_pull_request_before_the_first_release_fails(cosign: Cosign, judge: Judge) -> None:
    assert judge(cosign, DEPLOYMENT).failed == STEP
