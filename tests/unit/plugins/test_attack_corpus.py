# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each attack of the corpus is tested, or why it cannot be made yet. No number is left out.

N05c is a case of N05. Tests that are tables have rows with the number; others bear it in their name, or are about it.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import typing as t

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NUMBERS = (
    "N01-N18 S01-S18 N20 N20b N21-N30 N31a-N31h N32-N48 N50-N53 N53b N53c N54 N54b N55-N64 N70-N72 N72b N73-N81"
)
UNITS = "unit/plugins/module_utils"
VERIFY = f"{UNITS}/_signing/test_verify.py"
# Tables whose rows begin with a number.
TABLE = f"{VERIFY}::test_attack"
LOGS = f"{UNITS}/_signing/test_attacks.py::test_attack_on_the_log"
CERTS = f"{UNITS}/_signing/test_attacks.py::test_attack_on_certificates"
STAMPS = f"{UNITS}/_signing/test_attacks.py::test_attack_on_timestamps"
BUNDLES = f"{UNITS}/_signing/test_attacks.py::test_attack_on_bundles_by_certificates"
COSIGN = "interop/test_interop_stricter.py::test_we_refuse_what_cosign_accepts"
COSIGN_LOGS = "interop/test_interop_stricter.py::test_we_refuse_evidence_that_cosign_accepts"
TABLES = {TABLE, LOGS, CERTS, STAMPS, BUNDLES, COSIGN, COSIGN_LOGS}
ATTACKS = f"{UNITS}/_signing/test_attacks.py::"
OCI = f"{UNITS}/_oci"


class Row(t.NamedTuple):
    """What a number is about, the tests of it, and what cannot be tested yet."""

    words: str
    tests: tuple[str, ...] = ()
    lacking: str = ""


def row(words: str, *tests: str, lacking: str = "") -> Row:
    return Row(words, tests, lacking)


