# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of module keyring, turned into entries of the ledger."""

from __future__ import annotations

import typing as t

from .._keys.files import read_key_file
from .._moments import moment_of
from .._trust import guards, reports, transition
from .._trust.ledger import Ledger
from . import keeping
from .keeping import Params

if t.TYPE_CHECKING:
    from .._keys.pem import PublicKey


def change(book: Ledger, params: Params) -> tuple[guards.Blocks, dict[str, t.Any]]:
    """Take in what a task reports, take the step that it wants, make the policy. Return what blocks, and the policy.

    Raises TrustError; what was written before stays.
    """
    keeping.calendar(params)
    found = keeping.timing(params)
    _look(book, params)
    identity, signed = params["identity"], {"author": params["author"], "reason": params["reason"]}

    def take(entries: t.Iterable[t.Mapping[str, t.Any]]) -> None:
        for entry in entries:
            book.append({**entry, **signed})

    take(reports.enforcers(book.keyring, [
        {**one, "kind": f"{one['enforcer']} {one['enforcer_version']}"} for one in params["enforcers"]
    ]))
    take(reports.removed(book.keyring, params["removed_enforcers"]))
    take(reports.excused(book.keyring, _dated(params["excused_enforcers"])))
    take(reports.acknowledgements(book.keyring, params["acknowledgements"]))
    take(reports.canaries(book.keyring, params["canaries"]))
    take(reports.signers(book.keyring, [{**one, "identity": identity} for one in params["signers"]]))
    take(reports.fenced(book.keyring, identity, params["fenced_signers"]))
    if params["coverage"] is not None:
        said = {**params["coverage"], "staying": params["coverage"]["staying_key_ids"]}
        take(reports.coverage(book.keyring, identity, said, timing=found, now=book.now))
    take(reports.confirmations(book.keyring, identity))
    if params["suspended"] is not None:
        take(transition.suspend(book.keyring, identity, is_suspended=params["suspended"], **signed).entries)
    if params["note"] is not None:
        take(reports.noted(book.keyring, identity, params["generation"], params["note"]))
    blocked: guards.Blocks = ()
    if params["state"] is not None:
        step = transition.plan(
            book.keyring, _request(params), timing=found, now=book.now, make_nobody=_nobody
        )
        take(step.entries)
        blocked = step.blocked
    return blocked, _policy(book, params, take) if params["policy"] is not None else {}


def _look(book: Ledger, params: Params) -> None:
    """See that it is the ledger that is meant, before anything is written to it; begin one if there is none."""
    if params["expected_head"] is not None:
        book.expect_head(params["expected_head"])
    book.expect_witnesses({
        **{f"witness {number}": head for number, head in enumerate(params["witness_heads"], 1)},
        **{
            f"enforcer {one['enforcer']}": one["ledger_head"] for one in params["acknowledgements"]
            if one["ledger_head"]
        },
    })
    if book.head is None:
        if not params["fleet"]:
            where = params["ledger_path"]
            raise keeping.invalid("fleet", f"{where} is not there yet", "Name the fleet, to begin its ledger.")
        book.append({
            "event": "founded", "format": 1, "fleet": params["fleet"], "author": params["author"],
            "reason": params["reason"],
        })
    elif params["fleet"]:
        book.expect_fleet(params["fleet"])


def _dated(excuses: t.Sequence[dict[str, t.Any]]) -> t.Sequence[dict[str, t.Any]]:
    for one in excuses:
        _require_moment(one["until"], "excused_enforcers.until")
    return excuses


def _require_moment(text: str, option: str) -> None:
    try:
        moment_of(text)
    except ValueError:
        raise keeping.invalid(option, f"{text[:60]!r} is no moment", "Write it as 2027-01-31T12:00:00Z.") from None


def _request(params: Params) -> transition.Request:
    if params["suspected_since"] is not None:
        _require_moment(params["suspected_since"], "suspected_since")
    return transition.Request(
        params["identity"], params["state"], params["author"], params["reason"], number=params["generation"],
        public_key=_public_key(params), is_spare=params["spare"], is_emergency=params["emergency"],
        accepts_none=params["accept_none"], evidence=params["evidence"], suspected_since=params["suspected_since"],
    )


def _public_key(params: Params) -> PublicKey | None:
    path, text = params["public_key_path"], params["public_key_content"]
    if path is None and text is None:
        return None
    # Loaded by tasks that stage a key: Ansible compiles what is imported for every task.
    from .._keys import pem

    if path is not None:
        return pem.read_public_key(read_key_file(path), where=path)
    return pem.read_public_key(text.encode("utf-8", "replace"), where="public_key_content")


def _nobody() -> str:
    from .._trust import nobody

    return nobody.make()


def _policy(
    book: Ledger, params: Params, take: t.Callable[[t.Iterable[t.Mapping[str, t.Any]]], None]
) -> dict[str, t.Any]:
    # Loaded by tasks that make a policy: Ansible compiles what is imported for every task.
    from .._policy import trusting

    base, keyring = params["policy"], book.keyring
    version = trusting.next_version(base, keyring)
    full = trusting.document(base, keyring, ledger_path=params["ledger_path"], version=version)
    entry = trusting.rendered(full, base, keyring, now=book.now, read_file=read_key_file)
    known = keyring.renderings.get(version)
    if known is None or (known.policy_hash, dict(known.effective)) != (entry["policy_hash"], entry["effective"]):
        take([entry])
    return {"policy": full, "effective_hashes": dict(entry["effective"])}
