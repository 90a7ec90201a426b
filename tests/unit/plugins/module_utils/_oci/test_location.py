# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""URLs from registries: one plain spelling is taken, and this machine is known in all of its spellings."""

from __future__ import annotations

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import location

BASE = "https://r.io/v2/app/manifests/1"
# URLs without a host.
RELATIVE = ("http:x", "http:///x", "https:x", "https:///x", "https://?x")


@pytest.mark.parametrize(("given", "expected"), [
    ("https://a.io/x", "https://a.io/x"),
    ("http://a.io/x", "http://a.io/x"),
    ("https://a.io", "https://a.io"),
    ("https://a.io?x=1", "https://a.io?x=1"),
    ("https://a.io:5000/x", "https://a.io:5000/x"),
    ("https://a.io:1/x", "https://a.io:1/x"),
    ("https://a.io:65535/x", "https://a.io:65535/x"),
    ("https://A.io/X", "https://A.io/X"),
    ("https://a_b-c.io./x", "https://a_b-c.io./x"),
    ("https://[::1]:5000/x", "https://[::1]:5000/x"),
    ("https://[::ffff:10.0.0.1]/x", "https://[::ffff:10.0.0.1]/x"),
    ("//a.io/x", "https://a.io/x"),
    ("/x", "https://r.io/x"),
    ("x", "https://r.io/v2/app/manifests/x"),
    ("../x", "https://r.io/v2/app/x"),
    ("?x=1", "https://r.io/v2/app/manifests/1?x=1"),
    # After the host these mean nothing to a parser of hosts.
    ("/x@y:z", "https://r.io/x@y:z"),
    ("/x?u=https://a.io/&s=a%2Fb%3D~!$'()*+,;", "https://r.io/x?u=https://a.io/&s=a%2Fb%3D~!$'()*+,;"),
])
def test_takes_plain_urls(given: str, expected: str) -> None:
    assert location.resolve(BASE, given) == expected


@pytest.mark.parametrize("given", [
    # User names.
    "https://robot@a.io/x", "https://robot:pw@a.io/x", "https://@a.io/x", "//robot@a.io/x", "https://r.io@a.io/",
    "https://r.io:443@a.io/", "https://a.io:443@r.io",
    # Backslashes.
    "https://a.io\\@r.io/x", "https://a.io\\x", "\\\\a.io/x", "/\\a.io/x", "/x\\y", "/x?\\", "https:\\\\a.io",
    # Control characters, white space, and what is not ASCII.
    "/x\x00", "/x\x01y", "/x\x1fy", "/x\x7f", "/x y", "https://a.io /x", "https://a .io/x", "/x\xa0y", "/\xe9",
    "https://\xe9.io/x", "https://a\u3002io/x", "https://a.io\u2100/x", "https://a.io\uff0fx", "/x\x85y",
    # Other schemes.
    "file:///etc/passwd", "ftp://a.io/x", "gopher://a.io:70/x", "javascript:1", "data:,x", "ws://a.io/x", "httpx://a.io/",
    "a.io:5000", *RELATIVE,
    # Ports.
    "https://a.io:/x", "https://a.io:0/x", "https://a.io:00000/x", "https://a.io:65536/x", "https://a.io:99999/x",
    "https://a.io:123456/x", "https://a.io:port/x", "https://a.io:-1/x", "https://a.io:+1/x", "https://a.io:1:2/x",
    "https://a.io:\u0661/x",
    # Hosts.
    "https://[::1/x", "https://[x]/x", "https://::1/x", "https://[fe80::1%25eth0]/x", "https://[fe80::1%eth0]/x",
    "https://[::1]a.io/x", "https://a.io[::1]/x", "https://a%2eio/x", "https://a,b.io/x", "https://a.io;x/",
    "https://:443/x", "//[",
])
@pytest.mark.parametrize("base", [BASE, "http://r.io:5000/"])
def test_refuses_all_else(base: str, given: str) -> None:
    if given in RELATIVE and given.partition(":")[0] == base.partition(":")[0]:
        # Seen from their own scheme these are relative, and lead to the registry itself.
        assert location.origin(location.resolve(base, given)) == location.origin(base)
        return
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        location.resolve(base, given)
    assert len(str(caught.value)) < 200


