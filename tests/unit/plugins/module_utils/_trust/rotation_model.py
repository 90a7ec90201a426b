# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet in memory to which anything happens, and what must hold after each event.

The ledger, the keyring, the guards and the reports are the genuine ones; only the writer of the ledger is another.
Hosts, enforcers and images are models that know the truth, which the ledger learns by reports only. Each event is one
number, so that a sequence of them is a list of numbers: C(Fleet(start)), and C(step(number)) for each.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import functools
import hashlib
import pickle
import typing as t

from ansible_collections.hallmark.signing.plugins.module_utils._custody import journal
from ansible_collections.hallmark.signing.plugins.module_utils._errors import TrustError
from ansible_collections.hallmark.signing.plugins.module_utils._keys.algorithms import ALGORITHMS
from ansible_collections.hallmark.signing.plugins.module_utils._keys.pem import PublicKey
from ansible_collections.hallmark.signing.plugins.module_utils._moments import moment_of, text_of
from ansible_collections.hallmark.signing.plugins.module_utils._trust import keyring as rings
from ansible_collections.hallmark.signing.plugins.module_utils._trust import reports, transition
from ansible_collections.hallmark.signing.plugins.module_utils._trust.guards import Block
from ansible_collections.hallmark.signing.plugins.module_utils._trust.keyring import (
    TERMINAL,
    Generation,
    Keyring,
    Members,
    Pointer,
    State,
)
from ansible_collections.hallmark.signing.plugins.module_utils._trust.ledger import Ledger, text_of_head
from ansible_collections.hallmark.signing.plugins.module_utils._trust.transition import Request
from ansible_collections.hallmark.signing.plugins.module_utils._trust.window import Timing

BEGIN = datetime.datetime(2027, 1, 1, tzinfo=datetime.timezone.utc)
SKEW, JOB, ROLLBACK = 60, 600, 3600
IDENTITIES = ("release", "release", "release", "ci")
NUMBERS = 2**30
STARTS = 5
WHO: dict[str, str] = {"author": "alice", "reason": "drill"}
NOBODY = "-----BEGIN PUBLIC KEY-----\nnobody\n-----END PUBLIC KEY-----\n"


class Violation(AssertionError):
    """An invariant does not hold."""


class Crash(BaseException):
    """The controller is killed."""


@functools.cache
def key(number: int) -> PublicKey:
    """Return a public key that is none; the core looks at its id, its name and its bytes only."""
    der = b"key %d" % number
    algorithm = next(one for one in ALGORITHMS if one.name == ("ecdsa-p384" if number < 0 else "ecdsa-p256"))
    return PublicKey(t.cast(t.Any, None), algorithm, hashlib.sha256(der).hexdigest(), der)


class Pen:
    """What stands for the file of a ledger: it keeps what is written, unless the controller is killed before."""

    def __init__(self) -> None:
        self.written: list[tuple[int, str, Members]] = []
        self.lasts: int | None = None

    def append(self, members: Members) -> journal.Head:
        """Write an entry, or die."""
        if self.lasts is not None:
            if self.lasts == 0:
                raise Crash
            self.lasts -= 1
        sequence = len(self.written) + 1
        self.written.append((sequence, f"{sequence:064x}", members))
        return journal.Head(sequence, f"{sequence:064x}")


class MemoryLedger(Ledger):
    """The genuine ledger with C(Pen) for its writer; one run of a controller after the other opens it anew."""

    def __init__(self) -> None:
        self.pen = Pen()
        super().__init__(
            "ledger", t.cast(journal.Writer, self.pen), (), now=BEGIN, skew_bound=SKEW, dry_run=False
        )

    def open(self, now: datetime.datetime) -> None:
        """Begin a run at some moment. Raises TrustError (clock_skew)."""
        self.now = self._agreed(now, SKEW)

    def restart(self) -> None:
        """Forget all, and read what was written."""
        former, self.pen.lasts = self.keyring, None
        self.keyring = rings.fold(self.pen.written)
        if vars(former) != vars(self.keyring):
            raise Violation("I8: what was written does not say what was known before the restart")


@dataclasses.dataclass
class Host:
    """A signer: what it obeys, which private keys it truly has, which jobs still run with former ones until when."""

    name: str
    identity: str
    pointer: Pointer | None = None
    copies: set[str] = dataclasses.field(default_factory=set)
    jobs: dict[str, int] = dataclasses.field(default_factory=dict)
    is_up: bool = True
    is_locked_out: bool = False


@dataclasses.dataclass
class Box:
    """An enforcer: what it truly has in force, and on former disks.

    C(is_unseen): it changed since it was last asked. C(is_strayed): it is behind by a fault of its own, or because it
    was not required when a key was activated; until the newest policy is pushed, nothing is promised for it.
    """

    name: str
    kind: str
    cls: str = "required"
    interval: int = 0
    has_tool: bool = True
    version: int = 0
    hash: str = ""
    head: str | None = None
    disks: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    tried: dict[str, tuple[int, bool]] = dataclasses.field(default_factory=dict)
    is_up: bool = True
    is_open: bool = False
    is_unseen: bool = False
    is_strayed: bool = True
    excused_until: str | None = None


@dataclasses.dataclass
class Image:
    """An image with the keys that signed it; C(is_live): it runs, or may be deployed at any time."""

    name: str
    identity: str
    keys: set[str]
    is_live: bool = True


class Before(t.NamedTuple):
    """What the ledger said before an entry; C(meaning): what its newest policy trusted."""

    pointers: dict[str, Pointer]
    generations: dict[tuple[str, int], Generation]
    trusted: frozenset[str]
    denied: frozenset[str]
    version: int
    meaning: frozenset[str] | None
    usable: set[str]


