# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of how the code hangs together: who imports whom, what a module costs, and what is written about it."""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import sys
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _reason_codes

ROOT = pathlib.Path(__file__).parents[3]
PLUGINS = ROOT / "plugins"
UTILS = PLUGINS / "module_utils"
MAX_CLOSURE = 107 * 1024
# These read and write both formats.
LARGER_CLOSURES = {"image_signature": 136 * 1024, "image_resignature": 141 * 1024}
# Loaded only by the tasks that need it, so that the others do not compile it.
LATE = {
    ("module_utils/_ansible/authorities.py", "module_utils/_ansible/evidence.py"),
    ("module_utils/_ansible/authorities.py", "module_utils/_trust/trusted_keys.py"),
    ("module_utils/_ansible/changing.py", "module_utils/_keys/pem.py"),
    ("module_utils/_ansible/changing.py", "module_utils/_policy/trusting.py"),
    ("module_utils/_ansible/changing.py", "module_utils/_trust/nobody.py"),
    ("module_utils/_ansible/deps.py", "module_utils/_ansible/debugging.py"),
    ("module_utils/_ansible/evidence.py", "module_utils/_libraries.py"),
    ("module_utils/_ansible/evidence.py", "module_utils/_signing/log_search.py"),
    ("module_utils/_ansible/evidence.py", "module_utils/_signing/notary.py"),
    ("module_utils/_ansible/evidence.py", "module_utils/_transparency/rekor.py"),
    ("module_utils/_ansible/evidence.py", "module_utils/_transparency/timestamp.py"),
    ("module_utils/_ansible/registries.py", "module_utils/_docker/credential_helper.py"),
    ("module_utils/_ansible/registries.py", "module_utils/_keys/fingerprint.py"),
    ("module_utils/_ansible/registries.py", "module_utils/_oci/mirror.py"),
    ("module_utils/_ansible/signers.py", "module_utils/_keys/signers/command.py"),
    ("module_utils/_ansible/signers.py", "module_utils/_keys/signers/uri.py"),
    ("module_utils/_keys/algorithms.py", "module_utils/_keys/ed25519ph.py"),
    ("module_utils/_keys/making.py", "module_utils/_keys/ed25519ph.py"),
    ("module_utils/_keys/private_key.py", "module_utils/_keys/encrypted_key.py"),
    ("module_utils/_keys/signers/file.py", "module_utils/_keys/lease.py"),
    ("module_utils/_keys/signers/file.py", "module_utils/_keys/pointer.py"),
    ("module_utils/_keys/signers/uri.py", "module_utils/_keys/signers/aws.py"),
    ("module_utils/_keys/signers/uri.py", "module_utils/_keys/signers/azure.py"),
    ("module_utils/_keys/signers/uri.py", "module_utils/_keys/signers/gcp.py"),
    ("module_utils/_keys/signers/uri.py", "module_utils/_keys/signers/pkcs11.py"),
    ("module_utils/_keys/signers/uri.py", "module_utils/_keys/signers/vault.py"),
    ("module_utils/_keys/writing.py", "module_utils/_keys/encrypted_key.py"),
    ("module_utils/_oci/credentials.py", "module_utils/_oci/auth_file.py"),
    ("module_utils/_oci/images.py", "module_utils/_oci/archive.py"),
    ("module_utils/_oci/images.py", "module_utils/_oci/layout.py"),
    ("module_utils/_oci/reference.py", "module_utils/_oci/layout_reference.py"),
    ("module_utils/_oci/registry.py", "module_utils/_oci/failure.py"),
    ("module_utils/_oci/registry.py", "module_utils/_oci/lock.py"),
    ("module_utils/_oci/registry.py", "module_utils/_oci/mirror.py"),
    ("module_utils/_oci/registry.py", "module_utils/_oci/referrers.py"),
    ("module_utils/_oci/registry.py", "module_utils/_oci/upload.py"),
    ("module_utils/_oci/transfer.py", "module_utils/_oci/layout.py"),
    ("module_utils/_oci/transport.py", "module_utils/_oci/authorization.py"),
    ("module_utils/_oci/transport.py", "module_utils/_oci/failure.py"),
    ("module_utils/_oci/transport.py", "module_utils/_oci/login.py"),
    ("module_utils/_oci/transport.py", "module_utils/_oci/proxy.py"),
    ("module_utils/_oci/transport.py", "module_utils/_oci/tls.py"),
    ("module_utils/_oci/wire.py", "module_utils/_oci/tunnel.py"),
    ("module_utils/_policy/decision.py", "module_utils/_policy/containers.py"),
    ("module_utils/_policy/enforcers.py", "module_utils/_policy/builds.py"),
    ("module_utils/_policy/enforcers.py", "module_utils/_policy/connaisseur.py"),
    ("module_utils/_policy/enforcers.py", "module_utils/_policy/containers.py"),
    ("module_utils/_policy/enforcers.py", "module_utils/_policy/kyverno_cluster_policy.py"),
    ("module_utils/_policy/enforcers.py", "module_utils/_policy/kyverno_image_validating_policy.py"),
    ("module_utils/_policy/enforcers.py", "module_utils/_policy/openshift.py"),
    ("module_utils/_policy/enforcers.py", "module_utils/_policy/policy_controller.py"),
    ("module_utils/_policy/enforcers.py", "module_utils/_policy/ratify.py"),
    ("module_utils/_policy/enforcers.py", "module_utils/_policy/wiz.py"),
    ("module_utils/_policy/identities.py", "module_utils/_policy/signers.py"),
    ("module_utils/_policy/identities.py", "module_utils/_trust/trusted_keys.py"),
    ("module_utils/_policy/reading.py", "module_utils/_policy/parsing.py"),
    ("module_utils/_policy/rendering.py", "module_utils/_policy/certificates.py"),
    ("module_utils/_policy/vouching.py", "module_utils/_transparency/timestamp.py"),
    ("module_utils/_policy/witnesses.py", "module_utils/_policy/vouching.py"),
    ("module_utils/_program/main.py", "module_utils/_program/certbot.py"),
    ("module_utils/_program/main.py", "module_utils/_program/keeping.py"),
    ("module_utils/_program/main.py", "module_utils/_program/plugin.py"),
    ("module_utils/_program/main.py", "module_utils/_program/relay.py"),
    ("module_utils/_program/main.py", "module_utils/_program/serve.py"),
    ("module_utils/_program/serve.py", "module_utils/_keys/pointer.py"),
    ("module_utils/_program/serve.py", "module_utils/_keys/signers/file.py"),
    ("module_utils/_program/serve.py", "module_utils/_keys/signers/uri.py"),
    ("module_utils/_signing/candidate.py", "module_utils/_signing/referred.py"),
    ("module_utils/_signing/copying.py", "module_utils/_signing/archiving.py"),
    ("module_utils/_signing/evidence.py", "module_utils/_transparency/timestamp.py"),
    ("module_utils/_signing/sign.py", "module_utils/_signing/accompany.py"),
    ("module_utils/_signing/sign.py", "module_utils/_signing/readers.py"),
    ("module_utils/_signing/verify.py", "module_utils/_signing/certified.py"),
    ("module_utils/_signing/verify.py", "module_utils/_signing/evidence.py"),
    ("module_utils/_signing/verify.py", "module_utils/_signing/matching.py"),
    ("module_utils/_signing/verify.py", "module_utils/_signing/shortfall.py"),
    ("module_utils/_signing/verify.py", "module_utils/_signing/statement.py"),
    ("module_utils/_trust/live_set.py", "module_utils/_oci/pattern.py"),
    ("module_utils/_trust/resigning.py", "module_utils/_oci/shared_tag.py"),
    ("module_utils/_trust/resigning.py", "module_utils/_signing/sign.py"),
    ("modules/image_build.py", "module_utils/_docker/assembly.py"),
    ("modules/image_resignature.py", "module_utils/_signing/sign.py"),
    ("modules/image_resignature.py", "module_utils/_trust/coverage_cache.py"),
    ("modules/image_resignature.py", "module_utils/_trust/out_of_support.py"),
    ("modules/image_resignature.py", "module_utils/_trust/selecting.py"),
    ("modules/image_signature.py", "module_utils/_ansible/evidence.py"),
    ("modules/image_signature.py", "module_utils/_ansible/made_elsewhere.py"),
    ("modules/image_signature.py", "module_utils/_signing/remove.py"),
    ("modules/image_verify.py", "module_utils/_ansible/evidence.py"),
    ("modules/image_verify.py", "module_utils/_signing/through_index.py"),
    ("modules/signing_key.py", "module_utils/_keys/certificate_request.py"),
    ("modules/trust_policy.py", "module_utils/_policy/probing.py"),
    ("modules/trust_policy_info.py", "module_utils/_oci/concurrency.py"),
    ("modules/trust_policy_info.py", "module_utils/_oci/images.py"),
    ("modules/trust_policy_info.py", "module_utils/_policy/decision.py"),
    ("modules/trust_policy_info.py", "module_utils/_policy/linting.py"),
    ("modules/trust_policy_info.py", "module_utils/_trust/selecting.py"),
}
THIRD_PARTY = {
    "cryptography", "docker", "nacl", "rfc3161_client", "urllib3", "jmespath", "requests", "yaml", "boto3", "botocore",
    "google", "azure", "hvac", "pkcs11",
}
FORBIDDEN_CALLS = {"__import__", "eval", "exec", "compile"}

