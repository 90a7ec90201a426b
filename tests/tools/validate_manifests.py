# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validate rendered Kubernetes manifests against the CRDs in tests/unit/data/schemas.

Usage: validate_manifests.py [--ignore-unknown] [--no-cel] MANIFEST...      ("-" reads standard input)

Every YAML or JSON document in the given files is matched by apiVersion and kind to a
CustomResourceDefinition there and checked the way an API server checks a custom
resource under strict field validation:

* a field that the structural schema does not name is a problem (unless the schema keeps unknown fields),
* ``nullable`` and ``x-kubernetes-int-or-string`` widen the accepted type,
* ``x-kubernetes-list-type`` set and map lists must not repeat an item or a key,
* ``format`` (int32, int64, byte, date-time) and the usual JSON-Schema keywords are checked,
* ``x-kubernetes-validations`` (CEL) rules are evaluated when the PyPI package ``cel-python`` is
  installed; a rule that needs a CEL function it lacks is skipped with a note.

One line is printed per problem: ``FILE#DOC KIND/NAME: PATH: message``.
Lines that begin with ``note:`` never change the exit status.
Exit status: 0 no problem, 1 problems found, 2 the command could not do its work.
Needs PyPI ``jsonschema`` and ``pyyaml``.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import datetime as dt
import gzip
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft4Validator, FormatChecker, ValidationError, validators

try:  # optional: CEL rules
    import celpy
    from celpy import celtypes
    from celpy.adapter import json_to_cel
    from celpy.celparser import CELParseError
    from celpy.evaluation import CELEvalError

    HAVE_CEL = True
except ImportError:
    HAVE_CEL = False

SCHEMAS = Path(__file__).resolve().parents[1] / "unit" / "data" / "schemas"
Json = Any
Schema = dict[str, Any]

# Fields of metav1.ObjectMeta that a manifest may carry.
OBJECT_META: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 253, "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"},
        "generateName": {"type": "string"},
        "namespace": {"type": "string", "maxLength": 63, "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        "finalizers": {"type": "array", "items": {"type": "string"}},
        "ownerReferences": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        "managedFields": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        "uid": {"type": "string"},
        "resourceVersion": {"type": "string"},
        "generation": {"type": "integer"},
        "creationTimestamp": {"type": "string", "format": "date-time", "nullable": True},
        "deletionTimestamp": {"type": "string", "format": "date-time", "nullable": True},
        "deletionGracePeriodSeconds": {"type": "integer"},
        "selfLink": {"type": "string"},
    },
}

formats = FormatChecker(formats=())


@formats.checks("int32")
def _int32(value: Json) -> bool:
    return not isinstance(value, int) or -(2**31) <= value < 2**31


@formats.checks("int64")
def _int64(value: Json) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63


@formats.checks("byte", raises=(binascii.Error, ValueError))
def _byte(value: Json) -> bool:
    if isinstance(value, str):
        base64.b64decode(value.replace("\n", ""), validate=True)
    return True


@formats.checks("date-time", raises=ValueError)
def _date_time(value: Json) -> bool:
    if isinstance(value, str):
        if not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", value):
            raise ValueError(value)
        dt.datetime.fromisoformat(value.upper())
    return True


def _unique(validator: Any, kind: str, instance: Json, schema: Schema) -> Iterator[ValidationError]:
    """x-kubernetes-list-type: no repeated items (set) or repeated map keys (map)."""
    del validator
    if kind not in ("set", "map") or not isinstance(instance, list):
        return
    keys = schema.get("x-kubernetes-list-map-keys", [])
    seen: list[Json] = []
    for number, item in enumerate(instance):
        ident = {key: item.get(key) for key in keys} if kind == "map" and isinstance(item, dict) else item
        if ident in seen:
            yield ValidationError(f"item {number} repeats {ident!r} in a list of type {kind}")
        seen.append(ident)


extend: Callable[..., Any] = validators.extend
CrdValidator = extend(Draft4Validator, {"x-kubernetes-list-type": _unique})


