# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rendered policies with the real skopeo of Debian 13: it admits what the policy admits, and nothing else."""

from __future__ import annotations

import datetime
import itertools
import json
import os
import pathlib
import random
import subprocess
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file as files
from ansible_collections.hallmark.signing.plugins.module_utils._policy import enforcers, reading
from ansible_collections.hallmark.signing.plugins.module_utils._policy.decision import Judge
from ansible_collections.hallmark.signing.plugins.module_utils._policy.model import Policy
from ansible_collections.hallmark.signing.plugins.module_utils._signing import sign
from interop_tools import Ansible, Json, Registry, Task

if t.TYPE_CHECKING:
    from conftest import KeyFiles

# That of skopeo 1.18.0: containers/image 5.34.2.
VERSION = "5.34.2"
POLICIES = 200
NAMES = ("a", "b", "c")
REPOSITORIES = ("app", "ns", "ns/app", "ns/rs-one", "ns/deep/app", "ns-other/app", "other/app")
# Who signed an image, and how; a bundle alone is no signature to containers/image.
SIGNED: tuple[tuple[str, ...], ...] = ((), ("a",), ("b",), ("a", "b"), ("a", "b", "c"), ("c",))
NOW = datetime.datetime.now(datetime.timezone.utc)


class World:
    """Images of every repository, by who signed them; and skopeo with a folder for its files."""

    def __init__(self, registry: Registry, keys: dict[str, KeyFiles], skopeo: str, folder: pathlib.Path) -> None:
        self.registry, self.keys, self.skopeo, self.folder = registry, keys, skopeo, folder
        self.prefix = f"{registry.host}/policy"
        self._numbers = itertools.count()
        self.images = {
            (repository, signed): self.image(repository, signed) for repository in REPOSITORIES for signed in SIGNED
        }

    def odd_images(self) -> t.Iterator[str]:
        """Write images with signatures that are not read, or that name another repository."""
        signer = files.load(str(self.keys["a"].pem), passphrase=None, key_id=None)
        for repository in REPOSITORIES:
            yield self.image(repository, ("a",), formats=("bundle",))
            image = self.registry.image("moved", name=f"{self.prefix}/{repository}", tag="moved")
            wish = sign.Wish((signer,), ("sig",), docker_reference=f"{self.prefix}/app")
            assert sign.sign_image(self.registry.client, image, wish).reasons == ()
            yield image

    def image(self, repository: str, signed: tuple[str, ...], *, formats: tuple[t.Any, ...] = ("sig",)) -> str:
        """Write an image, have it signed, and return it by digest."""
        tag = "-".join((*signed, *formats))
        image = self.registry.image(tag, name=f"{self.prefix}/{repository}", tag=tag)
        self.sign(image, signed, formats=formats)
        return image

    def sign(self, image: str, signed: tuple[str, ...], *, formats: tuple[t.Any, ...] = ("sig",)) -> None:
        """Sign an image with these keys."""
        if signed:
            signers = tuple(files.load(str(self.keys[name].pem), passphrase=None, key_id=None) for name in signed)
            assert sign.sign_image(self.registry.client, image, sign.Wish(signers, formats)).reasons == ()

    def policy(self, *rules: Json, **members: t.Any) -> Policy:
        """Read a policy about the keys of this world."""
        known = {name: {"public_key_path": str(key.public)} for name, key in self.keys.items()}
        return reading.read({
            "version": 1, "authorities": known, "rules": list(rules), **members,
        }, now=NOW, read_file=lambda path: pathlib.Path(path).read_bytes())

    def install(self, policy: Policy) -> bool:
        """Write the files for skopeo; say whether the policy could be rendered."""
        found = enforcers.render(policy, enforcer="containers", version=VERSION)
        for name, text in found.files.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return not found.refused

    def admits(self, image: str) -> tuple[bool, str]:
        """Have skopeo fetch an image under the policy that is installed."""
        target = self.folder / f"copy-{next(self._numbers)}"
        done = subprocess.run(
            [self.skopeo, "--policy", str(self.folder / "policy.json"), "--registries.d",
             str(self.folder / "registries.d"), "copy", "--quiet", "--src-tls-verify=false", f"docker://{image}",
             f"dir:{target}"],
            capture_output=True, text=True, timeout=60, check=False, env={"PATH": os.defpath, "HOME": str(self.folder)},
        )
        return done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def world(
    registry: Registry, make_key: t.Callable[[str], KeyFiles], skopeo13: str | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    if skopeo13 is None:
        pytest.skip("the skopeo of Debian 13 is not there: HALLMARK_PEERS names none")
    keys = {name: make_key("ecdsa-p256") for name in NAMES}
    return World(registry, keys, skopeo13, tmp_path_factory.mktemp("trust-policy"))


def _rule(name: str, *images: str, any_of: t.Sequence[str] = ("a",), **members: t.Any) -> Json:
    return {"name": name, "images": list(images), "any_of": list(any_of), **members}


def test_what_is_admitted_and_what_is_not(world: World) -> None:
    assert world.install(world.policy(_rule("app", f"{world.prefix}/app")))
    tagged = f"{world.prefix}/app:a-sig"
    for image, expected, words in (
        (world.images["app", ("a",)], True, ""), (tagged, True, ""), (world.images["app", ("a", "b")], True, ""),
        (world.images["app", ()], False, "A signature was required"),
        (world.images["app", ("b",)], False, "cryptographic signature verification failed"),
        (world.image("app", ("a",), formats=("bundle",)), False, "A signature was required"),
        (world.images["other/app", ("a",)], False, "rejected by policy"),
    ):
        found, said = world.admits(image)
        assert (found, words in said) == (expected, True), (image, said)


def test_every_image_of_an_index_is_verified(world: World) -> None:
    index, children = world.registry.index()
    repository = index.partition("@")[0]
    assert world.install(world.policy(_rule("index", repository)))
    signer = files.load(str(world.keys["a"].pem), passphrase=None, key_id=None)
    only = sign.Wish((signer,), ("sig",), recursive=False)
    assert sign.sign_image(world.registry.client, index, only).reasons == ()
    assert [world.admits(child)[0] for child in children] == [False, False]
    world.sign(index, ("a",))
    assert [world.admits(child)[0] for child in children] == [True, True]


def test_two_keys_while_a_rotation_lasts_and_one_afterwards(world: World) -> None:
    def generations(*states: str) -> Json:
        return {"release": {"generations": [
            {"generation": number, "state": state, "public_key_path": str(world.keys[name].public)}
            for number, (name, state) in enumerate(zip("ab", states, strict=True), 1)
        ]}}

    rule = _rule("app", f"{world.prefix}/app", any_of=["release"])
    old, new, foreign = (world.images["app", (name,)] for name in NAMES)
    for states, expected in (
        (("active", "staged"), (True, False)), (("active", "published"), (True, True)),
        (("retiring", "active"), (True, True)), (("withdrawn", "active"), (False, True)),
    ):
        assert world.install(world.policy(rule, authorities=generations(*states)))
        assert (world.admits(old)[0], world.admits(new)[0]) == expected, states
        assert not world.admits(foreign)[0]
    denied = [world.keys["b"].key_id]
    assert world.install(world.policy(rule, authorities=generations("active", "active"), denied_key_ids=denied))
    assert (world.admits(old)[0], world.admits(new)[0]) == (True, False)


def test_the_module_installs_what_skopeo_obeys(world: World, ansible: Ansible, tmp_path: pathlib.Path) -> None:
    given: Json = {
        "version": 1, "authorities": {"a": {"public_key_path": str(world.keys["a"].public)}},
        "rules": [_rule("app", f"{world.prefix}/app")],
    }
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(given))
    options = {"enforcer": "containers", "enforcer_version": VERSION, "dest": str(world.folder)}
    planned, first, again, from_file, lower = ansible.run([
        Task("trust_policy", {"policy": given, **options}, {"check_mode": True}),
        Task("trust_policy", {"policy": given, **options}), Task("trust_policy", {"policy": given, **options}),
        Task("trust_policy", {"policy_path": str(path), **options}),
        Task("trust_policy", {"policy": {**given, "version": "{{ 0 }}"}, **options}),
    ])
    assert [one["changed"] for one in (planned, first, again, from_file)] == [True, True, False, False]
    assert planned["effective_hash"] == first["effective_hash"] == from_file["effective_hash"]
    assert lower["failed"]
    assert world.admits(world.images["app", ("a",)])[0]
    assert not world.admits(world.images["app", ("b",)])[0]


