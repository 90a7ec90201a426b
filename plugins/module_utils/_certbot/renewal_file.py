# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Certbot keeps for the renewals of a lineage, in C(renewal/NAME.conf).

Format: ConfigObj, of which Certbot uses sections, and values that may be quoted.
"""

from __future__ import annotations

import os
import re
import typing as t

from . import files
from .settings import Settings

_PARAMETERS = "renewalparams"
# Folders by name, as a section of their own.
_MAP = "webroot_map"


def path_of(settings: Settings) -> str:
    """Return where it is."""
    return os.path.join(settings.config_dir, "renewal", f"{settings.lineage}.conf")


def parameters(settings: Settings) -> dict[str, str]:
    """Return the parameters; the folders of a webroot by C(webroot_map NAME). Raises CertbotError."""
    section, found = "", {}
    for line in (files.read(path_of(settings)) or b"").decode("utf-8", "replace").splitlines():
        name, equals, value = line.partition("=")
        if line.lstrip().startswith("["):
            section = line.strip(" []")
        elif equals and section in (_PARAMETERS, _MAP):
            prefix = "" if section == _PARAMETERS else f"{section} "
            found[prefix + name.strip()] = _unquoted(value.strip())
    return found


def server(settings: Settings) -> str:
    """Return the server that the certificate is from, and is renewed by. Raises CertbotError."""
    return settings.server if settings.outside else parameters(settings).get("server", settings.server)


def edit(path: str, wanted: t.Mapping[str, str]) -> None:
    """Change the file of a Certbot that cannot do it itself. Raises CertbotError and OSError."""
    flat = {name: value for name, value in wanted.items() if not name.startswith(f"{_MAP} ")}
    mapped = {name.partition(" ")[2]: value for name, value in wanted.items() if name.startswith(f"{_MAP} ")}
    lines, section = [], ""
    for line in (files.read(path) or b"").decode().splitlines():
        is_title = line.lstrip().startswith("[")
        section = line.strip(" []") if is_title else section
        name = line.partition("=")[0].strip()
        if section == _MAP or (section == _PARAMETERS and name in flat):
            continue
        lines.append(line)
        if section == _PARAMETERS and is_title:
            lines += _assignments(flat)
    lines += [f"[[{_MAP}]]", *_assignments(mapped)] if mapped else []
    files.write(path, ("\n".join(lines) + "\n").encode())


def _assignments(values: t.Mapping[str, str]) -> list[str]:
    return [f"{name} = {_quoted(value)}" for name, value in values.items()]


def _unquoted(value: str) -> str:
    mark = next((mark for mark in ('"""', "'''", '"', "'") if value.startswith(mark) and value.endswith(mark)), "")
    return value[len(mark):-len(mark)] if mark else value


def _quoted(value: str) -> str:
    if not re.search(r"[,#\"']", value):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'
