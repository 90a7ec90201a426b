# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking a service or a device that may be slow, away, or unwilling: bounded in time, and its refusals in our words."""

from __future__ import annotations

import re
import threading
import typing as t
from dataclasses import dataclass, field

from ..._errors import HallmarkError, KeyFileError
from ..._libraries import FLOORS, require

if t.TYPE_CHECKING:
    from ..._reason_codes import ReasonCode

Answer = t.TypeVar("Answer")


def need(library: str) -> None:
    """Check that a library is there, and not older than any that is tested. Raises LibraryError."""
    require(library, floor=FLOORS.get(library, "0"))


def _kinds(error: Exception) -> list[str]:
    """Return the names of an exception's classes, its own first."""
    return [kind.__name__ for kind in type(error).__mro__]


@dataclass
class Service:
    """What is asked, how long it may take, and what the names of its errors mean.

    C(names) returns the names of an error, the most telling one first. Whatever else an error holds is not shown: it
    may quote the request, with its credentials.
    """

    where: str
    seconds: float
    codes: t.Mapping[str, ReasonCode]
    names: t.Callable[[Exception], t.Sequence[str]] = _kinds
    advice: str = "Look there for what happened, and run again."
    # Who did not answer in time is not asked again: each image of a batch would wait as long.
    is_hung: bool = field(default=False, init=False)

    def ask(self, attempt: str, question: t.Callable[[], Answer]) -> Answer:
        """Return what C(question()) returns. Raises KeyFileError: by C(codes), else service_unavailable."""
        if self.is_hung:
            raise self._refused("service_unavailable", attempt, "it did not answer before")
        answers: list[Answer] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                answers.append(question())
            except BaseException as exc:
                errors.append(exc)

        # A thread of its own: not every library keeps the limits it is given, least of all while it logs in.
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self.seconds)
        if thread.is_alive():
            self.is_hung = True
            raise self._refused("service_unavailable", attempt, f"no answer came within {self.seconds:g} seconds")
        if errors:
            raise self._translated(errors[0], attempt)
        return answers[0]

    def _translated(self, error: BaseException, attempt: str) -> BaseException:
        if isinstance(error, HallmarkError) or not isinstance(error, Exception):
            return error
        names = list(self.names(error))
        known = next((name for name in names if name in self.codes), None)
        code: ReasonCode = "service_unavailable" if known is None else self.codes[known]
        return self._refused(code, attempt, re.sub(r"[^A-Za-z0-9_.:-]", "", names[0])[:80] or "it failed")

    def _refused(self, code: ReasonCode, attempt: str, cause: str) -> KeyFileError:
        return KeyFileError(code=code, object=self.where, attempt=attempt, cause=cause, advice=self.advice)
