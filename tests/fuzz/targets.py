# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that reads bytes of a registry, a log or an archive, each with what must hold whatever these bytes are.

A target returns, or raises what nothing may raise: an exception that is no HallmarkError, or AssertionError where
something false came out. Time and memory are looked at by whoever calls it. TARGETS is the table of all of them.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import tarfile
import typing as t
from dataclasses import dataclass

import world
from ansible_collections.hallmark.signing.plugins.module_utils import _base64, _strict_json
from ansible_collections.hallmark.signing.plugins.module_utils._docker.base_files import BaseFiles
from ansible_collections.hallmark.signing.plugins.module_utils._docker.image_config import ImageConfig
from ansible_collections.hallmark.signing.plugins.module_utils._docker.refusal import Refusal
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import certificate as facts
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
from ansible_collections.hallmark.signing.plugins.module_utils._oci import (
    archive,
    authorization,
    failure,
    layout_index,
    location,
    manifest,
    reference,
    referrers,
    wire,
)
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.layout_reference import LayoutReference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import Response
from ansible_collections.hallmark.signing.plugins.module_utils._reason_codes import ReasonCode
from ansible_collections.hallmark.signing.plugins.module_utils._signing import (
    authority,
    bundle,
    certificate_path,
    dsse,
    identity,
    listing,
    log_search,
    payload,
    statement,
    verify,
)
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import (
    body,
    checkpoint,
    lookup,
    merkle,
    proof,
    rekor,
    timestamp,
)
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import entry as entries
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency import log_bench
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from world import b64, compact

DATA = pathlib.Path(__file__).parents[1] / "unit" / "data"
_MAX_ERROR = 4096
_CODES = frozenset(t.get_args(ReasonCode))
Result = t.TypeVar("Result")


@dataclass(frozen=True)
class Target:
    """One reader: C(run) takes an input, C(seeds) gives the first ones.

    It gets C(share) of the time, but no more than C(runs) inputs where they are to be the same ones each time.
    """

    run: t.Callable[[bytes], None]
    seeds: t.Callable[[], t.Iterable[bytes]]
    runs: int
    share: int = 1


def tried(work: t.Callable[[], Result]) -> Result | None:
    """Return what is returned, or None where it is refused as it should be: with a known code, in few words."""
    try:
        return work()
    except HallmarkError as exc:
        refusal = exc
    assert refusal.code in _CODES
    assert len(str(refusal)) <= _MAX_ERROR, f"an error of {len(str(refusal))} characters: {str(refusal)[:200]}"
    return None


def deeper(work: t.Callable[[], Result], calls: int = 50) -> Result:
    """Do it further down: what modules read they often write in a place that is reached through more calls."""
    return deeper(work, calls - 1) if calls else work()


def text_of(data: bytes) -> str:
    """Return what a header holds: HTTP clients take its bytes for Latin-1."""
    return data.decode("latin-1")


def loaded(data: bytes) -> _strict_json.JsonObject | None:
    """Return an input as what the readers of parts of a document are given."""
    return tried(lambda: _strict_json.loads(data, what="document", where="test"))


# --- texts -----------------------------------------------------------------------------------------------------------


def read_json(data: bytes) -> None:
    """What is read has one meaning, is the same to Python, and can be written and read again."""
    found = loaded(data)
    if found is None:
        return
    assert found.members == json.loads(data)
    for escape in (True, False):
        written = deeper(lambda escape=escape: _strict_json.dumps(found.members, escape_html=escape))
        assert _strict_json.loads(written, what="document", where="test") == found
    for name in list(found.members)[:20]:
        for read in (found.string, found.base64, found.integer, found.object, found.objects, found.strings):
            tried(lambda read=read, name=name: read(name))  # type: ignore[misc]
        tried(lambda name=name: found.only(name))  # type: ignore[misc]
        tried(lambda name=name: found.no_case_variants(name.lower(), name.upper()))  # type: ignore[misc]


def read_base64(data: bytes) -> None:
    """Bytes have one spelling."""
    with contextlib.suppress(ValueError):
        assert _base64.encode(_base64.decode(text_of(data))) == text_of(data)


def read_challenge(data: bytes) -> None:
    """No token service takes a password over plain HTTP that the registry would not have got so."""
    for base in ("https://r.test", "http://127.0.0.1:5000"):
        found = tried(lambda base=base: authorization.read_challenge(text_of(data), base=base, where="r.test"))
        if found is not None and found.scheme == "bearer":
            assert found.realm.startswith("https://") or base.startswith("http://")
            url = found.token_url("repository:app:pull")
            assert url.isascii()
            assert url.isprintable()
            found.refresh_form("repository:app:pull", "identity")


def read_token(data: bytes) -> None:
    """A token fits into one header."""
    found = tried(lambda: authorization.read_token(data, where="r.test"))
    assert found is None or (found.value.isprintable() and found.value.isascii() and " " not in found.value)


def read_location(data: bytes) -> None:
    """A location has one host, to every reader, and reading it again changes nothing."""
    for base in ("https://r.test/", "http://127.0.0.1:5000/v2/app/blobs/uploads/1?_state=x"):
        try:
            url = location.resolve(base, text_of(data))
        except ValueError:
            continue
        scheme, host, port = location.origin(url)
        assert scheme in ("http", "https")
        assert 0 < port < 65536
        assert host.lower() in url.lower().split("/")[2]
        assert not set(url) & set("@\\ ") or "@" not in url.split("/")[2].partition("?")[0]
        assert location.resolve(base, url) == url
        location.is_loopback(host)
        location.is_link_local(host)


