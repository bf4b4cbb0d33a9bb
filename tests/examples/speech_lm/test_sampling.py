import pytest
import torch

import speechtok
from examples.speech_lm.sampling import sample_speech


@pytest.mark.slow
def test_guidance_favours_codes_that_depend_on_the_text_and_keeps_the_probability_of_the_end(tiny):
    v = speechtok.AudioVocabulary(tiny, "semantic")
    symbols = torch.tensor([-3, 0, 1])  # the end token and two codes
    scores, unconditional = torch.tensor([0.5, 0.2, 0.3]).log(), torch.tensor([0.1, 0.2, 0.7]).log()

    def shares(guidance: float) -> list[float]:
        torch.manual_seed(0)
        picks = [sample_speech(scores, unconditional, symbols, v, 1.0, guidance) for _ in range(4000)]
        return [picks.count(i) / 4000 for i in range(3)]

    assert shares(0.0) == pytest.approx([0.5, 0.2, 0.3], abs=0.03)
    ratio = (2 / 3) * ((2 / 3) / (2 / 7)) ** 2  # of the codes: conditional ratio times the squared gain
    assert shares(2.0) == pytest.approx([0.5, 0.5 * ratio / (1 + ratio), 0.5 / (1 + ratio)], abs=0.03)
    assert sample_speech(scores, unconditional, symbols, v, 0.0, 0.0) == 0
