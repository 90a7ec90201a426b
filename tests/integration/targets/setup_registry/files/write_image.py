# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write a minimal image to a registry, without any code of the collection: write_image.py HOST REPOSITORY."""

from __future__ import annotations

import hashlib
import http.client
import json
import sys
from urllib.parse import urlsplit


def send(host: str, method: str, path: str, body: bytes = b"", kind: str = "") -> http.client.HTTPResponse:
    """Send one request and return its answer, whose body was read."""
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request(method, path, body=body, headers={"Content-Type": kind} if kind else {})
    answer = connection.getresponse()
    answer.read()
    if answer.status >= 300:
        raise SystemExit(f"{method} {path}: {answer.status}")
    return answer


def blob(host: str, repository: str, data: bytes) -> dict[str, object]:
    """Store a blob and return the members of its descriptor."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    begun = send(host, "POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
    parts = urlsplit(begun)
    send(host, "PUT", f"{parts.path}?{parts.query}&digest={digest}", data, "application/octet-stream")
    return {"digest": digest, "size": len(data)}


def main() -> None:
    """Run the command line."""
    host, repository = sys.argv[1:3]
    layer = blob(host, repository, repository.encode())
    config = blob(host, repository, json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
    ).encode())
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": kind,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer}],
    }).encode()
    send(host, "PUT", f"/v2/{repository}/manifests/latest", manifest, kind)
    print(f"{host}/{repository}:latest")


if __name__ == "__main__":
    main()
