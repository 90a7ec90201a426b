# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print what ./dev demo made, what every verifier said, what to try next; last the JSON line of the contract."""

from __future__ import annotations

import argparse
import json
import pathlib


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--cosigns", type=json.loads, required=True)
    given = parser.parse_args()
    found = json.loads((given.directory / "verdicts.json").read_text())
    host = found["reference"].partition("/")[0]
    public_key = given.directory / "signer" / "release.pub"
    names = ["hallmark.signing", *(cosign["name"] for cosign in given.cosigns)]
    print(f"\nDone in {given.seconds} s. Every verdict was compared with {', '.join(names[1:]) or 'no real cosign'}:\n")
    for case in found["cases"]:
        ours = "accepted" if case["verified"] else f"refused ({case['reason']})"
        theirs = "" if not given.cosigns else f"; cosign {'accepts' if case['cosign'] else 'refuses'}"
        print(f"  {case['case']}\n      {ours}{theirs}")
    print(f"\n  image       {found['reference']}\n  public key  {public_key}")
    program = given.cosigns[-1]["program"] if given.cosigns else "cosign"
    if given.keep:
        print(
            "\nThe services stay up until ./dev clean. Try:\n"
            f"  {program} verify --key {public_key} --insecure-ignore-tlog=true {found['reference']}\n"
            f"  less {given.directory / 'letsencrypt-logs' / 'letsencrypt.log'}"
        )
    else:
        print(
            "\nNothing was left running, and the exported key is gone. Try:\n"
            "  ./dev demo --keep      the same, with the services left up to look at\n"
            "  ./dev demo --verbose   the same, with every task\n"
            "  less playbooks/demo.yml inventories/demo/group_vars/signers.yml   what was run"
        )
    print(json.dumps({
        "image": found["reference"], "digest": found["digest"], "public_key": str(public_key), "registry": host,
        "registry_ca": None, "report": None,
    }))


if __name__ == "__main__":
    main()
