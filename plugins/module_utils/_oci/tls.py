# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TLS settings for one registry host."""

from __future__ import annotations

import ssl

from .._errors import RegistryError


def context(
    host: str, *, ca_path: str | None, validate_certs: bool, is_own: bool,
    client_cert: str | None, client_key: str | None,
) -> ssl.SSLContext:
    """Return the TLS context for a host itself (C(is_own)), or for others that it points to.

    A CA of the host's own is the only one that counts for it, and one more for others; a client certificate is for the
    host only. Raises RegistryError (not_found, malformed).
    """
    try:
        made = ssl.create_default_context(cafile=ca_path if is_own else None)
        if ca_path and not is_own:
            made.load_verify_locations(ca_path)
        if client_cert and is_own:
            # Without a password OpenSSL would ask for one on the terminal.
            made.load_cert_chain(client_cert, client_key, password=lambda: "")
    except OSError as exc:
        # ssl.SSLError is an OSError: a file that is not PEM, a key that belongs to another certificate.
        files = ", ".join(name for name in (ca_path, client_cert, client_key) if name)
        raise RegistryError(
            code="malformed" if isinstance(exc, ssl.SSLError) else "not_found", object=files,
            attempt=f"read the TLS files for {host}", cause=exc.strerror or type(exc).__name__,
            advice="Give registries[].ca_path, client_cert and client_key as PEM files without passphrase.",
        ) from exc
    if not validate_certs:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made
