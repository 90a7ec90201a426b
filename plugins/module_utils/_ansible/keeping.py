# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of modules keyring and keyring_info, and what both return."""

from __future__ import annotations

import typing as t

from .._errors import TrustError
from .._trust import telling
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
        raise invalid(f"timing.{wrong[0]}", "it is negative", "Give seconds, 0 or more.")
    return Timing(
        skew_bound=given["clock_skew_bound"], skew=given["clock_skew"],
        **{name: given[name] for name in _TIMING if not name.startswith("clock_skew")},
    )


def calendar(params: Params) -> Calendar:
    """Return the calendar of a task. Raises TrustError (input_invalid) unless the steps come one after the other."""
    given = {name: value for name, value in params["calendar"].items() if name != "now"}
    lifetime = 1 if given["lifetime"] is None else given["lifetime"]
    if not 0 <= given["stage"] <= given["publish"] <= given["activate"] <= 1 or lifetime <= 0:
        raise invalid("calendar", "its steps do not follow each other within the lifetime", "Give rising parts of 1.")
    return Calendar(**given)


def invalid(where: str, cause: str, advice: str) -> TrustError:
    """Return the error for an option that makes no sense."""
    return TrustError(
        code="input_invalid", object=where, attempt="change the keyring", cause=cause,
        advice=f"Nothing was written. {advice}",
    )
