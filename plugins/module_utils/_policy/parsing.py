# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents of YAML, of which JSON is a part. Loaded where one is read, as Ansible compiles what is imported."""

from __future__ import annotations

import typing as t

from .._errors import FormatError
from .._libraries import optional

with optional():
    import yaml


def parse_yaml(data: bytes, *, where: str) -> t.Any:
    """Parse one document of YAML or JSON; times stay texts. Raises FormatError (malformed), also for a name twice."""
    documents = parse_all(data, where=where)
    if len(documents) != 1:
        raise FormatError(
            code="malformed", object=where, attempt="read the policy", cause=f"it has {len(documents)} documents",
            advice="Write one YAML document.",
        )
    return documents[0]


def parse_all(data: bytes, *, where: str) -> list[t.Any]:
    """Parse all documents likewise."""
    try:
        return list(yaml.load_all(data, Loader=_loader()))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise FormatError(
            code="malformed", object=where, attempt="read the policy", cause=" ".join(str(exc).split())[:300],
            advice="Write YAML or JSON.",
        ) from exc


def _loader() -> t.Any:
    class Loader(yaml.SafeLoader):
        """Refuses what other readers understand differently: names that occur twice, and times."""

        def construct_mapping(self, node: t.Any, deep: bool = False) -> t.Any:
            """Construct a mapping whose names are all different."""
            names = [self.construct_object(key, deep=True) for key, _value in node.value]
            if len({str(name) for name in names}) != len(names):
                raise yaml.constructor.ConstructorError(None, None, "a name occurs twice", node.start_mark)
            return super().construct_mapping(node, deep=deep)

    Loader.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader
