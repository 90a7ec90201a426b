# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A private code-signing PKI, run with openssl as its manual says: a root, an authority below it, certificates."""

from __future__ import annotations

import datetime
import pathlib
import subprocess

# What "openssl ca" wants; what is asked for by a request is taken from it.
_CONFIG = """
[ca]
default_ca = one
[one]
new_certs_dir = {folder}
database = {folder}/index
serial = {folder}/serial
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = optional
organizationName = optional
"""
_CA = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
_EXTRA = "basicConstraints=critical,CA:false\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"


def openssl(*arguments: object) -> bytes:
    """Run openssl and return what it printed."""
    done = subprocess.run(
        ["openssl", *(str(one) for one in arguments)], capture_output=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


class Pki:
    """One PKI in a folder: C(root), C(sub), and C(chain) with both, the root last."""

    def __init__(self, folder: pathlib.Path, name: str = "Example") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.root, self.sub, self.chain = (folder / f"{one}.pem" for one in ("root", "sub", "chain"))
        (folder / "index").touch()
        (folder / "serial").write_text("1000\n")
        (folder / "openssl.cnf").write_text(_CONFIG.format(folder=folder))
        (folder / "ca.ext").write_text(_CA)
        (folder / "leaf.ext").write_text(_EXTRA)
        for one in ("root", "sub"):
            self.key(one)
            self.request(one, f"/O={name}/CN={name} {one} CA")
        openssl(
            "x509", "-req", "-in", folder / "root.csr", "-signkey", folder / "root.key", "-days", "3650",
            "-extfile", folder / "ca.ext", "-out", self.root,
        )
        self._sign(folder / "sub.csr", self.sub, "root", "ca.ext", "-days", "1825")
        self.chain.write_bytes(self.sub.read_bytes() + self.root.read_bytes())

    def key(self, name: str, *options: str) -> pathlib.Path:
        """Make a private key, P-256 unless said otherwise."""
        path = self.folder / f"{name}.key"
        options = options or ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        openssl("genpkey", *options, "-out", path)
        return path

    def request(self, name: str, subject: str, *extensions: str) -> pathlib.Path:
        """Ask for a certificate of a key."""
        path = self.folder / f"{name}.csr"
        wanted = [word for one in extensions for word in ("-addext", one)]
        openssl("req", "-new", "-key", self.folder / f"{name}.key", "-subj", subject, *wanted, "-out", path)
        return path

    def issue(self, request: pathlib.Path, *, name: str) -> pathlib.Path:
        """Have the lower authority issue what is asked for, for a day."""
        path = self.folder / f"{name}.pem"
        self._sign(request, path, "sub", "leaf.ext", "-days", "1", "-copy_extensions", "copy")
        return path

    def issue_for(
        self, request: pathlib.Path, *, name: str, begin: datetime.datetime, end: datetime.datetime
    ) -> pathlib.Path:
        """Have the lower authority issue what is asked for, for a time that "openssl x509" cannot say."""
        path = self.folder / f"{name}.pem"
        openssl(
            "ca", "-batch", "-notext", "-config", self.folder / "openssl.cnf", "-cert", self.sub,
            "-keyfile", self.folder / "sub.key", "-extfile", self.folder / "leaf.ext",
            "-startdate", f"{begin:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}", "-in", request, "-out", path,
        )
        return path

    def _sign(self, request: pathlib.Path, path: pathlib.Path, issuer: str, extra: str, *options: str) -> None:
        openssl(
            "x509", "-req", "-in", request, "-CA", self.folder / f"{issuer}.pem",
            "-CAkey", self.folder / f"{issuer}.key", "-CAcreateserial", "-sha256", *options,
            "-extfile", self.folder / extra, "-out", path,
        )
