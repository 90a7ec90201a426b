# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one guard for third-party imports.

Modules must be importable without any third-party package (ansible-test's import test does so), so every
file imports such names inside C(with optional():) and every module calls C(require()) before using them.
"""

from __future__ import annotations

import importlib
import re
import typing as t
from contextlib import contextmanager, suppress

from ._errors import LibraryError

# The lowest versions that are tested. _keys and _custody work with Debian 12's own cryptography, so that a
# Certbot host needs nothing installed; keep in step with doc_fragments and meta/ee-requirements.txt.
FLOORS: dict[str, str] = {
    "cryptography": "42", "docker": "7.1", "nacl": "1.5",
    # Older ones trust the certificates that come with a timestamp.
    "rfc3161_client": "1.0.9", "yaml": "6", "jmespath": "1",
    # Keys in tokens and with services. hvac names the length of salts from here on, boto3 its endpoint.
    "pkcs11": "0.8.1", "boto3": "1.28", "hvac": "2", "google.cloud.kms": "2.20", "azure.identity": "1.14",
    "azure.keyvault.keys": "4.8",
}
KEYS_CRYPTOGRAPHY_FLOOR = "38"
_PACKAGES = {
    "nacl": "PyNaCl", "rfc3161_client": "rfc3161-client", "yaml": "PyYAML", "pkcs11": "python-pkcs11",
    "google.cloud.kms": "google-cloud-kms", "azure.identity": "azure-identity",
    "azure.keyvault.keys": "azure-keyvault-keys",
}


@contextmanager
def optional() -> t.Iterator[None]:
    """Let the imports inside fail quietly; C(require()) reports them when the library is really needed."""
    with suppress(ImportError):
        yield


def require(library: str, *, floor: str | None = None) -> None:
    """Check that the importable C(library) is there in C(floor) (default: its entry in C(FLOORS)) or newer.

    Raises LibraryError (code library_missing) that names the version and the file found.
    """
    wanted = floor or FLOORS[library]
    package = _PACKAGES.get(library, library)
    advice = f"Install {package} >= {wanted} for the interpreter of this task; role hallmark.signing.signer does it"
    try:
        # A literal name would do for one library; the guard serves all of them.
        found = importlib.import_module(library)
    except ImportError as exc:
        raise LibraryError(
            code="library_missing", object=package, attempt="import it", cause=f"{exc}", advice=f"{advice}."
        ) from exc
    version = str(found.__version__ if hasattr(found, "__version__") else _installed(package))
    if _as_tuple(version) < _as_tuple(wanted):
        raise LibraryError(
            code="library_missing",
            object=package,
            attempt="use it",
            cause=f"version {version} in {getattr(found, '__file__', 'an unknown place')} is older than {wanted}",
            advice=f"{advice}.",
        )


def _installed(package: str) -> str:
    # Not every library says its version itself. Costs more to import than all the rest, and is needed for few.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "0"


def _as_tuple(version: str) -> tuple[int, ...]:
    # 7.0rc1 counts as 7.0: what follows the digits of a part ends the version.
    numbers: list[int] = []
    for part in version.split("."):
        digits = t.cast("re.Match[str]", re.match(r"[0-9]*", part)).group()
        if digits:
            numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