def read_answer(data: bytes) -> None:
    """Headers and bodies of errors are understood or passed over."""
    text = text_of(data)
    headers = {"retry-after": text, "link": text}
    assert failure.retry_after(headers) >= 0
    referrers.next_page(Response(200, headers, b"", "https://r.test/"), "/v2/app/referrers/x?n=1")
    for status in (404, 429, 500):
        assert len(str(failure.unexpected("r.test", "try", Response(status, headers, data, "https://r.test/")))) < 1000


def read_reference(data: bytes) -> None:
    """A reference that is written is read as the same, and its path stays inside of the API."""
    text = data.decode("utf-8", "replace")
    reference.same_name(text, world.NAME)
    tried(lambda: reference.parse_image_name(text))
    found = tried(lambda: reference.parse_image(text))
    if found is not None:
        assert reference.parse_image(str(found)) == found
        assert isinstance(found, LayoutReference) or ".." not in f"{found.repository}/{found.target}".split("/")


class _Socket:
    """A connection over which these bytes come, a few hundred at a time, and then C(more) zeros."""

    def __init__(self, data: bytes, more: int) -> None:
        self.left = data
        self.more = more
        self.has_ended = False

    def recv_into(self, buffer: t.Any) -> int:
        """Receive some."""
        part, self.left = self.left[:min(len(buffer), 300)], self.left[min(len(buffer), 300):]
        if not part:
            part = bytes(min(len(buffer), self.more))
            self.more -= len(part)
        self.has_ended = not part
        buffer[:len(part)] = part
        return len(part)

    def settimeout(self, _seconds: float) -> None:
        """It never takes long."""

    def close(self) -> None:
        """Nothing is to be done."""


_MAX_BODY = 1 << 18


def read_wire(data: bytes) -> None:
    """An answer is read whole or refused; where the connection is kept, it ended where the standard says."""
    for method, more in (("GET", 0), ("HEAD", 0), ("GET", 1 << 25)):
        kept: list[wire.Connection] = []
        sock = _Socket(data, more)
        connection = wire.Connection(t.cast(t.Any, sock))
        connection.deadline = deadline = wire.Deadline(float("inf"))
        body = b""
        try:
            answer = wire.Answer(connection, method, kept)
            while len(body) <= _MAX_BODY and (part := answer.read(4096, deadline)):
                body += part
            answer.done()
        except OSError:
            continue
        assert _BLANK.search(data), "half a header is taken for one"
        assert all(name == name.lower() and "\n" not in value for name, value in answer.headers.items())
        if kept and not more and not connection.has_surplus and not sock.left and not sock.has_ended:
            assert _http_body(data, method, answer) == body


_BLANK = re.compile(rb"\n\r?\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;[^\n]*)?\r?\n")
# Trailers end with an empty line, as headers do.
_TRAILERS = re.compile(rb"(?:(?!\r?\n)[^\n]*\n)*\r?\n")


def _http_body(data: bytes, method: str, answer: wire.Answer) -> bytes | None:
    """Return the body of the one answer that the bytes are (RFC 9112 section 6.3); None if they are not just that."""
    head = _BLANK.search(data)
    while head and int(text_of(data).split(None, 2)[1]) == 100:
        data = data[head.end():]
        head = _BLANK.search(data)
    rest = data[head.end():] if head else b"no end of the header"
    length, coding = (answer.headers.get(name) for name in ("content-length", "transfer-encoding"))
    if method == "HEAD" or answer.status in (204, 304):
        return None if rest else b""
    if coding is not None:
        return _dechunked(rest) if coding.lower() == "chunked" and length is None else None
    return rest if length is not None and re.fullmatch("[0-9]+", length) and len(rest) == int(length) else None


def _dechunked(data: bytes) -> bytes | None:
    body = b""
    while size := _CHUNK.match(data):
        count = int(size[1], 16)
        part, data = data[size.end():size.end() + count], data[size.end() + count:]
        if not count:
            return body if _TRAILERS.fullmatch(data) else None
        if len(part) < count or len(data) < 2:
            return None
        # That these are the end of a line is not checked by Python's reader.
        body, data = body + part, data[2:]
    return None


def _wire_seeds() -> t.Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Type: text/plain\r\n\r\nabc"
    yield b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n"
    yield b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nWWW-Authenticate: Bearer\r\nConnection: close\r\n\r\nabc"
    yield b"HTTP/1.0 304 Not Modified\r\nConnection: keep-alive\r\n\r\n"
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    # What Python takes for the length of a chunk, and nobody else.
    for length in (b"-1", b"-0", b"0x3", b"+3", b"0_3"):
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\nabc\r\n0\r\n\r\n" % length


# --- documents -------------------------------------------------------------------------------------------------------


def read_manifest(data: bytes) -> None:
    """A manifest is an image or an index; its entries can be written and read again."""
    for content_type in ("", manifest.OCI_INDEX, manifest.DOCKER_MANIFEST):
        found = tried(lambda kind=content_type: manifest.parse(data, content_type=kind, where="test"))
        if found is None:
            continue
        assert found.digest == digest_of(data)
        assert not (found.children and (found.layers or found.config))
        index = manifest.encode_index(found.children)
        assert manifest.parse(index, content_type="", where="test").children == found.children
        if found.config:
            image = manifest.encode_image(
                config=found.config, layers=found.layers, annotations=found.annotations, subject=found.subject
            )
            again = manifest.parse(image, content_type="", where="test")
            assert (again.config, again.layers, again.subject) == (found.config, found.layers, found.subject)
        assert found.as_referrer().digest == found.descriptor().digest
        assert len(found.images) <= len(found.children)