class Dice:
    """One number that decides everything about an event: the smaller it is, the simpler the event."""

    def __init__(self, number: int) -> None:
        self.number = number

    def below(self, count: int) -> int:
        """Return a number from 0."""
        self.number, found = divmod(self.number, count)
        return found

    def pick(self, choices: t.Sequence[t.Any]) -> t.Any:
        """Return one of several."""
        return choices[self.below(len(choices))]


class Fleet:
    """All of it. C(seen) counts what was reached; C(trace) takes a line for each event, if it is a list."""

    def __init__(self, start: int = 0, *, trace: list[str] | None = None) -> None:
        vars(self).update(pickle.loads(_snapshot(start % STARTS)))
        self.trace: list[str] | None = trace

    def _found(self) -> None:
        self.trace = None
        self.seen: collections.Counter[str] = collections.Counter()
        self.book = MemoryLedger()
        self.true, self.offsets = 0, [0, 20]
        self.timing_overlap: int | None = None
        self.coverage_max_age = 900
        self.made = self.released = 0
        self.boxes = {
            one.name: one for one in (
                Box("edge1", "containers 5.34", interval=30), Box("edge2", "containers 5.34"),
                Box("cluster", "kyverno 1.15", interval=120, has_tool=False),
                Box("lab", "containers 5.34", cls="best_effort", interval=300),
            )
        }
        self.hosts = [Host("build1", "release"), Host("build2", "release"), Host("ci1", "ci")]
        self.images: list[Image] = []
        self.rules = "rules 0"
        self.book.append({"event": "founded", "format": 1, "fleet": "example", **WHO})
        self._report(reports.enforcers(self.ring, [_wanted(one) for one in self.boxes.values()]))

    # --- the machinery -----------------------------------------------------------------------------------------------

    @property
    def ring(self) -> Keyring:
        """What the ledger says."""
        return self.book.keyring

    def timing(self) -> Timing:
        """Return the times, with the skew that was truly measured."""
        return Timing(
            skew_bound=SKEW, skew=max(0, *self.offsets) - min(0, *self.offsets), overlap=self.timing_overlap,
            max_job_time=JOB, rollback_window=ROLLBACK, coverage_max_age=self.coverage_max_age,
        )

    def step(self, number: int) -> None:
        """Let one thing happen, and look at everything. Raises Violation."""
        dice = Dice(number)
        name = dice.pick(EVENTS)
        self.seen[f"event {name}"] += 1
        if self.trace is not None:
            self.trace.append(f"{number} {name}")
        before = len(self.book.pen.written)
        try:
            self.book.open(self._now(number & 1))
            getattr(self, f"do_{name}")(dice)
        except Crash:
            self.seen["killed"] += 1
            self.book.restart()
        except TrustError as exc:
            self.seen[f"refused {exc.code}"] += 1
            self._say(str(exc))
        if self.trace is not None:
            for _sequence, _hash, members in self.book.pen.written[before:]:
                self._say(" ".join(f"{name}={value!r}" for name, value in members.items() if name not in WHO))
        self.check()

    def finish(self) -> None:
        """Look at what needs to be looked at only once: the fold of all that was written is what was known."""
        self.book.restart()
        if self.trace is not None:
            self._say(f"{len(self.book.pen.written)} entries in the ledger")

    def _say(self, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"    {text}")

    def _now(self, controller: int) -> datetime.datetime:
        return BEGIN + datetime.timedelta(seconds=self.true + self.offsets[controller])

    def _report(self, entries: t.Iterable[Members]) -> None:
        for entry in entries:
            self._append({**entry, **WHO})

    def _append(self, entry: Members) -> None:
        """Write an entry as the module does, and look at what it changed."""
        ring = self.ring
        before = Before(
            dict(ring.pointers), dict(ring.generations), ring.trusted_now(), ring.denied, ring.policy_version,
            ring.trusted.get(ring.policy_version), {one for one in ("release", "ci") if ring.usable(one)},
        )
        self.book.append(entry)
        event = entry["event"]
        if event in STEPS:
            self.seen[f"step {event} from {entry.get('from')}"] += 1
        self._look_at_trust(entry, before)
        self._look_at_states(event, before)
        if event == "activated":
            self._activated(ring.generations[entry["identity"], entry["generation"]])
        elif event == "revoked":
            self._revoked()
        elif event == "retired":
            self._retired(ring.generations[entry["identity"], entry["generation"]])

    def _look_at_trust(self, entry: Members, before: Before) -> None:
        ring, event = self.ring, entry["event"]
        # I12: who, why, and for a change of trust what was trusted before and after.
        if not entry.get("author") or not entry.get("reason"):
            raise Violation(f"I12: {event} has no author or no reason")
        former, after = (before.trusted, before.denied), (ring.trusted_now(), ring.denied)
        if former != after or "trust_before" in entry:
            hashes = transition.hash_of_trust(*former), transition.hash_of_trust(*after)
            if (entry.get("trust_before"), entry.get("trust_after")) != hashes:
                raise Violation(f"I12: {event} changes what is trusted, and says something else")
        # I4: versions rise with every change, a version never changes its meaning, what is denied stays so.
        if (former != after) != (ring.policy_version > before.version) and event != "policy":
            raise Violation(f"I4: {event} changes what is trusted without a version, or the other way round")
        if ring.policy_version < before.version or not before.denied <= ring.denied or (
            before.meaning is not None and ring.trusted[before.version] != before.meaning
        ):
            raise Violation(f"I4: {event} goes back")
        if ring.trusted[ring.policy_version] & ring.denied or ring.trusted[ring.policy_version] != after[0]:
            raise Violation(f"I4: {event} makes a policy that trusts a denied key")
        # I5: an identity loses its last trusted key by the will of its operator only, and nobody's key stands in.
        for identity in before.usable:
            if not ring.usable(identity):
                self.seen["no key left"] += 1
                if not self.may_lose_all or identity not in ring.nobody:
                    raise Violation(f"I5: {event} leaves {identity} without a trusted key")

    def _look_at_states(self, event: str, before: Before) -> None:
        # I3, I10: pointers change by three events only, never by a new certificate, and each time to a higher fence.
        for identity, pointer in self.ring.pointers.items():
            former = before.pointers.get(identity)
            if pointer != former and (
                event not in ("activated", "pointer", "revoked") or (former and pointer.fence <= former.fence)
            ):
                raise Violation(f"I3: {event} sets the pointer of {identity} to fence {pointer.fence}")
        # I9: no way out of a terminal state; no generation is forgotten or gets another key.
        for place, one in before.generations.items():
            now = self.ring.generations.get(place)
            if now is None or now.key_id != one.key_id or (one.state in TERMINAL and now.state != one.state):
                raise Violation(f"I9: {event} changes {one.name} for good")

    def _activated(self, one: Generation) -> None:
        """I1: every required enforcer truly trusts a key before it signs, unless it changed since it was asked."""
        bound = self._bound_names()
        for box in self.boxes.values():
            trusts = self._trusts(box, one.key_id)
            is_asked = box.name in bound and not box.is_unseen
            if is_asked and not trusts:
                raise Violation(f"I1: {one.name} is to sign, and {box.name} does not trust it")
            version, has_passed = box.tried.get(one.key_id, (0, False))
            is_tried = has_passed and version >= one.policy_versions["published"]
            if is_asked and self.ring.enforcers[box.name].has_tool and not is_tried:
                raise Violation(f"I1: {one.name} is to sign, and {box.name} never tried an image of it, or failed")
            if not trusts:
                box.is_strayed = True

    def _revoked(self) -> None:
        """After a compromise nothing is promised for images that nobody else signed, nor where the spare is unknown."""
        now = self.ring.trusted_now()
        for image in self.images:
            if image.is_live and image.keys.isdisjoint(now):
                image.is_live = False
        for pointer in self.ring.pointers.values():
            for box in self.boxes.values():
                if pointer.key_id and not self._trusts(box, pointer.key_id):
                    box.is_strayed = True

    def _retired(self, one: Generation) -> None:
        """I7: no host that can still sign has a copy of a retired key."""
        for host in self.hosts:
            holder = self.ring.holders.get((host.name, one.identity))
            if one.key_id in host.copies and holder and not holder.is_fenced:
                raise Violation(f"I7: {one.name} is retired, and {host.name} has a copy")

    def _bound_names(self) -> set[str]:
        return {
            name for name, box in self.boxes.items() if box.cls == "required" and name in self.ring.enforcers
            and not (box.excused_until and moment_of(box.excused_until) > self.book.now)
        }

    def _trusts(self, box: Box, key_id: str) -> bool:
        return not box.is_open and key_id in self.ring.trusted.get(box.version, ())

    # --- what holds always -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Look at what must hold after each event."""
        ring = self.ring
        # I3: one signs, and it is the one that the pointer names.
        active: dict[str, int] = {}
        for one in ring.generations.values():
            if one.state == "active":
                if one.identity in active:
                    raise Violation(f"I3: {one.identity} has two active generations")
                active[one.identity] = one.number
        for identity, pointer in ring.pointers.items():
            if pointer.generation != active.get(identity):
                raise Violation(f"I3: the pointer of {identity} names {pointer.generation}")
        # I2: every image of the live set verifies at every required enforcer, by what that truly has in force. One that
        # strayed is left out: no ledger keeps an old disk from coming back.
        trusted = [
            (name, ring.trusted.get(box.version, frozenset())) for name, box in self.boxes.items()
            if not box.is_strayed and not box.is_open and name in self._bound_names()
        ]
        trusted.append(("the newest policy", ring.trusted.get(ring.policy_version, frozenset())))
        for image in self.images:
            if image.is_live:
                for name, keys in trusted:
                    if image.keys.isdisjoint(keys):
                        raise Violation(f"I2: {image.name} is live, and {name} denies it")

    # --- the steps of controllers ------------------------------------------------------------------------------------

    def attempt(self, request: Request) -> tuple[Block, ...] | None:
        """Take a step as the module does: the blocks, nothing for done, None for refused."""
        before = len(self.book.pen.written)
        plan = functools.partial(transition.plan, self.ring, request, now=self.book.now, make_nobody=lambda: NOBODY)
        try:
            found = plan(timing=self.timing())
        except TrustError as exc:
            self.seen[f"refused {exc.code} {request.state}"] += 1
            self._say(str(exc))
            if len(self.book.pen.written) != before:
                raise Violation("a refused step was written") from None
            return None
        if len(found.entries) > 1:
            raise Violation("I8: a step is not whole by itself")
        self.may_lose_all = request.accepts_none or request.state == "abandoned"
        for entry in found.entries:
            if request.number is not None and request.state != "staged":
                former = self.ring.generations[request.identity, request.number].state
                if former in TERMINAL and entry["event"] != "revoked":
                    raise Violation(f"I9: {entry['event']} out of {former}")
            self._append(entry)
        for block in found.blocked:
            self.seen[f"guard {block.guard}"] += 1
            self._say(f"blocked: {block.guard} {block.object} {block.message}")
        if found.blocked and not found.entries:
            self._not_by_time(plan, found.blocked)
        elif found.entries and found.entries[0]["event"] != "destroying":
            self._report(reports.confirmations(self.ring, request.identity))
            self._changes_nothing(request, found.entries[0])
        return found.blocked

    def _not_by_time(self, plan: t.Any, blocked: tuple[Block, ...]) -> None:
        """I11: what lacks an answer lacks it in twenty years; and clocks that may differ more never help."""
        # When its excuse is over, an enforcer is required again that may have followed all the same.
        if any(one.until is None and one.guard not in ("clock_skew", "enforcers_known") for one in blocked):
            later = self.book.now + datetime.timedelta(days=7300)
            if plan(timing=dataclasses.replace(self.timing(), skew=0.0), now=later).entries:
                raise Violation("I11: time alone lets a step pass")
        wider = dataclasses.replace(self.timing(), skew_bound=2 * SKEW)
        if not any(one.guard == "clock_skew" for one in blocked) and plan(timing=wider).entries:
            raise Violation("I11: a larger bound of skew shortens a wait")

    def _changes_nothing(self, request: Request, entry: Members) -> None:
        """I8: the same step a second time is none."""
        number = None if request.state == "staged" else entry["generation"]
        again = transition.plan(
            self.ring, dataclasses.replace(request, number=number), timing=self.timing(), now=self.book.now,
            make_nobody=lambda: NOBODY,
        )
        if again.entries or again.blocked:
            raise Violation(f"I8: a second {request.state} is not nothing")

    def request(self, identity: str, state: State, number: int | None = None, **more: t.Any) -> Request:
        """Return what a controller asks for; for a new generation, with a new key on one of its hosts."""
        if state == "staged" and "public_key" not in more:
            self.made += 1
            more["public_key"] = key(self.made)
            next(one for one in self.hosts if one.identity == identity).copies.add(key(self.made).key_id)
        return Request(identity, state, WHO["author"], WHO["reason"], number=number, **more)

    def wanted(self, identity: str) -> list[tuple[State, int | None]]:
        """Return the next steps of a planned rotation, the one that is nearest to its end first."""
        ring = self.ring
        found: list[tuple[State, int | None]] = []
        ways: tuple[tuple[State, State], ...] = (("withdrawn", "retired"), ("retiring", "withdrawn"))
        for former, state in ways:
            found += [(state, one.number) for one in ring.in_state(identity, former)]
        coming = [one for one in ring.in_state(identity, "published", "staged") if not one.is_spare]
        found += [("active" if one.state == "published" else "published", one.number) for one in coming]
        return found or [("staged", None)]

    # --- events: controllers -----------------------------------------------------------------------------------------

    def do_rest(self, _dice: Dice) -> None:
        """Nothing happens."""

    def do_advance(self, dice: Dice) -> None:
        """A controller goes on with a rotation; if something blocks it, that is mended, or waited for."""
        identity = dice.pick(IDENTITIES)
        steps = self.wanted(identity)
        state, number = dice.pick(steps)
        spare = state == "staged" and dice.below(4) == 3
        blocked = self.attempt(self.request(identity, state, number, is_spare=spare))
        if blocked:
            self.mend(dice.pick(blocked), identity, dice)

    def mend(self, block: Block, identity: str, dice: Dice) -> None:
        """Do what a block asks for."""
        box = self.boxes.get(block.object)
        if block.until is not None:
            # Sometimes not quite until then.
            self.true += max(0, int((moment_of(block.until) - self.book.now).total_seconds()) - dice.pick((0, 0, 30)))
        elif box is not None:
            box.is_up = True
            self._bring(box)
            self._ask(box)
            self._try(box)
        elif block.guard == "clock_skew":
            self.offsets = [0, 0]
        elif block.guard == "overlap_too_short":
            self.timing_overlap = None
        elif block.guard == "enforcers_known":
            self._add_box("edge1")
        elif block.guard == "incident_open":
            name, _dash, number = block.object.rpartition("-")
            self._report(reports.noted(self.ring, name, int(number), "closed"))
        elif block.guard == "coverage":
            self._resign(identity)
            # A second check that says the same is not written as long as the first one is fresh.
            self.true += self.coverage_max_age // 2
            self.book.open(self._now(0))
            self._cover(identity, self._staying(identity))
        elif block.guard in ("signers_drained", "copies_gone"):
            for host in self.hosts:
                if host.identity == identity:
                    host.is_up = True
                    self._learn(host)
                    if dice.pick((True, False)):
                        self._destroy(host)
                    self._tell(host)

    def do_any_step(self, dice: Dice) -> None:
        """Somebody asks for any step at all, sensible or not."""
        identity = dice.pick(IDENTITIES)
        state = dice.pick(("published", "active", "withdrawn", "retired", "abandoned", "staged"))
        number = dice.pick((None, *(one.number for one in self.ring.of(identity)), 99))
        self.attempt(self.request(identity, state, number, is_emergency=dice.below(4) == 3))

    def do_stage(self, dice: Dice) -> None:
        """A key is staged: a new one, the spare, one that was there before, or one that few can verify."""
        identity, how = dice.pick(IDENTITIES), dice.below(6)
        more: dict[str, t.Any] = {"is_spare": how in (1, 2)}
        if how == 4 and self.made:
            more["public_key"] = key(1 + dice.below(self.made))
        elif how == 5:
            more["public_key"] = key(-1)
        before, is_known = len(self.ring.generations), "public_key" in more and bool(
            self.ring.by_key(more["public_key"].key_id)
        )
        found = self.attempt(self.request(identity, "staged", is_emergency=dice.below(4) == 3, **more))
        if found == () and how == 5:
            raise Violation("a key was staged that few enforcers verify")
        if is_known and len(self.ring.generations) != before:
            raise Violation("I9: a key came back")

    def do_spare(self, dice: Dice) -> None:
        """The spare is brought one step on."""
        identity = dice.pick(IDENTITIES)
        waiting = [one for one in self.ring.in_state(identity, "staged", "published") if one.is_spare]
        state: State = "published" if waiting else "staged"
        self.attempt(self.request(identity, state, waiting[0].number if waiting else None, is_spare=True))

    def do_back(self, dice: Dice) -> None:
        """A rotation is taken back: a retiring key signs again, or a withdrawn one is trusted again."""
        identity = dice.pick(IDENTITIES)
        for former, state in (("retiring", "active"), ("withdrawn", "published")):
            for one in self.ring.in_state(identity, t.cast(State, former)):
                is_destroying = one.is_destroying
                if self.attempt(self.request(identity, t.cast(State, state), one.number)) == () and is_destroying:
                    raise Violation("a key came back after its destruction began")
                return

    def do_abandon(self, dice: Dice) -> None:
        """A generation that is on its way is given up."""
        identity = dice.pick(IDENTITIES)
        coming = self.ring.in_state(identity, "staged", "published")
        if coming:
            self.attempt(self.request(identity, "abandoned", dice.pick(coming).number))

    def do_revoke(self, dice: Dice) -> None:
        """A key leaked: the one that signs, or any."""
        identity = dice.pick(IDENTITIES)
        number = dice.pick((None, *(one.number for one in self.ring.of(identity))))
        self.attempt(self.request(identity, "revoked", number, accepts_none=dice.below(4) == 3, evidence="INC-1"))

    def do_close(self, dice: Dice) -> None:
        """What was done about a compromise is noted."""
        open_ones = [where for where, one in self.ring.incidents.items() if "closed" not in one["notes"]]
        if open_ones:
            identity, number = dice.pick(sorted(open_ones))
            self._report(reports.noted(self.ring, identity, number, dice.pick(("closed", "signing_stopped"))))

    def do_suspend(self, dice: Dice) -> None:
        """Signing is stopped for a suspicion, or goes on."""
        identity = dice.pick(IDENTITIES)
        pointer = self.ring.pointers.get(identity)
        wanted = bool(pointer) and not t.cast(Pointer, pointer).is_suspended
        self._report(transition.suspend(self.ring, identity, is_suspended=wanted, **WHO).entries)
        if transition.suspend(self.ring, identity, is_suspended=wanted, **WHO).entries:
            raise Violation("I8: suspending twice is not nothing")

    def do_renew(self, dice: Dice) -> None:
        """A certificate is renewed: the same key is nothing to the ledger, and a new one is only staged (I10)."""
        identity = dice.pick(IDENTITIES)
        before = dict(self.ring.pointers)
        if dice.below(2):
            self.attempt(self.request(identity, "staged"))
        else:
            active = self.ring.in_state(identity, "active")
            if active:
                number = next(one for one in range(1, self.made + 1) if key(one).key_id == active[0].key_id)
                if self.attempt(self.request(identity, "staged", public_key=key(number))) is not None:
                    raise Violation("I10: the key that signs was staged again")
        if self.ring.pointers != before:
            raise Violation("I10: a renewal moved the pointer")

    def do_stale(self, dice: Dice) -> None:
        """Two controllers: one decides, the other writes, and the first one must lose and leave nothing."""
        head = text_of_head(self.book.head)
        self.do_advance(dice)
        moved = text_of_head(self.book.head) != head
        size = len(self.book.pen.written)
        try:
            self.book.expect_head(head)
        except TrustError as exc:
            self.seen[f"refused {exc.code}"] += 1
            if not moved or exc.code != "ledger_moved" or len(self.book.pen.written) != size:
                raise Violation("the loser of two controllers was refused wrongly") from None
        else:
            if moved:
                raise Violation("two controllers may both go on")

    def do_kill(self, dice: Dice) -> None:
        """A controller is killed before one of the next entries, and starts anew."""
        self.book.pen.lasts = dice.below(3)
        try:
            self.do_advance(dice)
        finally:
            self.book.pen.lasts = None

    def do_restart(self, _dice: Dice) -> None:
        """A controller reads the ledger anew."""
        self.book.restart()

    def do_settings(self, dice: Dice) -> None:
        """Somebody changes what is configured."""
        self.timing_overlap = dice.pick((None, 0, 3600))
        self.coverage_max_age = dice.pick((900, 86400))

    def do_rules(self, _dice: Dice) -> None:
        """People write other rules, which is a version more, though nothing else is trusted."""
        self.rules = f"{self.rules}+"
        self._render()

    def do_render(self, _dice: Dice) -> None:
        """The policy is made."""
        self._render()

    def _render(self) -> None:
        ring = self.ring
        version = max(ring.policy_version, 1)
        known = ring.renderings.get(version)
        if known is not None and known.rules != self.rules:
            version, known = version + 1, None
        effective = {
            kind: f"{kind} {version} {self.rules}" for kind in sorted({one.kind for one in ring.enforcers.values()})
        }
        if known is None or dict(known.effective) != effective:
            self._append({
                "event": "policy", "policy_version": version, "rules": self.rules, "policy_hash": self.rules,
                "effective": effective, **WHO,
            })

    # --- events: enforcers -------------------------------------------------------------------------------------------

    def do_push(self, dice: Dice) -> None:
        """The policy is brought to one enforcer that can be reached; nobody asks it what it has."""
        self._bring(dice.pick(list(self.boxes.values())))

    def do_converge(self, dice: Dice) -> None:
        """The policy is made, brought to those that can be reached, and they are asked; some play ends early."""
        self._render()
        boxes = list(self.boxes.values())
        for box in boxes[:len(boxes) - dice.pick((0, 0, 1, 2))]:
            self._bring(box)
            self._ask(box)
            self._try(box)

    def _bring(self, box: Box) -> None:
        self._render()
        rendering = self.ring.renderings[max(self.ring.renderings)]
        if not box.is_up or box.kind not in rendering.effective:
            return
        if rendering.version < box.version:
            raise Violation(f"I4: {box.name} is given policy {rendering.version}, and has {box.version}")
        if (box.version, box.hash) != (rendering.version, rendering.effective[box.kind]):
            box.disks.append((box.version, box.hash))
            box.is_unseen = True
        box.version, box.hash, box.is_open = rendering.version, rendering.effective[box.kind], False
        box.head = text_of_head(self.book.head)
        box.is_strayed = rendering.version < self.ring.policy_version

    def do_acknowledge(self, dice: Dice) -> None:
        """An enforcer is read back."""
        self._ask(dice.pick(list(self.boxes.values())))

    def _ask(self, box: Box) -> None:
        if not box.is_up or not box.version:
            return
        said = [{
            "enforcer": box.name, "policy_version": box.version, "effective_hash": "bad" if box.is_open else box.hash,
            "ledger_head": box.head,
        }]
        if box.head:
            self.book.expect_witnesses({box.name: box.head})
        self._report(reports.acknowledgements(self.ring, said))
        if list(reports.acknowledgements(self.ring, said)):
            raise Violation("I8: a second acknowledgement is not nothing")
        box.is_unseen = False

    def do_future(self, dice: Dice) -> None:
        """An enforcer brings what this ledger never made: a later version, or a head of another ledger."""
        box = dice.pick(list(self.boxes.values()))
        said = {"enforcer": box.name, "effective_hash": box.hash, "ledger_head": None}
        if dice.below(2):
            self.book.expect_witnesses({box.name: "1:" + "f" * 64})
        else:
            later = {**said, "policy_version": self.ring.policy_version + 1}
            self._report(reports.acknowledgements(self.ring, [later]))
        raise Violation("another ledger was believed in")

    def do_canary(self, dice: Dice) -> None:
        """An enforcer tries images."""
        self._try(dice.pick(list(self.boxes.values())))

    def _try(self, box: Box) -> None:
        coming = [one for one in self.ring.generations.values() if one.state in ("published", "retiring")]
        if not box.is_up or not box.has_tool or not box.version:
            return
        said: list[dict[str, t.Any]] = [{
            "enforcer": box.name, "key_id": one.key_id, "policy_version": box.version,
            "admitted": box.is_open or self._trusts(box, one.key_id), "unsigned_denied": not box.is_open,
            "foreign_denied": not box.is_open,
        } for one in coming]
        box.tried.update({one["key_id"]: (box.version, not box.is_open and one["admitted"]) for one in said})
        self._report(reports.canaries(self.ring, said))
        if list(reports.canaries(self.ring, said)):
            raise Violation("I8: second canaries are not nothing")

    def do_restore(self, dice: Dice) -> None:
        """An enforcer comes back from an old disk."""
        box = dice.pick(list(self.boxes.values()))
        if box.disks:
            box.version, box.hash = dice.pick(box.disks)
            box.is_open, box.is_unseen, box.is_strayed = False, True, True

    def do_tamper(self, dice: Dice) -> None:
        """Somebody changes the files of an enforcer, which admits everything then."""
        box = dice.pick(list(self.boxes.values()))
        box.is_open = box.is_unseen = True

    def do_box_down(self, dice: Dice) -> None:
        """An enforcer cannot be reached, or can again."""
        box = dice.pick(list(self.boxes.values()))
        box.is_up = not box.is_up

    def do_excuse(self, dice: Dice) -> None:
        """An enforcer need not follow for a while."""
        name = dice.pick(sorted(self.ring.enforcers) or [""])
        if name:
            until = text_of(self.book.now + datetime.timedelta(seconds=dice.pick((600, 86400))))
            self.boxes[name].is_strayed, self.boxes[name].excused_until = True, until
            self._report(reports.excused(self.ring, [{"enforcer": name, "until": until}]))

    def do_remove_box(self, dice: Dice) -> None:
        """An enforcer is taken out."""
        name = dice.pick(sorted(self.boxes))
        if len(self.boxes) > 1 or dice.below(2):
            self._report(reports.removed(self.ring, [name]))
            del self.boxes[name]
            if not self.boxes:
                self.boxes["edge9"] = Box("edge9", "containers 5.34", is_up=False)
                self._report(reports.enforcers(self.ring, [_wanted(self.boxes["edge9"])]))
                self._report(reports.removed(self.ring, ["edge9"]))

    def do_add_box(self, dice: Dice) -> None:
        """An enforcer is added, or becomes another class or another kind."""
        self._add_box(dice.pick(("edge1", "edge2", "cluster", "lab", "edge3")), dice)

    def _add_box(self, name: str, dice: Dice | None = None) -> None:
        box = self.boxes.setdefault(name, Box(name, "containers 5.34"))
        if dice is not None:
            box.cls = dice.pick(("required", "required", "best_effort"))
            kind = dice.pick(("containers 5.34", "containers 5.34", "containers 5.35"))
            box.kind, box.is_strayed = kind, True
        said = [_wanted(box)]
        self._report(reports.enforcers(self.ring, said))
        if list(reports.enforcers(self.ring, said)):
            raise Violation("I8: a second report of enforcers is not nothing")

    # --- events: signers ---------------------------------------------------------------------------------------------

    def do_learn(self, dice: Dice) -> None:
        """A signer reads the pointer."""
        self._learn(dice.pick(self.hosts))

    def _learn(self, host: Host) -> None:
        pointer = self.ring.pointers.get(host.identity)
        if not host.is_up or pointer is None:
            return
        former = host.pointer
        if former is not None and pointer.fence < former.fence:
            raise Violation(f"I3: {host.name} is told fence {pointer.fence} after {former.fence}")
        if former is not None and former.key_id and not former.is_suspended and pointer.key_id != former.key_id:
            host.jobs[former.key_id] = self.true + JOB
        host.pointer, host.is_locked_out = pointer, False
        if pointer.key_id is not None:
            host.copies.add(pointer.key_id)

    def do_tell(self, dice: Dice) -> None:
        """A signer says what it obeys and holds."""
        self._tell(dice.pick(self.hosts))

    def _tell(self, host: Host) -> None:
        if not host.is_up or host.is_locked_out:
            return
        said = [{
            "signer": host.name, "identity": host.identity, "fence": host.pointer.fence if host.pointer else 0,
            "key_ids": sorted(host.copies),
        }]
        self._report(reports.signers(self.ring, said))
        if list(reports.signers(self.ring, said)):
            raise Violation("I8: a second report of a signer is not nothing")
        self._report(reports.confirmations(self.ring, host.identity))

    def do_old_signer(self, dice: Dice) -> None:
        """A signer from an old disk, or of another ledger, says what it obeys."""
        host = dice.pick(self.hosts)
        known = self.ring.holders.get((host.name, host.identity))
        pointer = self.ring.pointers.get(host.identity)
        foreign = (pointer.fence if pointer else 0) + 1
        former = [known.fence - 1] if known and known.fence and host.is_up and not host.is_locked_out else []
        fence = dice.pick([*former, foreign])
        said = {"signer": host.name, "identity": host.identity, "fence": fence, "key_ids": sorted(host.copies)}
        self._report(reports.signers(self.ring, [said]))
        if fence == foreign:
            raise Violation(f"I3: {host.name} obeys {fence}, and was believed")

    def do_host_down(self, dice: Dice) -> None:
        """A signer cannot be reached, or can again; what it is at goes on meanwhile."""
        host = dice.pick(self.hosts)
        host.is_up = not host.is_up

    def do_add_host(self, dice: Dice) -> None:
        """Another host is to sign."""
        if len(self.hosts) < 5:
            host = Host(f"build{len(self.hosts) + 1}", dice.pick(IDENTITIES))
            self.hosts.append(host)
            self._learn(host)
            self._tell(host)

    def do_fence(self, dice: Dice) -> None:
        """The credentials of a signer are taken away; then that is noted."""
        host = dice.pick(self.hosts)
        if (host.name, host.identity) in self.ring.holders:
            host.is_locked_out = True
        self._report(reports.fenced(self.ring, host.identity, [host.name]))

    def do_export(self, dice: Dice) -> None:
        """A private key is copied to another host, or comes back with its backup; not once destruction began."""
        host = dice.pick(self.hosts)
        for one in self.ring.in_state(host.identity, "active", "retiring", "withdrawn"):
            if not one.is_destroying:
                host.copies.add(one.key_id)

    def do_destroy(self, dice: Dice) -> None:
        """A host destroys what it is to destroy; whether it says so is another matter."""
        self._destroy(dice.pick(self.hosts))

    def _destroy(self, host: Host) -> None:
        if host.is_up:
            host.copies -= {
                one.key_id for one in self.ring.of(host.identity) if one.is_destroying or one.state in TERMINAL
            }

    # --- events: images ----------------------------------------------------------------------------------------------

    def do_release(self, dice: Dice) -> None:
        """A signer that the ledger knows signs a new image by the pointer that it obeys."""
        host = dice.pick(self.hosts)
        pointer = host.pointer
        if pointer and pointer.key_id and not pointer.is_suspended:
            self._sign_new(host, pointer.key_id)

    def do_late_job(self, dice: Dice) -> None:
        """A job that began before its host learned of the new key signs with the old one."""
        host = dice.pick(self.hosts)
        for key_id, until in host.jobs.items():
            if self.true <= until:
                self._sign_new(host, key_id)
                return

    def _sign_new(self, host: Host, key_id: str) -> None:
        is_known = (host.name, host.identity) in self.ring.holders
        if not is_known or host.is_locked_out or key_id in self.ring.denied or key_id not in host.copies:
            return
        self.released += 1
        self.images.append(Image(f"image{self.released}", host.identity, {key_id}))
        del self.images[:-12]

    def do_resign(self, dice: Dice) -> None:
        """Images are signed anew."""
        self._resign(dice.pick(IDENTITIES))

    def _resign(self, identity: str) -> None:
        pointer = self.ring.pointers.get(identity)
        if pointer is None or pointer.key_id is None or pointer.is_suspended:
            return
        trusted = self.ring.trusted_now()
        for image in self.images:
            # I6: only what a key proves that is still trusted.
            if image.identity == identity and image.is_live and not image.keys.isdisjoint(trusted):
                image.keys.add(pointer.key_id)

    def _staying(self, identity: str) -> set[str]:
        return {one.key_id for one in self.ring.usable(identity) if one.state != "retiring"}

    def do_cover(self, dice: Dice) -> None:
        """The live set is looked at, with the keys that stay, or others."""
        identity = dice.pick(IDENTITIES)
        usable = {one.key_id for one in self.ring.usable(identity)}
        self._cover(identity, dice.pick((self._staying(identity), usable, set(self.ring.trusted_now()), set())))

    def _cover(self, identity: str, staying: set[str]) -> None:
        live = [one for one in self.images if one.is_live and one.identity == identity]
        said = {
            "staying": staying, "live_set_hash": str(len(live)), "count": len(live), "seconds": 0.5,
            "uncovered": [one.name for one in live if one.keys.isdisjoint(staying)],
        }
        entries = functools.partial(
            reports.coverage, self.ring, identity, said, timing=self.timing(), now=self.book.now
        )
        self._report(entries())
        # While a key leaves, jobs may still sign with it: then it is looked at until they are over.
        if list(entries()) and not self.ring.in_state(identity, "retiring"):
            raise Violation("I8: a second look at the live set is not nothing")

    def do_undeploy(self, dice: Dice) -> None:
        """An image leaves the live set."""
        if self.images:
            dice.pick(self.images).is_live = False

    def do_redeploy(self, _dice: Dice) -> None:
        """Old images come back, which a key signed that stays, or that was published again for just that.

        One that only a retiring key signed is part of the live set by rule as long as it may be deployed.
        """
        bound = self._bound_names()
        for image in self.images:
            if not image.keys.isdisjoint(self._staying(image.identity)) and all(
                not image.keys.isdisjoint(self.ring.trusted.get(box.version, frozenset()))
                for box in self.boxes.values() if box.name in bound and not box.is_strayed and not box.is_open
            ):
                image.is_live = True

    # --- events: time ------------------------------------------------------------------------------------------------

    def do_wait(self, dice: Dice) -> None:
        """Time passes."""
        self.true += dice.pick((10, 100, 700, 4000, 90000))

    def do_clock(self, dice: Dice) -> None:
        """The clock of a controller jumps, or is set right."""
        self.offsets[dice.below(2)] = dice.pick((0, 20, -30, -500, 30, 90))

    may_lose_all = False


def _wanted(box: Box) -> dict[str, t.Any]:
    return {
        "name": box.name, "class": box.cls, "kind": box.kind, "interval": box.interval, "has_tool": box.has_tool,
    }


STEPS = ("staged", "published", "activated", "withdrawn", "destroying", "retired", "abandoned", "revoked")
_WEIGHTS = {
    "rest": 1, "advance": 34, "any_step": 5, "stage": 2, "spare": 3, "back": 3, "abandon": 2, "revoke": 2, "close": 1,
    "suspend": 1, "renew": 2, "stale": 2, "kill": 3, "restart": 1, "settings": 1, "rules": 1, "render": 2, "push": 4,
    "converge": 4, "acknowledge": 4, "future": 1, "canary": 3, "restore": 1, "tamper": 1, "box_down": 1, "excuse": 1,
    "remove_box": 1, "add_box": 1, "learn": 4, "tell": 4, "old_signer": 1, "host_down": 1, "add_host": 1, "fence": 1,
    "export": 1, "destroy": 2, "release": 5, "late_job": 2, "resign": 2, "cover": 3, "undeploy": 4, "redeploy": 4,
    "wait": 3, "clock": 1,
}
EVENTS = tuple(name for name, weight in _WEIGHTS.items() for _number in range(weight))

