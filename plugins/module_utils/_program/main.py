# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program of hosts outside Ansible: one zip archive, made of the same code as the modules.

Run as C(sigstore-kms-hallmark), it is cosign's plugin for C(hallmark://); else its first argument says what it does.
"""

from __future__ import annotations

import os
import sys
import typing as t
from contextlib import suppress

PLUGIN = "sigstore-kms-hallmark"
_USAGE = (
    "usage: hallmark plugin VERSION JSON | serve OPTIONS | relay OPTIONS | stage OPTIONS | tidy OPTIONS |"
    " certbot COMMAND PATH OPTIONS\n"
)


def main(argv: t.Sequence[str]) -> int:
    """Run the command that C(argv) names, the program's own name in front; return the exit status."""
    command = "plugin" if os.path.basename(argv[0]) == PLUGIN else argv[1] if len(argv) > 1 else ""
    arguments = argv[1:] if os.path.basename(argv[0]) == PLUGIN else argv[2:]
    if command == "certbot":
        from . import certbot

        # It reads no key, and programs of others that it runs shall find what they are used to.
        return certbot.main(arguments)
    # What this process reads may be a key: no core dump may hold it.
    _without_core_dumps()
    os.umask(0o077)
    if command == "plugin":
        from . import plugin

        return plugin.main(arguments)
    if command == "serve":
        from . import serve

        return serve.main(arguments)
    if command == "relay":
        from . import relay

        return relay.main(arguments)
    if command in ("stage", "tidy"):
        from . import keeping

        return keeping.main(command, arguments)
    sys.stderr.write(_USAGE)
    return 2


def _without_core_dumps() -> None:
    import resource

    # A unit forbids the call, and has set the limit itself.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
