# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates, logs and timestamps of a trust policy, as what verifies signatures wants them.

Loaded where an authority has one: Ansible compiles what is imported for every task.
"""

from __future__ import annotations

import typing as t

from .._libraries import require
from .._signing import certificate_path, identity
from .._signing.certified import Issuer
from .._signing.evidence import Evidence
from .._transparency import log_key
from .model import Authority, Certified


def issuer(certified: Certified) -> Issuer:
    """Return the issuer that vouches for a name. Raises HallmarkError."""
    return Issuer(
        roots=_certificates(certified.roots), intermediates=_certificates(certified.intermediates), eku=certified.eku,
        identity=identity.read_identity({
            "type": certified.san_type, "value": certified.value, "regexp": certified.regexp,
        }),
    )


def evidence(authority: Authority) -> Evidence:
    """Return what proves when an authority signed. Raises HallmarkError, LibraryError."""
    logs = (log_key.read(authority.log.public_key.encode(), where="log", rekor_url=authority.log.rekor_url),) if (
        authority.log
    ) else ()
    stampers: tuple[t.Any, ...] = ()
    if authority.timestamp:
        from .._transparency import timestamp

        require("rfc3161_client")
        stampers = (timestamp.read_authority("".join(authority.timestamp).encode(), where="timestamp"),)
    # No enforcer demands a timestamp: without one, a certificate has to be valid now.
    return Evidence(logs=logs, require_log=bool(logs), timestamp_authorities=stampers)


def _certificates(texts: tuple[str, ...]) -> tuple[t.Any, ...]:
    return certificate_path.read_certificates("".join(texts).encode(), where="policy") if texts else ()
