# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Certbot's hook and timers run: a renewed key is copied out of the lineage, and ended exports are taken away."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import typing as t

from .._custody import export, export_record, journal, private_file, public_file
from .._custody import source as sources
from .._custody.key_file import Wanted
from .._errors import HallmarkError
from .._moments import text_of
from . import secret_file


def main(command: str, argv: t.Sequence[str]) -> int:
    """Run C(stage) or C(tidy); return the exit status."""
    parser = argparse.ArgumentParser(prog=f"hallmark {command}")
    parser.add_argument("--record", default=export_record.default_path(), help="the record of exports")
    if command == "stage":
        parser.add_argument("--lineage", required=True)
        parser.add_argument("--folder", required=True, help="where the generations of the identity are kept")
        parser.add_argument("--identity", required=True)
        parser.add_argument("--events", required=True, help="the journal of events")
        parser.add_argument("--passphrase-path", help="file with the passphrase of the copies")
    options = parser.parse_args(argv)
    try:
        exports = export.Exports(options.record, dry_run=False)
        said = _stage(exports, options) if command == "stage" else [f"removed {path}" for path in exports.tidy()]
    except HallmarkError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    for line in said:
        sys.stdout.write(f"{line}\n")
    return 0


def _stage(exports: export.Exports, options: argparse.Namespace) -> list[str]:
    """Copy the key of a lineage into the folder of generations, unless it is there; a new key is an event."""
    source = sources.lineage(options.lineage)
    private = sources.read_pair(source).private
    base = os.path.join(options.folder, private.public.key_id)
    is_new = not os.path.lexists(f"{base}.key")
    passphrase = secret_file.read(options.passphrase_path)
    exports.make(
        source, f"{base}.key", Wanted(private.format, passphrase, private_file.attributes(mode="0600")), export.Terms(),
        chain_dest=f"{base}.chain.pem", same_format=True,
    )
    public = private.public.pem.encode("ascii")
    public_file.ensure_public_file(f"{base}.pub", public, is_former=lambda data: False, dry_run=False)
    if not is_new:
        return []
    journal.append(options.events, {
        "time": text_of(datetime.datetime.now(datetime.timezone.utc)), "event": "staged", "identity": options.identity,
        "key_id": private.public.key_id, "lineage": options.lineage,
    })
    return [f"staged a new generation of {options.identity}: {private.public.key_id}"]
