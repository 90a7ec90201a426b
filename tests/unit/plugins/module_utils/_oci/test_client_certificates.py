# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client certificates: shown to the registry they are for, and to nobody else."""

from __future__ import annotations

import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import Reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings, RegistrySettings
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault
from cryptography.hazmat.primitives import serialization

Start = t.Callable[..., FakeRegistry]


def settings_for(host: str, **options: t.Any) -> Registries:
    return Registries(RegistrySettings(AuthFile("none", {}), {host: HostSettings(**options)}, 5.0))


def asking(registry: Start, authority: t.Any) -> FakeRegistry:
    """A registry that takes clients of the authority only."""
    return registry(certificate=authority.certificate, client_ca=authority.ca_path)


@pytest.mark.parametrize("together", [True, False])
def test_shows_its_certificate(registry: Start, authority: t.Any, tmp_path: Path, together: bool) -> None:
    fake = asking(registry, authority)
    digest = fake.put_image("app", "1")
    certificate, key = authority.certificate
    options = {"client_cert": certificate, "client_key": key}
    if together:
        (tmp_path / "both.pem").write_bytes(Path(certificate).read_bytes() + Path(key).read_bytes())
        options = {"client_cert": str(tmp_path / "both.pem")}
    known = settings_for(fake.host, ca_path=authority.ca_path, **options)
    assert known.manifest(Reference(fake.host, "app", "1")).digest == digest


@pytest.mark.parametrize("who", ["nobody", "somebody else"])
def test_whoever_is_not_known_is_refused(
    registry: Start, authority: t.Any, other_authority: t.Any, who: str
) -> None:
    fake = asking(registry, authority)
    fake.put_image("app", "1")
    certificate, key = other_authority.certificate
    options = {} if who == "nobody" else {"client_cert": certificate, "client_key": key}
    with pytest.raises(RegistryError) as caught:
        settings_for(fake.host, ca_path=authority.ca_path, **options).manifest(Reference(fake.host, "app", "1"))
    assert caught.value.code == "registry_error"
    assert fake.log == []


def encrypted(path: Path, key: str) -> str:
    loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    path.write_bytes(loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"canary-of-a-passphrase"),
    ))
    return str(path)


@pytest.mark.parametrize(("which", "content", "code"), [
    ("client_cert", None, "not_found"), ("client_key", None, "not_found"), ("client_cert", b"", "malformed"),
    ("client_key", b"no key", "malformed"), ("client_key", b"other", "malformed"),
])
def test_files_that_cannot_be_used_are_errors_before_anything_is_sent(
    registry: Start, authority: t.Any, other_authority: t.Any, tmp_path: Path, which: str, content: bytes | None,
    code: str,
) -> None:
    fake = asking(registry, authority)
    certificate, key = authority.certificate
    path = tmp_path / "file.pem"
    if content == b"other":
        path.write_bytes(Path(other_authority.certificate[1]).read_bytes())
    elif content is not None:
        path.write_bytes(content)
    options = {"client_cert": certificate, "client_key": key, which: str(path)}
    with pytest.raises(RegistryError) as caught:
        settings_for(fake.host, ca_path=authority.ca_path, **options).manifest(Reference(fake.host, "app", "1"))
    assert caught.value.code == code
    assert str(path) in caught.value.object
    assert fake.log == []


PROGRAM = """
import sys
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import *
own = HostSettings(client_cert=sys.argv[1], client_key=sys.argv[2])
settings = RegistrySettings(AuthFile("none", {}), {"r.io": own})
try:
    Transport("r.io", "r.io", settings)
except RegistryError as exc:
    print(exc.code, exc.cause)
"""


def test_an_encrypted_key_is_an_error_and_nobody_is_asked(authority: t.Any, tmp_path: Path) -> None:
    certificate, key = authority.certificate
    # In a session of its own there is no terminal to ask on; with one, OpenSSL would wait for ever.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, certificate, encrypted(tmp_path / "key.pem", key)], timeout=30, check=True,
        env={"PYTHONPATH": ":".join(sys.path)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        start_new_session=True,
    )
    assert done.stdout.startswith("malformed ")
    assert "phrase" not in done.stderr


def test_it_is_not_shown_to_where_a_redirect_leads(
    registry: Start, authority: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A storage that would take any certificate that is shown, and one that wants one.
    fake, storage = asking(registry, authority), asking(registry, authority)
    data = b"a blob"
    fake.put_blob("app", data)
    storage.put_blob("app", data)
    fake.fail(Fault.redirect(f"{storage.url}/v2/app/blobs/{digest_of(data)}"), method="GET", path="/blobs/")
    certificate, key = authority.certificate
    known = settings_for(fake.host, ca_path=authority.ca_path, client_cert=certificate, client_key=key)
    with pytest.raises(RegistryError):
        known.blob(Reference(fake.host, "app", "1"), Descriptor("x/y", digest_of(data), len(data)), limit=100)
    assert storage.log == []


def test_a_redirect_to_the_registry_itself_is_followed_with_it(registry: Start, authority: t.Any) -> None:
    fake = asking(registry, authority)
    digest = fake.put_blob("app", b"a blob")
    fake.fail(Fault.redirect(f"/v2/app/blobs/{digest}"), method="GET", times=1)
    certificate, key = authority.certificate
    known = settings_for(fake.host, ca_path=authority.ca_path, client_cert=certificate, client_key=key)
    assert known.blob(Reference(fake.host, "app", "1"), Descriptor("x/y", digest, 6), limit=100) == b"a blob"
