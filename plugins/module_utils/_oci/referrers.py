# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What refers to an image: the referrers API, and the fallback tag of registries without it.

Source: OCI distribution specification 1.1, "Listing Referrers" and "Referrers Tag Schema".
"""

from __future__ import annotations

import re
import typing as t
from contextlib import suppress
from urllib.parse import urljoin

from .._errors import RegistryError
from . import manifest as manifests
from . import shared_tag
from .content import MAX_MANIFEST
from .failure import error_code
from .manifest import Descriptor, Manifest
from .reference import Reference
from .registry import Registries, pull_scope, referrers_path
from .shared_tag import Written
from .transport import Request, Response

MAX_REFERRERS = 1000
_MAX_PAGES = 100
_LINK = re.compile(r'<(?P<target>[^<>]*)>(?P<parameters>(?:\s*;[^,<]*)*)')
_NO_API = (400, 404, 405, 406)


def fallback_tag(digest: str) -> str:
    """Return the tag that lists the referrers of C(digest) where the API is missing: C(sha256-HEX).

    The hexadecimal part is cut to 64 characters, as the specification demands of longer digests.
    """
    algorithm, _colon, value = digest.partition(":")
    return f"{algorithm}-{value[:64]}"


def find(registries: Registries, image: Reference, digest: str) -> tuple[Descriptor, ...]:
    """Return the descriptors of all manifests whose subject is C(digest), in the registry's order.

    Their types and annotations are hints of whoever wrote the list: look into the manifests. Raises
    RegistryError, and FormatError for a list that cannot be parsed.
    """
    listed = None
    if image.host not in registries.has_referrers_api:
        # One asks, the others wait for the answer.
        with registries.referrers_probe(image.host):
            if image.host not in registries.has_referrers_api:
                listed = _ask_api(registries, image, digest)
    if listed is None and registries.has_referrers_api.get(image.host):
        listed = _ask_api(registries, image, digest)
    if listed is not None:
        return listed
    index = _fallback_index(registries.find_manifest(image.tagged(fallback_tag(digest))))
    return _bounded(index.children if index else (), image)


def attach(
    registries: Registries, image: Reference, subject: Descriptor, raw: bytes
) -> tuple[Descriptor, Written | None]:
    """Store the manifest C(raw), which names C(subject), so that it is listed; return its descriptor.

    Where a fallback tag was changed, the change is returned, too: it wants C(shared_tag.settle()). Raises
    RegistryError; write_lost when concurrent writers kept removing the entry from the fallback tag.
    """
    stored = manifests.parse(raw, content_type="", where=image.name)
    recorded = registries.put_manifest(image.at(stored.digest), raw, media_type=stored.media_type)
    entry = stored.as_referrer()
    if recorded == subject.digest:
        registries.has_referrers_api[image.host] = True
    elif not _api_exists(registries, image, subject.digest):
        # Its list is read back, and registries refuse a list that names what is not there.
        return entry, _update_fallback(registries, image, subject.digest, add=entry, remove=frozenset())
    if not registries.has_manifest(image.at(stored.digest)):
        raise RegistryError(
            code="write_lost", object=str(image.at(stored.digest)), attempt="attach a manifest",
            cause="the registry accepted it, and does not have it", advice="Look at the registry's log.",
        )
    return entry, None


def detach(registries: Registries, image: Reference, subject: str, digests: t.Collection[str]) -> Written | None:
    """Remove the manifests C(digests) from the referrers of C(subject), in either kind of registry.

    Raises RegistryError, also where a registry with the API does not allow deletion.
    """
    native = _api_exists(registries, image, subject)
    written = None
    if not native:
        written = _update_fallback(registries, image, subject, add=None, remove=frozenset(digests))
    for digest in digests:
        if not registries.delete_manifest(image.at(digest)) and native:
            raise RegistryError(
                code="registry_error", object=f"{image.name}@{digest}", attempt="remove the bundle",
                cause="the registry does not allow deletion", advice="Allow it, or remove the bundle there.",
            )
    return written


def _ask_api(registries: Registries, image: Reference, digest: str) -> tuple[Descriptor, ...] | None:
    """Return what the referrers API lists, or None where it does not exist; an incomplete list is an error."""
    location: str | None = referrers_path(image, digest)
    found: list[Descriptor] = []
    for page in range(_MAX_PAGES):
        response = registries.send(image, Request(
            "GET", t.cast(str, location), pull_scope(image), f"list the referrers of {image.name}@{digest}",
            headers={"Accept": manifests.OCI_INDEX}, limit=MAX_MANIFEST,
            accepted=(200,) if page else (200, *_NO_API),
        ))
        if response.status in _NO_API:
            # A registry that has the API but not yet the repository also answers 404.
            if error_code(response) != "NAME_UNKNOWN":
                registries.has_referrers_api.setdefault(image.host, False)
            return () if registries.has_referrers_api.get(image.host) else None
        registries.has_referrers_api[image.host] = True
        listed = manifests.parse(response.body, content_type=manifests.OCI_INDEX, where=f"{image.name}@{digest}")
        found.extend(listed.children)
        _bounded(tuple(found), image)
        location = next_page(response, t.cast(str, location))
        if location is None:
            return tuple(found)
    raise _too_many(image)


def _api_exists(registries: Registries, image: Reference, digest: str) -> bool:
    if image.host not in registries.has_referrers_api:
        with registries.referrers_probe(image.host):
            if image.host not in registries.has_referrers_api:
                _ask_api(registries, image, digest)
    return registries.has_referrers_api.get(image.host, False)


def _fallback_index(found: Manifest | None) -> Manifest | None:
    """Return what the fallback tag names if it is an index.

    C(cosign copy) leaves a tag of this very name that points to the image itself.
    """
    return found if found is not None and found.is_index else None


def _update_fallback(
    registries: Registries, image: Reference, subject: str, *, add: Descriptor | None, remove: frozenset[str]
) -> Written | None:
    """Change the list behind the fallback tag, keeping what others wrote into it.

    Registries refuse a list that names what is gone, such as a bundle that another host removes at this moment: such
    entries are left out then.
    """
    gone: set[str] = set()

    def plan(found: Manifest | None) -> shared_tag.Edit | None:
        index = _fallback_index(found)
        entries = index.children if index else ()
        listed = {entry.digest for entry in entries}
        if (add is None or add.digest in listed) and not remove & listed:
            return None
        kept = [entry for entry in entries if entry.digest not in remove | gone]
        if add is not None and add.digest not in listed:
            kept.append(add)
            _bounded(tuple(kept), image)
        kept.sort(key=lambda entry: entry.digest)
        return shared_tag.Edit(manifests.encode_index(kept), manifests.OCI_INDEX)

    def refused(error: RegistryError) -> bool:
        if "MANIFEST_BLOB_UNKNOWN" not in error.cause:
            return False
        index = _fallback_index(registries.find_manifest(tag))
        listed = {entry.digest for entry in (index.children if index else ())}
        gone.update(one for one in listed - gone if not registries.has_manifest(image.at(one)))
        return True

    tag = image.tagged(fallback_tag(subject))
    return shared_tag.change(registries, tag, subject, plan, refused=refused)


def _bounded(found: tuple[Descriptor, ...], image: Reference) -> tuple[Descriptor, ...]:
    if len(found) > MAX_REFERRERS:
        raise _too_many(image)
    return found


def _too_many(image: Reference) -> RegistryError:
    return RegistryError(
        code="limit_exceeded", object=image.name, attempt="list the referrers",
        cause=f"there are more than {MAX_REFERRERS}, or more than {_MAX_PAGES} pages",
        advice="Remove the superfluous ones.",
    )


def next_page(response: Response, current: str) -> str | None:
    """Return the location of the next page that a Link header names (RFC 8288), or None."""
    for match in _LINK.finditer(response.headers.get("link", "")):
        if re.search(r';\s*rel\s*=\s*"?next"?\s*(?:;|$)', match["parameters"], re.IGNORECASE):
            # An address that cannot be joined is refused by whoever sends to it.
            with suppress(ValueError):
                return urljoin(current, str(match["target"]))
            return str(match["target"])
    return None