def harden(schema: Schema, root: bool = False) -> Schema:
    """Return *schema* (structural OpenAPI v3) as a JSON Schema with Kubernetes' rules made explicit."""
    out = {key: value for key, value in schema.items() if key not in ("nullable", "default", "description", "example")}
    if "properties" in schema:
        out["properties"] = {name: harden(sub) for name, sub in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        out["additionalProperties"] = harden(schema["additionalProperties"])
    if isinstance(schema.get("items"), dict):
        out["items"] = harden(schema["items"])
    if schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    if root or schema.get("x-kubernetes-embedded-resource"):
        identity = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": harden(OBJECT_META)}
        out["properties"] = {**out.get("properties", {}), **identity}
        if root:
            out["required"] = sorted({*out.get("required", []), "apiVersion", "kind", "metadata"})
    if schema.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    if schema.get("nullable") and "type" in out:
        kinds = out["type"] if isinstance(out["type"], list) else [out["type"]]
        out["type"] = [*kinds, "null"]
        if "enum" in out:
            out["enum"] = [*out["enum"], None]
    return out


class Crds:
    """The CRDs of one directory, indexed by (group, kind)."""

    def __init__(self, folder: Path) -> None:
        self.found: dict[tuple[str, str], dict[str, Any]] = {}
        self._ready: dict[tuple[str, str, str], tuple[Any, Schema]] = {}
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        for path in sorted(folder.glob("*.yaml.gz")):
            for crd in yaml.load_all(gzip.decompress(path.read_bytes()), Loader=loader):
                if isinstance(crd, dict) and crd.get("kind") == "CustomResourceDefinition":
                    self.found[crd["spec"]["group"], crd["spec"]["names"]["kind"]] = crd

    def version(self, group: str, kind: str, version: str) -> dict[str, Any] | None:
        """The entry of spec.versions, or None."""
        return next((v for v in self.found[group, kind]["spec"]["versions"] if v["name"] == version), None)

    def validator(self, group: str, kind: str, version: str) -> tuple[Any, Schema]:
        """The validator of a version and its original schema."""
        key = (group, kind, version)
        if key not in self._ready:
            entry = self.version(*key)
            assert entry is not None
            schema = entry["schema"]["openAPIV3Schema"]
            self._ready[key] = (CrdValidator(harden(schema, root=True), format_checker=formats), schema)
        return self._ready[key]


# --- CEL ------------------------------------------------------------------------------------


def _cel_functions() -> dict[str, Callable[..., Any]]:
    """The Kubernetes CEL extensions that the stored CRDs use and that plain Python can do."""

    def find_all(text: Any, pattern: Any) -> Any:
        return celtypes.ListType([celtypes.StringType(m) for m in re.findall(str(pattern), str(text))])

    def split(text: Any, separator: Any) -> Any:
        return celtypes.ListType([celtypes.StringType(part) for part in str(text).split(str(separator))])

    def is_url(text: Any) -> Any:
        return celtypes.BoolType(bool(re.match(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+|^/", str(text))))

    def matches(text: Any, pattern: Any) -> Any:
        return celtypes.BoolType(re.search(str(pattern).replace("[[:xdigit:]]", "[0-9A-Fa-f]"), str(text)) is not None)

    return {"findAll": find_all, "split": split, "isURL": is_url, "matches": matches}


class Cel:
    """Evaluates x-kubernetes-validations with cel-python."""

    def __init__(self) -> None:
        self._env = celpy.Environment()
        self._functions = _cel_functions()
        self.skipped: set[str] = set()

    def problems(self, schema: Schema, value: Json, path: str) -> Iterator[tuple[str, str]]:
        for rule in schema.get("x-kubernetes-validations", []):
            verdict = self._holds(rule["rule"], value, schema)
            if verdict is False:
                yield path, rule.get("message") or f"failed rule: {rule['rule']}"
        if isinstance(value, dict):
            for name, item in value.items():
                extra = schema.get("additionalProperties")
                sub = schema.get("properties", {}).get(name, extra if isinstance(extra, dict) else None)
                if sub is not None:
                    yield from self.problems(sub, item, f"{path}.{name}")
        elif isinstance(value, list) and isinstance(schema.get("items"), dict):
            for number, item in enumerate(value):
                yield from self.problems(schema["items"], item, f"{path}[{number}]")

    def _holds(self, rule: str, value: Json, schema: Schema) -> bool | None:
        if "oldSelf" in rule:
            return None  # transition rules need the stored object
        try:
            subject = json_to_cel(value)
            if schema.get("format") == "byte":
                subject = celtypes.BytesType(base64.b64decode(value))
            program = self._env.program(self._env.compile(rule), functions=self._functions)
            result = program.evaluate({"self": subject})
        except (CELEvalError, CELParseError, ValueError, TypeError):
            self.skipped.add(rule)
            return None
        return bool(result)


# --- documents ------------------------------------------------------------------------------


class StrictLoader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: no timestamps, no repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _value in node.value if key.tag != "tag:yaml.org,2002:merge"]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"repeated key {repeated[0]!r}", node.start_mark)
        return super().construct_mapping(node, deep)


StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in pairs if tag != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(source: str) -> Iterator[tuple[str, Json]]:
    """Yield (label, document) for every non-empty document; a List is taken apart."""
    text = sys.stdin.read() if source == "-" else Path(source).read_text()
    for number, doc in enumerate(yaml.load_all(text, Loader=StrictLoader)):
        if doc is None:
            continue
        if isinstance(doc, dict) and str(doc.get("kind", "")).endswith("List") and isinstance(doc.get("items"), list):
            for item_number, item in enumerate(doc["items"]):
                yield f"{source}#{number}.{item_number}", item
        else:
            yield f"{source}#{number}", doc


def where(error: ValidationError) -> str:
    """A readable path, e.g. spec.authorities[0].key."""
    text = ""
    for part in error.absolute_path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "(root)"


def flatten(error: ValidationError) -> str:
    """The message of *error*, with the reasons of a failed oneOf or anyOf."""
    message = error.message if len(error.message) < 300 else error.message[:297] + "..."
    if error.validator in ("oneOf", "anyOf") and error.context:
        reasons = sorted({item.message for item in error.context})
        message = f"fits none or several of the allowed forms ({'; '.join(reasons)[:300]})"
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
        unknown = sorted(set(error.instance) - set(known))
        message = f"unknown field {', '.join(map(repr, unknown))}"
    return message


def check(doc: Json, crds: Crds, cel: Cel | None, ignore_unknown: bool) -> Iterator[str]:
    """Yield "PATH: message" for each problem of *doc*; notes start with "note:"."""
    if not isinstance(doc, dict) or not isinstance(doc.get("apiVersion"), str) or not isinstance(doc.get("kind"), str):
        yield "(root): apiVersion and kind must be strings"
        return
    group, _slash, version = doc["apiVersion"].rpartition("/")
    kind = doc["kind"]
    if (group, kind) not in crds.found:
        if not ignore_unknown:
            yield f"(root): no stored CRD for {doc['apiVersion']} {kind}"
        return
    entry = crds.version(group, kind, version)
    if entry is None or not entry["served"]:
        served = [v["name"] for v in crds.found[group, kind]["spec"]["versions"] if v["served"]]
        yield f"apiVersion: {doc['apiVersion']} is not served; served: {', '.join(served)}"
        return
    if entry.get("deprecated"):
        yield f"note: {doc['apiVersion']} {kind} is deprecated"
    metadata = doc.get("metadata")
    if isinstance(metadata, dict):
        if not metadata.get("name") and not metadata.get("generateName"):
            yield "metadata: name or generateName is required"
        if crds.found[group, kind]["spec"]["scope"] == "Cluster" and metadata.get("namespace"):
            yield f"metadata.namespace: {kind} is cluster-scoped"
    validator, schema = crds.validator(group, kind, version)
    failed = False
    for error in sorted(validator.iter_errors(doc), key=lambda e: (where(e), e.message)):
        failed = True
        yield f"{where(error)}: {flatten(error)}"
    if cel is not None and not failed:
        for path, message in cel.problems(schema, doc, ""):
            yield f"{path.lstrip('.') or '(root)'}: {message}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("manifests", nargs="+", metavar="MANIFEST")
    parser.add_argument("--ignore-unknown", action="store_true", help="skip kinds that have no CRD here")
    parser.add_argument("--no-cel", action="store_true", help="do not evaluate CEL rules")
    args = parser.parse_args(argv)
    crds = Crds(SCHEMAS)
    cel = Cel() if HAVE_CEL and not args.no_cel else None
    bad = 0
    for source in args.manifests:
        try:
            for label, doc in documents(source):
                name = doc.get("kind", "?") if isinstance(doc, dict) else "?"
                if isinstance(doc, dict) and isinstance(doc.get("metadata"), dict):
                    name = f"{name}/{doc['metadata'].get('name', '?')}"
                for line in check(doc, crds, cel, args.ignore_unknown):
                    if line.startswith("note: "):
                        print(f"note: {label} {name}: {line.removeprefix('note: ')}")
                    else:
                        bad += 1
                        print(f"{label} {name}: {line}")
        except yaml.YAMLError as error:
            bad += 1
            print(f"{source}: not YAML: {' '.join(str(error).split())}")
        except OSError as error:
            print(f"{source}: {error.strerror}", file=sys.stderr)
            return 2
    if cel is not None and cel.skipped:
        print(f"note: {len(cel.skipped)} CEL rule(s) need functions that cel-python lacks and were skipped")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
