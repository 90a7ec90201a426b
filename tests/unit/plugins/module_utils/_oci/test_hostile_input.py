# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever bytes come from outside, what reads them returns or raises what it says, and nothing else."""

from __future__ import annotations

import json
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, HallmarkError, RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import (
    authorization,
    failure,
    layout_index,
    location,
    manifest,
    proxy,
    reference,
    referrers,
    registry,
)
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.layout_reference import LayoutReference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import Response
from hypothesis import assume, given, settings
from hypothesis import strategies as st

Result = t.TypeVar("Result")


def tried(work: t.Callable[[], Result], kind: type[HallmarkError], *codes: str) -> Result | None:
    """Return what is returned, or None where it is refused as it should be."""
    refusal: HallmarkError | None = None
    try:
        return work()
    except kind as exc:
        refusal = exc
    assert refusal.code in codes
    return None


FEW = settings(max_examples=100)
DIGEST = digest_of(b"x")

# Documents that are nearly right: known names, values of every type.
NAMES = st.sampled_from([
    "schemaVersion", "mediaType", "MediaType", "artifactType", "config", "layers", "manifests", "subject",
    "annotations", "digest", "size", "platform", "org.opencontainers.image.ref.name", "kind", "x",
])
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(allow_nan=False), st.text(max_size=8),
    st.sampled_from([
        *manifest.ACCEPTED, DIGEST, "sha512:" + "0" * 128, "sha256:short", "dev.cosignproject.cosign/image", "1", 2,
        f"sha256-{'0' * 64}.sig",
    ]),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=20
)
ENTRIES = st.fixed_dictionaries(
    {"digest": st.sampled_from([DIGEST, digest_of(b"y"), "sha256:x"]), "size": st.integers(-1, 9), "mediaType": LEAVES},
    optional={"annotations": st.dictionaries(NAMES, LEAVES, max_size=3), "artifactType": LEAVES},
)
DOCUMENTS = st.one_of(
    st.binary(max_size=60),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(NAMES, VALUES, max_size=6).map(lambda value: json.dumps(value).encode()),
    st.lists(ENTRIES, max_size=5).map(lambda value: json.dumps({"schemaVersion": 2, "manifests": value}).encode()),
)
TYPES = st.one_of(
    st.sampled_from(["", *manifest.ACCEPTED, f"{manifest.OCI_INDEX}; x=y", "text/html"]), st.text(max_size=9)
)


@FEW
@given(raw=DOCUMENTS, content_type=TYPES)
def test_parsing_a_manifest_returns_or_refuses(raw: bytes, content_type: str) -> None:
    found = tried(lambda: manifest.parse(raw, content_type=content_type, where="test"), FormatError, "malformed")
    if found is None:
        return
    assert (found.raw, found.digest) == (raw, digest_of(raw))
    for entry in (*found.layers, *found.children, *filter(None, (found.config, found.subject))):
        assert entry.size >= 0
        again = manifest.parse(manifest.encode_index([entry]), content_type="", where="test").children[0]
        assert again == entry
    assert not (found.children and (found.layers or found.config))


class _Files:
    where = "test"

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def require_version(self) -> None:
        """It is of the right one."""

    def index(self) -> bytes:
        return self._raw


@FEW
@given(raw=DOCUMENTS, tag=st.one_of(st.none(), st.sampled_from(["1", f"sha256-{'0' * 64}.sig", "x"])))
def test_the_index_of_a_layout_is_read_or_refused(raw: bytes, tag: str | None) -> None:
    files = t.cast(t.Any, _Files(raw))
    index = tried(lambda: layout_index.read(files, where="test"), HallmarkError, "malformed", "limit_exceeded")
    if index is None:
        return
    image = LayoutReference("x", tag)
    entry = tried(lambda: index.find(image), HallmarkError, "malformed", "input_invalid")
    assert entry is None or entry in index.entries
    new = Descriptor(manifest.OCI_MANIFEST, digest_of(b"new"), 3)
    written = index.tagged("new", new)
    read = layout_index.read(t.cast(t.Any, _Files(layout_index.encode(written))), where="test")
    assert read.find(LayoutReference("x", "new")) is not None
    # A tag that is written takes nothing else away.
    assert len(read.entries) >= len([one for one in index.entries if one.annotations.get(layout_index.TAG) != "new"])
    assert digest_of(b"new") not in {one.digest for one in read.without({digest_of(b"new")}).entries}


SEPARATED = st.lists(st.one_of(st.sampled_from([
    "Bearer", "Basic", "Negotiate", " ", ",", "=", '"', "realm", "realm=", 'realm="https://a.test/token"',
    'service="x"', "\\", "https://u:p@a.test", "http://a.test/token", "scope", "\t", ";",
]), st.text(max_size=6)), max_size=12).map("".join)


@FEW
@given(header=SEPARATED)
def test_a_challenge_is_read_or_refused(header: str) -> None:
    base = "https://r.test"
    found = tried(
        lambda: authorization.read_challenge(header, base=base, where="r.test"), RegistryError, "unauthorized"
    )
    if found is None:
        return
    assert found.scheme in ("basic", "bearer")
    # No password leaves HTTPS.
    assert found.scheme == "basic" or found.realm.startswith("https://")
    if found.scheme == "bearer":
        found.token_url("repository:app:pull")