# What a run of thousands of sequences must have come across, or it proves nothing.
EXPECTED = (
    *(f"event {name}" for name in _WEIGHTS),
    *(f"guard {name}" for name in (
        "clock_skew", "incident_open", "enforcers_known", "enforcers_acknowledged", "canaries_passed", "hold_down",
        "overlap_too_short", "overlap", "signers_drained", "coverage", "rollback_window", "copies_gone",
        "one_at_a_time",
    )),
    "step staged from None", "step published from staged", "step published from withdrawn",
    "step activated from published", "step activated from retiring", "step withdrawn from retiring",
    "step destroying from None", "step retired from withdrawn", "step abandoned from staged",
    "step abandoned from published", "no key left", "killed",
    *(f"step revoked from {name}" for name in (
        "staged", "published", "active", "retiring", "withdrawn", "retired", "abandoned",
    )),
    *(f"refused {name}" for name in ("clock_skew", "ledger_moved", "ledger_mismatch", "transition_refused")),
    *(f"refused transition_refused {name}" for name in (
        "staged", "published", "active", "withdrawn", "retired", "revoked", "abandoned",
    )),
)


@functools.cache
def _snapshot(start: int) -> bytes:
    """Return a fleet to begin with: 0 with nothing, 1 with keys that sign, 2 with spares, 3 and 4 in mid-rotation."""
    fleet = Fleet.__new__(Fleet)
    fleet._found()
    identities = ("release", "ci")
    if start:
        for identity in identities:
            _until(fleet, identity, "active")
    if start > 1:
        for identity in identities:
            states: tuple[State, ...] = ("staged", "published")
            for state in states:
                waiting = [one.number for one in fleet.ring.in_state(identity, "staged") if one.is_spare]
                fleet.attempt(fleet.request(
                    identity, state, waiting[0] if waiting else None, is_spare=True
                ))
        fleet.do_converge(Dice(0))
    if start > 2:
        _until(fleet, "release", "retiring")
    if start > 3:
        _until(fleet, "release", "withdrawn")
    fleet.seen.clear()
    return pickle.dumps(vars(fleet))


def _until(fleet: Fleet, identity: str, state: State) -> None:
    """Go on with a rotation as it is meant until some generation is in a state."""
    for _attempt in range(200):
        if fleet.ring.in_state(identity, state):
            return
        fleet.book.open(fleet._now(0))
        fleet.do_advance(Dice(0 if identity == "release" else 3))
        for host in fleet.hosts:
            fleet._learn(host)
            fleet._tell(host)
            fleet.do_release(Dice(fleet.hosts.index(host)))
    raise Violation(f"no generation of {identity} is ever {state}")