@dataclass(frozen=True)
class _Index:
    """A layout with this index."""

    raw: bytes
    where: str = "test"

    def require_version(self) -> None:
        """It is of the right one."""

    def index(self) -> bytes:
        """Return it."""
        return self.raw


def read_layout_index(data: bytes) -> None:
    """An entry is found after it was added, and what is not known stays."""
    index = tried(lambda: layout_index.read(t.cast(t.Any, _Index(data)), where="test"))
    if index is None:
        return
    for tag in (None, "1", f"{world.DIGEST.replace(':', '-')}.sig", *index.tags[:3]):
        tried(lambda tag=tag: index.find(LayoutReference("x", tag)))
    new = Descriptor(manifest.OCI_MANIFEST, digest_of(b"new"), 3)
    written = layout_index.encode(index.tagged("new", new))
    again = layout_index.read(t.cast(t.Any, _Index(written)), where="test")
    entry = again.find(LayoutReference("x", "new"))
    assert entry is not None
    assert entry.digest == new.digest
    layout_index.encode(index.listed(new).without({new.digest}))


def read_payload(data: bytes) -> None:
    """A claim is read as it is written."""
    found = tried(lambda: payload.decode(data, where="test"))
    if found is not None:
        assert payload.decode(payload.encode(found), where="test") == found


def read_statement(data: bytes) -> None:
    """So is a statement."""
    found = tried(lambda: statement.decode(data, where="test"))
    assert statement.is_image_signature(data) == (found is not None)
    for subject in found or ():
        for algorithm, value in subject.digests.items():
            again = statement.decode(statement.encode(f"{algorithm}:{value}", subject.annotations), where="test")
            # A name with a colon in it is cut there: no digest of an image has one.
            assert ":" in algorithm or again[0] == dataclasses.replace(subject, digests={algorithm: value})


def read_bundle(data: bytes) -> None:
    """And the envelope of a bundle."""
    found = tried(lambda: bundle.decode(data, where="test"))
    if found is None:
        return
    written = bundle.encode(found.envelope, key_id=found.hinted_key_id or "00")
    assert bundle.decode(written, where="test").envelope == found.envelope
    assert found.envelope.signed_bytes.endswith(found.envelope.payload)
    tried(lambda: dsse.decode(found.material))


# --- certificates ----------------------------------------------------------------------------------------------------


def read_pem(data: bytes) -> None:
    """Whatever reads PEM reads the same certificates."""
    found = tried(lambda: certificate_path.read_certificates(data, where="test"))
    tried(lambda: pem.read_public_key(data, where="test"))
    tried(lambda: timestamp.read_authority(data, where="test"))
    described = tried(lambda: facts.read_chain(data, where="test"))
    if found and described:
        assert described.key_id == pem.key_id(found[0].public_key())
    for one in found or ():
        identity.names_of(one)


def find_path(data: bytes) -> None:
    """A path is one: each signed the one below, all are valid, the last is trusted.

    The keys are replaced and the signatures made anew, unless the input says otherwise: as if an authority had issued
    what stands there.
    """
    given = loaded(data)
    rows = [] if given is None else [_ders(given, name) for name in ("leaf", "intermediates", "roots")]
    count = sum(len(row) for row in rows)
    if given is None or not all(rows) or count > 12:
        return
    if given.members.get("as_is") is not True:
        ders = [der for row in rows for der in row]
        made = [world.rekeyed(der, f"{at}", f"{min(at + 1, count - 1)}") for at, der in enumerate(ders)]
        rows = [made[:len(rows[0])], made[len(rows[0]):-len(rows[2])], made[-len(rows[2]):]]
    read = [tried(lambda der=der: certificate_path.read_leaf_der(der, where="test")) for row in rows for der in row]
    certificates = [one for one in read if one is not None]
    if len(certificates) < count:
        return
    leaf, roots = certificates[0], certificates[-len(rows[2]):]
    moment = leaf.not_valid_before_utc
    path = tried(lambda: certificate_path.find_path(
        leaf, intermediates=certificates[1:-len(roots)], roots=roots, at=moment, where="test"
    ))
    names = identity.names_of(leaf)
    identity.read_identity({"type": "uri", "regexp": "https://.*[.]example[.]com/.*"}).matches(leaf)
    assert all(isinstance(name.value, str) for name in names)
    if path is not None:
        assert path[0] == leaf
        assert path[-1] in roots
        for lower, upper in zip(path, path[1:]):
            lower.verify_directly_issued_by(upper)
            assert upper.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert all(one.not_valid_before_utc <= moment <= one.not_valid_after_utc for one in path)


def _ders(given: _strict_json.JsonObject, name: str) -> list[bytes]:
    values = given.members.get(name)
    with contextlib.suppress(ValueError, TypeError):
        return [base64.b64decode(one, validate=True) for one in t.cast("list[str]", values)]
    return []


