"""The licence gate: base licence x data licences x intended use. Unknown is never a yes."""

from __future__ import annotations

import pytest

from studio.models.catalogue import licence
from studio.models.licences import USES, Source, Use, gate, licence_on_card

BASE = Source("the base", "Apache-2.0")


def asked(data: str, use: Use, base: str = "Apache-2.0"):
    return gate([Source("the base", base), Source("data:support@1", data)], use)


@pytest.mark.parametrize(
    ("data", "use", "verdict"),
    [
        ("Apache-2.0", "customers", "yes"),
        ("CC-BY-4.0", "company", "yes"),
        ("own", "customers", "yes"),
        ("CC-BY-SA-4.0", "customers", "yes"),
        ("CC-BY-NC-4.0", "company", "no"),
        ("CC-BY-NC-4.0", "customers", "no"),
        ("CC-BY-NC-4.0", "research", "yes"),
        ("", "research", "unknown"),
        ("", "company", "unknown"),
        ("Some Licence 7", "customers", "unknown"),
    ],
)
def test_what_the_data_allow_decides(data, use, verdict):
    assert asked(data, use).verdict == verdict


@pytest.mark.parametrize("use", list(USES))
def test_a_base_that_nobody_knows_is_never_a_yes(use):
    found = asked("MIT", use, base="")
    assert found.verdict == "unknown"
    assert "no licence is named for the base" in found.sentence
    assert found.conditions == ("Find out under which licence the base may be used, and write it down there.",)


def test_a_no_names_the_licence_its_owner_and_the_use():
    found = asked("CC-BY-NC-4.0", "customers")
    assert found.sentence == (
        "No: CC-BY-NC-4.0, the licence of data:support@1, is not for business, and this is to be offered to customers."
    )
    assert found.conditions == ("Replace data:support@1, or ask its owner for a licence that allows business.",)


def test_a_no_outweighs_an_unknown():
    sources = [BASE, Source("a", ""), Source("b", "CC-BY-NC-4.0")]
    assert gate(sources, "company").verdict == "no"


def test_share_alike_binds_whoever_passes_the_model_on():
    assert "Pass it on under CC-BY-SA-4.0, as data:support@1 asks." in asked("CC-BY-SA-4.0", "customers").conditions
    inside = asked("CC-BY-SA-4.0", "company").conditions
    assert "If you pass the model on, pass it on under CC-BY-SA-4.0, as data:support@1 asks." in inside


def test_two_licences_that_each_want_to_be_the_only_one_are_for_somebody_who_knows():
    sources = [Source("a", "CC-BY-SA-4.0"), Source("b", "CC-BY-NC-SA-4.0")]
    assert gate(sources, "research").verdict == "yes"
    both = gate([Source("a", "CC-BY-SA-4.0"), Source("b", "CC-BY-SA-3.0")], "customers")
    assert both.verdict == "yes"  # versions of one licence go together


def test_research_with_data_not_for_business_says_so():
    found = asked("CC-BY-NC-4.0", "research")
    assert "Not for business: so says CC-BY-NC-4.0, the licence of data:support@1." in found.conditions


@pytest.mark.parametrize("written", ["cc by-sa 4.0", "CC-BY-SA-4.0", "cc-by-sa-4.0", " CC BY SA 4.0 "])
def test_people_write_licences_as_they_like(written):
    assert licence(written).id == "CC-BY-SA-4.0"


def test_a_card_beside_the_weights_names_the_licence(tmp_path):
    assert licence_on_card(tmp_path) == ""
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model", encoding="utf-8")
    assert licence_on_card(tmp_path) == "apache-2.0"
    (tmp_path / "README.md").write_text("---\n: [\n---\n", encoding="utf-8")
    assert licence_on_card(tmp_path) == ""
