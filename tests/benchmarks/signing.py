# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signing images that nobody has signed before, beside processes of cosign."""

from __future__ import annotations

import typing as t

import making
from contest import PASSPHRASE, Bench, Row, Run, duel

COUNT = 50


def rows(bench: Bench, host: str) -> list[Row]:
    """Sign with the same key: ours as Certbot leaves it, theirs as cosign takes it, and ours like that as well."""

    def fresh(who: str, number: int) -> list[str]:
        images = [f"{host}/sign/{who}{number}/image{index}:1" for index in range(COUNT)]
        making.write(images)
        return images

    def ours(who: str, *formats: str, key: str = "k.pem", passphrase: str = "") -> t.Callable[[int], Run]:
        return lambda number: bench.ours(
            "sign", images=fresh(who, number), key=key, passphrase=passphrase, formats=formats
        )

    done = bench.in_turns({
        "one": ours("one", "sig"),
        "both": ours("both", "sig", "bundle"),
        **({"encrypted": ours("encrypted", "sig", key="k.key", passphrase=PASSPHRASE)} if bench.peers else {}),
        **{
            peer.name: lambda number, peer=peer: bench.each(  # type: ignore[misc]
                peer.sign, fresh(f"cosign{peer.major}", number), processes=2
            )
            for peer in bench.peers
        },
    })
    table = []
    for peer in bench.peers:
        theirs, name = done[peer.name], f"xargs -P2 {peer.name}, one format"
        table.append(duel(f"sign {COUNT} images in one format", done["one"], name, theirs, at_least=10))
        table.append(duel(f"sign {COUNT} images in both formats", done["both"], name, theirs, at_least=5))
        table.append(duel(f"sign {COUNT} images with cosign's encrypted key file", done["encrypted"], name, theirs))
    return table