@FEW
@given(header=st.lists(st.one_of(st.sampled_from([
    "<", ">", ";", ",", "rel", "=", '"', "next", '; rel="next"', "</v2/x?n=1>", "<http://[>", "<//a>", " ",
]), st.text(max_size=5)), max_size=10).map("".join))
def test_a_link_is_read_or_passed_over(header: str) -> None:
    found = referrers.next_page(Response(200, {"link": header}, b"", "https://r.test/"), "/v2/app/referrers/x")
    assert found is None or isinstance(found, str)
    if found is not None:
        try:
            url = location.resolve("https://r.test/", found)
        except ValueError:
            return
        assert location.origin(url)[1]


# Found by tests/fuzz.
@pytest.mark.parametrize("text", ["<", "<>", "<>;", "<>; ", "<a>;rel=x,", ";", "<;"])
def test_a_long_link_is_read_in_linear_time(text: str) -> None:
    begun = time.process_time()
    assert referrers.next_page(Response(200, {"link": text * 30_000}, b"", "https://r.test/"), "/v2/x") is None
    assert time.process_time() - begun < 1


@FEW
@given(base=st.sampled_from(["https://r.test/", "http://127.0.0.1:5000/v2/"]), given_=SEPARATED)
def test_a_location_is_plain_or_refused(base: str, given_: str) -> None:
    try:
        url = location.resolve(base, given_)
    except ValueError:
        return
    scheme, host, port = location.origin(url)
    assert scheme in ("http", "https")
    assert 0 < port < 65536
    assert "@" not in url.partition("://")[2].partition("/")[0]
    assert location.is_loopback(host) in (True, False)


@FEW
@given(body=st.one_of(st.binary(max_size=80), DOCUMENTS), wait=st.text(max_size=12))
def test_an_error_page_is_told_without_its_text(body: bytes, wait: str) -> None:
    response = Response(400, {"retry-after": wait}, body + b"canary", "https://r.test/")
    assert "canary" not in str(failure.unexpected("r.test", "try", response))
    assert failure.retry_after(response.headers) >= 0


@FEW
@given(body=DOCUMENTS)
def test_a_token_is_read_or_refused(body: bytes) -> None:
    found = tried(lambda: authorization.read_token(body, where="r.test"), RegistryError, "unauthorized")
    if found is None:
        return
    assert "\n" not in found.value
    assert " " not in found.value


@FEW
@given(text=st.one_of(st.text(max_size=20), SEPARATED), host=st.sampled_from(["r.test", "10.0.0.1", "[2001:db8::1]"]))
def test_a_proxy_is_read_or_refused(text: str, host: str) -> None:
    environment = {"https_proxy": text, "no_proxy": text[:3]}
    found = tried(lambda: proxy.proxy_for(f"https://{host}/", environment), RegistryError, "input_invalid")
    assert found is None or found.url.startswith(("http://", "https://"))


# References ----------------------------------------------------------------------------------------------------------

HOSTS = st.sampled_from(["r.io", "localhost:5000", "127.0.0.1:1", "[::1]:5000", "docker.io", "R.io"])
REPOSITORIES = st.from_regex(r"[a-z0-9]{1,5}([._-][a-z0-9]{1,4})?(/[a-z0-9]{1,5}){0,3}", fullmatch=True)
TAGS = st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True))
DIGESTS = st.sampled_from([None, DIGEST, "sha512:" + "a" * 128])
PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@FEW
@given(host=HOSTS, repository=REPOSITORIES, tag=TAGS, digest=DIGESTS)
def test_a_reference_is_read_as_it_is_written(host: str, repository: str, tag: str | None, digest: str | None) -> None:
    text = f"{host}/{repository}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    try:
        found = reference.parse_image(text)
    except FormatError:
        assume(False)
    assert reference.parse_image(str(found)) == found
    assert (found.digest, found.tag) == (digest, tag or (None if digest else "latest"))


@FEW
@given(path=PATHS, tag=TAGS, digest=DIGESTS, is_archive=st.booleans())
def test_a_layout_is_read_as_it_is_written(path: str, tag: str | None, digest: str | None, is_archive: bool) -> None:
    written = LayoutReference(path, tag, digest, is_archive)
    try:
        found = reference.parse_image(str(written))
    except FormatError:
        return
    # Some texts mean something else, such as a path with a tag in it; that is the same each time.
    assert reference.parse_image(str(found)) == found
    if not path.startswith("~") and ":" not in path and "@" not in path:
        assert found == written


@FEW
@given(text=st.one_of(st.text(max_size=30), SEPARATED, st.text(max_size=10).map(lambda text: f"oci:{text}")))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    found = tried(lambda: reference.parse_image(text), FormatError, "malformed")
    if found is None:
        return
    assert found.name
    if not isinstance(found, LayoutReference):
        assert registry.uploads_path(found).startswith("/v2/")
        assert ".." not in registry.uploads_path(found).split("/")