def test_probes_are_tried_by_the_real_skopeo(world: World, ansible: Ansible, tmp_path: pathlib.Path) -> None:
    (tmp_path / "skopeo").symlink_to(world.skopeo)
    own = tmp_path / ".config" / "containers"
    own.mkdir(parents=True)
    (own / "registries.conf").write_text(f'[[registry]]\nlocation = "{world.registry.host}"\ninsecure = true\n')
    environment = {"PATH": f"{tmp_path}:{ansible.environment['PATH']}", "HOME": str(tmp_path)}
    good, foreign = world.images["app", ("a",)], world.images["app", ("b",)]
    missing = f"{world.prefix}/app:no-such-tag"

    def task(number: int, **probes: list[str]) -> Task:
        return Task("trust_policy", {
            "policy": {
                "version": 1, "authorities": {"a": {"public_key_path": str(world.keys["a"].public)}},
                "rules": [_rule("app", f"{world.prefix}/app")],
            },
            "enforcer": "containers", "enforcer_version": VERSION, "dest": str(tmp_path / f"dest-{number}"),
            "probes": probes,
        })

    # What others say of registries counts, too: a narrower scope wins, and a broken file breaks all.
    for number, text in ((4, f"docker:\n  {good}:\n    use-sigstore-attachments: false\n"), (5, "a: [")):
        (tmp_path / f"dest-{number}" / "registries.d").mkdir(parents=True)
        (tmp_path / f"dest-{number}" / "registries.d" / "others.yaml").write_text(text)
    found = ansible.run([
        task(0, admit=[good], deny=[foreign, world.images["app", ()]]), task(1, admit=[foreign]), task(2, deny=[good]),
        task(3, deny=[missing]), task(4, admit=[good]), task(5, admit=[good]),
    ], environment=environment)
    assert [one.get("failed", False) for one in found] == [False, True, True, True, True, True], found[0]
    assert [one["reasons"][0]["code"] for one in found[1:]] == [
        "probe_failed", "probe_failed", "registry_error", "probe_failed", "registry_error",
    ]
    written = [(tmp_path / f"dest-{number}" / "policy.json").exists() for number in range(6)]
    assert written == [True, False, False, False, False, False]


