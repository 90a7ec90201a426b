# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image references: the grammar of the distribution project, and Docker Hub's names."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import Reference

D256 = "sha256:" + "a1" * 32
D512 = "sha512:" + "b2" * 64
HEX = "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a"

WELL_FORMED: list[tuple[str, str, str, str | None, str | None]] = [
    # text, host, repository, tag, digest
    ("alpine", "docker.io", "library/alpine", "latest", None),
    ("alpine:3.20", "docker.io", "library/alpine", "3.20", None),
    (f"alpine@{D256}", "docker.io", "library/alpine", None, D256),
    (f"alpine:3.20@{D256}", "docker.io", "library/alpine", "3.20", D256),
    ("library/alpine", "docker.io", "library/alpine", "latest", None),
    ("team/app", "docker.io", "team/app", "latest", None),
    ("team/sub/app:1", "docker.io", "team/sub/app", "1", None),
    ("docker.io/alpine", "docker.io", "library/alpine", "latest", None),
    ("docker.io/library/alpine", "docker.io", "library/alpine", "latest", None),
    ("docker.io/team/app", "docker.io", "team/app", "latest", None),
    ("index.docker.io/alpine", "docker.io", "library/alpine", "latest", None),
    ("index.docker.io/team/app:1", "docker.io", "team/app", "1", None),
    ("registry-1.docker.io/alpine", "docker.io", "library/alpine", "latest", None),
    ("mirror.docker.io/alpine", "mirror.docker.io", "alpine", "latest", None),
    ("docker/migrator", "docker.io", "docker/migrator", "latest", None),
    ("localhost/app", "localhost", "app", "latest", None),
    ("localhost:5000/app", "localhost:5000", "app", "latest", None),
    ("localhost:5000/app:1", "localhost:5000", "app", "1", None),
    (f"localhost:5000/app@{D256}", "localhost:5000", "app", None, D256),
    (f"localhost:5000/a/b/c:1@{D512}", "localhost:5000", "a/b/c", "1", D512),
    ("localhost", "docker.io", "library/localhost", "latest", None),
    ("localhost:5000", "docker.io", "library/localhost", "5000", None),
    ("ghcr.io/owner/app", "ghcr.io", "owner/app", "latest", None),
    ("registry.example:443/app", "registry.example:443", "app", "latest", None),
    ("registry.example:1/app", "registry.example:1", "app", "latest", None),
    ("registry.example:65535/app", "registry.example:65535", "app", "latest", None),
    ("registry:5000/app", "registry:5000", "app", "latest", None),
    ("test-com:8080/foo", "test-com:8080", "foo", "latest", None),
    ("192.168.0.1", "docker.io", "library/192.168.0.1", "latest", None),
    ("192.168.0.1:80", "docker.io", "library/192.168.0.1", "80", None),
    ("192.168.0.1:8/debian", "192.168.0.1:8", "debian", "latest", None),
    ("127.0.0.1:5000/docker/docker", "127.0.0.1:5000", "docker/docker", "latest", None),
    ("[::1]/app", "[::1]", "app", "latest", None),
    ("[::1]:5000/app", "[::1]:5000", "app", "latest", None),
    (f"[fc00::1]:5000/docker/docker:x@{D256}", "[fc00::1]:5000", "docker/docker", "x", D256),
    ("[FC00:1:2:3:4:5:6:7]:5000/library/debian", "[FC00:1:2:3:4:5:6:7]:5000", "library/debian", "latest", None),
    ("xn--n3h.com:18080/foo", "xn--n3h.com:18080", "foo", "latest", None),
    ("Docker/docker", "Docker", "docker", "latest", None),
    ("DOCKER/docker", "DOCKER", "docker", "latest", None),
    ("Registry.Example/app", "Registry.Example", "app", "latest", None),
    ("a.b/c", "a.b", "c", "latest", None),
    ("1.2/c", "1.2", "c", "latest", None),
    ("d/docker", "docker.io", "d/docker", "latest", None),
    ("docker---rules/docker", "docker.io", "docker---rules/docker", "latest", None),
    ("dock__er/docker", "docker.io", "dock__er/docker", "latest", None),
    ("test_com/foo", "docker.io", "test_com/foo", "latest", None),
    ("ab_c/e.f_g-h/i__j", "docker.io", "ab_c/e.f_g-h/i__j", "latest", None),
    ("thisisthesongthatneverendsitgoesonandonandonthisisthesongthatnev", "docker.io",
     "library/thisisthesongthatneverendsitgoesonandonandonthisisthesongthatnev", "latest", None),
    (HEX[:-1], "docker.io", f"library/{HEX[:-1]}", "latest", None),
    (f"docker.io/{HEX}", "docker.io", f"library/{HEX}", "latest", None),
    (f"team/{HEX}", "docker.io", f"team/{HEX}", "latest", None),
    (D256, "docker.io", "library/sha256", "a1" * 32, None),
    ("app:_", "docker.io", "library/app", "_", None),
    ("app:A.b-c_D", "docker.io", "library/app", "A.b-c_D", None),
    ("app:" + "t" * 128, "docker.io", "library/app", "t" * 128, None),
    ("app:sha256-" + "a" * 64 + ".sig", "docker.io", "library/app", "sha256-" + "a" * 64 + ".sig", None),
    ("r.io/" + "a" * 250, "r.io", "a" * 250, "latest", None),
]

