"""What is masked: exactly what was found, with one number for one thing, and nothing of it left."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.instructions.checks import RecordCheck, check_from, mended_record
from studio.instructions.checks.masking import MaskingCheck
from tests.instructions.checks.records import look, quick, record, seen


def _check(name: str) -> RecordCheck:
    check = check_from(name)
    assert isinstance(check, RecordCheck)
    return check


def _masked(name: str, text: str) -> str:
    check, before = _check(name), record(response=text)
    return mended_record(before, check.mend(before, check.look(before), "mask")).response


# Numbers made for this test: their check digits fit, and nobody has them.
FOUND = [
    ("anna.b+news@shop.example.org", "EMAIL"),
    ("O.Brien@example.co.uk", "EMAIL"),
    ("+49 30 1234567", "PHONE"),
    ("+1 (212) 555-0123", "PHONE"),
    ("(212) 555-0123", "PHONE"),
    ("01 23 45 67 89", "PHONE"),
    ("030 / 123 45 67", "PHONE"),
    ("4111 1111 1111 1111", "CARD"),
    ("5500-0000-0000-0004", "CARD"),
    ("DE89 3704 0044 0532 0130 00", "IBAN"),
    ("GB82WEST12345698765432", "IBAN"),
    ("192.168.1.17", "IP"),
    ("fe80::1ff:fe23:4567:890a", "IP"),
    ("123-45-6789", "ID"),
    ("AB 12 34 56 C", "ID"),
    ("12345678Z", "ID"),
    ("RSSMRA85T10A562S", "ID"),
    ("529.982.247-25", "ID"),
    ("756.1234.5678.97", "ID"),
    ("811218-9876", "ID"),
    ("2 55 08 14 168 025 38", "ID"),
    ("12 Harbour Street", "ADDRESS"),
    ("Goethestraße 12, 10115 Berlin", "ADDRESS"),
    ("5 rue de la Paix", "ADDRESS"),
]


@pytest.mark.parametrize(("value", "kind"), FOUND, ids=[value for value, _ in FOUND])
@pytest.mark.parametrize("around", ["{}", "It is {}.", "Schreib an {}, bitte", "({})", "‏مرحبا {} 👋"])
def test_personal_data_is_found_from_end_to_end(value: str, kind: str, around: str) -> None:
    text = around.format(value)
    assert value in seen(_check("personal"), text)
    assert _masked("personal", text) == around.format(f"[{kind}]")


@pytest.mark.parametrize(
    "text",
    [
        "The meeting is on 01.02.2024 at 12:30.",
        "From 2010-2015, or 1999/2000.",
        "Version 1.2.3.4 of the program.",
        "Localhost is 127.0.0.1 and ::1.",
        "4111 1111 1111 1112 fails the check.",
        "DE88 3704 0044 0532 0130 00 fails, too.",
        "666-45-6789 and 123-00-6789 were never given out.",
        "12345678A has the wrong letter.",
        "std::vector and a::b are code.",
        "It has 1 000 000 people and 3.14159265 in it.",
        "ISBN 978-3-16-148410-0",
        "An @ sign, and @home, and 5 @ 3 euros.",
        "[EMAIL] and [PHONE 2] are masks.",
    ],
)
def test_what_only_looks_alike_is_left_alone(text: str) -> None:
    assert seen(_check("personal"), text) == []


def test_the_same_value_has_the_same_number_and_numbers_go_on_from_those_there_are() -> None:
    assert _masked("personal", "a@example.org, b@example.org, A@example.org") == "[EMAIL 1], [EMAIL 2], [EMAIL 1]"
    assert _masked("personal", "[EMAIL] wrote to b@example.org") == "[EMAIL] wrote to [EMAIL 2]"
    assert _masked("personal", "[EMAIL 7] wrote to b@example.org") == "[EMAIL 7] wrote to [EMAIL 8]"


def test_numbers_are_the_same_in_question_context_and_answer() -> None:
    check = _check("personal")
    before = record(1, "Who is b@example.org?", "b@example.org is Bo.", context="a@example.org, b@example.org")
    after = mended_record(before, check.mend(before, check.look(before), "mask"))
    assert (after.instruction, after.context, after.response) == (
        "Who is [EMAIL 1]?",
        "[EMAIL 2], [EMAIL 1]",
        "[EMAIL 1] is Bo.",
    )


def test_only_what_was_asked_for_is_masked() -> None:
    check = _check("personal")
    before = record(response="a@example.org and b@example.org")
    second = check.look(before)[1:]
    assert mended_record(before, check.mend(before, second, "mask")).response == "a@example.org and [EMAIL]"


def test_a_field_with_more_than_is_listed_is_masked_all_through() -> None:
    check = _check("personal")
    before = record(response=" ".join(f"p{n}@example.org" for n in range(1500)))
    flags = check.look(before)
    assert len(flags) == 1000
    assert "@" not in mended_record(before, check.mend(before, flags, "mask")).response


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("I met Maria Lopez, and Maria waved.", "I met [NAME], and [NAME] waved."),
        ("Anna's dog bit Dr. Okonkwo.", "[NAME 1]'s dog bit Dr. [NAME 2]."),
        ("Dear Zorblax,\nyours\nQuentin", "Dear [NAME 1],\nyours\n[NAME 2]"),
        ("Will Smith come in May?", "[NAME] come in May?"),
        ("Lake Victoria and Stanford University", "Lake Victoria and Stanford University"),
        ("[NAME 1] met Otto", "[NAME 1] met [NAME 2]"),
    ],
)
def test_names_are_masked_by_person(text: str, masked: str) -> None:
    assert _masked("names", text) == masked


# Put together here, so that no scanner takes this file for one that leaks.
SECRETS = [
    "AKIA" + "IOSFODNN7" + "EXAMPLE",
    "ghp_" + "a1B2c3D4e5" * 4,
    "sk-" + "a1B2c3D4e5" * 4,
    "hf_" + "aBcDeFgHiJ" * 4,
    "xoxb-" + "123456789012-abcdef",
    "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIEow\n-----END RSA PRIVATE " + "KEY-----",
    "eyJ" + "hbGciOiJIUzI1.eyJ" + "zdWIiOiIxMjM0.c2lnbmF0dXJl",
]


@pytest.mark.parametrize("secret", SECRETS, ids=[secret[:10] for secret in SECRETS])
def test_a_secret_is_found_by_how_it_begins(secret: str) -> None:
    assert _masked("secrets", f"Use {secret} for now") == "Use [SECRET] for now"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("password: hunter2Xy", "password: [SECRET]"),
        ('api_key = "q8Zr2Lw0Vt"', 'api_key = "[SECRET]"'),
        ("postgres://bo:s3cretpw@db/x", "postgres://bo:[SECRET]@db/x"),
        ("Das Passwort ist Sommer2024!x", "Das Passwort ist [SECRET]"),
        ("The password is required.", "The password is required."),
        ("The secret: happiness", "The secret: happiness"),
        ("token: [SECRET]", "token: [SECRET]"),
        ("password=your_password1", "password=your_password1"),
        ("A desk-top and a task-force are no keys.", "A desk-top and a task-force are no keys."),
    ],
)
def test_a_password_is_what_stands_after_the_word_and_looks_random(text: str, masked: str) -> None:
    assert _masked("secrets", text) == masked


PIECES = st.lists(
    st.sampled_from(
        [value for value, _ in FOUND]
        + SECRETS[:3]
        + ["Maria Lopez", "Dr. Otto", "Frau", "[NAME 2]", "7", "-", "@", "a"]
    )
    | st.text(max_size=12),
    max_size=9,
)


@quick
@given(st.sampled_from(["personal", "names", "secrets"]), PIECES, st.sampled_from(["", " ", "\n", ", "]))
def test_spans_are_apart_and_masking_changes_nothing_outside_them(name: str, pieces: list[str], glue: str) -> None:
    check, text = check_from(name), glue.join(pieces)
    assert isinstance(check, MaskingCheck)
    spans = check.spans(text)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    before = record(instruction="", response=text)
    flags = check.look(before)
    assert [(flag.start, flag.end) for flag in flags] == [(span.start, span.end) for span in spans]
    after = mended_record(before, check.mend(before, flags, "mask")).response
    assert check.spans(after) == []
    if flags:
        one = mended_record(before, check.mend(before, flags[:1], "mask")).response
        kept = text[: spans[0].start], text[spans[0].end :]
        assert one.startswith(kept[0])
        if len(spans) > 1:
            assert one.endswith(kept[1])


def test_a_name_check_looks_at_every_field() -> None:
    flags = look(
        check_from("names"), [record(1, "Who is Otto?", "Otto Weber is a baker.", context="Otto Weber bakes.")]
    )
    assert [flag.field for flag in flags] == ["instruction", "context", "response"]
