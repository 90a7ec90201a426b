# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The story of a fleet as tests tell it: operations, each what one task of a controller writes."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.hallmark.signing.plugins.module_utils._trust import reports, transition
from ansible_collections.hallmark.signing.plugins.module_utils._trust.guards import Blocks
from ansible_collections.hallmark.signing.plugins.module_utils._trust.keyring import Keyring, Members, State
from ansible_collections.hallmark.signing.plugins.module_utils._trust.ledger import Ledger
from ansible_collections.hallmark.signing.plugins.module_utils._trust.transition import Request
from ansible_collections.hallmark.signing.plugins.module_utils._trust.window import Timing
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_model import (
    BEGIN,
    MemoryLedger,
    key,
)

WHO: dict[str, str] = {"author": "alice@example.org", "reason": "yearly rotation"}
NOBODY = "-----BEGIN PUBLIC KEY-----\nnobody\n-----END PUBLIC KEY-----\n"
TIMING = Timing(max_job_time=600, rollback_window=3600)
KIND, CLUSTER = "containers 5.34", "kyverno 1.15"
ONE, TWO, THREE = (key(number).key_id for number in (1, 2, 3))
HOSTS = ("build1", "build2")
Operation = t.Callable[[Ledger], object]


def at(seconds: int) -> datetime.datetime:
    """Return a moment of the story, which begins at midnight of 2027."""
    return BEGIN + datetime.timedelta(seconds=seconds)


def enforcer(name: str, **more: t.Any) -> dict[str, t.Any]:
    """Return the report of an enforcer."""
    return {"name": name, "class": "required", "kind": KIND, "interval": 30, "has_tool": True, **more}


FLEET = (
    enforcer("edge1"), enforcer("edge2", interval=0),
    enforcer("cluster", kind=CLUSTER, interval=300, has_tool=False), enforcer("lab", **{"class": "best_effort"}),
)


def take(book: Ledger, entries: t.Iterable[Members]) -> t.Any:
    """Write entries as the module does."""
    for entry in entries:
        book.append({**entry, **WHO})


def found(book: Ledger) -> None:
    """Begin the ledger, with its enforcers."""
    if book.head is None:
        book.append({"event": "founded", "format": 1, "fleet": "example", **WHO})
    take(book, reports.enforcers(book.keyring, FLEET))


def request(state: State, number: int | None = None, identity: str = "release", **more: t.Any) -> Request:
    """Return what somebody asks for."""
    return Request(identity, state, WHO["author"], WHO["reason"], number=number, **more)


def plan(book: Ledger, asked: Request, timing: Timing = TIMING) -> transition.Plan:
    """Return what the ledger says to that."""
    return transition.plan(book.keyring, asked, timing=timing, now=book.now, make_nobody=lambda: NOBODY)


def step(
    book: Ledger, state: State, number: int | None = None, *, timing: Timing = TIMING, **more: t.Any
) -> Blocks:
    """Take a step, and return what blocks it."""
    made = plan(book, request(state, number, **more), timing)
    for entry in made.entries:
        book.append(entry)
    return made.blocked


def stage(book: Ledger, number: int, **more: t.Any) -> Blocks:
    """Stage a key by its number in the story."""
    return step(book, "staged", public_key=key(number), **more)


def render(book: Ledger) -> t.Any:
    """Make the policy for what is trusted."""
    version = max(book.keyring.policy_version, 1)
    effective = {one: f"{one} {version}" for one in (KIND, CLUSTER)}
    known = book.keyring.renderings.get(version)
    if known is None or dict(known.effective) != effective:
        take(book, [{
            "event": "policy", "policy_version": version, "rules": "rules", "policy_hash": f"policy {version}",
            "effective": effective,
        }])


def acknowledge(book: Ledger, *names: str, version: int | None = None, hash: str | None = None) -> t.Any:
    """Report what enforcers have in force: all of them, the newest policy, unless it is said otherwise."""
    version = book.keyring.policy_version if version is None else version
    take(book, reports.acknowledgements(book.keyring, [
        {
            "enforcer": name, "policy_version": version, "ledger_head": None,
            "effective_hash": hash or f"{book.keyring.enforcers[name].kind} {version}",
        }
        for name in names or sorted(book.keyring.enforcers)
    ]))


def canaries(book: Ledger, number: int, *names: str, **answers: bool) -> t.Any:
    """Report what enforcers did with canaries of a key: what is right, unless it is said otherwise."""
    take(book, reports.canaries(book.keyring, [
        {
            "enforcer": name, "key_id": key(number).key_id, "policy_version": book.keyring.policy_version,
            **{"admitted": True, "unsigned_denied": True, "foreign_denied": True, **answers},
        }
        for name in names or ("edge1", "edge2")
    ]))