MALFORMED = [
    "",
    " ",
    "/",
    ":",
    "@",
    ":tag",
    f"@{D256}",
    f":1@{D256}",
    "app:",
    "app@",
    "app:1@",
    "app:@" + D256,
    "app::1",
    "app:1:2",
    "app:-1",
    "app:.1",
    "app:1 ",
    "app:1\n",
    "app:1/",
    "app:" + "t" * 129,
    "app:\u0661",
    "app:t\u00e4g",
    "app:1+2",
    "app\n",
    "\napp",
    "app ",
    " app",
    "app\0",
    "app/",
    "/app",
    "a//b",
    "App",
    "team/App",
    "docker.io/team/App",
    "-app",
    "app-",
    "_app",
    "app_",
    ".app",
    "app.",
    "a..b",
    "a._b",
    "a_.b",
    "a-.b",
    "a___b",
    "____/____",
    "team/-app",
    "team/../app",
    "../app",
    "r.io/../app",
    "r.io/./app",
    "r.io/",
    "r.io//app",
    "r.io:5000/",
    "app\u0660",
    "\u0430lpine",
    "r.io/\uff41pp",
    "r.io/app\u0131",
    "r\u00e9gistry.io/app",
    "https://github.com/docker/docker",
    "oci:dir:tag",
    "r.io/app?x=1",
    "r.io/app#x",
    "r.io/app%2f",
    "r.io\\app",
    "user:pw@r.io/app",
    "user@r.io/app",
    "r.io:/app",
    "r.io:0/app",
    "r.io:65536/app",
    "r.io:123456/app",
    "r.io:-1/app",
    "r.io:5o/app",
    "r.io:\u0665/app",
    "r.io:5000\n/app",
    "r.io\n/app",
    "r.io:1:2/app",
    "-r.io/app",
    "r-.io/app",
    "r..io/app",
    ".r.io/app",
    "r.io./app",
    "r_x.io/app",
    "[::1",
    "[::1]",
    "[::1]:5000",
    "::1/app",
    "::1:5000/app",
    "fc00::1:5000/debian",
    "[::1/app",
    "[]/app",
    "[:]/app",
    "[::g]/app",
    "[1:2:3]/app",
    "[1:2:3:4:5:6:7:8:9]/app",
    "[::1]x/app",
    "[::1]:/app",
    "[::1]:0/app",
    "[::1]:65536/app",
    "[fe80::1%eth0]:5000/debian",
    "[127.0.0.1]/app",
    "app@sha256",
    "app@sha256:",
    "app@latest",
    "app@sha256:" + "a" * 63,
    "app@sha256:" + "a" * 65,
    "app@sha256:" + "A" * 64,
    "app@sha256:" + "g" * 64,
    "app@sha256:../..",
    "app@sha1:" + "a" * 40,
    "app@sha512:" + "a" * 64,
    "app@md5:" + "a" * 32,
    f"app@{D256}\n",
    f"app@{D256} ",
    f"app@{D256}@{D256}",
    f"app@{D256}:1",
    HEX,
    f"{HEX}@{D256}",
    "r.io/" + "a" * 256,
    "a" * 256,
    "/".join(["a"] * 200),
]


@pytest.mark.parametrize(("text", "host", "repository", "tag", "digest"), WELL_FORMED)
def test_reads_references(
    text: str, host: str, repository: str, tag: str | None, digest: str | None
) -> None:
    assert reference.parse(text) == Reference(host, repository, tag, digest)


@pytest.mark.parametrize("text", [row[0] for row in WELL_FORMED])
def test_a_written_reference_reads_the_same(text: str) -> None:
    found = reference.parse(text)
    assert reference.parse(str(found)) == found


