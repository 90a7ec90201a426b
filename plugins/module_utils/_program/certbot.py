# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What role certbot and its timer run: Certbot for one lineage, and what came of it as one line of JSON."""

from __future__ import annotations

import argparse
import json
import sys
import typing as t

from .._certbot import settings as lineages
from .._certbot.certificates import require_library
from .._certbot.checking import check
from .._certbot.configuring import configure
from .._certbot.deploying import deploy
from .._certbot.issuing import issue
from .._certbot.registering import register
from .._certbot.renewing import renew
from .._certbot.report import Report, attempt
from .._certbot.revoking import revoke
from .._certbot.scheduling import every
from .._errors import CertbotError

_COMMANDS: dict[str, t.Callable[[lineages.Settings, argparse.Namespace], Report]] = {
    "register": lambda settings, _options: register(settings),
    "issue": lambda settings, _options: issue(settings),
    "configure": lambda settings, _options: configure(settings),
    "deploy": lambda settings, _options: deploy(settings),
    "renew": lambda settings, options: renew(settings, forced=options.force, new_key=options.new_key),
    "revoke": lambda settings, options: revoke(settings, reason=options.reason, key_id=options.key_id),
    "check": lambda settings, _options: check(settings),
}


def main(argv: t.Sequence[str]) -> int:
    """Run the command that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(prog="hallmark certbot")
    parser.add_argument("command", choices=[*_COMMANDS, "scheduled"])
    parser.add_argument("path", help="settings of a lineage; with scheduled, the folder of all settings")
    parser.add_argument("--force", action="store_true", help="renew although it is not due")
    parser.add_argument("--new-key", action="store_true", help="renew now, with another key")
    parser.add_argument("--reason", default="unspecified", help="why a certificate is revoked")
    parser.add_argument("--key-id", default="", help="revoke certificates of this key only")
    options = parser.parse_args(argv)
    return _scheduled(options.path) if options.command == "scheduled" else _report(options)


def _report(options: argparse.Namespace) -> int:
    """Run one command for the role, and print its report."""
    def work() -> Report:
        require_library()
        return _COMMANDS[options.command](lineages.load(options.path), options)

    report = attempt(work)
    document = {"changed": report.changed, "error": report.error.rstrip("."), "notes": report.notes}
    sys.stdout.write(json.dumps(document, sort_keys=True) + "\n")
    return report.status


def _scheduled(folder: str) -> int:
    """Renew every lineage of a folder, and say what was wrong with which."""
    try:
        require_library()
    except CertbotError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    failed = False
    for lineage, report in every(folder):
        failed = failed or bool(report.error)
        for message in filter(None, [*report.notes, report.error]):
            sys.stderr.write(f"{lineage}: {message}\n")
    return int(failed)
