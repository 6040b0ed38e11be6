"""What the studio says about base models and licences is complete and cautious."""

from studio.models import EMBEDDED, catalogue, licence


def test_every_model_on_offer_has_a_known_licence():
    assert EMBEDDED in [entry.ref for entry in catalogue()]
    for entry in catalogue():
        assert licence(entry.licence).commercial is not None, entry.ref


def test_the_embedded_entry_agrees_with_the_weights(embedded):
    from safetensors import safe_open

    [entry] = [entry for entry in catalogue() if entry.ref == EMBEDDED]
    with safe_open(embedded.folder / "model.safetensors", "np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]
    sizes = [shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes]
    assert entry.parameters == sum(sizes)
    assert entry.window == embedded.weights.window


def test_an_unlisted_licence_is_unknown_not_free():
    unknown = licence("Some-Corp-Community-1.0")
    assert unknown.commercial is None
    assert "read it before" in unknown.duties
    assert licence("").name == "No licence named"


def test_a_licence_that_forbids_business_says_so():
    assert licence("CC-BY-NC-4.0").commercial is False
