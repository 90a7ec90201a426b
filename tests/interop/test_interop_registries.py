# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registries as they are: TLS of a private authority, logins of each kind, and many writers at once."""

from __future__ import annotations

import typing as t

from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from interop_tools import Ansible, Cosign, Json, Registry, Task

if t.TYPE_CHECKING:
    import pathlib

    from conftest import KeyFiles

PUSHER, PULLER = ("ci", "interop-push"), ("node", "interop-pull")


def _login(host: str, user: tuple[str, str]) -> list[Json]:
    return [{"host": host, "username": user[0], "password": user[1]}]


def _sign(image: str, key: KeyFiles, registries: list[Json], **options: t.Any) -> Task:
    return Task("image_signature", {
        "images": [image], "signers": [key.signer], "registries": registries, **options,
    })


def _verify(image: str, key: KeyFiles, registries: list[Json], **options: t.Any) -> Task:
    return Task("image_verify", {
        "images": [image], "trust": [key.authority], "registries": registries, "on_failure": "report", **options,
    })


def _codes(result: Json) -> list[str]:
    return [reason["code"] for reason in result["reasons"]]


def test_tls_with_a_private_authority(
    tls_registry: Registry, ansible: Ansible, p256: KeyFiles, found_cosigns: list[Cosign]
) -> None:
    image, host = tls_registry.image(), tls_registry.host
    tls = {"host": host, "plain_http": False}
    blind, signed, verified, careless, plain = ansible.run([
        _sign(image, p256, [tls]), _sign(image, p256, tls_registry.options), _verify(image, p256, tls_registry.options),
        _verify(image, p256, [{**tls, "validate_certs": False}]), _verify(image, p256, []),
    ])
    assert _codes(blind) == ["registry_error"]
    assert "certificate" in blind["msg"]
    assert "TLS" in blind["msg"]
    assert signed["changed"], signed
    assert verified["verified"]
    assert careless["verified"]
    # Loopback is reached by plain HTTP unless something is said: the message must lead to the cure.
    assert set(_codes(plain)) == {"registry_error"}
    assert "plain_http: false" in plain["reasons"][0]["message"]
    for cosign in found_cosigns:
        trust = {"SSL_CERT_FILE": tls_registry.options[0]["ca_path"]}
        assert cosign.accepts(image, p256.public, environment=trust)


def test_password_right_wrong_and_none(
    password_registry: Registry, ansible: Ansible, p256: KeyFiles,
    docker_config: t.Callable[[str, str, str], pathlib.Path], found_cosigns: list[Cosign],
) -> None:
    image, host = password_registry.image(), password_registry.host
    folder = docker_config(host, *PUSHER)
    none, wrong, right, from_file = ansible.run([
        _sign(image, p256, []), _sign(image, p256, _login(host, ("ci", "not-the-password"))),
        _sign(image, p256, password_registry.options),
        _verify(image, p256, [], registry_auth_file=str(folder / "config.json")),
    ])
    assert _codes(none) == _codes(wrong) == ["unauthorized"]
    assert "no credentials are known" in none["msg"]
    assert "'ci'" in wrong["msg"]
    assert "not-the-password" not in str(wrong)
    assert right["changed"], right
    assert from_file["verified"], from_file["reasons"]
    # Where docker itself looks, we look too.
    (from_environment,) = ansible.run([_verify(image, p256, [])], environment={"DOCKER_CONFIG": str(folder)})
    assert from_environment["verified"], from_environment["reasons"]
    for cosign in found_cosigns:
        assert cosign.accepts(image, p256.public, environment={"DOCKER_CONFIG": str(folder)})


def test_token_service(
    token_registry: Registry, ansible: Ansible, p256: KeyFiles, other: KeyFiles,
    docker_config: t.Callable[[str, str, str], pathlib.Path], found_cosigns: list[Cosign],
) -> None:
    image, unsigned, host = token_registry.image(), token_registry.image(), token_registry.host
    pusher, puller = _login(host, PUSHER), _login(host, PULLER)
    config = docker_config(host, *PULLER)
    results = ansible.run([
        _sign(image, p256, pusher), _verify(image, p256, puller), _sign(image, p256, puller),
        _sign(image, other, puller), _sign(unsigned, p256, puller, formats=["bundle"]), _sign(unsigned, p256, []),
        _sign(unsigned, p256, _login(host, ("node", "wrong"))),
        _verify(image, p256, [], registry_auth_file=str(config / "config.json")),
        Task("image_signature", {
            "images": [image], "state": "absent", "key_ids": [p256.key_id], "registries": puller,
        }),
    ])
    signed, verified, again, refused, refused_bundle, nobody, wrong, from_file, removed = results
    assert signed["changed"], signed
    assert verified["verified"], verified["reasons"]
    # Nothing is written, so nothing is refused.
    assert not again["failed"], again
    assert not again["changed"]
    for result in (refused, refused_bundle, nobody, wrong, removed):
        assert _codes(result) == ["unauthorized"], result
        assert host in result["msg"]
    assert token_registry.layers(unsigned) == []
    assert len(token_registry.layers(image)) == len(token_registry.referrers(image)) == 1
    assert from_file["verified"], from_file["reasons"]
    for cosign in found_cosigns:
        assert cosign.accepts(image, p256.public, environment={"DOCKER_CONFIG": str(config)})


def test_a_registry_that_is_down_and_one_that_is_up(
    registry: Registry, closed_port: str, run_module: t.Callable[..., Json], p256: KeyFiles
) -> None:
    image = registry.image()
    result = run_module("image_signature", {
        "images": [f"{closed_port}/down/app:1", image], "signers": [p256.signer], "timeout": 2,
    })
    assert result["failed"]
    assert result["changed"], "the other image was signed"
    down, up = result["results"]
    assert [reason["code"] for reason in down["reasons"]] == ["registry_error"]
    assert closed_port in down["reasons"][0]["message"]
    assert "refused" in down["reasons"][0]["message"]
    assert not up["failed"]
    assert len(up["signatures"]) == 2


def test_six_processes_sign_one_digest_at_once(
    registry: Registry, ansible: Ansible, make_key: t.Callable[[], KeyFiles], found_cosigns: list[Cosign]
) -> None:
    """Cosign loses signatures here, silently: each writer reads, appends and writes the same tag."""
    image = registry.image()
    signers = [make_key() for _number in range(6)]
    hosts = {f"signer{number}": {"signing_key": str(key.pem)} for number, key in enumerate(signers)}
    sign = {"images": [image], "signers": [{"private_key_path": "{{ signing_key }}"}]}
    run = ansible.play([{"tasks": [{"hallmark.signing.image_signature": sign}]}], hosts=hosts)
    assert [line["result"]["changed"] for line in run.require().lines] == [True] * 6
    assert len(registry.layers(image)) == 6
    reference = references.parse(image)
    listed = registry.referrers(image)
    assert len(listed) == 6
    assert all(registry.client.find_manifest(reference.at(digest)) for digest in listed)
    trust = [{"name": key.key_id, "public_key_path": str(key.public)} for key in signers]
    results = ansible.run([
        Task("image_verify", {"images": [image], "trust": trust, "threshold": 6, "formats": [format]})
        for format in ("sig", "bundle")
    ])
    assert [result["verified"] for result in results] == [True, True]
    for key in signers:
        for cosign in found_cosigns:
            assert cosign.accepts(image, key.public)