# What each part may import, beside itself (design/architecture.md section 3). _docker stands beside the chain.
_BASE = {"_errors", "_reason_codes", "_libraries", "_strict_json", "_base64", "_moments"}
DIRECTION: dict[str, set[str]] = {
    "_errors": {"_reason_codes"},
    "_reason_codes": set(),
    "_moments": set(),
    "_libraries": {"_errors"},
    "_strict_json": {"_base64", "_errors"},
    "_base64": set(),
    "_keys": _BASE,
    "_oci": _BASE,
    "_custody": _BASE | {"_keys"},
    "_transparency": _BASE | {"_keys", "_oci", "_custody"},
    "_signing": _BASE | {"_keys", "_oci", "_custody", "_transparency"},
    "_trust": _BASE | {"_keys", "_oci", "_custody", "_transparency", "_signing"},
    "_policy": _BASE | {"_keys", "_oci", "_custody", "_transparency", "_signing", "_trust"},
    # On the host with the key, and in the program that runs outside of Ansible.
    "_keyhost": _BASE | {"_keys", "_oci", "_custody", "_signing", "_policy"},
    "_certbot": _BASE | {"_keys", "_custody"},
    "_program": _BASE | {"_keys", "_oci", "_custody", "_signing", "_policy", "_keyhost", "_certbot"},
    "_docker": _BASE | {"_oci"},
    # The adapter turns options into values of these, and errors into results.
    # It asks for credential helpers by way of the docker SDK, loaded only where one is named.
    # Tasks about certificates, logs and timestamps make domain objects of many options.
    "_ansible": _BASE | {"_keys", "_oci", "_docker", "_transparency", "_signing", "_trust", "_policy"},
}


