"""The npm package is compared with values of ``bindings/js/test/expected.json``: they are those of this package."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import speechtok
from bindings.conformance.golden import KNOWN_ANSWER
from bindings.conformance.stress import sha256, stress_input
from speechtok.resampling import resample

FOLDER = Path(speechtok.__file__).parents[1] / "bindings"
RATES = (44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (16_000, 44_100)


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    start, length = KNOWN_ANSWER
    return stress_input()[start : start + length]


def expected_values(samples: np.ndarray) -> dict[str, str]:
    """Hashes of what JavaScript must compute from the known-answer part of the stress input."""
    tokenizer = speechtok.load(FOLDER / "conformance" / "random")
    batch = torch.zeros(2, 16_000)
    batch[0], batch[1, :5_000] = torch.from_numpy(samples), torch.from_numpy(samples[8_000:13_000])
    one, two = tokenizer.encode(samples, 16_000), tokenizer.encode(batch, 16_000, lengths=[16_000, 5_000])
    values = {
        "tokens": hashlib.sha256(one.to_bytes()).hexdigest(),
        "tokens of a batch": hashlib.sha256(two.to_bytes()).hexdigest(),
        "tokens at 44100 Hz": hashlib.sha256(tokenizer.encode(samples, 44_100).to_bytes()).hexdigest(),
    }
    for from_rate, to_rate in RATES:
        resampled = resample(torch.from_numpy(samples)[None], from_rate, to_rate)[0].numpy()
        values[f"{from_rate} to {to_rate}"] = sha256(resampled)
    return values


def test_the_values_that_javascript_is_compared_with_are_those_of_the_package(samples):
    stored = json.loads((FOLDER / "js" / "test" / "expected.json").read_text(encoding="utf-8"))
    assert stored == expected_values(samples)