CORPUS = {
    # Payloads.
    "N01": row("claim for another image", TABLE),
    "N02": row("digest in capitals", TABLE),
    "N03": row("no digest", TABLE),
    "N04": row("signatures moved to another image", TABLE),
    "N05": row("member twice, the good one last", TABLE, COSIGN),
    "N06": row("member twice, the good one first", TABLE),
    "N07": row("members in another case", TABLE, COSIGN),
    "N08": row("something behind the payload", TABLE),
    "N09": row("byte order mark", TABLE),
    "N10": row("payload of another type", TABLE, COSIGN),
    "N11": row("payload for another name", TABLE,
               "interop/test_interop_stricter.py::test_we_refuse_a_foreign_name_when_asked_to"),
    "N12": row("annotations of another kind", TABLE, COSIGN),
    "N13": row("annotations that are wanted and not there", TABLE),
    "N14": row("references that are none", f"{VERIFY}::test_n14_references_that_are_none_reach_no_registry"),
    "N15": row("blob that is not what it is named", TABLE),
    "N16": row("size that is not that of the blob", TABLE),
    "N17": row("content inside the descriptor", TABLE),
    "N18": row("manifest that is not what it is named", TABLE,
               f"{VERIFY}::test_n18_bytes_that_are_not_of_the_digest_asked_for",
               f"{VERIFY}::test_n18_the_digest_of_a_tag_is_computed_not_believed"),
    # Signatures.
    "S01": row("another key", TABLE),
    "S02": row("no signature", TABLE),
    "S03": row("spare bits in base64", TABLE, COSIGN),
    "S04": row("line ends in base64", TABLE),
    "S05": row("other spellings of base64", TABLE),
    "S06": row("DER that is none", TABLE),
    "S07": row("two numbers without DER", TABLE, COSIGN),
    "S08": row("numbers out of range", TABLE),
    "S09": row("another hash", TABLE),
    "S10": row("another padding", TABLE),
    "S11": row("padding forged under a small exponent",
               f"{VERIFY}::test_s11_forged_padding_under_an_exponent_of_three"),
    "S12": row("one kind of key taken for another", TABLE,
               f"{VERIFY}::test_s12_a_key_under_another_label_is_no_authority"),
    "S13": row("Ed25519 out of range and of small order", f"{VERIFY}::test_s13_an_ed25519_signature_has_one_encoding",
               f"{VERIFY}::test_s13_an_ed25519_key_of_small_order_is_no_authority",
               f"{ATTACKS}test_s13_an_ed25519_signature_in_an_envelope_has_one_encoding"),
    "S14": row("nothing attached", TABLE),
    "S15": row("one good among many bad", TABLE, f"{ATTACKS}test_n71_one_good_beside_many_by_other_certificates"),
    "S16": row("one signer counted twice", f"{VERIFY}::test_s16_the_same_key_twice_counts_once",
               f"{ATTACKS}test_s16_one_key_is_one_signer"),
    "S17": row("envelope without or with two signatures", TABLE,
               f"{ATTACKS}test_s17_number_of_signatures_in_an_envelope_by_a_certificate"),
    "S18": row("envelope of another type", TABLE, f"{ATTACKS}test_s18_type_of_an_envelope_by_a_certificate"),
    # Transparency logs.
    "N20": row("entry of another signature", LOGS,
               f"{ATTACKS}test_n20_the_entry_of_one_signature_does_not_serve_the_next"),
    "N20b": row("the same in a bundle", LOGS),
    "N21": row("entry of another key or certificate", LOGS),
    "N22": row("no entry", LOGS, f"{ATTACKS}test_n22_entry_that_is_there_is_judged_even_if_none_is_required"),
    "N23": row("promise over something else", LOGS),
    "N24": row("time altered", LOGS),
    "N25": row("log that is not trusted, or not at that time", LOGS),
    "N26": row("time that nobody promised", LOGS, CERTS),
    "N27": row("inclusion proof that does not hold", LOGS),
    "N28": row("checkpoint that the log did not sign", LOGS),
    "N29": row("checkpoint of another log", LOGS),
    "N30": row("name of a log of version 2", LOGS),
    "N31a": row("entry twice", f"{ATTACKS}test_n31a_one_entry_twice_is_no_second_witness",
                f"{ATTACKS}test_n31a_a_bad_entry_beside_a_good_one"),
    "N31b": row("kind that is not the body's", LOGS),
    "N31c": row("promise without proof in a bundle", LOGS),
    "N31d": row("body of another kind", LOGS),
    "N31e": row("body of another entry", LOGS),
    "N31f": row("numbers in a checkpoint", LOGS),
    "N31g": row("digest of something else", LOGS, f"{ATTACKS}test_attack_on_the_kind_of_bundle",
                lacking="bundles with a bare message signature are for files, which nothing here verifies yet"),
    "N31h": row("digest labelled as another hash", LOGS),
    # Certificates and times.
    "N32": row("expression that is not anchored", CERTS),
    "N33": row("leaf out of its time", CERTS),
    "N34": row("issuer out of its time", CERTS),
    "N35": row("logged when the leaf was not valid", CERTS),
    "N36": row("leaf as authority, path too long", CERTS, f"{ATTACKS}test_n36_leaf_that_is_its_own_trusted_root"),
    "N37": row("root from the signature itself", CERTS),
    "N38": row("leaf for another usage", CERTS),
    "N39": row("issuer for another usage", CERTS),
    "N40": row("another name", CERTS),
    "N41": row("issuer of the identity token", lacking="the issuer is asked for by keyless authorities only, which are "
               "not there yet; private authorities have no such extension"),
    "N42": row("certificate of another key", CERTS,
               f"{ATTACKS}test_n42_signature_by_the_wanted_name_and_another_key"),
    "N43": row("signed certificate timestamps", lacking="only keyless authorities demand certificates to be logged; "
               "they are not there yet"),
    "N44": row("timestamp that does not hold", STAMPS),
    "N45": row("no timestamp", STAMPS, CERTS,
               f"{ATTACKS}test_n45_rekor_2_needs_a_timestamp_for_a_certificate_that_has_expired"),
    "N46": row("certificate for a key, or key for a certificate", TABLE,
               f"{ATTACKS}test_n46_a_bare_key_does_not_stand_for_its_certificate",
               f"{ATTACKS}test_n46_a_certificate_in_a_bundle_does_not_stand_for_its_key"),
    "N47": row("authority for something else", CERTS, STAMPS,
               lacking="the authority of a certificate log waits for keyless authorities"),
    "N48": row("names that deceive", CERTS),
    # Attestations and bundles.
    "N50": row("attestation of another type", TABLE,
               lacking="attestations are never taken for signatures; verifying them by type is not there yet"),
    "N51": row("signed content of another kind", TABLE),
    "N52": row("attestations in place of a signature", COSIGN, lacking="asking for attestations is not there yet"),
    "N53": row("subject that is not the image", TABLE),
    "N53b": row("second subject is the image", TABLE),
    "N53c": row("types of a statement", TABLE, COSIGN),
    "N54": row("subject that is null", TABLE),
    "N54b": row("odd members in a statement", TABLE),
    "N55": row("version of a bundle", TABLE, f"{ATTACKS}test_attack_on_the_kind_of_bundle"),
    "N56": row("odd members in a bundle", TABLE, BUNDLES),
    "N57": row("two or none where there is one", TABLE, BUNDLES, f"{ATTACKS}test_attack_on_the_kind_of_bundle"),
    "N58": row("chain in a bundle of version 0.3", TABLE, BUNDLES),
    "N59": row("other spellings in a bundle", TABLE, BUNDLES, COSIGN),
    "N60": row("hint is not proof", TABLE),
    "N61": row("listed for an image that it does not name", TABLE),
    "N62": row("unreadable bundle beside a good signature", TABLE,
               f"{ATTACKS}test_n62_n63_unreadable_or_foreign_ones_hide_no_certified_signature"),
    "N63": row("foreign bundle beside a good signature", TABLE,
               f"{ATTACKS}test_n62_n63_unreadable_or_foreign_ones_hide_no_certified_signature",
               "interop/test_interop_stricter.py::test_where_we_are_not_stricter"),
    "N64": row("fallback tag that is no list, or a long one", TABLE,
               f"{OCI}/test_referrers.py::test_a_fallback_tag_that_is_the_image_itself_lists_nothing",
               f"{OCI}/test_referrers.py::test_a_fallback_index_of_ten_thousand_entries_is_refused"),
    # Resources and transport.
    "N70": row("sizes that no blob has", TABLE),
    "N71": row("too many of anything", TABLE, LOGS, f"{ATTACKS}test_n71_too_many_timestamps"),
    "N72": row("too large", TABLE, LOGS, STAMPS, BUNDLES, COSIGN,
               f"{VERIFY}::test_n72_a_trickle_of_bytes_meets_the_timeout"),
    "N72b": row("compressed bundle", TABLE, COSIGN),
    "N73": row("what parsers stumble over", TABLE, LOGS, COSIGN, f"{ATTACKS}test_n73_certificates_that_are_too_much",
               f"{ATTACKS}test_n73_huge_identifier_in_the_certificate_of_a_bundle"),
    "N74": row("expression that takes for ever", f"{ATTACKS}test_n74_no_expression_takes_long",
               f"{UNITS}/_signing/test_linear_match.py::test_hostile_names_take_no_longer_than_others"),
    "N75": row("lies in update metadata", lacking="no roots of trust are fetched: they are files; the update framework "
               "comes with keyless authorities"),
    "N76": row("names that lead out of a layout", f"{OCI}/test_layout.py::test_a_blob_is_a_plain_file_inside",
               f"{OCI}/test_layout.py::test_its_own_files_are_plain_files",
               f"{OCI}/test_archive.py::test_names_that_lead_elsewhere_are_never_touched"),
    "N77": row("redirects and realms that lead elsewhere",
               f"{OCI}/test_transport.py::test_redirects_to_other_schemes_are_refused",
               f"{OCI}/test_transport.py::test_redirects_to_link_local_addresses_are_refused",
               f"{OCI}/test_transport.py::test_a_registry_elsewhere_cannot_redirect_to_this_machine",
               f"{OCI}/test_transport.py::test_a_bearer_registry_never_sees_the_password",
               f"{OCI}/test_transport.py::test_a_realm_on_this_machine_is_refused_for_a_registry_elsewhere"),
    "N78": row("tag that moves", f"{VERIFY}::test_n78_a_tag_is_resolved_once_and_the_verdict_names_the_digest"),
    "N79": row("no TLS where it was demanded", f"{OCI}/test_transport.py::test_https_never_falls_back_to_http",
               f"{OCI}/test_transport.py::test_a_redirect_from_https_to_http_is_refused"),
    "N80": row("costs of an encrypted key", f"{UNITS}/_keys/test_encrypted_key.py::test_hostile_costs_are_refused",
               f"{UNITS}/_keys/test_encrypted_key.py::test_other_costs_are_refused_even_with_the_right_passphrase"),
    "N81": row("secrets that can be seen", "interop/test_interop_no_leaks.py::test_nothing_printed_shows_a_secret",
               "interop/test_interop_no_leaks.py::test_no_process_shows_a_secret",
               "interop/test_interop_no_leaks.py::test_no_file_but_the_destinations_holds_a_secret"),
}


