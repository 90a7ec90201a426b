# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registries that misbehave: what comes of it is right or an error that names them, soon, and in little memory.

Each case spoils some answers of one registry, while processes verify, list, sign and copy images there at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import sys
import typing as t
from dataclasses import field

import pytest
from interop_tools import ROOT, Json
from misbehaving_registry import PASSWORD, USER
from operators import Operator, operators, together

if t.TYPE_CHECKING:
    from conftest import KeyFiles

TIMEOUT = 3
# More than one request may have to wait for its end, but never a fourth one.
LONGEST = 4 * TIMEOUT
MOST_MEMORY = 100
OPERATIONS = ("verify", "unsigned", "info", "sign", "from", "to")


class Server:
    """A registry that misbehaves by order."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "tools" / "misbehaving_registry.py"), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.host = self._line().strip()

    def do(self, name: str, **arguments: t.Any) -> t.Any:
        """Give an order and return the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()
        return json.loads(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 20)[0], "the registry says nothing"
        line = self.process.stdout.readline()
        assert line, "the registry ended"
        return line

    def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def _server(*arguments: str) -> t.Iterator[Server]:
    running = Server(*arguments)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[list[Operator]]:
    with operators(len(OPERATIONS), tmp_path_factory.mktemp("operators")) as started:
        yield started


@pytest.fixture(scope="module")
def good() -> t.Iterator[Server]:
    """A registry that behaves, and lets everybody in."""
    with _server("--open") as running:
        yield running


@pytest.fixture(scope="module")
def bad(good: Server, workers: list[Operator], p256: KeyFiles) -> t.Iterator[Server]:
    """A registry that can misbehave; both have repositories signed and plain."""
    with _server() as running:
        for server in (good, running):
            for name in ("signed", "plain"):
                server.do("image", repository=name, tag="1")
            done = workers[0].do(
                "sign", images=[f"{server.host}/signed:1"], keys=[str(p256.pem)], settings=_settings(server)
            )
            assert done["results"][0]["reasons"] == []
        yield running


def _settings(bad: Server, **settings: t.Any) -> Json:
    return {
        "timeout": float(TIMEOUT), "settle_seconds": 0.5,
        "hosts": {bad.host: {"username": USER, "password": PASSWORD}}, **settings,
    }


# --- the cases -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Case:
    """Some requests whose answers are spoilt, and the operations that must end well or with an error.

    What is in neither may do either. C({bad}) and C({other}) in headers are HOST:PORT of this and of another registry.
    """

    name: str
    fault: Json
    method: str = "GET"
    path: str = ""
    times: int = 1_000_000
    skip: int = 0
    well: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    more: tuple[Json, ...] = field(default=())
    by_digest: bool = False

    def __str__(self) -> str:
        return self.name


