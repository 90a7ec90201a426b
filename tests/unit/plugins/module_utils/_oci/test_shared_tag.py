# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers that share a tag: every order of what they do is tried, with a clock of our own.

Whoever was told that its entry is written finds it at the end. The model gives each writer a thread, and lets one of
them go on at a time; a schedule says who, and how much time passes before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import random
import threading
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError, RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest as manifests
from ansible_collections.hallmark.signing.plugins.module_utils._oci import shared_tag
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Manifest
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import Reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TAG = Reference("r.example.org", "app", "sha256-1.sig")
WINDOW = 2.0
# How much time passes before a step: none, less than the window, more than it.
PAUSES = (0.0, 1.3, 2.6)


class _Stopped(BaseException):
    """Ends a writer whose schedule is over."""


class World:
    """A registry with one tag, a clock, and the order in which the writers go on."""

    def __init__(self, choose: t.Callable[[list[int]], tuple[int, float]]) -> None:
        self.now = 1000.0
        self.tag: bytes | None = None
        self.blobs: set[bytes] = set()
        self.steps = 0
        self.heeds_until = True
        self.needs_blobs = False
        self.loses_answers = False
        self.refuses = False
        self._choose = choose
        self._turn = threading.Condition()
        self._running: int | None = None
        self._waiting: dict[int, float] = {}
        self._alive: set[int] = set()
        self._names = threading.local()

    def run(self, works: t.Sequence[t.Callable[[], None]]) -> None:
        threads = [threading.Thread(target=self._body, args=entry, daemon=True) for entry in enumerate(works)]
        self._alive = set(range(len(works)))
        for thread in threads:
            thread.start()
        with self._turn:
            while True:
                self._turn.wait_for(lambda: self._running is None and set(self._waiting) == self._alive, timeout=10)
                if not self._alive:
                    break
                able = sorted(name for name, wake in self._waiting.items() if wake <= self.now)
                if not able:
                    self.now = min(self._waiting.values())
                    continue
                name, pause = self._choose(able)
                self.now += pause
                self.steps += 1
                del self._waiting[name]
                self._running = name
                self._turn.notify_all()
        for thread in threads:
            thread.join(120)

    def _body(self, name: int, work: t.Callable[[], None]) -> None:
        self._names.name = name
        try:
            self.step()
            work()
        finally:
            with self._turn:
                self._alive.discard(name)
                self._running = None
                self._turn.notify_all()

    def step(self, wake: float = 0.0) -> None:
        """Let the others go on; return when it is this writer's turn, and not before C(wake)."""
        name = self._names.name
        with self._turn:
            self._waiting[name] = wake
            if self._running == name:
                self._running = None
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._running == name)

    # What shared_tag takes for the module "time".

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.step(self.now + seconds)


class Shared:
    """What one host sees of the registry; hosts have no lock in common."""

    def __init__(self, world: World) -> None:
        self._world = world

    def find_manifest(self, image: Reference) -> Manifest | None:
        self._world.step()
        raw = self._world.tag
        # The answer takes its time, too.
        self._world.step()
        return None if raw is None else manifests.parse(raw, content_type="", where="test")

    def put_blob(self, image: Reference, data: bytes, *, is_new: bool = False) -> str:
        self._world.step()
        self._world.blobs.add(data)
        return digest_of(data)

    def put_manifest(
        self, image: Reference, raw: bytes, *, media_type: str = "", until: float | None = None
    ) -> str | None:
        self._world.step()
        if until is not None and self._world.now >= until and self._world.heeds_until:
            raise _broken()
        assert not self._world.needs_blobs or config_of(raw) in self._world.blobs
        self._world.tag = raw
        self._world.step()
        if until is not None and self._world.now >= until and self._world.loses_answers:
            raise _broken()
        return None

    def delete_manifest(self, image: Reference) -> bool:
        self._world.step()
        if self._world.tag is not None and digest_of(self._world.tag) == image.digest:
            self._world.tag = None
        return True

    def exclusive(self, image: Reference, digest: str) -> t.ContextManager[None]:
        return contextlib.nullcontext()

    def settle_seconds(self, image: Reference) -> float:
        return WINDOW