def _path_seeds() -> t.Iterator[bytes]:
    rsa, edwards = bench.Subject("sub", "rsa2048"), bench.Subject("sub", "ed25519")
    for case in (
        bench.chain("usual"),
        bench.chain("rsa", leaf=bench.leaf(rsa, pss=True), sub=bench.authority(rsa, "root")),
        bench.chain("edwards", leaf=bench.leaf(edwards), sub=bench.authority(edwards, "root")),
        bench.chain("long", intermediates=(bench.authority("sub", "two"), bench.authority("two", "root", below=1))),
        bench.constrained("dns", [bench.dns("*.example.com")], [bench.dns("example.com")], [bench.dns("no.example")]),
        bench.constrained("mail", [bench.email("a@example.com")], [bench.email(".com")], [bench.email("b@ex.com")]),
        bench.constrained("uri", [bench.JOB], [bench.JOB_HOST], [bench.uri(".example.org")]),
        bench.constrained("ip", [bench.address("192.0.2.7")], [bench.network("192.0.2.0/24")]),
        bench.constrained("name", [bench.JOB], [bench.directory(O="example")], [bench.directory(CN="other")]),
        bench.constrained("other", [bench.other_name("1.3.6.1.4.1.57264.1.7", bench.utf8("a!b"))]),
    ):
        rows = {"leaf": (case.leaf,), "intermediates": case.intermediates, "roots": case.roots}
        ders = {name: [b64(one.public_bytes(serialization.Encoding.DER)) for one in row] for name, row in rows.items()}
        yield compact(ders)
        yield compact({**ders, "as_is": True})


# --- logs and timestamps ---------------------------------------------------------------------------------------------

_LOGGED = log_bench.Signer(world.ALICE.private)
_CERTIFIED = log_bench.Signer(world.CAROL.private, world.LEAF)
_STRANGER = log_bench.Signer(world.MALLORY.private)
_TIME = datetime.datetime.fromtimestamp(log_bench.TIME, tz=datetime.timezone.utc)


def read_entry(data: bytes) -> None:
    """An entry is read as it is written, in every shape it comes in."""
    text = data.decode("utf-8", "replace")
    noted = tried(lambda: entries.from_annotation(text, where="test"))
    if noted is not None:
        assert entries.from_annotation(entries.as_annotation(noted), where="test") == noted
        json.loads(noted.promised_bytes)
    source = loaded(data)
    if source is None:
        return
    answered = tried(lambda: entries.from_response(source))
    if answered is not None:
        tried(lambda: entries.as_annotation(answered))
    found = tried(lambda: entries.from_bundle(source))
    if found is not None:
        written = _strict_json.dumps(entries.as_bundle(found))
        # An empty promise is written as none.
        expected = dataclasses.replace(found, signed_entry_timestamp=found.signed_entry_timestamp or None)
        assert entries.from_bundle(_strict_json.loads(written, what="entry", where="test")) == expected


def read_body(data: bytes) -> None:
    """A body is about a digest of the right length and a key that can be read; a certificate is of that key."""
    found = tried(lambda: body.decode(data, where="test"))
    if found is None:
        return
    assert len(found.digest) == hashlib.new(found.hash_algorithm).digest_size
    assert log_bench.spki(serialization.load_der_public_key(found.spki)) == found.spki
    if found.certificate is not None:
        assert log_bench.spki(x509.load_der_x509_certificate(found.certificate).public_key()) == found.spki
    assert body.kind_of(data, where="test") == (found.kind, found.version)


def read_checkpoint(data: bytes) -> None:
    """Not a character of a checkpoint is lost."""
    text = data.decode("utf-8", "replace")
    found = tried(lambda: checkpoint.decode(text, where="test"))
    if found is not None:
        lines = [f"\u2014 {line.name} {b64(line.hint + line.signature)}\n" for line in found.signatures]
        assert text == f"{found.signed_bytes.decode()}\n{''.join(lines)}"


def climb_tree(data: bytes) -> None:
    """An inclusion proof leads to the root that the recursive definition (RFC 9162 section 2.1.3.1) leads to."""
    source = loaded(data)
    if source is None:
        return
    index, size, count = (source.members.get(name) for name in ("index", "size", "hashes"))
    if isinstance(index, int) and isinstance(size, int) and isinstance(count, int) and size < 2**63:
        hashes = [hashlib.sha256(b"%d" % at).digest() for at in range(count % 80)]
        try:
            found = merkle.root_of_inclusion(leaf=b"leaf", index=index, size=size, hashes=hashes)
        except ValueError:
            found = None
        assert found == _root(index, size, hashes)


def _root(index: int, size: int, hashes: list[bytes]) -> bytes | None:
    if not 0 <= index < size or (size == 1) != (not hashes):
        return None
    if size == 1:
        return b"leaf"
    half = 1 << (size - 1).bit_length() - 1
    below = _root(index % half if index >= half else index, size - half if index >= half else half, hashes[:-1])
    if below is None:
        return None
    return merkle.node_hash(hashes[-1], below) if index >= half else merkle.node_hash(below, hashes[-1])


def prove_entry(data: bytes) -> None:
    """What a log vouches for is still about this signature, or refused.

    Each entry is judged as it is and, as if a log had made it so, with promise, root and checkpoint made anew.
    """
    source = loaded(data)
    entry = None if source is None else tried(lambda: entries.from_bundle(source))
    if entry is None:
        return
    for log in (None, world.LOG_V1, world.LOG_V2, world.FALSE_LOG):
        made = _vouched_for(entry, log) if log else entry
        for signer in (_LOGGED, _CERTIFIED, _STRANGER):
            for is_dsse in (False, True):
                about = log_bench.subject(signer, is_dsse=is_dsse)
                proven = tried(lambda made=made, about=about: [proof.verify(
                    made, subject=about, keys=world.LOGS, needs_proof=True, now=world.NOW, where="test"
                )])
                if proven:
                    assert _is_about(made.body, about)
                    assert log is not world.FALSE_LOG
                    assert log or (made.body in world.BODIES and proven[0] in (None, _TIME))