_UNAUTHORIZED = {"status": 401, "headers": {"WWW-Authenticate": 'Basic realm="other"'}}
_TOKEN = {"status": 401, "headers": {"WWW-Authenticate": 'Bearer realm="http://{bad}/token",service="s"'}}
_TO_OTHER = {"status": 202, "headers": {"Location": "http://{other}/v2/plain/blobs/uploads/elsewhere"}}
_METADATA = "http://169.254.169.254/latest/meta-data/"
ALL = OPERATIONS
READ = ("verify", "unsigned", "info", "sign", "from")
CASES = (
    Case("500-then-200", {"status": 500}, times=2, well=ALL),
    Case("500-at-every-second-write", {"status": 503}, "PUT POST", times=2, well=ALL),
    Case("500-always", {"status": 500}, failed=ALL),
    Case("429-then-200", {"status": 429, "headers": {"Retry-After": "1"}}, times=1, well=ALL),
    Case("429-for-an-hour", {"status": 429, "headers": {"Retry-After": "3600"}}, failed=ALL),
    Case("drops-one-body", {"cut_after": 20}, times=1, well=ALL),
    Case("drops-every-manifest", {"cut_after": 20}, path="/manifests/", failed=READ),
    Case("drops-every-blob", {"cut_after": 20}, path="/blobs/"),
    Case("drops-every-list", {"cut_after": 20}, path="/referrers/"),
    Case("hangs-up", {"hang_up": True}, method="", failed=ALL),
    Case("hangs-up-after-writes", {"hang_up": True, "acted": True}, "PUT POST PATCH", failed=("sign", "to")),
    Case("closes-kept-connections", {"raw": "then_close"}, method="", well=ALL),
    Case("redirects-to-itself", {"status": 307, "headers": {"Location": "/v2/plain/manifests/1"}}, failed=READ),
    Case("redirects-to-metadata", {"status": 307, "headers": {"Location": _METADATA}}, failed=READ),
    Case("redirects-without-location", {"status": 302}, failed=READ),
    Case("redirects-writes", {"status": 307, "headers": {"Location": "http://{other}/"}}, "PUT POST",
         failed=("sign", "to")),
    Case("gzip", {"headers": {"Content-Encoding": "gzip"}, "body": "\x1f"}, failed=READ),
    # What a tag names is for the registry to say: only a digest can be wrong.
    # Verifying asks for no manifest by digest: the list says where the bundle is.
    Case("wrong-manifests", {"body": '{"schemaVersion":2}'}, path="/manifests/", by_digest=True,
         failed=("info", "sign", "from")),
    Case("wrong-blobs", {"body": "something else"}, path="/blobs/", failed=("info", "from")),
    Case("html", {"headers": {"Content-Type": "text/html"}, "body": "<!DOCTYPE html><html>Log in</html>"},
         failed=READ),
    Case("longer-than-said", {"raw": "longer"}),
    Case("shorter-than-said", {"content_length": "100000"}, failed=READ),
    Case("length-that-is-no-number", {"content_length": "many"}),
    Case("length-below-zero", {"content_length": "-1"}),
    Case("trickles", {"trickle": 1.0}, failed=READ),
    Case("trickles-headers", {"trickle_headers": 1.0}, method="", failed=ALL),
    Case("never-answers", {"delay": 60.0}, method="", failed=ALL),
    Case("never-answers-writes", {"delay": 60.0}, "PUT POST PATCH", failed=("sign", "to")),
    Case("interim-answers-for-ever", {"raw": "continues"}, method="", failed=ALL),
    Case("no-http", {"raw": "garbage"}, method="", failed=ALL),
    Case("manifest-of-100-mb", {"raw": "large"}, path="/manifests/", failed=READ),
    Case("everything-of-100-mb-in-chunks", {"raw": "large_in_chunks"}, failed=READ),
    Case("endless-chunk", {"raw": "large_chunk"}, failed=READ),
    Case("endless-chunks", {"chunked": True, "endless": True}, failed=READ),
    Case("endless-errors", {"status": 404, "chunked": True, "endless": True}, failed=READ),
    Case("endless-referrers", {"chunked": True, "endless": True}, path="/referrers/"),
    Case("many-headers", {"raw": "many_headers"}, method="", failed=ALL),
    Case("long-header", {"raw": "long_header"}, method="", failed=ALL),
    Case("401-after-200", _UNAUTHORIZED, method="", skip=8, failed=("sign", "from", "to")),
    # So says docker-registry of a right manifest while somebody uploads one of its blobs again.
    Case("400-for-a-right-manifest", {"status": 400, "body": '{"errors":[{"code":"DIGEST_INVALID"}]}'}, "PUT",
         path="/manifests/", times=3, well=ALL),
    Case("403-for-writes", {"status": 403}, "PUT POST", failed=("sign", "to")),
    Case("token-service-hangs", _TOKEN, method="", path="/v2/", failed=ALL,
         more=({"fault": {"delay": 60.0}, "path": "/token"},)),
    Case("token-service-is-metadata", {"status": 401, "headers": {
        "WWW-Authenticate": f'Bearer realm="{_METADATA}",service="s"'}}, method="", failed=ALL),
    Case("uploads-to-another-host", _TO_OTHER, "POST", failed=("sign", "to")),
    Case("uploads-to-metadata", {"status": 202, "headers": {"Location": _METADATA}}, "POST", failed=("sign", "to")),
    Case("uploads-to-nowhere", {"status": 202}, "POST", failed=("sign", "to")),
    Case("forgets-blobs", {"status": 201}, "PUT", path="/blobs/", failed=("sign", "to")),
    Case("forgets-referrers", {"status": 201, "headers": {"OCI-Subject": "{subject}"}}, "PUT",
         path="/manifests/sha256:", failed=("sign", "to")),
    Case("forgets-the-last-write", {"status": 201}, "PUT", path="/manifests/1", failed=("to",)),
    Case("redirects-to-another-host", {"raw": "elsewhere"}, well=ALL),
    Case("forgets-tags", {"status": 201}, "PUT", path="/manifests/", failed=("sign",)),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_right_or_an_error_that_names_the_registry(
    case: Case, bad: Server, good: Server, workers: list[Operator], p256: KeyFiles
) -> None:
    for name in OPERATIONS:
        bad.do("drop", repository=f"case/{name}")
        good.do("drop", repository=f"case/{name}")
    for name, source in (
        ("verify", "signed"), ("info", "signed"), ("from", "signed"), ("sign", "plain"), ("unsigned", "plain"),
    ):
        bad.do("clone", source=source, repository=f"case/{name}")
    digest = bad.do("digest", repository="case/sign", tag="1")
    before = {(server, name): server.do("state", repository=name) for server, name in _sources(bad, good)}
    for spoilt in ({"fault": case.fault, "method": case.method, "path": case.path}, *case.more):
        text = json.dumps(spoilt["fault"])
        for word, meant in (("{bad}", bad.host), ("{other}", good.host), ("{subject}", digest)):
            text = text.replace(word, meant)
        fault = json.loads(text)
        first = spoilt.get("fault") is case.fault
        bad.do("spoil", **{**spoilt, "fault": fault}, **({"times": case.times, "skip": case.skip} if first else {}))
    good.do("behave")
    try:
        results = dict(zip(OPERATIONS, together(workers, _orders(bad, good, p256, case.by_digest), seconds=30.0)))
        contacted = good.do("secrets_seen") + bad.do("elsewhere")[1]
    finally:
        own = bad.do("behave")
    assert own == []
    assert contacted == 0, "our password went to another host"
    ended = {name: _judge(name, done, bad) for name, done in results.items()}
    longest, peak = (max(done[what] for done in results.values()) for what in ("seconds", "peak"))
    print(f"{case}: {ended} {longest:.1f} s {peak:.0f} MiB")
    for name, done in results.items():
        for reason in done["results"][0]["reasons"][:1]:
            print(f"  {name}: {reason['message']}")
    assert longest < LONGEST
    assert peak <= MOST_MEMORY
    for server, name in _sources(bad, good):
        assert server.do("state", repository=name) == before[server, name], name
    for server in (bad, good):
        for name in OPERATIONS:
            assert server.do("state", repository=f"case/{name}")["broken"] == []
    # What is said to have ended well has: seen when nothing goes wrong any more.
    for name, image in (
        ("sign", f"{bad.host}/case/sign:1"), ("from", f"{good.host}/case/from:1"), ("to", f"{bad.host}/case/to:1"),
    ):
        if ended[name] == "well":
            done = workers[0].do("verify", images=[image], public=[str(p256.public)], settings=_settings(bad))
            assert done["results"][0]["verified"], done
    assert {name: ended[name] for name in case.well} == dict.fromkeys(case.well, "well")
    assert [name for name in case.failed if ended[name] == "well"] == []


def _sources(bad: Server, good: Server) -> list[tuple[Server, str]]:
    return [(bad, "case/verify"), (bad, "case/info"), (bad, "case/from"), (bad, "case/unsigned"), (good, "signed")]


def _orders(bad: Server, good: Server, key: KeyFiles, by_digest: bool) -> list[Json]:
    settings, public = _settings(bad), [str(key.public)]

    def image(name: str, like: str) -> str:
        digest = good.do("digest", repository=like, tag="1")
        return f"{bad.host}/case/{name}@{digest}" if by_digest else f"{bad.host}/case/{name}:1"

    return [
        {"settings": settings, **order} for order in (
            {"operation": "verify", "images": [image("verify", "signed")], "public": public},
            {"operation": "verify", "images": [image("unsigned", "plain")], "public": public},
            {"operation": "info", "images": [image("info", "signed")]},
            {"operation": "sign", "images": [image("sign", "plain")], "keys": [str(key.pem)]},
            {"operation": "copy", "copies": [[image("from", "signed"), f"{good.host}/case/from:1"]]},
            {"operation": "copy", "copies": [[f"{good.host}/signed:1", f"{bad.host}/case/to:1"]]},
        )
    ]


def _judge(name: str, done: Json, bad: Server) -> str:
    """Return "well", or the codes of the reasons; each of them must name the registry and be readable."""
    result = done["results"][0]
    reasons = [*result["reasons"], *(result["warnings"] if name == "info" else [])]
    if name == "unsigned":
        assert not result["verified"], result
    if name == "unsigned" and {reason["code"] for reason in reasons} == {"no_signatures"}:
        return "well"
    if not reasons:
        if name == "verify":
            assert result["verified"], result
        if name == "info":
            assert sorted(one["format"] for one in result["signatures"]) == ["bundle", "sig"], result
        return "well"
    for reason in reasons:
        assert bad.host in reason["message"], reason
        assert len(reason["message"]) < 1000, reason
        assert "Traceback" not in reason["message"]
        assert "object at 0x" not in reason["message"]
        assert PASSWORD not in reason["message"]
        assert "canary" not in reason["message"]
        assert "('" not in reason["message"]
    if name == "verify":
        assert not result["verified"] or not result["reasons"]
    return " ".join(dict.fromkeys(reason["code"] for reason in reasons))


# --- a thousand referrers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [0, 100], ids=["in-one-answer", "paged"])
@pytest.mark.parametrize("claim", [{}, {"dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1"}],
                         ids=["plain", "pretending-to-be-signatures"])
def test_a_signature_among_a_thousand_referrers(
    good: Server, bad: Server, workers: list[Operator], p256: KeyFiles, page: int, claim: Json
) -> None:
    name, settings, public = "many/r", _settings(bad), [str(p256.public)]
    for repository in (name, "many/none"):
        good.do("drop", repository=repository)
        good.do("clone", source="signed" if repository == name else "plain", repository=repository)
        digest = good.do("digest", repository=repository, tag="1")
        count = 999 if repository == name else 1000
        good.do("referrers", repository=repository, subject=digest, count=count, annotations=claim)
    good.do("page", size=page)
    try:
        image, none = f"{good.host}/{name}:1", f"{good.host}/many/none:1"
        verified, unsigned, listed = together(workers, [
            {"settings": settings, **order} for order in (
                {"operation": "verify", "images": [image], "public": public, "formats": ["bundle"]},
                {"operation": "verify", "images": [none], "public": public},
                {"operation": "info", "images": [image]},
            )
        ])
        digest = good.do("digest", repository=name, tag="1")
        good.do("referrers", repository=name, subject=digest, count=1001, annotations=claim)
        over = together(workers, [
            {"settings": settings, **order} for order in (
                {"operation": "verify", "images": [image], "public": public, "formats": ["bundle"]},
                {"operation": "info", "images": [image]},
                {"operation": "sign", "images": [image], "keys": [str(p256.pem)], "formats": ["bundle"]},
                {"operation": "copy", "copies": [[image, f"{good.host}/many/copy:1"]]},
            )
        ])
    finally:
        good.do("page", size=0)
    every = [verified, unsigned, listed, *over]
    print([f"{one['seconds']:.1f} s, {one['requests']} requests, {one['peak']:.0f} MiB" for one in every])
    assert verified["results"][0]["verified"], verified
    assert [reason["code"] for reason in unsigned["results"][0]["reasons"]] == ["no_signatures"]
    assert len(listed["results"][0]["artifacts"]) == 999
    assert len(listed["results"][0]["signatures"]) == 2
    assert listed["results"][0]["warnings"] == []
    assert max(one["peak"] for one in every) <= MOST_MEMORY
    for one in over:
        result = one["results"][0]
        assert {reason["code"] for reason in result["reasons"]} - {"no_signatures"} == {"limit_exceeded"}, result
        assert good.host in result["reasons"][0]["message"]
    state = good.do("state", repository="many/copy")
    assert state["broken"] == []
    assert "1" not in state["tags"], "the image's tag comes last"
