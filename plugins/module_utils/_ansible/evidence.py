# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options about certificates, transparency logs and timestamps, turned into what the domain wants.

Loaded only by tasks that use one of them.
"""

from __future__ import annotations

import datetime
import typing as t

from .._errors import KeyFileError, VerificationError
from .._keys import pem
from .._keys.files import read_key_file
from .._oci.transport import RegistrySettings
from .._signing import certificate_path, identity
from .._signing.certified import Issuer
from .._signing.evidence import Evidence
from .._signing.material import SignerCertificate, read_certificate
from .._transparency import log_key
from .._transparency.log_key import LogKey

if t.TYPE_CHECKING:
    from .._signing.notary import Notary
    from .._transparency.timestamp import TimestampAuthority

Options = t.Mapping[str, t.Any]


def misplaced(name: str) -> VerificationError:
    """Return the error for options of a CA that stand beside a key."""
    return VerificationError(
        code="input_invalid", object=f"authority {name}", attempt="trust its key",
        cause="san and intermediates_path are for authorities that are a CA", advice="Leave them out.",
    )


def issuer(entry: Options, *, name: str) -> Issuer:
    """Return the issuer that an authority's options describe. Raises KeyFileError, VerificationError."""
    if entry["ca_path"] is not None:
        data, where = read_key_file(entry["ca_path"]), entry["ca_path"]
    else:
        data, where = entry["ca_content"].encode("utf-8", "replace"), f"ca_content of authority {name}"
    intermediates: tuple[t.Any, ...] = ()
    if entry["intermediates_path"] is not None:
        path = entry["intermediates_path"]
        intermediates = certificate_path.read_certificates(read_key_file(path), where=path)
    if entry["san"] is None:
        raise VerificationError(
            code="input_invalid", object=f"authority {name}", attempt="trust a certificate authority",
            cause="san is missing, and everybody it issues a certificate for would be trusted",
            advice="Give san with the name of the signer.",
        )
    certificate_path.usage_oid(entry["eku"], where=f"eku of authority {name}")
    return Issuer(
        roots=certificate_path.read_certificates(data, where=where), identity=identity.read_identity(entry["san"]),
        intermediates=intermediates, eku=entry["eku"],
    )


def evidence(params: Options, settings: RegistrySettings) -> Evidence:
    """Return what is demanded of logs and timestamps.

    Raises KeyFileError, FormatError, and VerificationError (input_invalid) for what is demanded and cannot be proven.
    """
    logs = [_log(entry) for entry in params["rekor_logs"]]
    logs += [log_key.read(read_key_file(path), where=path) for path in params["rekor_public_key_paths"]]
    stampers = tuple(_timestamp_authority(path) for path in params["timestamp_authority_paths"])
    for option, wanted, known in (
        ("require_log", params["require_log"], logs), ("search_log", params["search_log"], logs),
        ("require_timestamp", params["require_timestamp"], stampers),
    ):
        if wanted and not known:
            keys = "timestamp_authority_paths" if option == "require_timestamp" else "rekor_logs"
            raise _invalid(option, f"{keys} is empty, so nothing could satisfy it")
    return Evidence(
        logs=tuple(logs), require_log=params["require_log"], timestamp_authorities=stampers,
        require_timestamp=params["require_timestamp"],
        find=_finder(params, logs, settings) if params["search_log"] else None,
    )


def _finder(params: Options, logs: t.Sequence[LogKey], settings: RegistrySettings) -> t.Any:
    from .._signing import log_search
    from .._transparency import rekor

    urls = [entry["rekor_url"] for entry in params["rekor_logs"] if entry["rekor_url"]]
    if len(urls) != 1:
        raise _invalid("search_log", f"rekor_logs has {len(urls)} entries with rekor_url, and one is asked")
    return log_search.finder(rekor.Log(urls[0], settings), logs)


def _log(entry: Options) -> LogKey:
    path = entry["public_key_path"]
    return log_key.read(
        read_key_file(path), where=path, rekor_url=entry["rekor_url"],
        not_before=_moment(entry, "not_before"), not_after=_moment(entry, "not_after"),
    )


def _moment(entry: Options, option: str) -> datetime.datetime | None:
    if entry[option] is None:
        return None
    try:
        # Python before 3.11 does not know the Z of RFC 3339.
        moment = datetime.datetime.fromisoformat(entry[option].replace("Z", "+00:00"))
    except ValueError as exc:
        raise _invalid(option, f"{entry[option][:50]!r} is no time of RFC 3339") from exc
    if moment.tzinfo is None:
        raise _invalid(option, f"{entry[option][:50]!r} has no time zone")
    return moment


def _timestamp_authority(path: str) -> TimestampAuthority:
    from .._libraries import require
    from .._transparency import timestamp

    data = read_key_file(path)
    require("rfc3161_client")
    return timestamp.read_authority(data, where=path)


def certificates(
    signers: t.Sequence[Options], publics: t.Sequence[pem.PublicKey], *, attach: bool
) -> dict[str, SignerCertificate]:
    """Return the certificates to attach, by key id; each is read, and must be of its key, even if none is attached.

    Raises KeyFileError: as C(read_certificate()); input_invalid where one is missing.
    """
    found: dict[str, SignerCertificate] = {}
    for signer, public in zip(signers, publics):
        path = signer["certificate_path"]
        if path is None:
            if attach:
                raise KeyFileError(
                    code="input_invalid", object="attach_certificate", attempt="attach certificates",
                    cause=f"the signer with key {public.key_id} has no certificate_path", advice="Give it one.",
                )
            continue
        chain = read_key_file(signer["chain_path"]) if signer["chain_path"] else None
        certificate = read_certificate(read_key_file(path), chain, public=public, where=path)
        if attach:
            found[public.key_id] = certificate
    return found


def notary(params: Options, settings: RegistrySettings) -> Notary | None:
    """Return where new signatures are witnessed, or None. Raises HallmarkError for wrong options or files."""
    if params["transparency"] is None and params["timestamp_authority"] is None:
        return None
    from .._signing import notary as notaries
    from .._transparency import rekor

    log, timestamper = None, None
    keys: tuple[LogKey, ...] = ()
    if params["transparency"] is not None:
        url, path = params["transparency"]["rekor_url"], params["transparency"]["rekor_public_key_path"]
        log, keys = rekor.Log(url, settings), (log_key.read(read_key_file(path), where=path, rekor_url=url),)
    if params["timestamp_authority"] is not None:
        own = params["timestamp_authority"]
        timestamper = notaries.Timestamper(own["url"], settings, (_timestamp_authority(own["certificate_path"]),))
    return notaries.Notary(log, keys, timestamper)


def _invalid(option: str, cause: str) -> VerificationError:
    return VerificationError(
        code="input_invalid", object=option, attempt="use it", cause=cause, advice="Mend the options.",
    )
