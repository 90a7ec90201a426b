# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One signature by each kind of signer, beside one by a key file: what a device, a service or a program costs.

Each signs in one process with one login, as a task does. Services run on this machine: the way to a real one comes on
top of it. All keys are P-256.
"""

from __future__ import annotations

import contextlib
import importlib.util
import pathlib
import shutil
import statistics
import sys
import typing as t

from contest import TOOLS, Bench, Row, started, wait_for

import free_ports  # isort: skip

COUNT = 200
_LIBRARY = pathlib.Path("/usr/lib/softhsm/libsofthsm2.so")
_PIN = "4321"
Signer = dict[str, t.Any]


class MissingError(Exception):
    """What is needed for a measurement, and is not here."""


def rows(bench: Bench) -> t.Iterator[Row]:
    """Yield a row for each kind of signer; where its parts are missing, the row says which."""
    taken = _measure(bench, {"key": "k.pem"})
    yield Row("one signature by a key file", _text(taken), "-", "-")
    kinds: dict[str, t.Callable[[Bench], t.ContextManager[Signer]]] = {
        "an HSM (pkcs11:, SoftHSM)": _softhsm, "AWS KMS (awskms:, moto)": _aws, "Vault (hv:, test server)": _vault,
        "a program (openssl dgst)": _program,
    }
    for name, kind in kinds.items():
        try:
            with kind(bench) as signer:
                found = _measure(bench, signer)
        except MissingError as exc:
            yield Row(f"one signature by {name}", f"not measured: {exc}", "-", "-")
        else:
            yield Row(f"one signature by {name}", _text(found), f"file: {_text(taken)}", f"{found / taken:.1f} times")
    for name in ("Google Cloud KMS (gcpkms:)", "Azure Key Vault (azurekms:)"):
        yield Row(f"one signature by {name}", "not measured: no server of it can run here", "-", "-")


def _measure(bench: Bench, signer: Signer) -> float:
    """Return the median time of one signature in milliseconds, over all rounds."""
    taken: list[float] = []
    for _number in range(bench.rounds):
        _run, (result,) = bench.ours_results("signatures", count=COUNT, **signer)
        taken += result["milliseconds"]
    return statistics.median(taken)


def _text(milliseconds: float) -> str:
    return f"{milliseconds:.2f} ms"


@contextlib.contextmanager
def _softhsm(bench: Bench) -> t.Iterator[Signer]:
    if shutil.which("softhsm2-util") is None or not _LIBRARY.exists():
        raise MissingError("SoftHSM (Debian package softhsm2)")
    _need("pkcs11", "python-pkcs11")
    folder = bench.folder / "softhsm"
    (folder / "tokens").mkdir(parents=True)
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    with _environment(bench, SOFTHSM2_CONF=str(folder / "softhsm2.conf")):
        bench.run([
            "softhsm2-util", "--init-token", "--free", "--label", "bench", "--so-pin", "87654321", "--pin", _PIN,
        ])
        bench.run([
            "softhsm2-util", "--import", "k.pem", "--token", "bench", "--label", "key", "--id", "01", "--pin", _PIN,
        ])
        yield {"uri": f"pkcs11:token=bench;object=key?module-path={_LIBRARY}", "pin": _PIN}


@contextlib.contextmanager
def _aws(bench: Bench) -> t.Iterator[Signer]:
    _need("boto3", "boto3")
    _need("moto", "moto[kms,server]")
    import boto3

    port = free_ports.free_ports(1)[0]
    names = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench-secret"}
    url = f"http://127.0.0.1:{port}"
    with started([sys.executable, str(TOOLS / "aws_kms.py"), str(port)]), _environment(
        bench, AWS_ENDPOINT_URL=url, AWS_DEFAULT_REGION="eu-central-1", AWS_EC2_METADATA_DISABLED="true",
        **{name.upper(): value for name, value in names.items()},
    ):
        wait_for(f"127.0.0.1:{port}")
        client = boto3.client("kms", endpoint_url=url, region_name="eu-central-1", **names)
        made = client.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")
        yield {"uri": f"awskms:{made['KeyMetadata']['KeyId']}"}


@contextlib.contextmanager
def _vault(bench: Bench) -> t.Iterator[Signer]:
    _need("hvac", "hvac")
    import hvac

    port = free_ports.free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    with started([sys.executable, str(TOOLS / "vault_transit.py"), str(port), "bench-token"]), _environment(
        bench, VAULT_ADDR=url, VAULT_TOKEN="bench-token"
    ):
        wait_for(f"127.0.0.1:{port}")
        hvac.Client(url=url, token="bench-token").secrets.transit.create_key("bench", key_type="ecdsa-p256")
        yield {"uri": "hv:bench"}


@contextlib.contextmanager
def _program(bench: Bench) -> t.Iterator[Signer]:
    if shutil.which("openssl") is None:
        raise MissingError("openssl")
    command = ["openssl", "dgst", "-sha256", "-sign", str(bench.folder / "k.pem")]
    yield {"command": command, "public": str(bench.folder / "k.pub")}


def _need(library: str, package: str) -> None:
    if importlib.util.find_spec(library) is None:
        raise MissingError(f"{package} for this interpreter")


@contextlib.contextmanager
def _environment(bench: Bench, **more: str) -> t.Iterator[None]:
    """Let the processes of ours have more in their environment."""
    before = dict(bench.environment)
    bench.environment.update(more)
    try:
        yield
    finally:
        bench.environment.clear()
        bench.environment.update(before)
