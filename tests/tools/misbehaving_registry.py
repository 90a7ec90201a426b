# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry that misbehaves by order, in a process of its own, for tests.

It prints HOST:PORT. Then each line of standard input is an order in JSON, answered with one line: the name of a
public method of C(Orders) and its arguments. It ends with its standard input. User "ci" with password "secret" may do
everything, others nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import typing as t

from native_registry import NativeHandler, NativeRegistry

from fake_registry import Answer, Fault, Seen, Stored  # isort: skip

USER, PASSWORD = "ci", "secret"
_SIZE = 100 * 1024 * 1024
_PIECE = 64 * 1024

Json = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Spoilt(Fault):
    """A fault that has a method of the handler for itself."""

    raw: str = ""


class Handler(NativeHandler):
    """Sends answers that no library for servers would send."""

    def _send(self, answer: Answer, fault: Fault) -> None:
        raw = getattr(fault, "raw", "")
        if raw:
            getattr(self, f"_send_{raw}")(answer)
        else:
            super()._send(answer, fault)

    def _send_large(self, answer: Answer) -> None:
        """100 MB: white space, then the genuine body."""
        self._write(self._head(answer, Fault(content_length=str(_SIZE + len(answer.body)))))
        for _number in range(_SIZE // _PIECE):
            self._write(b" " * _PIECE)
        self._write(answer.body)

    def _send_large_in_chunks(self, answer: Answer) -> None:
        self._write(self._head(answer, Fault(chunked=True)))
        for _number in range(_SIZE // _PIECE):
            self._write(b"%x\r\n" % _PIECE + b" " * _PIECE + b"\r\n")
        self._write(b"%x\r\n" % len(answer.body) + answer.body + b"\r\n0\r\n\r\n")

    def _send_large_chunk(self, answer: Answer) -> None:
        """One chunk that is said to have more bytes than any memory."""
        self._write(self._head(answer, Fault(chunked=True)) + b"7fffffffffffffff\r\n")
        for _number in range(_SIZE // _PIECE):
            self._write(b" " * _PIECE)

    def _send_many_headers(self, _answer: Answer) -> None:
        self._write(b"HTTP/1.1 200 OK\r\n")
        for number in range(_SIZE // 60_000):
            self._write(b"X-Filler-%d: " % number + b"x" * 60_000 + b"\r\n")

    def _send_long_header(self, _answer: Answer) -> None:
        self._write(b"HTTP/1.1 200 OK\r\nX-Filler: ")
        for _number in range(_SIZE // _PIECE):
            self._write(b"x" * _PIECE)

    def _send_continues(self, _answer: Answer) -> None:
        """Interim answers for ever."""
        while not self.server.registry.stopping.is_set():
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    def _send_longer(self, answer: Answer) -> None:
        """More bytes than Content-Length says; they begin like the next answer."""
        self._write(self._head(answer, Fault()) + answer.body + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    def _send_then_close(self, answer: Answer) -> None:
        """A right answer on a connection that is closed afterwards, without having been announced."""
        body = b"" if self.command == "HEAD" else answer.body
        self._write(self._head(answer, Fault()) + body)
        self.close_connection = True

    def _send_elsewhere(self, _answer: Answer) -> None:
        """Point to the same path on another host."""
        registry = t.cast(Misbehaving, self.server.registry)
        assert registry.elsewhere is not None
        self._write(self._head(Answer(307, {"Location": f"http://{registry.elsewhere.host}{self.path}"}), Fault()))

    def _send_garbage(self, _answer: Answer) -> None:
        self._write(b"\x15\x03\x01\x00\x02\x02\x16\r\n\r\n" * 100)
        self.close_connection = True

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()


class Misbehaving(NativeRegistry):
    """The registry."""

    handler = Handler
    # Has the same content, and lets everybody in.
    elsewhere: NativeRegistry | None = None


class Orders:
    """What can be asked for."""

    def __init__(self, registry: Misbehaving) -> None:
        self._registry = registry

    def spoil(self, fault: Json, method: str = "", path: str = "", times: int = 1_000_000, skip: int = 0) -> None:
        """Let requests whose method is this and whose path contains that go wrong so many times, after some others."""
        left = [skip, times]
        body = fault.get("body")
        spoilt = Spoilt(**{**fault, **({"body": body.encode()} if body is not None else {})})

        def hook(seen: Seen) -> Fault | None:
            if seen.method not in (method or seen.method).split() or path not in seen.path or left[1] <= 0:
                return None
            left[left[0] <= 0] -= 1
            return spoilt if left[0] < 0 or left[1] < times else None

        self._registry.faults.append(hook)

    def behave(self) -> list[str]:
        """Spoil nothing any more; return what went wrong in the registry itself."""
        self._registry.faults.clear()
        self._registry.log.clear()
        return [repr(error) for error in self._registry.errors]

    def image(self, repository: str, tag: str) -> str:
        """Make a small image and return its digest."""
        return self._registry.put_image(repository, tag)

    def digest(self, repository: str, tag: str) -> str:
        """Return what a tag names."""
        return self._registry.manifests[repository][tag].digest

    def referrers(self, repository: str, subject: str, count: int, annotations: Json) -> None:
        """Attach so many small things that are no signatures."""
        for number in range(count):
            digest = self._registry.put_referrer(repository, subject, note=str(number))
            stored = self._registry.manifests[repository].pop(digest)
            members = stored.members
            members["annotations"].update(annotations)
            self._registry.put_manifest(repository, members)

    def clone(self, source: str, repository: str) -> None:
        """Give a repository a second name."""
        self._registry.manifests[repository] = dict(self._registry.manifests[source])
        self._registry.blobs[repository] = dict(self._registry.blobs[source])

    def drop(self, repository: str) -> None:
        """Forget a repository."""
        self._registry.manifests.pop(repository, None)
        self._registry.blobs.pop(repository, None)

    def state(self, repository: str) -> Json:
        """Return the tags, those of them that are not whole, and a digest of everything."""
        known: dict[str, Stored] = self._registry.manifests.get(repository, {})
        everything = [*sorted((name, one.digest) for name, one in known.items())]
        blobs = [*sorted(self._registry.blobs.get(repository, {}).items())]
        return {
            "tags": self._registry.tags(repository), "broken": self._registry.broken_tags(repository),
            "content": hashlib.sha256(repr((everything, blobs)).encode()).hexdigest(),
        }

    def page(self, size: int) -> None:
        """Set how many referrers are in one answer."""
        self._registry.page_size = size

    def secrets_seen(self) -> int:
        """Return how many requests came with any login."""
        return len([seen for seen in self._registry.log if seen.authorized])

    def elsewhere(self) -> list[int]:
        """Return how many requests the other host with the same content got, and how many of them with any login."""
        assert self._registry.elsewhere is not None
        log = self._registry.elsewhere.log
        return [len(log), len([seen for seen in log if seen.authorized])]

    def seen(self, path: str) -> list[str]:
        """Return the requests whose path contains this."""
        return [f"{seen.method} {seen.path}" for seen in self._registry.requests(path=path)]


def main() -> int:
    """Serve until standard input ends."""
    open_to_all = "--open" in sys.argv
    login: Json = {} if open_to_all else {"auth": "basic", "username": USER, "password": PASSWORD}
    with Misbehaving(**login) as registry, NativeRegistry() as elsewhere:
        elsewhere.manifests, elsewhere.blobs = registry.manifests, registry.blobs
        registry.elsewhere = elsewhere
        orders = Orders(registry)
        print(registry.host, flush=True)
        for line in iter(sys.stdin.readline, ""):
            name, arguments = json.loads(line)
            print(json.dumps(getattr(orders, name)(**arguments)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
