import pytest

from speechtok.errors import InputError
from training.teachers import load_teacher


@pytest.mark.parametrize("layer", [0, 4, -1, "last"])
def test_a_layer_out_of_range_is_refused_with_the_range(own, layer):
    with pytest.raises(InputError, match=r"1 to 3, 'average'"):
        load_teacher(f"own:{own}", layer)


@pytest.mark.parametrize("spec", ["", "own", "own:", "nemo:x", "mfcc:x", "x" * 1000])
def test_an_unknown_spec_is_refused_with_the_known_kinds(spec):
    with pytest.raises(InputError, match="expected mfcc, own:NAME, torchaudio:NAME") as raised:
        load_teacher(spec)
    assert len(str(raised.value)) < 250


def test_teachers_are_loaded_for_inference(own):
    teacher = load_teacher(f"own:{own}")
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
