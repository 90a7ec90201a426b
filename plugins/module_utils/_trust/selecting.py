# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that a JMESPath expression picks out of any data (jmespath.org)."""

from __future__ import annotations

import typing as t

from .._errors import FormatError
from .._libraries import optional

with optional():
    import jmespath
    import jmespath.exceptions


def select(query: str, source: t.Any) -> tuple[str, ...]:
    """Return the texts that an expression gives, each once. Raises FormatError (input_invalid), also for none."""
    try:
        found = jmespath.search(query, source)
    except jmespath.exceptions.JMESPathError as exc:
        raise _invalid(" ".join(str(exc).split())[:300]) from exc
    texts = found if isinstance(found, list) else [found]
    if not texts or found is None:
        raise _invalid("it finds nothing")
    for one in texts:
        if not isinstance(one, str) or not one:
            raise _invalid(f"it finds {type(one).__name__}, and not a text")
    return tuple(dict.fromkeys(texts))


def _invalid(cause: str) -> FormatError:
    return FormatError(
        code="input_invalid", object="query", attempt="pick images out of source", cause=cause,
        advice="Give a JMESPath expression that gives a list of images.",
    )
