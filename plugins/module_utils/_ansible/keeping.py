# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of modules keyring and keyring_info, turned into entries of the ledger, and the ledger into results."""

from __future__ import annotations

import typing as t

from .._errors import TrustError
from .._keys import pem
from .._keys.files import read_key_file
from .._moments import moment_of
from .._trust import guards, nobody, reports, telling, transition
from .._trust.calendar import Calendar
from .._trust.ledger import Ledger
from .._trust.window import Timing
from . import args

Params = dict[str, t.Any]

_TIMING = {
    "clock_skew_bound": 60, "clock_skew": 0.0, "overlap": None, "offline_allowance": 0, "cached_image_age": 0,
    "max_job_time": 3600, "rollback_window": 86400, "coverage_max_age": 3600,
}
_CALENDAR = {"lifetime": None, "stage": 0.7, "publish": 0.75, "activate": 0.9, "now": False}
_REQUIRED = {"type": "str", "required": True}
_KEY_ID = {**_REQUIRED, "no_log": False}


def common_spec() -> args.Spec:
    """Return the options of both modules."""
    numbers = {name: {"type": "int", "default": value} for name, value in _TIMING.items()}
    parts = {name: {"type": "float", "default": value} for name, value in _CALENDAR.items()}
    return {
        "ledger_path": {"type": "path", "required": True},
        "witness_heads": _list(),
        "timing": {
            "type": "dict", "apply_defaults": True,
            "options": {**numbers, "clock_skew": {"type": "float", "default": 0.0}, "overlap": {"type": "int"}},
        },
        "calendar": {
            "type": "dict", "apply_defaults": True,
            "options": {**parts, "lifetime": {"type": "int"}, "now": {"type": "bool", "default": False}},
        },
    }


def spec() -> args.Spec:
    """Return the options of module keyring."""
    yes_or_no = {"type": "bool", "required": True}
    return {
        **common_spec(),
        "fleet": {"type": "str"}, "identity": _REQUIRED, "generation": {"type": "int"},
        "state": {
            "type": "str",
            "choices": ["staged", "published", "active", "withdrawn", "retired", "revoked", "abandoned"],
        },
        "public_key_path": {"type": "path", "no_log": False}, "public_key_content": {"type": "str", "no_log": False},
        **{name: {"type": "bool", "default": False} for name in ("spare", "emergency", "accept_none")},
        "evidence": {"type": "str", "default": ""}, "suspected_since": {"type": "str"}, "suspended": {"type": "bool"},
        "note": {
            "type": "str",
            "choices": [
                "signing_stopped", "credentials_replaced", "resigned", "certificates_revoked", "rebuilt", "closed",
            ],
        },
        "enforcers": _list({
            "name": _REQUIRED, "class": {"type": "str", "default": "required", "choices": ["required", "best_effort"]},
            "enforcer": _REQUIRED, "enforcer_version": _REQUIRED, "interval": {"type": "int", "default": 0},
            "has_tool": {"type": "bool", "default": True},
        }),
        "removed_enforcers": _list(),
        "excused_enforcers": _list({"enforcer": _REQUIRED, "until": _REQUIRED}),
        "acknowledgements": _list({
            "enforcer": _REQUIRED, "policy_version": {"type": "int", "required": True}, "effective_hash": _REQUIRED,
            "ledger_head": {"type": "str"},
        }),
        "canaries": _list({
            "enforcer": _REQUIRED, "key_id": _KEY_ID, "policy_version": {"type": "int", "required": True},
            "admitted": yes_or_no, "unsigned_denied": yes_or_no, "foreign_denied": yes_or_no,
        }),
        "signers": _list({
            "signer": _REQUIRED, "fence": {"type": "int", "required": True},
            "key_ids": {"type": "list", "elements": "str", "required": True, "no_log": False},
        }),
        "fenced_signers": _list(),
        "coverage": {"type": "dict", "options": {
            "staying_key_ids": {"type": "list", "elements": "str", "required": True, "no_log": False},
            "live_set_hash": _REQUIRED, "count": {"type": "int", "required": True}, "uncovered": _list(),
            "seconds": {"type": "float", "default": 0.0},
        }},
        "policy": {"type": "dict"}, "expected_head": {"type": "str"}, "reason": _REQUIRED, "author": _REQUIRED,
        "on_blocked": {"type": "str", "default": "fail", "choices": ["fail", "report"]},
    }


def _list(options: args.Spec | None = None) -> dict[str, t.Any]:
    if options is None:
        return {"type": "list", "elements": "str", "default": []}
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def empty() -> dict[str, t.Any]:
    """Return the results of a task that ends before it read the ledger."""
    return {
        "changed": False, "head": None, "pointer": None, "keyring": [], "blocked_by": [], "policy_version": 0,
        "denied_key_ids": [], "steps": [], "policy": None, "effective_hashes": {}, "floors": {},
    }


def told(book: Ledger, params: Params) -> dict[str, t.Any]:
    """Return what the ledger says now."""
    keyring = book.keyring
    return {
        **telling.summary(book, params["identity"]),
        "steps": telling.steps(
            keyring, params["identity"], calendar(params), now=book.now, is_wanted_now=params["calendar"]["now"]
        ),
        "floors": {one["enforcer"]: one["floor"] for one in telling.enforcers(keyring)},
    }


def timing(params: Params) -> Timing:
    """Return the times of a task. Raises TrustError (input_invalid) for one that is negative."""
    given = params["timing"]
    wrong = sorted(name for name, value in given.items() if value is not None and value < 0)
    if wrong:
        raise _invalid(f"timing.{wrong[0]}", "it is negative", "Give seconds, 0 or more.")
    return Timing(
        skew_bound=given["clock_skew_bound"], skew=given["clock_skew"],
        **{name: given[name] for name in _TIMING if not name.startswith("clock_skew")},
    )


def calendar(params: Params) -> Calendar:
    """Return the calendar of a task. Raises TrustError (input_invalid) unless the steps come one after the other."""
    given = {name: value for name, value in params["calendar"].items() if name != "now"}
    if not 0 <= given["stage"] <= given["publish"] <= given["activate"] <= 1 or (given["lifetime"] or 1) <= 0:
        raise _invalid("calendar", "its steps do not follow each other within the lifetime", "Give rising parts of 1.")
    return Calendar(**given)


def change(book: Ledger, params: Params) -> tuple[guards.Blocks, dict[str, t.Any]]:
    """Take in what a task reports, take the step that it wants, make the policy. Return what blocks, and the policy.

    Raises TrustError; what was written before stays.
    """
    calendar(params)
    found = timing(params)
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
        take(reports.coverage(book.keyring, identity, said, max_age=found.coverage_max_age, now=book.now))
    take(reports.confirmations(book.keyring, identity))
    if params["suspended"] is not None:
        take(transition.suspend(book.keyring, identity, is_suspended=params["suspended"], **signed).entries)
    if params["note"] is not None:
        take(reports.noted(book.keyring, identity, params["generation"], params["note"]))
    blocked: guards.Blocks = ()
    if params["state"] is not None:
        step = transition.plan(
            book.keyring, _request(params), timing=found, now=book.now, make_nobody=nobody.make
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
            raise _invalid("fleet", f"{params['ledger_path']} is not there yet", "Name the fleet, to begin its ledger.")
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
        raise _invalid(option, f"{text[:60]!r} is no moment", "Write it as 2027-01-31T12:00:00Z.") from None


def _request(params: Params) -> transition.Request:
    public = None
    if params["public_key_path"] is not None:
        public = pem.read_public_key(read_key_file(params["public_key_path"]), where=params["public_key_path"])
    elif params["public_key_content"] is not None:
        text = params["public_key_content"].encode("utf-8", "replace")
        public = pem.read_public_key(text, where="public_key_content")
    if params["suspected_since"] is not None:
        _require_moment(params["suspected_since"], "suspected_since")
    return transition.Request(
        params["identity"], params["state"], params["author"], params["reason"], number=params["generation"],
        public_key=public, is_spare=params["spare"], is_emergency=params["emergency"],
        accepts_none=params["accept_none"], evidence=params["evidence"], suspected_since=params["suspected_since"],
    )


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


def _invalid(where: str, cause: str, advice: str) -> TrustError:
    return TrustError(
        code="input_invalid", object=where, attempt="change the keyring", cause=cause,
        advice=f"Nothing was written. {advice}",
    )
