# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""URLs that registries give us: redirects, upload locations, token services, next pages.

They are hostile input. Only one plain spelling is taken, so that no two parsers can see different hosts in it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urljoin, urlsplit

_PLAIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:[/?][!-\[\]-~]*)?"
)
_PORTS = {"http": 80, "https": 443}


def resolve(base: str, location: str) -> str:
    """Return the absolute URL of C(location), seen from C(base).

    Raises ValueError for all but plain HTTP(S) URLs: user names, backslashes, white space, other schemes.
    """
    if not location.isascii() or not location.isprintable() or " " in location:
        raise ValueError(f"the location {location[:100]!r} is not a plain HTTP URL")
    url = urljoin(base, location)
    match = _PLAIN.fullmatch(url)
    if match is None or not 0 < int(match["port"] or 1) < 65536:
        raise ValueError(f"the location {url[:100]!r} is not a plain HTTP URL")
    return url


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL from C(resolve())."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS[parts.scheme]


def is_secure(url: str) -> bool:
    """Say whether a URL is for HTTPS."""
    return url.startswith("https:")


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine, by name or by any spelling of its addresses."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


def is_link_local(host: str) -> bool:
    """Say whether a host is an address of the link only, such as that of a cloud's metadata service."""
    address = _address(host.rstrip("."))
    return address is not None and address.is_link_local


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            # What the C library takes for an address: 127.1, 0x7f000001, 2130706433.
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address