class Import(t.NamedTuple):
    """One imported name: of our own code its file, else a dotted name; and where the statement stands."""

    own: pathlib.Path | None
    dotted: str
    line: int
    guarded: bool
    executed: bool


def _python(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path for path in folder.rglob("*.py")
        if not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts)
    )


FILES = _python(PLUGINS)
MODULES = [path for path in FILES if path.parent == PLUGINS / "modules" and path.name != "__init__.py"]
DOMAIN = [path for path in FILES if UTILS in path.parents]


def name_of(path: pathlib.Path) -> str:
    return str(path.relative_to(PLUGINS))


def part_of(path: pathlib.Path) -> str:
    return path.relative_to(UTILS).parts[0].partition(".")[0]


@functools.cache
def tree_of(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def imports_of(path: pathlib.Path) -> tuple[Import, ...]:
    """Return every import of a file, wherever it stands."""
    found: list[Import] = []

    def visit(nodes: t.Iterable[ast.AST], guarded: bool, executed: bool) -> None:
        for node in nodes:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                found.extend(_read(path, node, guarded, executed))
            elif isinstance(node, ast.If) and _is_for_checking(node.test):
                visit(node.body, True, False)
                visit(node.orelse, guarded, executed)
            elif isinstance(node, ast.With):
                visit(node.body, guarded or any(_is_optional(item) for item in node.items), executed)
            else:
                inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                visit(ast.iter_child_nodes(node), guarded, executed and not inside)

    visit(tree_of(path).body, False, True)
    return tuple(found)


def _is_for_checking(test: ast.AST) -> bool:
    return getattr(test, "attr", getattr(test, "id", "")) == "TYPE_CHECKING"


def _is_optional(item: ast.withitem) -> bool:
    call = item.context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "optional"


def _read(
    path: pathlib.Path, node: ast.Import | ast.ImportFrom, guarded: bool, executed: bool
) -> t.Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(None, alias.name, node.lineno, guarded, executed)
    elif not node.level:
        yield Import(None, node.module or "", node.lineno, guarded, executed)
    else:
        folder = path.parents[node.level - 1]
        base = folder.joinpath(*(node.module or "").split(".")) if node.module else folder
        for alias in node.names:
            below, itself = base / f"{alias.name}.py", base.with_suffix(".py")
            yield Import(below if below.is_file() else itself, "", node.lineno, guarded, executed)


def closure(path: pathlib.Path) -> set[pathlib.Path]:
    """Return our own files that are executed when this one is imported, with itself."""
    seen: set[pathlib.Path] = set()
    todo = [path]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo += [entry.own for entry in imports_of(current) if entry.own and entry.executed]
    return seen


# Imports -------------------------------------------------------------------------------------------------------------


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) >= 6
    assert len(DOMAIN) >= 30
    assert {part_of(path) for path in DOMAIN} <= set(DIRECTION)
    assert UTILS / "_keys" / "pem.py" in closure(PLUGINS / "modules" / "signing_key.py")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_own_code_is_imported_relatively_and_exists(path: pathlib.Path) -> None:
    for entry in imports_of(path):
        assert not entry.dotted.startswith("ansible_collections"), f"line {entry.line}: write it relatively"
        assert entry.own is None or entry.own.is_file(), f"line {entry.line}: there is no {entry.own}"


