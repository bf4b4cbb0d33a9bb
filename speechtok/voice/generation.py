"""Generation frame by frame: each row has a prompt, a style, noise of its own, and a state."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from speechtok.errors import InputError, quoted
from speechtok.voice.latents import AcousticLatents
from speechtok.voice.network import PROMPT, TARGET, TIME_STEPS, VoiceNetwork
from speechtok.voice.noise import normal_noise
from speechtok.voice.steps import ExactSteps, State


@dataclass(frozen=True)
class Sampling:
    """How latents are drawn.

    Attributes:
        steps: steps of the flow for a frame, a power of 2.
        guidance: how far the prompt is followed beyond what it makes likely (Ho and Salimans 2022, Classifier-free
            diffusion guidance, arXiv 2207.12598); 1 follows it as it is, and takes half of the time.
        style_guidance: the same for a style, beyond what the prompt and the contour make likely; 1 follows it as it is,
            and takes two thirds of the time. Without a style, it says nothing.
        temperature: standard deviation of the noise; below 1, voices vary less.
    """

    steps: int = 8
    guidance: float = 1.5
    style_guidance: float = 6.0
    temperature: float = 0.35

    def __post_init__(self) -> None:
        if type(self.steps) is not int or not 1 <= self.steps <= TIME_STEPS or TIME_STEPS % self.steps:
            raise InputError(f"steps is {quoted(self.steps)}; expected a power of 2 up to {TIME_STEPS}")
        for name, low, high in (("guidance", 0, 100), ("style_guidance", 0, 100), ("temperature", 0, 10)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise InputError(f"{name} is {quoted(value)}; expected a number from {low} to {high}")


class Generator:
    """Generates acoustic codes frame by frame, the same on every machine.

    With guidance, an utterance has up to three rows: all that is asked for, the same without the style, and nothing but
    what is said.

    Args:
        steps: of the network of the voice model.
        latents: of its tokenizer.
        sampling: how latents are drawn.
        prompts: codes of the prompts, each ``(Q, T)``.
        styles: steps of the styles, ``(B, 4)``.
        seeds: of the noise of each utterance.
    """

    def __init__(
        self,
        steps: ExactSteps,
        latents: AcousticLatents,
        sampling: Sampling,
        prompts: list[Tensor],
        styles: Tensor,
        seeds: list[int],
    ) -> None:
        self.steps, self.latents, self.sampling, self.seeds = steps, latents, sampling, seeds
        self.batch = len(prompts)
        self._styles, self._no_style = steps.style(styles), steps.style(torch.zeros_like(styles))
        self._plain = sampling.style_guidance != 1 and bool(styles.any())
        self._untold = sampling.guidance != 1
        self._guidance = torch.tensor(
            [sampling.style_guidance] * self._plain + [sampling.guidance] * self._untold, dtype=torch.float32
        )
        rows = self.batch * (1 + len(self._guidance))
        self._prompt, self._heard = _read(steps, latents, prompts, rows, self.batch * (1 + self._plain))
        # room for twice the window, so that the newest frames are moved to the front only once a window
        self._state = steps.initial_state(rows, 2 * steps.window)
        self._frame = 0
        self._before: Tensor | None = None
        every = TIME_STEPS // sampling.steps
        self._times = steps.network.time_table[::every]

    def run(self, windows: Tensor, contour: Tensor | None = None) -> Tensor:
        """Generate frames.

        Args:
            windows: semantic codes around each frame, ``(B, T, W)``; see :func:`windows_of`.
            contour: pitch of each frame, ``(B, T, 3)``; see :func:`~speechtok.voice.network.contour_inputs`.

        Returns:
            Acoustic codes ``(B, Q - 1, T)``.
        """
        frames = [self.step(windows[:, t], None if contour is None else contour[:, t]) for t in range(windows.shape[1])]
        if not frames:
            return torch.zeros(self.batch, self.latents.shape[0] - 1, 0, dtype=torch.int64)
        return torch.stack(frames, dim=2)

    def step(self, window: Tensor, contour: Tensor | None = None) -> Tensor:
        """Generate one frame: semantic codes around it ``(B, W)`` to acoustic codes ``(B, Q - 1)``."""
        target = self.steps.embed(window, self._before, TARGET)
        told = [self._styles, self._no_style] if self._plain else [self._styles]
        rows = [target + style for style in told]
        if contour is not None:
            pitch = self.steps.enter_contour(contour)
            rows = [row + pitch for row in rows]
        if self._untold:  # without a prompt, the network knows frames of prompts
            rows.append(self.steps.embed(window, self._before, PROMPT))
        x = torch.cat(rows)
        s, dim = self.sampling, self.latents.dim
        noise = torch.stack([normal_noise(seed, self._frame, dim) for seed in self.seeds]) * s.temperature
        latent = self.steps.frame(x, self._state, self._prompt, self._heard, noise, self._times, self._guidance)
        codes, self._before = self.latents.quantize(latent)
        self._frame += 1
        return codes


def _read(
    steps: ExactSteps, latents: AcousticLatents, prompts: list[Tensor], rows: int, hearing: int
) -> tuple[State, Tensor]:
    """State after the prompts, with as many frames as the longest has, and which of them each row hears, ``(R, P)``.

    Args:
        steps: of the network.
        latents: of the tokenizer.
        prompts: codes, each ``(Q, T)``.
        rows: number ``R``, a multiple of that of the prompts.
        hearing: rows, the first ones, that hear their prompts.
    """
    states: dict[int, State] = {}
    longest = max(prompt.shape[1] for prompt in prompts)
    for prompt in prompts:
        if id(prompt) not in states:
            states[id(prompt)] = _read_one(steps, latents, prompt, longest)
    whole = [states[id(prompt)] for prompt in prompts]
    whole *= rows // len(whole)
    keys, key_factors, values, value_factors = (
        torch.cat(parts, 1) for parts in zip(*(state.tensors for state in whole), strict=True)
    )
    ends = torch.tensor([prompt.shape[1] for prompt in prompts] * (rows // len(prompts)))
    ends[hearing:] = 0
    return State(keys, key_factors, values, value_factors, longest), torch.arange(longest) < ends[:, None]


def _read_one(steps: ExactSteps, latents: AcousticLatents, prompt: Tensor, frames: int) -> State:
    windows = windows_of(prompt[None, 0], steps.network)
    acoustic = latents.of(prompt[None])
    state = steps.initial_state(1, frames)
    for t in range(prompt.shape[1]):
        before = acoustic[:, t - 1] if t else None
        steps.frame(steps.embed(windows[:, t], before, PROMPT), state)
    return state


def windows_of(semantic: Tensor, network: VoiceNetwork) -> Tensor:
    """Codes around each frame, ``(B, T, W)``, of semantic codes ``(B, T)``."""
    sizes = network.history, network.lookahead
    if not semantic.shape[1]:
        return semantic.new_empty(len(semantic), 0, sum(sizes) + 1)
    return F.pad(semantic, sizes, value=network.no_code).unfold(1, sum(sizes) + 1, 1)