def signers(book: Ledger, fence: int, *numbers: int, hosts: t.Sequence[str] = HOSTS) -> t.Any:
    """Report what hosts obey, and the keys that they have."""
    take(book, reports.signers(book.keyring, [
        {"signer": name, "identity": "release", "fence": fence, "key_ids": [key(one).key_id for one in numbers]}
        for name in hosts
    ]))


def cover(
    book: Ledger, *staying: int, count: int = 3, uncovered: t.Sequence[str] = (), seconds: float = 12.5,
    timing: Timing = TIMING,
) -> None:
    """Report how much of the live set keys cover that stay."""
    said = {
        "staying": [key(one).key_id for one in staying], "live_set_hash": "live", "count": count,
        "uncovered": list(uncovered), "seconds": seconds,
    }
    take(book, reports.coverage(book.keyring, "release", said, timing=timing, now=book.now))


def suspend(book: Ledger, is_suspended: bool) -> t.Any:
    """Take signing off the pointer, or put it back."""
    for entry in transition.suspend(book.keyring, "release", is_suspended=is_suspended, **WHO).entries:
        book.append(entry)


def confirm(book: Ledger) -> t.Any:
    """Write down what everybody has by now."""
    take(book, reports.confirmations(book.keyring, "release"))


def publish_and_try(book: Ledger, number: int) -> None:
    """Publish a generation, and bring it to all enforcers."""
    step(book, "published", number)
    render(book)
    acknowledge(book)
    canaries(book, number)


# A whole planned rotation, and the compromise after it: when, what it is called, what it does.
STORY: tuple[tuple[int, str, Operation], ...] = (
    (0, "found", found),
    (1, "stage 1", lambda book: stage(book, 1)),
    (2, "publish 1", lambda book: step(book, "published", 1)),
    (3, "render 1", render),
    (4, "acknowledge 1", acknowledge),
    (5, "canaries 1", lambda book: canaries(book, 1)),
    (1000, "activate 1", lambda book: step(book, "active", 1)),
    (1001, "signers 1", lambda book: signers(book, 1, 1)),
    (1002, "stage spare", lambda book: stage(book, 2, is_spare=True)),
    (1003, "publish spare", lambda book: publish_and_try(book, 2)),
    (2000, "stage 3", lambda book: stage(book, 3)),
    (2001, "publish 3", lambda book: publish_and_try(book, 3)),
    (3000, "activate 3", lambda book: step(book, "active", 3)),
    (3001, "signers 3", lambda book: signers(book, 2, 1, 3)),
    (3002, "suspend", lambda book: suspend(book, True)),
    (3003, "resume", lambda book: suspend(book, False)),
    (3004, "signers again", lambda book: signers(book, 4, 1, 3)),
    (4000, "cover", lambda book: cover(book, 2, 3)),
    (4500, "withdraw 1", lambda book: step(book, "withdrawn", 1)),
    (4501, "render without 1", render),
    (4502, "acknowledge without 1", acknowledge),
    (4503, "confirm", confirm),
    (9000, "destroying 1", lambda book: step(book, "retired", 1)),
    (9001, "copies gone", lambda book: signers(book, 4, 3)),
    (9002, "retire 1", lambda book: step(book, "retired", 1)),
    (9003, "stage 4", lambda book: stage(book, 4)),
    (9004, "abandon 4", lambda book: step(book, "abandoned", 4)),
    (9005, "excuse and remove", lambda book: (
        take(book, reports.excused(book.keyring, [{"enforcer": "edge2", "until": "2027-01-02T00:00:00Z"}])),
        take(book, reports.removed(book.keyring, ["lab"])),
        take(book, reports.fenced(book.keyring, "release", ["build2"])),
    )),
    (9006, "revoke 3", lambda book: step(book, "revoked", 3, evidence="INC-1")),
    (9007, "distrust 3", lambda book: (render(book), acknowledge(book), confirm(book))),
    (9008, "signers of the spare", lambda book: signers(book, 5, 2, hosts=["build1"])),
    (9009, "close", lambda book: take(book, reports.noted(book.keyring, "release", 3, "closed"))),
)
NAMES = tuple(name for _seconds, name, _operation in STORY)


def told(last: str, *, to: int | None = None) -> MemoryLedger:
    """Return the ledger after an operation of the story, at that time, or later."""
    book = MemoryLedger()
    for seconds, name, operation in STORY:
        book.open(at(seconds))
        operation(book)
        if name == last:
            break
    else:
        raise LookupError(last)
    if to is not None:
        book.open(at(to))
    return book


def words(blocks: Blocks) -> list[tuple[str, str, str]]:
    """Return what a user reads of blocks."""
    return [(one.guard, one.object, one.message) for one in blocks]


def states(ring: Keyring) -> dict[str, str]:
    """Return the generations with their states."""
    return {one.name: one.state for _key, one in sorted(ring.generations.items())}