@pytest.mark.parametrize("path", DOMAIN, ids=name_of)
def test_imports_go_one_way(path: pathlib.Path) -> None:
    part = part_of(path)
    for entry in imports_of(path):
        if entry.own is not None:
            assert UTILS in entry.own.parents, f"line {entry.line}: {entry.own} is no module_util"
            assert part_of(entry.own) in DIRECTION[part] | {part}, f"line {entry.line}: {part} imports {entry.own}"


def test_no_two_files_import_each_other() -> None:
    for path in DOMAIN:
        for entry in imports_of(path):
            if entry.own is not None and entry.executed and entry.own != path:
                assert path not in closure(entry.own), f"{name_of(path)} and {name_of(entry.own)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_import_module_utils_only(path: pathlib.Path) -> None:
    for entry in imports_of(path):
        assert entry.own is None or UTILS in entry.own.parents


@pytest.mark.parametrize("path", DOMAIN, ids=name_of)
def test_only_modules_and_the_adapter_know_ansible(path: pathlib.Path) -> None:
    knows = [entry.line for entry in imports_of(path) if entry.dotted.partition(".")[0] == "ansible"]
    assert part_of(path) == "_ansible" or not knows


@pytest.mark.parametrize("path", [*MODULES, *DOMAIN], ids=name_of)
def test_third_party_imports_are_guarded(path: pathlib.Path) -> None:
    for entry in imports_of(path):
        first = entry.dotted.partition(".")[0]
        if entry.own is None and not _is_standard(first) and first != "ansible":
            assert entry.guarded, f"line {entry.line}: {entry.dotted} outside of 'with optional():'"
            assert UTILS in path.parents, f"line {entry.line}: modules use no library themselves"