def _vouched_for(entry: entries.LogEntry, log: log_bench.Log) -> entries.LogEntry:
    made = dataclasses.replace(entry, log_id=log.id)
    given = made.proof
    if given is not None:
        index, size = (made.index, given.size) if log.version == 2 else (given.index, given.size)
        with contextlib.suppress(ValueError):
            leaf = merkle.leaf_hash(made.body)
            root = merkle.root_of_inclusion(leaf=leaf, index=index, size=size, hashes=given.hashes)
            made = dataclasses.replace(made, proof=dataclasses.replace(
                given, root=root, checkpoint=log.checkpoint(size, root)
            ))
    return log.promise(made) if made.signed_entry_timestamp is not None else made


def _is_about(raw: bytes, about: proof.Subject) -> bool:
    """Say whether a body names the signature, the key and the digest, wherever they stand."""
    texts: list[str] = []
    pending: list[t.Any] = [json.loads(raw)]
    while pending:
        one = pending.pop()
        pending.extend(one.values() if isinstance(one, dict) else one if isinstance(one, list) else [])
        texts.extend([one] if isinstance(one, str) else [])
    spelt = {text for data in (about.payload, about.message) for digest in (
        hashlib.sha256(data), hashlib.sha384(data), hashlib.sha512(data)
    ) for text in (digest.hexdigest(), b64(digest.digest()))}
    verifier = about.certificate or about.spki
    return b64(about.signature) in texts and not spelt.isdisjoint(texts) and any(
        _der_of(base64.b64decode(text, validate=True)) == verifier for text in texts if len(text) > 100
    )


def _der_of(data: bytes) -> bytes:
    """Return the DER of a key or certificate in either form; what is neither is no verifier."""
    text = data.replace(b"\r", b"").partition(b"-----BEGIN ")[2]
    return base64.b64decode(text.partition(b"-----\n")[2].partition(b"-----END")[0]) if text else data


def _entry_seeds() -> t.Iterator[bytes]:
    for raw in _body_seeds():
        log = world.LOG_V1 if b'"0.0.1"' in raw else world.LOG_V2
        world.BODIES.add(raw)
        made = log.enter(raw)
        yield compact(entries.as_bundle(made))
        if made.signed_entry_timestamp is not None:
            yield entries.as_annotation(made).encode()
            yield compact({
                "body": b64(raw), "integratedTime": made.integrated_time, "logID": made.log_id.hex(),
                "logIndex": made.index,
                "verification": {"signedEntryTimestamp": b64(made.signed_entry_timestamp), "inclusionProof": {
                    "logIndex": 4, "treeSize": 7, "rootHash": t.cast(t.Any, made.proof).root.hex(),
                    "hashes": [one.hex() for one in t.cast(t.Any, made.proof).hashes],
                    "checkpoint": t.cast(t.Any, made.proof).checkpoint,
                }},
            })
    for vector in _vectors("transparency"):
        if "bundle" in vector:
            yield from (compact(one) for one in vector["bundle"]["verificationMaterial"].get("tlogEntries", ()))


def _body_seeds() -> t.Iterator[bytes]:
    for signer in (_LOGGED, _CERTIFIED):
        for version in (1, 2):
            yield log_bench.body("hashedrekord", version, signer, log_bench.PAYLOAD)
            yield log_bench.body("dsse", version, signer, log_bench.PAYLOAD, hash=("sha256", "sha512")[version - 1])
    yield log_bench.body("hashedrekord", 2, _LOGGED, log_bench.pae(log_bench.PAYLOAD))
    # The key of a certificate, logged without it.
    yield log_bench.body("dsse", 2, log_bench.Signer(_CERTIFIED.key), log_bench.PAYLOAD)


def _checkpoint_seeds() -> t.Iterator[bytes]:
    for log in (world.LOG_V1, world.LOG_V2):
        yield log.checkpoint(7, bytes(32), after="\u2014 witness.example AAAAAAAA\n", extension="more\n").encode()


def ask_log(data: bytes) -> None:
    """Whatever a log answers, it is an entry, a list of UUIDs, or refused."""
    log = rekor.Log.__new__(rekor.Log)
    log.url, log.host, log._path = "https://log.example", "log.example", ""
    log._transport = t.cast(t.Any, _Answering(data))
    found = lookup.describe(lambda: log.by_index(7), world.LOG_V1.known, where="log.example")
    assert len(json.dumps(found.as_dict())) < 2 * _MAX_ERROR
    tried(lambda: log.add(b"{}"))
    assert all(len(one) in (64, 80) for one in tried(lambda: log.search({})) or ())
    log._transport = t.cast(t.Any, _Answering(data, compact(["0" * 64])))
    find = log_search.finder(log, world.LOGS)
    assert not tried(lambda: find(log_bench.subject(_STRANGER), "test"))


@dataclass(frozen=True)
class _Answering:
    """A connection over which the same comes whatever is asked, unless it is what the index C(holds)."""

    data: bytes
    holds: bytes = b""

    def send(self, request: t.Any) -> Response:
        """Return it, as body and as header."""
        body = self.holds if self.holds and request.location.endswith("retrieve") else self.data
        return Response(max(request.accepted), {"location": text_of(self.data)}, body, "https://log.example/")