def _random_policy(world: World, rng: random.Random) -> Policy:
    patterns = [world.prefix + "/**", *(
        f"{world.prefix}/{repository}{end}" for repository in (*REPOSITORIES, "ns/deep") for end in ("", "/**")
    )]
    rules = []
    for number, pattern in enumerate(rng.sample(patterns, rng.randint(1, 5))):
        any_of = rng.sample(NAMES, rng.randint(1, 3))
        rules.append(_rule(f"rule {number}", pattern, any_of=any_of, threshold=rng.choice([1, 1, len(any_of)])))
    return world.policy(*rules, default=rng.choice(["reject", "reject", "accept"]))


def test_skopeo_decides_about_any_image_as_we_say(world: World) -> None:
    seed = int(os.environ.get("HALLMARK_RANDOM", "") or 20261121)
    rng = random.Random(seed)
    wrong, tried, either = [], 0, {True: 0, False: 0}
    images = [*world.images.values(), *world.odd_images()]
    images += [f"{world.prefix}/{name}:{'-'.join((*signed, 'sig'))}" for name in REPOSITORIES for signed in SIGNED]
    while tried < POLICIES:
        policy = _random_policy(world, rng)
        # Two of three cannot be said there, and is refused.
        if not world.install(policy):
            continue
        tried += 1
        image = rng.choice(images)
        expected = Judge(policy, enforcer="containers", version=VERSION).decide(world.registry.client, image)
        found, said = world.admits(image)
        either[found] += 1
        if found is not expected.admit:
            wrong.append((image, expected, said, (world.folder / "policy.json").read_text()))
    print(f"{tried} policies, seed {seed}: {either[True]} images admitted, {either[False]} denied")
    assert not wrong, wrong[0]
    assert min(either.values()) > POLICIES // 10
