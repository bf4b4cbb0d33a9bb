import pytest
import torch
from torch import Tensor

from training.cuda_graph import WARM_UP_CALLS, CUDAGraphed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


def test_a_graphed_training_step_computes_what_the_step_computes():
    def step_of(weight: Tensor):
        def step(x: Tensor, missing: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
            assert missing is None
            y = (x @ weight).tanh()
            with torch.no_grad():
                weight.sub_(0.01 * x.T @ y)
            return y, {"sum": y.sum()}

        return step

    torch.manual_seed(0)
    weight = torch.randn(4, 4, device="cuda")
    other = weight.clone()
    plain, graphed = step_of(weight), CUDAGraphed(step_of(other))
    for call in range(WARM_UP_CALLS + 5):
        x = torch.randn(3, 4, device="cuda")
        assert graphed.ready is (call > WARM_UP_CALLS)
        expected, found = plain(x, None), graphed(x, None)
        assert torch.allclose(expected[0], found[0])
        assert torch.allclose(expected[1]["sum"], found[1]["sum"])
    assert torch.allclose(weight, other)
