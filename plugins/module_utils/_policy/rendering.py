# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all renderers share: versions, names, and texts that come out the same each time."""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass

from .. import _base64
from .._errors import FormatError
from .._libraries import optional
from .._oci.pattern import Pattern
from .._oci.reference import HUB
from .check import Refusal
from .model import Keyless, Keys

with optional():
    import yaml

Version = tuple[int, ...]
Files = dict[str, str]

# What Kubernetes takes as a name (RFC 1123), and what is left for a suffix.
_NOT_NAME = re.compile(r"[^a-z0-9]+")
_MAX_NAME = 50
_LAST_OF_FIRST_PLANE = 0xFFFF


@dataclass(frozen=True)
class Rendering:
    """The files of an enforcer by relative path, or why there are none."""

    files: Files
    refused: tuple[Refusal, ...] = ()


def version(text: str) -> Version:
    """Return the numbers of a version such as C(5.34.2) or C(v1.18). Raises FormatError (input_invalid)."""
    numbers = re.fullmatch(r"v?([0-9]{1,6}(?:\.[0-9]{1,6}){1,3})(?:[-+].*)?", text)
    if not numbers:
        raise FormatError(
            code="input_invalid", object=f"enforcer_version {text[:60]!r}", attempt="choose the enforcer's dialect",
            cause="it is no version", advice="Give the version that runs, such as 5.34.2.",
        )
    return tuple(int(one) for one in numbers[1].split("."))


def name_of(text: str) -> str:
    """Return a name that Kubernetes takes, made of another."""
    return _NOT_NAME.sub("-", text.lower()).strip("-")[:_MAX_NAME].strip("-") or "rule"


def names_of(texts: t.Iterable[str]) -> list[str]:
    """Return such names in the order of the texts, all of them different: of two alike, one would replace the other."""
    found: dict[str, None] = {}
    for text in texts:
        name, number = name_of(text), 1
        while name in found:
            number += 1
            name = f"{name_of(text)}-{number}"
        found[name] = None
    return list(found)


def as_json(document: t.Any) -> str:
    """Return JSON that is pleasant to compare: two spaces, members in the order given."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def as_yaml(*documents: t.Any) -> str:
    """Return YAML, one document after the other; texts of several lines as blocks."""
    # The faster one writes characters of the further planes in another way, and files shall be the same on every host.
    is_plain = all(ord(one) <= _LAST_OF_FIRST_PLANE for one in json.dumps(documents, ensure_ascii=False))
    base = getattr(yaml, "CSafeDumper", yaml.SafeDumper) if is_plain else yaml.SafeDumper
    return str(yaml.dump_all(
        documents, Dumper=_dumper(base), sort_keys=False, default_flow_style=False, width=1_000_000, allow_unicode=True,
        explicit_start=True,
    ))


def _dumper(base: t.Any) -> t.Any:
    class Dumper(base):  # type: ignore[misc]
        """Writes blocks, and never an alias: other readers of YAML need not know them."""

        def ignore_aliases(self, data: t.Any) -> bool:
            return True

    def text(dumper: t.Any, data: str) -> t.Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)

    Dumper.add_representer(str, text)
    return Dumper


def encoded(*texts: str) -> str:
    """Return PEM blocks, one after the other, as base64."""
    return _base64.encode("".join(texts).encode("ascii"))


def hash_of(identity: Keys) -> str:
    """Return the hash that an enforcer is told to use: that of the one scheme that counts, else SHA-256."""
    return (identity.signature_algorithm or "sha256").rpartition("-")[2] if identity.keys else "sha256"


def anchored(expression: str) -> str:
    """Return an expression that matches whole texts only, for enforcers that search."""
    return f"^(?:{expression})$"


def names_with_host(pattern: Pattern) -> tuple[str, ...]:
    """Return HOST/PATH, or HOST alone, of a pattern that is none of a domain, with and without Docker Hub's namespace.

    Its own images may be written without.
    """
    short = pattern.path.removeprefix("library").removeprefix("/") if pattern.host == HUB else pattern.path
    return tuple(f"{pattern.host}/{path}" if path else pattern.host for path in dict.fromkeys((pattern.path, short)))


def host_in_go(pattern: Pattern) -> str:
    """Return the host as go-containerregistry writes it, by whose names some enforcers go: Docker Hub has a prefix."""
    return f"index.{pattern.host}" if pattern.host == HUB else pattern.host


def exactly(text: str) -> str:
    """Return an expression that matches one text, for enforcers that take wildcards for names."""
    return f"^{re.escape(text)}$"


def expression(value: str | None, pattern: str | None) -> str:
    """Return the expression for a name or for the expression that stands instead, for whole texts."""
    return exactly(value) if value is not None else anchored(t.cast(str, pattern))


def roots_of(identity: Keyless) -> tuple[str, ...]:
    """Return the certificates of the authorities in a Sigstore trusted root, as PEM. Raises FormatError (malformed)."""
    from . import certificates

    try:
        authorities = json.loads(identity.trusted_root or "")["certificateAuthorities"]
        chains = [one["rawBytes"] for authority in authorities for one in authority["certChain"]["certificates"]]
        return tuple(certificates.of_der(_base64.decode(raw)) for raw in chains)
    except (ValueError, KeyError, TypeError) as exc:
        raise FormatError(
            code="malformed", object="trusted_root_path", attempt="read the roots of a keyless authority",
            cause="it is no Sigstore trusted root with certificateAuthorities", advice="Give the file that TUF serves.",
        ) from exc