@pytest.mark.parametrize("text", MALFORMED)
def test_refuses_malformed_references(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        reference.parse(text)
    assert caught.value.code == "malformed"
    assert not reference.same_name(text, text)


# distribution/reference v0.6 (used by distribution v3) holds the repository alone against 255.
@pytest.mark.parametrize("text", [
    "registry.example/" + "a" * 255,
    "registry.example:5000/" + "a/" * 100 + "a" * 55,
], ids=["one", "many"])
def test_a_repository_may_be_255_long_whatever_its_host(text: str) -> None:
    assert reference.parse(text).name == text


@pytest.mark.parametrize(("text", "part"), [
    ("app@sha256:12", "sha256:12"),
    ("app:-x", "-x"),
    ("r.io:99999/app", "r.io:99999"),
    ("r.io/App", "App"),
    ("r.io/App:1", "App"),
    (f"r-.io/app:1@{D256}", "r-.io"),
    (HEX, "image id"),
])
def test_errors_name_the_part(text: str, part: str) -> None:
    with pytest.raises(FormatError) as caught:
        reference.parse(text)
    assert part in caught.value.cause
    assert caught.value.object == text


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "x@" + "y" * 100_000, "x:" + "y" * 100_000, "Y" * 100_000 + "_/x"],
    ids=lambda text: text[:2],
)
def test_errors_are_bounded(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        reference.parse(text)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("text", [
    "a" * 500_000 + "!",
    "a-" * 250_000,
    "a." * 250_000 + "!/b",
    "aa." * 150_000 + "!/b",
    "A" * 500_000 + "!/b",
    "A-" * 250_000 + "/b",
    "a/" * 250_000,
    "a__" * 150_000 + "!",
    "[" + ":" * 500_000 + "]/a",
    "x:" + "a" * 500_000 + "!",
], ids=lambda text: text[:6])
def test_hostile_texts_are_refused_in_linear_time(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(FormatError):
        reference.parse(text)
    assert time.process_time() - begun < 1.0


# Found by tests/fuzz: the name in a payload can have 256 KiB.
@pytest.mark.parametrize("text", ["c/" * 100_000, "a." * 100_000 + "b/c", "a-" * 100_000 + "b"])
def test_hostile_texts_take_little_memory(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            reference.parse(text)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(text)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("text", "api_host", "signed_name", "name"), [
    ("alpine", "registry-1.docker.io", "index.docker.io/library/alpine", "docker.io/library/alpine"),
    ("index.docker.io/team/app", "registry-1.docker.io", "index.docker.io/team/app", "docker.io/team/app"),
    ("ghcr.io/o/app:1", "ghcr.io", "ghcr.io/o/app", "ghcr.io/o/app"),
    ("localhost:5000/app", "localhost:5000", "localhost:5000/app", "localhost:5000/app"),
])
def test_docker_hub_has_three_names(text: str, api_host: str, signed_name: str, name: str) -> None:
    found = reference.parse(text)
    assert (found.api_host, found.signed_name, found.name) == (api_host, signed_name, name)


@pytest.mark.parametrize(("text", "target"), [
    ("app", "latest"), ("app:1", "1"), (f"app@{D256}", D256), (f"app:1@{D256}", D256),
])
def test_the_target_is_the_digest_before_the_tag(text: str, target: str) -> None:
    assert reference.parse(text).target == target


def test_the_target_of_a_bare_name_is_latest() -> None:
    assert reference.parse_name("r.io/app").target == "latest"


def test_moves_to_a_digest_or_a_tag() -> None:
    found = reference.parse(f"r.io/app:1@{D256}")
    assert found.at(D512) == Reference("r.io", "app", None, D512)
    assert found.tagged("2") == Reference("r.io", "app", "2", None)
    assert str(found) == f"r.io/app:1@{D256}"
    assert str(found.tagged("2")) == "r.io/app:2"
    assert str(found.at(D512)) == f"r.io/app@{D512}"
    assert str(reference.parse_name("r.io/app")) == "r.io/app"


@pytest.mark.parametrize("name", ["app", "r.io/app", "localhost:5000/a/b"])
def test_a_name_has_neither_tag_nor_digest(name: str) -> None:
    found = reference.parse_name(name)
    assert (found.tag, found.digest) == (None, None)


@pytest.mark.parametrize("name", ["app:1", f"app@{D256}", f"r.io/app:1@{D256}", "r.io/app:1", "", HEX])
def test_a_name_with_more_is_refused(name: str) -> None:
    with pytest.raises(FormatError) as caught:
        reference.parse_name(name)
    assert caught.value.object == name


@pytest.mark.parametrize(("one", "other", "same"), [
    ("alpine", "docker.io/library/alpine:3", True),
    ("index.docker.io/library/alpine", "alpine", True),
    (f"r.io/app@{D256}", "r.io/app:2", True),
    ("r.io/app", "r.io/app2", False),
    ("r.io/app", "r.io/team/app", False),
    ("r.io/app", "r.io:443/app", False),
    ("r.io/app", "evil.io/app", False),
    ("r.io/app", "r.io/app\n", False),
    ("r.io/app", "", False),
    ("", "", False),
])
def test_compares_names(one: str, other: str, same: bool) -> None:
    for pair in ((one, other), (other, one)):
        assert reference.same_name(*pair) is same
