# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What role certbot wrote down about one lineage."""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import dataclass

from .._errors import CertbotError
from . import files

_ADVICE = "Run role hallmark.signing.certbot again."


@dataclass(frozen=True)
class Binding:
    """The external account binding: the key id that the server gave out, and where its HMAC key is."""

    kid: str
    hmac_key_path: str


@dataclass(frozen=True)
class Authenticator:
    """How Certbot proves control of names: its arguments, and what it keeps of them for renewals."""

    arguments: tuple[str, ...]
    kept: t.Mapping[str, str]


@dataclass(frozen=True)
class Outside:
    """A request whose key is elsewhere, where what comes of it goes, and at which share of a lifetime it is renewed."""

    request: str
    certificate: str
    chain: str
    fullchain: str
    renew_at: float


@dataclass(frozen=True)
class Settings:
    """One lineage: its names, its server, its Certbot, its files and its hooks."""

    path: str
    lineage: str
    domains: tuple[str, ...]
    certbot: str
    version: str
    config_dir: str
    work_dir: str
    logs_dir: str
    server: str
    ca_path: str
    account: tuple[str, ...]
    binding: Binding
    key: tuple[str, ...]
    reuse_key: bool
    profile: tuple[str, ...]
    authenticator: Authenticator
    extra_arguments: tuple[str, ...]
    outside: Outside | None
    fullchain: str
    hook: str
    marker: str
    pre_hook: str
    post_hook: str
    metrics_path: str
    exclusive: bool
    busy_waits: tuple[float, ...]

    def beside(self, end: str) -> str:
        """Return the path of a file of this lineage in the folder of the settings."""
        return os.path.join(os.path.dirname(self.path), f"{self.lineage}.{end}")

    @property
    def live(self) -> str:
        """The folder of the current certificate."""
        return os.path.dirname(self.fullchain)

    @property
    def leaf(self) -> str:
        """The path of the current certificate."""
        return self.outside.certificate if self.outside else os.path.join(self.live, "cert.pem")

    @property
    def folders(self) -> tuple[str, ...]:
        """The arguments for Certbot's folders."""
        return "--config-dir", self.config_dir, "--work-dir", self.work_dir, "--logs-dir", self.logs_dir

    @property
    def reuse_arguments(self) -> tuple[str, ...]:
        """The argument that says whether renewals keep the key."""
        return ("--reuse-key",) if self.reuse_key else ("--no-reuse-key",)

    def older_than(self, *version: int) -> bool:
        """Say whether the installed Certbot is older."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version)[:2]) < version


def load(path: str) -> Settings:
    """Read the settings of a lineage. Raises CertbotError (not_found, malformed)."""
    values = files.read_json(path)
    if not values:
        raise CertbotError(
            code="not_found", object=path, attempt="read the settings of a lineage", cause="there are none",
            advice="Run role hallmark.signing.certbot.",
        )
    said = _Members(path, values)
    return Settings(
        path=path, **said.texts("lineage", "certbot", "version", "config_dir", "work_dir", "logs_dir", "server"),
        **said.texts("ca_path", "fullchain", "hook", "marker", "pre_hook", "post_hook", "metrics_path"),
        domains=said.words("domains"), account=said.words("account"), key=said.words("key"),
        profile=said.words("profile"), extra_arguments=said.words("extra_arguments"),
        reuse_key=said.typed("reuse_key", bool), exclusive=said.typed("exclusive", bool),
        binding=Binding(**said.below("eab").texts("kid", "hmac_key_path")),
        authenticator=_authenticator(said.below("authenticator")), outside=_outside(said.below("csr")),
        busy_waits=tuple(said.list_of("busy_waits", int, float)),
    )


def _authenticator(said: _Members) -> Authenticator:
    kept = said.below("kept")
    return Authenticator(said.words("arguments"), kept.texts(*kept.values))


def _outside(said: _Members) -> Outside | None:
    if not said.values:
        return None
    return Outside(
        said.typed("path", str), **said.texts("certificate", "chain", "fullchain"),
        renew_at=said.typed("renew_at", int, float),
    )


@dataclass(frozen=True)
class _Members:
    """The members of an object, read with their type."""

    path: str
    values: files.Json
    prefix: str = ""

    def typed(self, name: str, *kinds: type) -> t.Any:
        if name not in self.values:
            raise self._wrong(name, "is missing")
        if not _is_one(self.values[name], kinds):
            raise self._wrong(name, "is of the wrong type")
        return self.values[name]

    def texts(self, *names: str) -> dict[str, t.Any]:
        return {name: self.typed(name, str) for name in names}

    def list_of(self, name: str, *kinds: type) -> list[t.Any]:
        values: list[t.Any] = self.typed(name, list)
        if not all(_is_one(value, kinds) for value in values):
            raise self._wrong(name, "is of the wrong type")
        return values

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(self.list_of(name, str))

    def below(self, name: str) -> _Members:
        return _Members(self.path, self.typed(name, dict), f"{name}.")

    def _wrong(self, name: str, cause: str) -> CertbotError:
        return CertbotError(
            code="malformed", object=self.path, attempt="read the settings of a lineage",
            cause=f"{self.prefix}{name} {cause}", advice=_ADVICE,
        )


def _is_one(value: t.Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