def _answer_seeds() -> t.Iterator[bytes]:
    yield from (compact({"0" * 64: json.loads(one)}) for one in _entry_seeds() if b'"verification"' in one)
    yield compact(["0" * 64, "1" * 80])
    yield b"/api/v1/log/entries/" + b"0" * 64


def read_timestamp(data: bytes) -> None:
    """A time counts only if a trusted authority said it of this signature."""
    for signature, moment in _stamped():
        found = tried(lambda signature=signature: timestamp.verify(
            data, signature=signature, authorities=_authorities(), where="test"
        ))
        assert found in (None, moment)


def _authorities() -> tuple[timestamp.TimestampAuthority, ...]:
    if not _KNOWN:
        for name in ("other-tsa-chain.pem", "tsa-chain.pem"):
            _KNOWN.append(timestamp.read_authority((DATA / "timestamps" / name).read_bytes(), where=name))
    return tuple(_KNOWN)


_KNOWN: list[timestamp.TimestampAuthority] = []
_MOMENTS: dict[bytes, t.Any] = {}


def _stamped() -> t.Iterable[tuple[bytes, t.Any]]:
    """Return two signatures with the times that were really said of them."""
    if not _MOMENTS:
        for vector in [one for one in _vectors("timestamps") if one["expected"] == "accept"][:2]:
            signature, response = (base64.b64decode(vector[name]) for name in ("signature", "response"))
            _MOMENTS[signature] = timestamp.verify(
                response, signature=signature, authorities=_authorities(), where="seed"
            )
    return _MOMENTS.items()


def _vectors(name: str) -> list[t.Any]:
    return t.cast("list[t.Any]", json.loads((DATA / name / "vectors.json").read_bytes()))


def _timestamp_seeds() -> t.Iterator[bytes]:
    yield from (base64.b64decode(vector["response"]) for vector in _vectors("timestamps"))


# --- the verdict -----------------------------------------------------------------------------------------------------


def judge_sig(data: bytes) -> None:
    """No signature of the old format counts that was not made by whom it must be made by."""
    source = loaded(data)
    if source is None:
        return
    content, notes = tried(lambda: source.base64("content")), tried(lambda: source.strings("annotations"))
    if content is not None and notes is not None:
        entry = notes.get("dev.sigstore.cosign/bundle", "")
        _judge(
            lambda: world.Registry(payload=content, annotations=notes), content,
            lambda: [x509.load_pem_x509_certificate(notes["dev.sigstore.cosign/certificate"].encode())],
            lambda: [json.loads(entry)["Payload"]["body"]],
        )


def judge_bundle(data: bytes) -> None:
    """Nor does a bundle."""
    def material(name: str) -> t.Any:
        return json.loads(data)["verificationMaterial"][name]

    source = loaded(data)
    envelope = None if source is None else tried(lambda: source.object("dsseEnvelope").base64("payload"))
    _judge(
        lambda: world.Registry(bundle=data), envelope,
        lambda: [x509.load_der_x509_certificate(base64.b64decode(material("certificate")["rawBytes"]))],
        lambda: [one["canonicalizedBody"] for one in material("tlogEntries")],
    )


def _judge(
    registry: t.Callable[[], world.Registry], content: bytes | None,
    certificates: t.Callable[[], list[x509.Certificate]], bodies: t.Callable[[], list[str]],
) -> None:
    for trust in _trusts():
        verdict = verify.verify_image(t.cast(t.Any, registry()), world.IMAGE, trust.demand)
        for reason in (*verdict.reasons, *verdict.warnings):
            assert reason.code in _CODES
            assert len(reason.message) <= _MAX_ERROR, f"a reason of {len(reason.message)} characters"
        if verdict.verified:
            assert content in world.SIGNED
            assert not trust.is_certified or all(one.tbs_certificate_bytes in world.LEAVES for one in certificates())
            assert not trust.is_logged or any(base64.b64decode(one) in world.BODIES for one in bodies())
    listed = listing.list_image(t.cast(t.Any, registry()), world.IMAGE, recursive=False, contents=True)
    # What a module returns is text to everybody.
    assert json.dumps(listed.as_dict(), ensure_ascii=False).encode("utf-8")


_TRUSTS: list[world.Trust] = []


def _trusts() -> list[world.Trust]:
    if not _TRUSTS:
        # What was really signed must be known before anything is judged.
        _all_that_is_signed()
        _TRUSTS.extend(world.trusts(_authorities()))
    return _TRUSTS


def _all_that_is_signed() -> tuple[list[bytes], list[bytes]]:
    stamp = next(iter(_timestamp_seeds()))
    return list(world.sig_seeds(stamp)), list(world.bundle_seeds(stamp))


def _sig_seeds() -> t.Iterable[bytes]:
    return _accepted(_all_that_is_signed()[0], lambda one: world.Registry(
        payload=base64.b64decode(json.loads(one)["content"]), annotations=json.loads(one)["annotations"]
    ))


def _bundle_seeds() -> t.Iterable[bytes]:
    return _accepted(_all_that_is_signed()[1], lambda one: world.Registry(bundle=one))


def _accepted(seeds: list[bytes], registry: t.Callable[[bytes], world.Registry]) -> list[bytes]:
    """Return the seeds, when each way to verify accepts one of them: else nothing forged could be accepted either."""
    for trust in world.trusts(()):
        verdicts = [verify.verify_image(t.cast(t.Any, registry(one)), world.IMAGE, trust.demand) for one in seeds]
        assert any(verdict.verified for verdict in verdicts)
    return seeds