def _is_standard(name: str) -> bool:
    # The list came with Python 3.10; before it, the libraries that are known are looked for.
    names: t.Collection[str] = getattr(sys, "stdlib_module_names", ())
    return name in names if names else name not in THIRD_PARTY


def _users_of(library: str) -> set[str]:
    return {
        str(path.relative_to(UTILS)) for path in DOMAIN
        for entry in imports_of(path) if entry.dotted.partition(".")[0] == library
    }


@pytest.mark.parametrize(("library", "users"), [
    ("docker", {"_docker/engine.py", "_docker/credential_helper.py"}),
    ("nacl", {"_keys/encrypted_key.py", "_keys/ed25519ph.py"}),
    ("rfc3161_client", {"_transparency/timestamp.py"}), ("yaml", {"_policy/parsing.py", "_policy/rendering.py"}),
    ("jmespath", {"_trust/selecting.py"}), ("boto3", {"_keys/signers/aws.py"}), ("botocore", {"_keys/signers/aws.py"}),
    ("google", {"_keys/signers/gcp.py"}), ("azure", {"_keys/signers/azure.py"}), ("hvac", {"_keys/signers/vault.py"}),
    ("pkcs11", {"_keys/signers/pkcs11.py"}),
])
def test_library_has_these_users_only(library: str, users: set[str]) -> None:
    assert _users_of(library) == users


def test_library_is_used_in_few_places() -> None:
    # Keys, and what is made of certificates.
    assert {user for user in _users_of("cryptography") if not user.startswith("_keys/")} == {
        "_certbot/certificates.py", "_policy/certificates.py", "_signing/certificate_path.py", "_signing/certified.py",
        "_signing/identity.py", "_signing/material.py", "_transparency/body.py", "_transparency/log_key.py",
        "_transparency/timestamp.py", "_trust/nobody.py",
    }
    # The engine only meets the errors of urllib3, which come through the docker SDK.
    assert _users_of("urllib3") == {"_docker/engine.py"}
    names = {entry.dotted for entry in imports_of(UTILS / "_docker" / "engine.py")}
    assert {name for name in names if name.startswith("urllib3")} == {"urllib3.exceptions"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_imported_dynamically(path: pathlib.Path) -> None:
    allowed = path == UTILS / "_libraries.py"
    assert allowed or not [entry.line for entry in imports_of(path) if entry.dotted.partition(".")[0] == "importlib"]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            of_builtins = isinstance(node.func, ast.Name)
            assert not (of_builtins and name in FORBIDDEN_CALLS), f"line {node.lineno}: {name}"
            assert allowed or name not in ("import_module", "__import__"), f"line {node.lineno}: {name}"
    assert not re.search(r"from \S+ import \*", path.read_text(encoding="utf-8"))


def test_imports_inside_of_functions_are_few() -> None:
    # The packer takes them for optional: a typo there would only be found when they are reached.
    found = {
        (name_of(path), name_of(entry.own)) for path in FILES for entry in imports_of(path)
        if entry.own and not entry.executed and not entry.guarded
    }
    assert found == LATE


def test_the_adapter_loads_the_docker_sdk_late_and_for_credential_helpers_only() -> None:
    found = [
        entry for path in DOMAIN if part_of(path) == "_ansible" for entry in imports_of(path)
        if entry.own and part_of(entry.own) == "_docker"
    ]
    assert [(name_of(t.cast(pathlib.Path, entry.own)), entry.executed) for entry in found] == [
        ("module_utils/_docker/credential_helper.py", False),
    ]


def test_packages_have_no_content() -> None:
    assert [name_of(path) for path in FILES if path.name == "__init__.py" and path.read_bytes().strip()] == []


def test_only_python_lies_in_module_utils() -> None:
    others = [
        name_of(path) for path in UTILS.rglob("*")
        if path.is_file() and path.suffix != ".py"
        and not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(UTILS).parts)
    ]
    assert others == []


