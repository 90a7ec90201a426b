# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions for people who like nox; each calls ./dev, which is what CI runs."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "none"


@nox.session
@nox.parametrize("part", ["unit", "sanity", "integration", "interop", "lint", "docs", "fuzz", "custody", "fleet"])
def test(session: nox.Session, part: str) -> None:
    """Run one part of the tests."""
    session.run("./dev", "test", part, external=True)
