# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keyring: all generations of all identities with their states, and who is known to trust and to hold which key.

A pure fold over the ledger: C(fold(entries))) is all there is to know, and nothing else decides anything. Source of the
states: docs/rotation.md. Policy versions, of which the ledger counts one for each change of what is trusted, tell which
keys an enforcer trusts that acknowledged one.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from .._moments import moment_of

if t.TYPE_CHECKING:
    import datetime

State = t.Literal["staged", "published", "active", "retiring", "withdrawn", "retired", "revoked", "abandoned"]
Class = t.Literal["required", "best_effort"]

TRUSTED: tuple[State, ...] = ("published", "active", "retiring")
TERMINAL: tuple[State, ...] = ("retired", "revoked", "abandoned")
Members = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Generation:
    """One key pair of an identity. C(entered) says when it came into each state, and C(policy_versions) from which
    version of the policy on that holds; C(destroying) that its private key is no longer to be counted on.
    """

    identity: str
    number: int
    key_id: str
    algorithm: str
    public_key: str
    state: State
    is_spare: bool = False
    is_destroying: bool = False
    entered: t.Mapping[str, str] = field(default_factory=dict)
    policy_versions: t.Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return its name, IDENTITY-NUMBER."""
        return f"{self.identity}-{self.number}"

    def entered_at(self, state: State) -> datetime.datetime:
        """Return when it came into a state that it was in."""
        return moment_of(self.entered[state])

    def as_dict(self) -> dict[str, t.Any]:
        """Return the shape of the module contract, and the public key."""
        return {
            "identity": self.identity, "generation": self.number, "key_id": self.key_id, "state": self.state,
            "since": self.entered[self.state], "algorithm": self.algorithm, "public_key": self.public_key,
            "spare": self.is_spare,
        }


@dataclass(frozen=True)
class Pointer:
    """Which generation of an identity signs; none after a revocation without a successor.

    C(fence) rises with every change: who was told a number refuses a lower one.
    """

    generation: int | None
    key_id: str | None
    fence: int
    is_suspended: bool = False
    changed_at: str = ""

    def as_dict(self) -> dict[str, t.Any] | None:
        """Return the shape of the module contract."""
        return {
            "generation": self.generation, "key_id": self.key_id, "fence": self.fence, "suspended": self.is_suspended,
        }


@dataclass(frozen=True)
class Enforcer:
    """What admits images: its class, what its policy is rendered for, how long it may work with an old one (seconds).

    C(policy_version) is what it was last seen with, C(floor) the highest it ever had. C(has_tool): it can try images
    itself, and must before a key is activated.
    """

    name: str
    cls: Class
    kind: str
    interval: int = 0
    has_tool: bool = True
    excused_until: str | None = None
    policy_version: int = 0
    effective_hash: str | None = None
    seen: str | None = None
    floor: int = 0


@dataclass(frozen=True)
class Canary:
    """What an enforcer did with images signed by a key, unsigned, and signed by a foreign key."""

    enforcer: str
    key_id: str
    policy_version: int
    is_admitted: bool
    is_unsigned_denied: bool
    is_foreign_denied: bool

    @property
    def passed(self) -> bool:
        """Whether all three were right."""
        return self.is_admitted and self.is_unsigned_denied and self.is_foreign_denied


@dataclass(frozen=True)
class Holder:
    """A host that signs for an identity: the fence that it obeys, the keys of which it has copies.

    C(seen) is when it said so, or was fenced.
    """

    name: str
    identity: str
    fence: int
    key_ids: frozenset[str]
    seen: str
    sequence: int
    is_fenced: bool = False


@dataclass(frozen=True)
class Coverage:
    """How much of the live set has signatures by keys that stay."""

    identity: str
    staying: frozenset[str]
    live_set_hash: str
    count: int
    uncovered: tuple[str, ...]
    uncovered_count: int
    seconds: float
    checked_at: str
    sequence: int


@dataclass(frozen=True)
class Rendering:
    """A version of the policy as it was rendered: the hash of its rules, and what each kind of enforcer must have."""

    version: int
    rules: str
    policy_hash: str
    effective: t.Mapping[str, str]


class Keyring:
    """All that the ledger says. Made by C(fold()); C(apply()) takes in one entry more."""

    def __init__(self) -> None:
        self.fleet = ""
        self.sequence = 0
        self.head = ""
        self.time = ""
        self.policy_version = 0
        self.generations: dict[tuple[str, int], Generation] = {}
        self.pointers: dict[str, Pointer] = {}
        self.enforcers: dict[str, Enforcer] = {}
        self.canaries: dict[tuple[str, str], Canary] = {}
        self.holders: dict[tuple[str, str], Holder] = {}
        self.coverage: dict[str, Coverage] = {}
        self.renderings: dict[int, Rendering] = {}
        self.denied: frozenset[str] = frozenset()
        # Which keys each version of the policy trusts; what an enforcer trusts follows from its version.
        self.trusted: dict[int, frozenset[str]] = {0: frozenset()}
        # The public key for which nobody has the private one, for identities without a usable generation.
        self.nobody: dict[str, str] = {}
        self.incidents: dict[tuple[str, int], dict[str, t.Any]] = {}
        self.confirmed: set[tuple[str, int, str]] = set()
        # When versions of the policy began, and when all required enforcers had them.
        self.begun: dict[int, str] = {}
        self.reached: dict[int, str] = {}
        # The entries that last moved the pointers, and those that began to destroy keys.
        self.pointed: dict[str, int] = {}
        self.destroying: dict[tuple[str, int], int] = {}

    # --- questions ---------------------------------------------------------------------------------------------------

    def of(self, identity: str) -> tuple[Generation, ...]:
        """Return the generations of an identity, the first one first."""
        return tuple(one for _key, one in sorted(self.generations.items()) if one.identity == identity)

    def in_state(self, identity: str, *states: State) -> tuple[Generation, ...]:
        """Return the generations of an identity that are in one of these states."""
        return tuple(one for one in self.of(identity) if one.state in states)

    def by_key(self, key_id: str) -> Generation | None:
        """Return the generation that has a key, in whatever state."""
        return next((one for one in self.generations.values() if one.key_id == key_id), None)

    def usable(self, identity: str) -> tuple[Generation, ...]:
        """Return the generations whose signatures count."""
        return tuple(one for one in self.in_state(identity, *TRUSTED) if one.key_id not in self.denied)

    @property
    def identities(self) -> tuple[str, ...]:
        """The names of all identities."""
        return tuple(sorted({one.identity for one in self.generations.values()}))

    def trusted_now(self) -> frozenset[str]:
        """Return the keys that the newest policy trusts."""
        return frozenset(
            one.key_id for one in self.generations.values() if one.state in TRUSTED and one.key_id not in self.denied
        )

    def required(self, now: datetime.datetime) -> tuple[Enforcer, ...]:
        """Return the enforcers that must have followed; one that was excused is not, until that is over."""
        return tuple(
            one for _name, one in sorted(self.enforcers.items())
            if one.cls == "required" and not (one.excused_until and moment_of(one.excused_until) > now)
        )

    def has(self, enforcer: Enforcer, version: int) -> bool:
        """Say whether an enforcer was read back with a version or a later one, as that was rendered for it."""
        rendering = self.renderings.get(enforcer.policy_version)
        return (
            enforcer.policy_version >= version and rendering is not None and enforcer.effective_hash is not None
            and rendering.effective.get(enforcer.kind) == enforcer.effective_hash
        )

    def open_incidents(self) -> tuple[tuple[str, int], ...]:
        """Return the generations that were revoked, and whose incidents are not closed."""
        return tuple(key for key, one in sorted(self.incidents.items()) if "closed" not in one["notes"])

    def is_doomed(self, one: Generation) -> bool:
        """Say whether the private key is to be destroyed; that of a revoked generation is evidence until then."""
        if one.state == "revoked":
            return (one.identity, one.number) not in self.open_incidents()
        return one.is_destroying or one.state in TERMINAL

    def holders_of(self, identity: str) -> tuple[Holder, ...]:
        """Return the hosts that sign for an identity, by name."""
        return tuple(one for _key, one in sorted(self.holders.items()) if one.identity == identity)

    # --- the fold ----------------------------------------------------------------------------------------------------

    def apply(self, sequence: int, hash: str, members: Members) -> None:
        """Take in one entry. Raises KeyError, TypeError or ValueError for one that makes no sense."""
        time = members["time"]
        if time != self.time:
            moment_of(time)
            if time < self.time:
                raise ValueError("time goes back")
        getattr(self, f"_apply_{members['event']}")(members)
        self.sequence, self.head, self.time = sequence, hash, time

    def _apply_founded(self, members: Members) -> None:
        if self.sequence or members["format"] != 1:
            raise ValueError("a ledger begins once, in a format that is known")
        self.fleet = members["fleet"]

    def _apply_enforcer(self, members: Members) -> None:
        name = members["enforcer"]
        known = self.enforcers.get(name) or Enforcer(name, "required", "")
        self.enforcers[name] = replace(
            known, cls=members["class"], kind=members["kind"], interval=members["interval"],
            has_tool=members["has_tool"],
        )

    def _apply_enforcer_removed(self, members: Members) -> None:
        del self.enforcers[members["enforcer"]]
        # Another one may come by this name, which has tried nothing yet.
        self.canaries = {key: one for key, one in self.canaries.items() if key[0] != members["enforcer"]}

    def _apply_enforcer_excused(self, members: Members) -> None:
        name = members["enforcer"]
        self.enforcers[name] = replace(self.enforcers[name], excused_until=members["until"])

    def _apply_policy(self, members: Members) -> None:
        rendering = Rendering(
            members["policy_version"], members["rules"], members["policy_hash"], dict(members["effective"])
        )
        self._bump(rendering.version, members["time"])
        self.renderings[rendering.version] = rendering

    def _apply_staged(self, members: Members) -> None:
        one = Generation(
            members["identity"], members["generation"], members["key_id"], members["algorithm"], members["public_key"],
            "staged", is_spare=members["spare"], entered={"staged": members["time"]},
        )
        if (one.identity, one.number) in self.generations or self.by_key(one.key_id):
            raise ValueError("a generation or a key is there already")
        self.generations[one.identity, one.number] = one

    def _apply_published(self, members: Members) -> None:
        self._enter(members, "published")

    def _apply_activated(self, members: Members) -> None:
        former = members["demoted"]
        if former is not None:
            self._enter({**members, "generation": former}, "retiring")
        self._enter(members, "active")
        self._point(members)

    def _apply_withdrawn(self, members: Members) -> None:
        self._enter(members, "withdrawn")

    def _apply_destroying(self, members: Members) -> None:
        key = members["identity"], members["generation"]
        entered = {**self.generations[key].entered, "destroying": members["time"]}
        self.generations[key] = replace(self.generations[key], is_destroying=True, entered=entered)
        self.destroying[key] = self.sequence + 1

    def _apply_retired(self, members: Members) -> None:
        self._enter(members, "retired")

    def _apply_abandoned(self, members: Members) -> None:
        self._note_nobody(members)
        self._enter(members, "abandoned")

    def _apply_revoked(self, members: Members) -> None:
        key = members["identity"], members["generation"]
        self.denied |= {self.generations[key].key_id}
        self._note_nobody(members)
        # Terminal states stay: the key of a retired generation is denied, too, and it stays retired.
        if self.generations[key].state in TERMINAL:
            self._bump(members["policy_version"], members["time"])
        else:
            self._enter(members, "revoked")
        successor = members["successor"]
        if successor is not None:
            self._enter({**members, "generation": successor}, "active")
        if members["fence"] is not None:
            self._point({**members, "generation": successor})
        self.incidents[key] = {
            "declared_at": members["time"], "evidence": members["evidence"],
            "suspected_since": members["suspected_since"], "policy_version": members["policy_version"],
            "half_at": None, "all_at": None, "notes": {},
        }

    def _apply_pointer(self, members: Members) -> None:
        former = self.pointers[members["identity"]]
        self.pointers[members["identity"]] = replace(
            former, fence=members["fence"], is_suspended=members["suspended"], changed_at=members["time"]
        )

    def _apply_acknowledged(self, members: Members) -> None:
        for one in members["acknowledgements"]:
            former = self.enforcers[one["enforcer"]]
            self.enforcers[former.name] = replace(
                former, policy_version=one["policy_version"], effective_hash=one["effective_hash"],
                seen=members["time"], floor=max(former.floor, one["policy_version"]),
            )
        self._note_reached(members["time"])

    def _apply_canaries(self, members: Members) -> None:
        for one in members["canaries"]:
            self.canaries[one["enforcer"], one["key_id"]] = Canary(
                one["enforcer"], one["key_id"], one["policy_version"], one["admitted"], one["unsigned_denied"],
                one["foreign_denied"],
            )

    def _apply_signers(self, members: Members) -> None:
        for one in members["signers"]:
            self.holders[one["signer"], one["identity"]] = Holder(
                one["signer"], one["identity"], one["fence"], frozenset(one["key_ids"]), members["time"],
                self.sequence + 1, is_fenced=False,
            )

    def _apply_signer_fenced(self, members: Members) -> None:
        key = members["signer"], members["identity"]
        self.holders[key] = replace(
            self.holders[key], is_fenced=True, seen=members["time"], sequence=self.sequence + 1
        )

    def _apply_coverage(self, members: Members) -> None:
        self.coverage[members["identity"]] = Coverage(
            members["identity"], frozenset(members["staying"]), members["live_set_hash"], members["count"],
            tuple(members["uncovered"]), members["uncovered_count"], members["seconds"], members["time"],
            self.sequence + 1,
        )

    def _apply_confirmed(self, members: Members) -> None:
        self.confirmed.add((members["identity"], members["generation"], members["to"]))

    def _apply_noted(self, members: Members) -> None:
        self.incidents[members["identity"], members["generation"]]["notes"][members["note"]] = members["time"]

    # --- its parts ---------------------------------------------------------------------------------------------------

    def _note_nobody(self, members: Members) -> None:
        if members["nobody"]:
            self.nobody[members["identity"]] = members["nobody"]

    def _enter(self, members: Members, state: State) -> None:
        key = members["identity"], members["generation"]
        former = self.generations[key]
        if former.state in TERMINAL:
            raise ValueError(f"{former.name} is {former.state} for good")
        version = members["policy_version"]
        self.generations[key] = replace(
            former, state=state, entered={**former.entered, state: members["time"]},
            policy_versions={**former.policy_versions, state: version},
        )
        self._bump(version, members["time"])

    def _point(self, members: Members) -> None:
        identity, number = members["identity"], members["generation"]
        former = self.pointers.get(identity)
        if former and members["fence"] <= former.fence:
            raise ValueError("the fence does not rise")
        key_id = None if number is None else self.generations[identity, number].key_id
        self.pointers[identity] = Pointer(number, key_id, members["fence"], changed_at=members["time"])
        self.pointed[identity] = self.sequence + 1

    def _bump(self, version: int, time: str) -> None:
        if version < self.policy_version:
            raise ValueError("the version of the policy goes back")
        self.policy_version = version
        self.begun.setdefault(version, time)
        self.trusted[version] = self.trusted_now()

    def _note_reached(self, time: str) -> None:
        """Note which versions all required enforcers have, and when half and all of them distrusted a revoked key."""
        least = min((
            one.policy_version if self.has(one, one.policy_version) else 0
            for one in self.enforcers.values() if one.cls == "required"
        ), default=0)
        for version in range(max(self.reached, default=0) + 1, least + 1):
            self.reached[version] = time
        for incident in self.incidents.values():
            behind = sum(not self.has(one, incident["policy_version"]) for one in self.enforcers.values())
            if incident["half_at"] is None and behind * 2 <= len(self.enforcers):
                incident["half_at"] = time
            if incident["all_at"] is None and not behind:
                incident["all_at"] = time


def fold(entries: t.Iterable[tuple[int, str, Members]]) -> Keyring:
    """Return the keyring after entries: each its sequence, its hash and what it says."""
    keyring = Keyring()
    for sequence, hash, members in entries:
        keyring.apply(sequence, hash, members)
    return keyring