def executed_size(path: pathlib.Path) -> int:
    """Return the size of a file's code without comments, docstrings and documentation, which cost next to nothing."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not _is_documentation(node)]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return len(ast.unparse(tree).encode())


def _is_documentation(node: ast.stmt) -> bool:
    names = ("DOCUMENTATION", "EXAMPLES", "RETURN")
    return isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in names


def test_size_is_that_of_the_code(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.py").write_text(
        '"""Text."""\n# comment\nclass A:\n    """Text."""\n\n\ndef b():\n    return "ä"\n\n\nRETURN = "text"\n'
    )
    assert executed_size(tmp_path / "x.py") == len(b"class A:\n    pass\n\ndef b():\n    return '\xc3\xa4'")


# Ansible compiles all of it for every task.
@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_executes_little_code(path: pathlib.Path) -> None:
    sizes = {name_of(one): executed_size(one) for one in closure(path)}
    most = LARGER_CLOSURES.get(path.stem, MAX_CLOSURE)
    assert sum(sizes.values()) <= most, sorted(sizes.items(), key=lambda item: -item[1])


def test_no_library_is_loaded_for_others() -> None:
    # Keys are kept without HTTP, and images are signed without an engine.
    for module, unwanted in (
        ("signing_key", "_docker"), ("signing_key_info", "_docker"), ("key_export", "_docker"),
        ("image_signature", "_docker"), ("image_verify", "_docker"), ("image_signature", "_custody"),
        ("image_verify", "_custody"), ("image_build", "_custody"), ("image_build", "_signing"),
        ("image_copy", "_docker"), ("image_copy", "_custody"), ("image_signature_info", "_docker"),
        ("image_resignature", "_docker"), ("image_resignature", "_custody"), ("image_resignature", "_policy"),
        ("image_signature_info", "_custody"), ("signing_key", "_signing"),
        ("key_export", "_signing"), ("signing_key_info", "_signing"),
    ):
        parts = {part_of(path) for path in closure(PLUGINS / "modules" / f"{module}.py") if UTILS in path.parents}
        assert unwanted not in parts, module


# What is written -----------------------------------------------------------------------------------------------------


def _public(tree: ast.Module) -> t.Iterator[tuple[str, ast.AST]]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, kinds) and not inner.name.startswith("_"):
                        yield f"{node.name}.{inner.name}", inner


@pytest.mark.parametrize("path", DOMAIN, ids=name_of)
def test_what_is_public_has_a_docstring(path: pathlib.Path) -> None:
    assert ast.get_docstring(tree_of(path))
    assert [name for name, node in _public(tree_of(path)) if not ast.get_docstring(node)] == []  # type: ignore[arg-type]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_begins_with_its_licence(path: pathlib.Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(
        r"(#!/usr/bin/python\n)?# Copyright \(c\) the hallmark\.signing authors\n"
        r"# GNU General Public License v3\.0\+ .*\n"
        r"# SPDX-License-[I]dentifier: GPL-3\.0-or-later\n", text,
    )
    assert text.startswith("#!") is (path in MODULES)
    assert "from __future__ import annotations\n" in text


def _documented_codes() -> list[str]:
    """Return the first cell of each row of the tables in docs/reason_codes.md, heads left out."""
    lines = (ROOT / "docs" / "reason_codes.md").read_text(encoding="utf-8").splitlines()
    cells = [line.strip().strip("|").split("|")[0].strip() if line.lstrip().startswith("|") else "" for line in lines]
    rules = [bool(re.fullmatch(r":?-+:?", cell)) for cell in cells]
    return [
        cell.strip("`") for number, cell in enumerate(cells)
        if cell and not rules[number] and not (number + 1 < len(cells) and rules[number + 1])
    ]


def test_each_reason_code_is_documented_and_no_other() -> None:
    documented = _documented_codes()
    assert len(documented) == len(set(documented))
    assert set(documented) == set(t.get_args(_reason_codes.ReasonCode))


def test_each_reason_code_is_used() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in [*MODULES, *DOMAIN] if path.name != "_errors.py")
    assert [code for code in t.get_args(_reason_codes.ReasonCode) if f'"{code}"' not in text] == []