def judge_claim(data: bytes) -> None:
    """What a trusted key signs counts for the image and the annotations that stand in it, and for nothing else."""
    notes = {"dev.cosignproject.cosign/signature": b64(world.ALICE.sign(data))}
    for wanted in ({}, {"env": "prod"}):
        demand = authority.demand(
            [world.ALICE.authority], annotations=wanted, docker_reference_check="repository", formats=["sig"]
        )
        store = world.Registry(payload=data, annotations=notes)
        if verify.verify_image(t.cast(t.Any, store), world.IMAGE, demand).verified:
            said = json.loads(data)
            assert said["critical"]["image"]["docker-manifest-digest"] == world.DIGEST
            assert said["critical"]["type"] == payload.TYPE
            name, named = world.NAME, said["critical"]["identity"]["docker-reference"]
            assert named == name or named.startswith((f"{name}:", f"{name}@"))
            assert not wanted or said["optional"]["env"] == "prod"
    store = world.Registry(bundle=bundle.encode(
        dsse.Envelope(data, world.ALICE.sign(dsse.pae(data))), key_id=world.ALICE.id
    ))
    demand = authority.demand([world.ALICE.authority], annotations={"env": "prod"}, formats=["bundle"])
    if verify.verify_image(t.cast(t.Any, store), world.IMAGE, demand).verified:
        said = json.loads(data)
        algorithm, value = world.DIGEST.split(":")
        assert said["predicateType"] == statement.PREDICATE_TYPE
        assert any(
            one["digest"].get(algorithm) == value and one["annotations"]["env"] == "prod" for one in said["subject"]
            if one.get("annotations")
        )


def _claim_seeds() -> t.Iterator[bytes]:
    yield compact(world.claim(world.DIGEST, world.NAME, {"env": "prod"}))
    yield compact(world.claim(world.OTHER, f"{world.NAME}:1@{world.DIGEST}"))
    yield compact(world.statement(world.DIGEST, {"env": "prod"}))
    yield compact(world.statement(world.OTHER, subject=[
        {"name": "x", "digest": {"sha256": world.DIGEST[7:], "sha512": "00"}, "annotations": {"env": "test"}},
        {"digest": {"sha256": world.OTHER[7:]}, "annotations": {"env": "prod"}},
    ]))


# --- images ----------------------------------------------------------------------------------------------------------


# Lies in memory only.
_FILE = os.memfd_create("archive.tar")


def read_archive(data: bytes) -> None:
    """Nothing is read from an archive that does not lie in it."""
    os.ftruncate(_FILE, 0)
    os.pwrite(_FILE, data, 0)
    image = LayoutReference(f"/proc/self/fd/{_FILE}", is_archive=True)
    archives = archive.Archives()
    files = tried(lambda: archives.files(image))
    if files is None:
        return
    tried(lambda: archives.find_manifest(image))
    for digest in list(files.small_blobs(1 << 20))[:50]:
        found = tried(lambda digest=digest: files.read(digest, limit=1 << 20))
        assert found is None or (found in data and len(found) == files.size(digest))
        tried(lambda digest=digest: archives.referrers(image, digest))


def _tar(files: dict[str, bytes], kind: int = tarfile.GNU_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=kind) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            # An extended header, where the format has one.
            entry.pax_headers = {"comment": "x", "mtime": "1.5"}
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def _archive_seeds() -> t.Iterator[bytes]:
    config = Descriptor(manifest.OCI_CONFIG, digest_of(b"{}"), 2)
    image = manifest.encode_image(config=config, layers=[config])
    index = manifest.encode_index([Descriptor(manifest.OCI_MANIFEST, digest_of(image), len(image))])
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index,
        **{f"blobs/{digest_of(one).replace(':', '/')}": one for one in (b"{}", image)},
    }
    yield _tar(files)
    yield _tar(files, tarfile.PAX_FORMAT)
    yield _tar({f"./{'x' * 150}/{name}": content for name, content in files.items()})


def read_layer(data: bytes) -> None:
    """What lies in a base is bounded, and no path leads out of it."""
    kind = "+gzip" if data.startswith(b"\x1f\x8b") else ""
    below = ("application/vnd.oci.image.layer.v1.tar", iter([_tar({"etc/a": b"", "usr/b": b""})]))
    chunks = iter([data[at:at + 4096] for at in range(0, len(data), 4096)])
    layers = [below, (f"application/vnd.oci.image.layer.v1.tar{kind}", chunks)]
    files = tried(lambda: BaseFiles.read(layers, limit=1 << 22, where="test"))
    if files is None:
        return
    for path in ("/etc/a", "usr/b/../b", "/x/y", "l/a"):
        with contextlib.suppress(Refusal):
            assert ".." not in files.resolve(path).split("/")
            files.is_folder(path)
            files.copy().put(files.resolve(path), "link", "/etc")


