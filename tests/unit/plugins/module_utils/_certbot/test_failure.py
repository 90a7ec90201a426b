# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what is said about failures of Certbot."""

from __future__ import annotations

from ansible_collections.hallmark.signing.plugins.module_utils._certbot import failure
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    LIMITED,
)


def test_masked_error_is_shown() -> None:
    output = "An unexpected error occurred:\nAttributeError: can't set attribute\nAsk for help or search"
    assert failure.sentence(output, LIMITED) == (
        "the server answered urn:ietf:params:acme:error:rateLimited: too many certificates (5) already issued for this"
        " exact set of identifiers in the last 168h0m0s / Retry-After: 122400"
    )


def test_error_is_taken_from_the_traceback_where_there_is_no_answer() -> None:
    log = "acme.messages.Error: urn:ietf:params:acme:error:dns :: There was a problem :: no such name x.example\n"
    assert failure.server_errors(log) == ["urn:ietf:params:acme:error:dns: no such name x.example"]


def test_nonces_are_no_errors_and_each_error_is_named_once() -> None:
    problem = '{"type": "urn:ietf:params:acme:error:%s", "detail": "d%s", "subproblems": [{"a": {"b": 1}}]}'
    pairs = (("badNonce", 0), ("dns", 1), ("dns", 1), ("tls", 2), ("caa", 3), ("tls", 4))
    log = " ".join(problem % pair for pair in pairs)
    assert [text[-2:] for text in failure.server_errors(log)] == ["d2", "d3", "d4"]
    assert failure.server_errors('{"type": "urn:ietf:params:acme:error:dns", "detail": ') == []


def test_what_is_shown_is_short_and_clean() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----"
    text = failure.clean(f"a\x1b[31m\r\nb {key} c {'Q' * 65} \u202e " + "word " * 1000)
    assert "MIGH" not in text
    assert "Q" * 65 not in text
    assert text.isprintable()
    assert len(text) == failure.MAX_LENGTH
    assert failure.one_line(f"a\x1b[31m\r\n{'b' * 99} \u202e") == f"a [31m {'b' * 99}"
    assert failure.clean("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49") == "(left out)"
    assert failure.sentence("", "") == "Certbot said nothing"
    assert len(failure.sentence("line\n" * 9000 + "x" * 9000, LIMITED * 100)) <= failure.MAX_LENGTH
