# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was found to be covered, so that the next plan need not ask the registry again: a file of this user only.

Whoever can write it decides what counts as covered. So it is believed only if nobody but root and this user can have
written it, and for some time only: a registry can lose signatures.
"""

from __future__ import annotations

import json
import time
import typing as t

from .._custody import record_file
from .._custody.private_file import Attributes, PrivateFolder, open_parent
from .._errors import CustodyError
from .._oci.reference import Reference

VERSION = 1
MAX_AGE = 86400
_LIMIT = 256 * 1024 * 1024
_MODE = 0o600

# By the hash of the terms: when an image, HOST/REPO@DIGEST, was found to be covered by them, in seconds since 1970.
_Entries = dict[str, dict[str, int]]


class CoverageCache:
    """The images that are known to be covered by the terms with this hash, for C(max_age) seconds."""

    def __init__(self, path: str, terms_hash: str, *, max_age: int) -> None:
        """Read the file. Raises CustodyError: destination_unsafe, malformed, input_invalid and the rest."""
        if max_age < 0:
            raise CustodyError(
                code="input_invalid", object="cache_max_age", attempt="use it", cause=f"{max_age} is not 0 or more",
                advice="Give a number of seconds; with 0, nothing that is in the cache counts.",
            )
        self._path = path
        self._hash = terms_hash
        self._max_age = max_age
        self._known = _read(path).get(terms_hash, {})

    def is_fresh(self, image: Reference) -> bool:
        """Say whether an image was found to be covered, and not too long ago; what is said of the future is no fact."""
        at = self._known.get(str(image))
        return at is not None and 0 <= time.time() - at < self._max_age

    def add(self, images: t.Sequence[Reference], *, at: float) -> None:
        """Take down that images were found to be covered C(at) a time, beside what others took down meanwhile.

        Raises CustodyError, also as C(__init__()).
        """
        if not images:
            return
        with open_parent(self._path, create=True, limit=_LIMIT) as (folder, name):
            entries = _read(self._path)
            now = time.time()
            oldest = now - max(self._max_age, MAX_AGE)
            kept = {
                terms: {image: when for image, when in known.items() if oldest < when <= now}
                for terms, known in entries.items()
            }
            self._known = kept.setdefault(self._hash, {})
            self._known.update({str(image): int(at) for image in images})
            data = json.dumps(
                {"version": VERSION, "covered": {terms: known for terms, known in kept.items() if known}},
                separators=(",", ":"),
            )
            t.cast(PrivateFolder, folder).replace(name, data.encode(), Attributes(_MODE))


def _read(path: str) -> _Entries:
    """Return what is in the file; nothing if there is none. Raises CustodyError."""
    with record_file.open_readable(path) as stream:
        data = b"" if stream is None else stream.read(_LIMIT + 1)
    if not data and stream is None:
        return {}
    try:
        if len(data) > _LIMIT:
            raise ValueError(f"it is larger than {_LIMIT >> 20} MiB")
        return _entries(json.loads(data))
    except (ValueError, RecursionError) as exc:
        raise CustodyError(
            code="malformed", object=path, attempt="read the cache of covered images",
            cause=" ".join(str(exc).split())[:200], advice="Remove the file: it is made anew, and saves requests only.",
        ) from exc


def _entries(document: t.Any) -> _Entries:
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError("it is no cache of covered images, or of another version")
    entries = document.get("covered")
    if not isinstance(entries, dict) or not all(isinstance(known, dict) for known in entries.values()):
        raise ValueError("its member covered is not what it should be")
    times = [when for known in entries.values() for when in known.values()]
    if not all(isinstance(when, int) and not isinstance(when, bool) for when in times):
        raise ValueError("it has a time that is none")
    return entries