def _broken() -> RegistryError:
    error = RegistryError(code="registry_error", object="r", attempt="store", cause="too late", advice="")
    error.is_transient = True
    return error


def listing(names: t.Iterable[str]) -> bytes:
    return of_digests(digest_of(name.encode()) for name in sorted(names))


def of_digests(digests: t.Iterable[str]) -> bytes:
    return manifests.encode_index([manifests.Descriptor(manifests.OCI_MANIFEST, digest, 1) for digest in digests])


def listed(raw: bytes | None) -> set[str]:
    return {entry["digest"] for entry in json.loads(raw)["manifests"]} if raw else set()


def config_of(raw: bytes) -> bytes:
    """What has to be stored before a list is: it depends on the list."""
    return b"config of " + raw


def adding(name: str, *, blobs: bool) -> shared_tag.Plan:
    """A plan that adds an entry, with or without something to store first."""
    mine = manifests.Descriptor(manifests.OCI_MANIFEST, digest_of(name.encode()), 1)

    def plan(found: Manifest | None) -> shared_tag.Edit | None:
        entries = list(found.children) if found else []
        if mine.digest in {entry.digest for entry in entries}:
            return None
        raw = manifests.encode_index(sorted([*entries, mine], key=lambda entry: entry.digest))
        return shared_tag.Edit(raw, manifests.OCI_INDEX, (config_of(raw),) if blobs else ())

    return plan


def removing(name: str) -> shared_tag.Plan:
    """A plan that takes an entry out, and the tag away with the last."""
    gone = digest_of(name.encode())

    def plan(found: Manifest | None) -> shared_tag.Edit | None:
        entries = list(found.children) if found else []
        kept = [entry for entry in entries if entry.digest != gone]
        if len(kept) == len(entries):
            return None
        edit = shared_tag.Edit(manifests.encode_index(kept), manifests.OCI_INDEX)
        return edit if kept else shared_tag.Edit(None, emptied=edit)

    return plan


@dataclasses.dataclass
class Outcome:
    """What the writers were told, and what is there at the end."""

    told: set[str]
    present: set[str]
    failed: list[str]
    removed: bool = False

    @property
    def lost(self) -> set[str]:
        return self.told - self.present


def play(
    monkeypatch: pytest.MonkeyPatch, choose: t.Callable[[list[int]], tuple[int, float]], *,
    writers: int = 2, blobs: bool = False, is_new: bool = False, removes: bool = False,
    change: t.Callable[[World], None] = lambda _world: None,
) -> Outcome:
    """Let writers add an entry each, in one order, and say what came of it."""
    world = World(choose)
    world.needs_blobs = blobs
    change(world)
    told: set[str] = set()
    failed: list[str] = []
    removed: list[bool] = []

    def remover() -> None:
        store: t.Any = Shared(world)
        try:
            written = shared_tag.change(store, TAG, "subject", removing("old"))
            shared_tag.settle(store, [] if written is None else [written])
            removed.append(True)
        except HallmarkError as exc:
            failed.append(exc.code)

    def writer(name: str) -> t.Callable[[], None]:
        def work() -> None:
            store: t.Any = Shared(world)
            try:
                plan = adding(name, blobs=blobs)
                edit = plan(None) if is_new else None
                likely = edit.blobs if edit else ()
                written = shared_tag.change(store, TAG, "subject", plan, likely=likely, is_new=is_new)
                shared_tag.settle(store, [] if written is None else [written])
                told.add(digest_of(name.encode()))
            except HallmarkError as exc:
                failed.append(exc.code)

        return work

    with monkeypatch.context() as patch:
        patch.setattr(shared_tag, "time", world)
        patch.setattr(shared_tag, "random", random.Random(1))
        if removes:
            world.tag = listing(["old"])
        world.run([*(writer(f"writer {number}") for number in range(writers)), *([remover] if removes else [])])
    return Outcome(told, listed(world.tag), failed, bool(removed))