def _numbers() -> t.Iterator[str]:
    for part in NUMBERS.split():
        first, _dash, last = part.partition("-")
        if not last:
            yield first
        elif first[-1].isdigit():
            yield from (f"{first[0]}{number:02}" for number in range(int(first[1:]), int(last[1:]) + 1))
        else:
            yield from (f"{first[:-1]}{chr(letter)}" for letter in range(ord(first[-1]), ord(last[-1]) + 1))


@functools.cache
def _names_and_texts(path: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the tests in a file, and all texts in it."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return frozenset(functions), frozenset(texts)


def test_no_number_is_left_out() -> None:
    assert list(CORPUS) == sorted(CORPUS, key=list(_numbers()).index)
    assert set(CORPUS) == set(_numbers())
    assert all(one.words for one in CORPUS.values())


@pytest.mark.parametrize("number", CORPUS)
def test_each_is_tested_or_it_is_said_why_not(number: str) -> None:
    one = CORPUS[number]
    assert one.tests or one.lacking
    for test in one.tests:
        path, _colons, name = test.partition("::")
        functions, texts = _names_and_texts(path)
        assert name in functions, f"there is no {test}"
        if test in TABLES:
            assert any(re.fullmatch(rf"{number}[a-z]?", text) for text in texts), f"{test} has no row {number}"
        of_name = re.findall(r"(?<=_)([ns][0-9]{2}[a-z]?)(?=_)", name)
        assert not of_name or any(number.lower().startswith(found) for found in of_name) or number == "S15"


def test_every_number_in_a_table_is_of_the_corpus() -> None:
    for test in TABLES:
        path = test.partition("::")[0]
        found = {text for text in _names_and_texts(path)[1] if re.fullmatch(r"[NS][0-9]{2}[a-z]?", text)}
        unknown = {text for text in found if text not in CORPUS and text.rstrip("abcdefgh") not in CORPUS}
        assert not unknown