def _layer_seeds() -> t.Iterator[bytes]:
    files = {"etc/": b"", "etc/b": b"b", "usr/.wh.b": b"", "etc/.wh..wh..opq": b"", f"{'x' * 150}/y": b"y" * 600}
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        yield _tar(files, kind)
        yield gzip.compress(_tar(files, kind), mtime=0)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, kind, target in (("l", b"2", "/etc"), ("m", b"2", "m"), ("n", b"1", "l")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
    yield made.getvalue()
    yield gzip.compress(_tar({"zeros": bytes(8 << 20)}), mtime=0)


def read_config(data: bytes) -> None:
    """The configuration of a base is taken over or refused."""
    base = loaded(data)
    config = None if base is None else tried(lambda: ImageConfig.of_base(base, "2030-01-01T00:00:00Z"))
    if config is not None:
        tried(lambda: config.require(layers=1, platform=("linux", "amd64", "")))
        config.environment()
        assert config.working_folder().startswith("/")
        config.set_labels({"a": "b"})
        config.add_history("RUN x", digest_of(b"x"))
        again = tried(config.encode)
        assert again is None or _strict_json.loads(again, what="config", where="test")


def _config_seeds() -> t.Iterator[bytes]:
    yield compact({
        "os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [world.DIGEST]},
        "config": {"Env": ["PATH=/bin", "A"], "WorkingDir": "/x", "Labels": {"a": "b"}, "Cmd": ["x"], "User": "0",
                   "Healthcheck": {"Test": ["NONE"]}, "ExposedPorts": {"80/tcp": {}}, "OnBuild": None},
        "history": [{"created": "2030-01-01T00:00:00Z", "empty_layer": True}],
    })


# --- the table -------------------------------------------------------------------------------------------------------


def _texts(*seeds: str | bytes) -> t.Callable[[], t.Iterable[bytes]]:
    made = [seed.encode("utf-8") if isinstance(seed, str) else seed for seed in seeds]
    return lambda: made


def _manifest_seeds() -> t.Iterator[bytes]:
    entry = Descriptor(
        manifest.OCI_MANIFEST, world.DIGEST, 7, "application/x", {"org.opencontainers.image.ref.name": "1"}
    )
    saved = Descriptor(manifest.OCI_INDEX, world.OTHER, 7, "", {"kind": "dev.cosignproject.cosign/imageIndex"})
    yield manifest.encode_index([entry, saved])
    yield manifest.encode_image(config=entry, layers=[entry], annotations={"a": "b"}, subject=entry, artifact_type="x")
    yield compact({"schemaVersion": 2, "manifests": [{**entry.as_json(), "platform": {"os": "linux"}}]})
    yield compact({"config": entry.as_json(), "layers": [entry.as_json()], "manifests": [entry.as_json()]})


TARGETS: dict[str, Target] = {
    "json": Target(read_json, _texts(
        '{"a":[1,-2.5e3,true,null,"\\u00e9<",{"b":"AAAA"}]}', '{"a":1,"A":{"b":"c"}}',
    ), 35_000),
    "base64": Target(read_base64, _texts("", "AAAA", "AA==", "+/8="), 216_000),
    "challenge": Target(read_challenge, _texts(
        'Bearer realm="https://r.test/token",service="r",scope="repository:app:pull"', "Basic realm=a, Bearer realm=/t",
    ), 85_000),
    "token": Target(read_token, _texts('{"token":"abc","access_token":"abc","expires_in":300}'), 46_000),
    "location": Target(read_location, _texts(
        "/v2/x?a=b", "https://r.test:5000/x", "//[::1]:80/x", "../y", "?n=1",
    ), 119_000),
    "wire": Target(read_wire, _wire_seeds, 36_000, share=2),
    "answer": Target(read_answer, _texts(
        "3", "Wed, 21 Oct 2015 07:28:00 GMT", '</v2/x?n=1&last=a>; rel="next", <x>;rel=prev',
        '{"errors":[{"code":"NAME_UNKNOWN","message":"x"}]}', "<html>",
    ), 47_000),
    "reference": Target(read_reference, _texts(
        world.IMAGE, "localhost:5000/a/b:1", "[::1]:5000/a", "nginx", "oci:/x/y:1", f"oci-archive:x@{world.DIGEST}",
    ), 115_000),
    "manifest": Target(read_manifest, _manifest_seeds, 30_000),
    "layout": Target(read_layout_index, _manifest_seeds, 30_000),
    "payload": Target(read_payload, _claim_seeds, 36_000),
    "statement": Target(read_statement, _claim_seeds, 36_000),
    "bundle": Target(read_bundle, lambda: [
        *_all_that_is_signed()[1], *(compact(one["bundle"]) for one in _vectors("transparency") if "bundle" in one)
    ], 34_000),
    "pem": Target(read_pem, lambda: [
        world.pem_of(world.LEAF, world.SUB, world.ROOT).encode(), (DATA / "timestamps" / "tsa-chain.pem").read_bytes(),
        *(path.read_bytes() for path in sorted((DATA / "keys").glob("*.pub"))),
    ], 23_000),
    "path": Target(find_path, _path_seeds, 81_000, share=3),
    "entry": Target(read_entry, _entry_seeds, 32_000),
    "body": Target(read_body, _body_seeds, 34_000),
    "checkpoint": Target(read_checkpoint, _checkpoint_seeds, 148_000),
    "merkle": Target(climb_tree, _texts('{"index":4,"size":7,"hashes":3}', '{"index":1,"size":2,"hashes":1}'), 53_000),
    "proof": Target(prove_entry, _entry_seeds, 45_000, share=2),
    "rekor": Target(ask_log, _answer_seeds, 12_200),
    "timestamp": Target(read_timestamp, _timestamp_seeds, 61_000, share=2),
    "judge-sig": Target(judge_sig, _sig_seeds, 36_000, share=3),
    "judge-bundle": Target(judge_bundle, _bundle_seeds, 8_800, share=3),
    "judge-claim": Target(judge_claim, _claim_seeds, 6_800, share=2),
    "archive": Target(read_archive, _archive_seeds, 28_000, share=2),
    "layer": Target(read_layer, _layer_seeds, 18_000, share=2),
    "config": Target(read_config, _config_seeds, 30_000),
}
