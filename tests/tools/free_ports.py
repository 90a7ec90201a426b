# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print as many free TCP ports of 127.0.0.1 as asked for, as a JSON list."""

from __future__ import annotations

import json
import socket
import sys


def free_ports(count: int) -> list[int]:
    """Return different ports that nothing listens on now; all are held until the last one is found."""
    sockets = [socket.socket() for _index in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


if __name__ == "__main__":
    print(json.dumps(free_ports(int(sys.argv[1]))))