def scripted(script: t.Sequence[tuple[int, float]]) -> t.Callable[[list[int]], tuple[int, float]]:
    """Follow a script, and let each go on in turn when it is over."""
    left = list(script)
    turns = itertools.count()

    def choose(able: list[int]) -> tuple[int, float]:
        which, pause = left.pop(0) if left else (next(turns), 0.0)
        return able[which % len(able)], pause

    return choose


# Every order of the first steps of two writers; time passes at one place, or at two.
EXHAUSTIVE = [
    tuple((who, PAUSES[2] if step in late else PAUSES[1] if step in slow else 0.0) for step, who in enumerate(order))
    for order in itertools.product((0, 1), repeat=8)
    for late, slow in (((), ()), ((3,), ()), ((5,), ()), ((6,), (4,)), ((), (3, 6)), ((7,), (2,)))
]


@pytest.mark.parametrize("blobs", [False, True])
@pytest.mark.parametrize("is_new", [False, True])
def test_no_order_of_two_writers_loses_anything(monkeypatch: pytest.MonkeyPatch, blobs: bool, is_new: bool) -> None:
    for script in EXHAUSTIVE[blobs::2]:
        outcome = play(monkeypatch, scripted(script), blobs=blobs, is_new=is_new)
        assert outcome.lost == set(), script
        # With time enough both succeed.
        assert len(outcome.told) + len(outcome.failed) == 2


def test_what_others_wrote_while_blobs_were_stored_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(11)
    for _try in range(400):
        script = [(dice.randrange(2), dice.choice((*PAUSES, 0.0))) for _step in range(24)]
        assert play(monkeypatch, scripted(script), blobs=True).lost == set(), script


SCRIPTS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(PAUSES)), max_size=40)
BOUNDED = settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@BOUNDED
@given(script=SCRIPTS, blobs=st.booleans(), is_new=st.booleans(), loses=st.booleans())
def test_no_order_of_three_writers_loses_anything(
    monkeypatch: pytest.MonkeyPatch, script: list[tuple[int, float]], blobs: bool, is_new: bool, loses: bool
) -> None:
    def change(world: World) -> None:
        world.loses_answers = loses

    outcome = play(monkeypatch, scripted(script), writers=3, blobs=blobs, is_new=is_new, change=change)
    assert outcome.lost == set()
    assert len(outcome.told) + len(outcome.failed) == 3
    assert set(outcome.failed) <= {"write_lost"}


@BOUNDED
@given(script=SCRIPTS)
def test_what_one_removes_stays_away_and_what_others_add_stays(
    monkeypatch: pytest.MonkeyPatch, script: list[tuple[int, float]]
) -> None:
    outcome = play(monkeypatch, scripted(script), removes=True)
    assert outcome.lost == set()
    assert not outcome.removed or digest_of(b"old") not in outcome.present


def some_order_loses(monkeypatch: pytest.MonkeyPatch, change: t.Callable[[World], None]) -> bool:
    # The longer searches are for what the broken protocols need: a reading, a pause, and a writing after that.
    dice = random.Random(7)
    tries: list[t.Sequence[tuple[int, float]]] = [*EXHAUSTIVE]
    tries += [[(dice.randrange(3), dice.choice(PAUSES)) for _step in range(30)] for _try in range(1500)]
    return any(play(monkeypatch, scripted(script), change=change).lost for script in tries)


def test_the_model_finds_what_is_lost_where_nothing_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_tag, "settle", lambda _store, _written: None)
    assert some_order_loses(monkeypatch, lambda _world: None)


def test_the_model_finds_what_is_lost_where_writes_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(world: World) -> None:
        world.heeds_until = False

    assert some_order_loses(monkeypatch, change)


