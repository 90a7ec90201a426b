# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A TCP proxy that makes a server on this machine as far away as a round trip of some milliseconds, for tests.

    delay_proxy.py PORT UPSTREAM_PORT MILLISECONDS      prints its own HOST:PORT, then passes connections on

Bytes need half a round trip each way, connecting a whole one. The line is as wide as one likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Write what is read, each part as much later as the way takes; at its end, close."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while part := await reader.read(64 * 1024):
            loop.call_later(delay, writer.write, part)
    loop.call_later(delay, writer.close)


async def serve(port: int, upstream: int, seconds: float) -> None:
    """Pass connections on until the process is stopped."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The kernel has already accepted: the client sends at once what it could send only after a round trip.
        await asyncio.sleep(seconds)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", upstream)
        await asyncio.gather(pump(reader, far_writer, seconds / 2), pump(far_reader, writer, seconds / 2))

    async with await asyncio.start_server(accept, "127.0.0.1", port, backlog=512) as server:
        print(f"127.0.0.1:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