# urljoin() drops tab, line feed and carriage return anywhere, and control characters and blanks in
# front, before the check sees them, though only where the scheme stays the same.
@pytest.mark.parametrize("given", [
    "https://a\t.io/x", "https://a.io\n/x", "/x\ty", "/x\ry", "/x\ny", " /x", " https://a.io/x", "\x01//a.io/x", "\t/x",
])
def test_refuses_what_the_parser_would_drop(given: str) -> None:
    with pytest.raises(ValueError, match="is not a plain HTTP URL"):
        location.resolve(BASE, given)


def test_refuses_without_repeating_all_of_it() -> None:
    with pytest.raises(ValueError, match="is not a plain HTTP URL") as caught:
        location.resolve(BASE, "ftp://" + "x" * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("url", "expected"), [
    ("http://r.io/a", ("http", "r.io", 80)),
    ("https://r.io/a", ("https", "r.io", 443)),
    ("https://r.io", ("https", "r.io", 443)),
    ("https://r.io:5000/a", ("https", "r.io", 5000)),
    ("https://R.IO./a", ("https", "r.io", 443)),
    ("http://[::1]:5000/a", ("http", "::1", 5000)),
])
def test_an_origin_has_three_parts(url: str, expected: tuple[str, str, int]) -> None:
    assert location.origin(url) == expected


@pytest.mark.parametrize(("one", "other", "same"), [
    ("http://r.io/a", "http://r.io:80/b", True),
    ("https://r.io/a", "https://r.io:443/b", True),
    ("https://R.io/a", "https://r.IO/b", True),
    ("https://r.io/a", "https://r.io./b", True),
    ("http://r.io", "https://r.io", False),
    ("https://r.io:80", "http://r.io:80", False),
    ("https://r.io", "https://r.io:444", False),
    ("https://r.io", "https://r.io.evil.io", False),
    ("https://r.io", "https://evil.io/r.io", False),
    ("https://r.io", "https://evil.io?r.io", False),
    ("https://r.io", "https://x.r.io", False),
])
def test_an_origin_is_scheme_host_and_port(one: str, other: str, same: bool) -> None:
    urls = location.resolve(BASE, one), location.resolve(BASE, other)
    assert (location.origin(urls[0]) == location.origin(urls[1])) is same


@pytest.mark.parametrize(("url", "expected"), [
    ("https://r.io", True), ("http://r.io", False), ("http://https:443/", False), ("httpsx://r.io", False),
])
def test_only_https_is_secure(url: str, expected: bool) -> None:
    assert location.is_secure(url) is expected


@pytest.mark.parametrize("host", [
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "a.b.LocalHost", "a.localhost.",
    "127.0.0.1", "127.9.9.9", "127.0.0.1.", "::1", "0:0:0:0:0:0:0:1",
    # The kernel connects to this machine for the unspecified address, too.
    "0.0.0.0", "::", "::ffff:0.0.0.0",
    # IPv4 in IPv6.
    "::ffff:127.0.0.1", "::FFFF:7f00:1", "0:0:0:0:0:ffff:127.9.9.9",
    # What inet_aton takes.
    "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7F.1", "0177.0.0.1", "017700000001", "0", "0x0",
])
def test_this_machine_is_known_in_every_spelling(host: str) -> None:
    assert location.is_loopback(host)
    assert not location.is_link_local(host)


@pytest.mark.parametrize("host", [
    "registry.example", "localhost.example", "notlocalhost", "localhosts", "localhost.localdomain", "registry",
    "128.0.0.1", "126.255.255.255", "10.0.0.1", "192.168.0.1", "::2", "::ffff:10.0.0.1", "127.0.0.1.example",
    "0x7g000001", "127.0.0.256", "4294967296", "1", "3232235521", "168.254.0.1", "169.253.0.1", "fec0::1", "", ".",
])
def test_other_hosts_are_neither_here_nor_on_the_link(host: str) -> None:
    assert not location.is_loopback(host)
    assert not location.is_link_local(host)


@pytest.mark.parametrize("host", [
    "169.254.169.254", "169.254.0.1", "169.254.169.254.", "fe80::1", "FE80::1", "febf::1", "fe80::1%eth0",
    "::ffff:169.254.169.254", "0:0:0:0:0:ffff:a9fe:a9fe",
    "2852039166", "0xa9fea9fe", "169.254.43518", "169.16689662", "0251.0376.0251.0376", "0xA9.0xFE.0xA9.0xFE",
])
def test_link_local_addresses_are_known_in_every_spelling(host: str) -> None:
    assert location.is_link_local(host)
    assert not location.is_loopback(host)