def test_the_model_finds_what_is_lost_where_the_time_begins_after_the_reading(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = shared_tag._write

    def late(store: t.Any, tag: t.Any, read: t.Any, edit: t.Any, since: float) -> float | None:
        return genuine(store, tag, read, edit, shared_tag.time.monotonic())

    monkeypatch.setattr(shared_tag, "_write", late)
    assert some_order_loses(monkeypatch, lambda _world: None)


def test_the_model_finds_what_is_lost_where_a_lost_answer_counts_as_not_written(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = shared_tag._write

    def forgetful(store: t.Any, tag: t.Any, read: t.Any, edit: t.Any, since: float) -> float | None:
        at = genuine(store, tag, read, edit, since)
        return at if shared_tag.time.monotonic() < since + WINDOW else None

    def change(world: World) -> None:
        world.loses_answers = True

    monkeypatch.setattr(shared_tag, "_write", forgetful)
    assert some_order_loses(monkeypatch, change)


# One writer ----------------------------------------------------------------------------------------------------------


def alone(monkeypatch: pytest.MonkeyPatch, work: t.Callable[[t.Any], None], *, before: bytes | None = None) -> World:
    world = World(lambda able: (able[0], 0.0))
    world.tag = before
    problems: list[BaseException] = []

    def guarded() -> None:
        try:
            work(Shared(world))
        except BaseException as exc:
            problems.append(exc)

    with monkeypatch.context() as patch:
        patch.setattr(shared_tag, "time", world)
        world.run([guarded])
    if problems:
        raise problems[0]
    return world


def test_nothing_to_change_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[t.Any] = []
    world = alone(
        monkeypatch, lambda store: found.append(shared_tag.change(store, TAG, "s", adding("x", blobs=False))),
        before=listing(["x"]),
    )
    assert (found, world.now) == ([None], 1000.0)


def test_changes_of_one_batch_wait_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(store: t.Any) -> None:
        written = [shared_tag.change(store, TAG, "s", adding(name, blobs=False)) for name in ("a", "b", "c")]
        shared_tag.settle(store, [one for one in written if one])

    world = alone(monkeypatch, work)
    assert world.now - 1000.0 == pytest.approx(WINDOW)
    assert listed(world.tag) == {digest_of(name.encode()) for name in ("a", "b", "c")}


def test_a_change_that_was_undone_meanwhile_is_made_again_and_waited_for_again(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds: list[World] = []

    def work(store: t.Any) -> None:
        written = shared_tag.change(store, TAG, "s", adding("x", blobs=False))
        assert written is not None
        worlds[0].tag = listing(["other"])
        shared_tag.settle(store, [written])

    genuine = World.run
    monkeypatch.setattr(World, "run", lambda self, works: (worlds.append(self), genuine(self, works))[1])
    world = alone(monkeypatch, work)
    assert listed(world.tag) == {digest_of(b"x"), digest_of(b"other")}
    assert world.now - 1000.0 == pytest.approx(2 * WINDOW)


def test_what_is_always_undone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Undone(Shared):
        def put_manifest(self, *_arguments: t.Any, **_options: t.Any) -> None:
            self._world.step()

    def work(store: t.Any) -> None:
        undone = t.cast(t.Any, Undone(store._world))
        written = shared_tag.change(undone, TAG, "s", adding("x", blobs=False))
        assert written is not None
        shared_tag.settle(undone, [written])

    with pytest.raises(RegistryError) as caught:
        alone(monkeypatch, work)
    assert (caught.value.code, caught.value.object) == ("write_lost", str(TAG))


def test_where_nothing_is_settled_each_change_is_read_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unsettled(Shared):
        def settle_seconds(self, image: Reference) -> float:
            return 0.0

    class Undone(Unsettled):
        def put_manifest(self, *_arguments: t.Any, **_options: t.Any) -> None:
            self._world.step()

    def work(kind: type[Shared]) -> t.Callable[[t.Any], None]:
        return lambda store: t.cast(None, shared_tag.change(
            t.cast(t.Any, kind(store._world)), TAG, "s", adding("x", blobs=False)
        ))

    assert listed(alone(monkeypatch, work(Unsettled)).tag) == {digest_of(b"x")}
    with pytest.raises(RegistryError) as caught:
        alone(monkeypatch, work(Undone))
    assert (caught.value.code, caught.value.object) == ("write_lost", str(TAG))


def test_a_batch_reads_each_tag_once_before_and_once_after_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(Shared):
        reads: t.ClassVar[list[float]] = []

        def find_manifest(self, image: Reference) -> Manifest | None:
            self.reads.append(self._world.now)
            return super().find_manifest(image)

    def work(store: t.Any) -> None:
        counting = t.cast(t.Any, Counting(store._world))
        written = shared_tag.change(counting, TAG, "s", adding("x", blobs=False))
        assert written is not None
        shared_tag.settle(counting, [written])

    alone(monkeypatch, work)
    assert Counting.reads == [1000.0, 1000.0 + WINDOW]


def test_removing_the_last_entry_takes_the_tag_away(monkeypatch: pytest.MonkeyPatch) -> None:
    world = alone(
        monkeypatch, lambda store: t.cast(None, shared_tag.change(store, TAG, "s", removing("x"))),
        before=listing(["x"]),
    )
    assert world.tag is None


def test_where_nothing_can_be_deleted_an_empty_manifest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    class Undeletable(Shared):
        def delete_manifest(self, image: Reference) -> bool:
            return False

    world = alone(
        monkeypatch,
        lambda store: t.cast(None, shared_tag.change(
            t.cast(t.Any, Undeletable(store._world)), TAG, "s", removing("x")
        )),
        before=listing(["x"]),
    )
    assert listed(world.tag) == set()
    assert world.tag is not None


@pytest.mark.parametrize("when", ["first", "settling"])
def test_a_plan_that_learns_from_a_refusal_is_tried_again(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    # What is listed beside ours is gone, and the registry refuses to name it.
    gone: set[str] = set()
    old = digest_of(b"old")

    class Refusing(Shared):
        def put_manifest(self, image: Reference, raw: bytes, **options: t.Any) -> str | None:
            if old in listed(raw) and self._world.refuses:
                raise RegistryError(code="registry_error", object="r", attempt="store", cause="unknown", advice="")
            return super().put_manifest(image, raw, **options)

    def plan(found: Manifest | None) -> shared_tag.Edit | None:
        present = {entry.digest for entry in found.children} if found else set()
        if digest_of(b"x") in present:
            return None
        return shared_tag.Edit(of_digests((present | {digest_of(b"x")}) - gone), manifests.OCI_INDEX)

    def refused(_error: RegistryError) -> bool:
        gone.add(old)
        return True

    def work(store: t.Any) -> None:
        world, refusing = store._world, t.cast(t.Any, Refusing(store._world))
        world.refuses = when == "first"
        written = shared_tag.change(refusing, TAG, "s", plan, refused=refused)
        assert written is not None
        if when == "settling":
            # Another writer took ours away, and what is left is gone.
            world.tag, world.refuses = listing(["old"]), True
        shared_tag.settle(refusing, [written])

    world = alone(monkeypatch, work, before=listing(["old"]))
    assert listed(world.tag) == {digest_of(b"x")}
    assert gone == {old}


def test_a_refused_write_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Shared):
        def put_manifest(self, *_arguments: t.Any, **_options: t.Any) -> None:
            raise RegistryError(code="unauthorized", object="r", attempt="store", cause="no", advice="")

    with pytest.raises(RegistryError) as caught:
        alone(monkeypatch, lambda store: t.cast(None, shared_tag.change(
            t.cast(t.Any, Refusing(store._world)), TAG, "s", adding("x", blobs=False)
        )))
    assert caught.value.code == "unauthorized"
