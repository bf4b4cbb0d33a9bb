"""Generation frame by frame: each row has a prompt, a style, noise of its own, and a state."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from speechtok.nn.quantizer import sum_vectors
from speechtok.voice import network as net
from speechtok.voice.latents import AcousticLatents
from speechtok.voice.network import PADDING, PROMPT, VoiceNetwork


@dataclass(frozen=True)
class Sampling:
    """How latents are drawn.

    Attributes:
        steps: steps of the flow for a frame.
        guidance: how far the prompt is followed beyond what it makes likely (Ho and Salimans 2022, Classifier-free
            diffusion guidance, arXiv 2207.12598); 1 follows it as it is, and takes half of the time.
        temperature: standard deviation of the noise; below 1, voices vary less.
    """

    steps: int = 6
    guidance: float = 1.5
    temperature: float = 0.8


class Generator:
    """Generates acoustic latents frame by frame.

    With guidance, each utterance has two rows: one hears the prompt, the other does not.

    Args:
        network: of the voice model.
        latents: of its tokenizer.
        sampling: how latents are drawn.
        prompts: codes of the prompts, each ``(Q, T)``.
        styles: steps of the styles, ``(B, S)``.
        seeds: of the noise of each utterance.
    """

    def __init__(
        self,
        network: VoiceNetwork,
        latents: AcousticLatents,
        sampling: Sampling,
        prompts: list[Tensor],
        styles: Tensor,
        seeds: list[int],
    ) -> None:
        self.network, self.latents, self.sampling = network, latents, sampling
        self.batch = len(prompts)
        self.noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.guided = sampling.guidance != 1
        rows = self.batch * (2 if self.guided else 1)
        self._prompt, self._prompt_bias = self._read(prompts)
        depth, heads = len(network.blocks), len(network.prompt_bias)
        width = self._prompt.shape[-1]
        # room for twice the window, so that the newest frames are moved to the front only once a window
        self._past = torch.zeros(depth, 2, rows, heads, 2 * network.window, width)
        self._frames = 0
        self._acoustic: Tensor | None = None
        none = torch.zeros_like(styles)
        self._styles = torch.cat([styles, none]) if self.guided else styles
        self._time_modulation = network.head.time_modulation(torch.arange(sampling.steps) / sampling.steps)

    def _read(self, prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Keys and values of the prompts, ``(L, 2, B, H, P, C)``, and the bias of each of their frames."""
        longest = max(prompt.shape[1] for prompt in prompts)
        codes = torch.stack([F.pad(prompt, (0, longest - prompt.shape[1])) for prompt in prompts])
        ends = torch.tensor([prompt.shape[1] for prompt in prompts])
        kinds = torch.where(torch.arange(longest) < ends[:, None], PROMPT, PADDING)
        acoustic = self.latents.of(codes)
        x = self.network.embed_frames(codes[:, 0], acoustic, kinds)
        bias = self.network.bias(kinds)
        kept = []
        for block in self.network.blocks:
            x, now = block(x, bias)
            kept.append(now)
        prompt_bias = torch.where(kinds[:, None, None] == PROMPT, self.network.prompt_bias[:, None, None], -torch.inf)
        keys = torch.stack(kept)
        if self.guided:
            keys = torch.cat([keys, keys], dim=2)
            prompt_bias = torch.cat([prompt_bias, torch.full_like(prompt_bias, -torch.inf)])
        return keys, prompt_bias

    def run(self, windows: Tensor, contour: Tensor | None = None) -> Tensor:
        """Generate frames: windows ``(B, T, W)`` and contours ``(B, T, 3)`` to acoustic codes ``(B, Q - 1, T)``."""
        frames = [self.step(windows[:, t], None if contour is None else contour[:, t]) for t in range(windows.shape[1])]
        if not frames:
            return torch.zeros(self.batch, self.latents.shape[0] - 1, 0, dtype=torch.int64)
        return torch.stack(frames, dim=2)

    def step(self, window: Tensor, contour: Tensor | None = None) -> Tensor:
        """Generate one frame.

        Args:
            window: semantic codes from ``history`` frames before the frame to ``lookahead`` frames after it,
                ``(B, W)``; :attr:`VoiceNetwork.no_code` where there is none.
            contour: of the frame, ``(B, 3)``.

        Returns:
            Acoustic codes ``(B, Q - 1)``.
        """
        net_, rows = self.network, self.batch * (2 if self.guided else 1)
        window = window.repeat(rows // self.batch, 1)
        if contour is None:
            contour = torch.zeros(self.batch, 3)
        if self.guided:
            contour = torch.cat([contour, torch.zeros_like(contour)])
        x = net_.enter(net_.embed(window).flatten(1))
        if self._acoustic is None:
            x = x + net_.start[net.TARGET]
        else:
            x = x + net_.enter_acoustic(self._acoustic).repeat(rows // self.batch, 1)
        kinds = torch.full((rows,), net.TARGET)
        if self.guided:  # without a prompt, the network was trained on frames of prompts
            kinds[self.batch :] = PROMPT
            if self._acoustic is None:
                x[self.batch :] += net_.start[PROMPT] - net_.start[net.TARGET]
        x = x + net_.kind[kinds]
        given = (kinds == net.TARGET)[:, None]
        x = (x + given * net_.styled(self._styles, contour[:, None])[:, 0])[:, None]
        if self._frames == self._past.shape[4]:
            keep = net_.window - 1
            self._past[..., :keep, :] = self._past[..., self._frames - keep :, :].clone()
            self._frames = keep
        at = self._frames
        first = max(0, at + 1 - net_.window)
        distances = torch.arange(at - first, -1, -1)
        own = net_.distance_bias[:, distances][None, :, None].expand(rows, -1, -1, -1)
        bias = torch.cat([self._prompt_bias, own], dim=3)
        for index, block in enumerate(net_.blocks):
            past = torch.cat([self._prompt[index], self._past[index, ..., first:at, :]], dim=3)
            x, now = block(x, bias, past)
            self._past[index, ..., at : at + 1, :] = now
        self._frames += 1
        return self._draw(net_.norm(x[:, 0]))

    def _draw(self, condition: Tensor) -> Tensor:
        """Acoustic codes ``(B, Q - 1)``; keeps their latents for the next frame."""
        s = self.sampling
        shape = 1, self.latents.dim
        x = torch.cat([torch.randn(shape, generator=generator) for generator in self.noise]) * s.temperature
        modulation = self.network.head.modulation(condition)
        for time_modulation in self._time_modulation:
            twice = torch.cat([x, x]) if self.guided else x
            velocity = self.network.head(twice, modulation + time_modulation)
            if self.guided:
                told, untold = velocity.chunk(2)
                velocity = untold + s.guidance * (told - untold)
            x = x + velocity / s.steps
        codes = self.latents.to_codes(x)
        vectors = sum_vectors(self.latents.vectors, codes[:, :, None])[:, 0]
        self._acoustic = (vectors - self.latents.mean) / self.latents.deviation
        return codes


def windows_of(semantic: Tensor, network: VoiceNetwork) -> Tensor:
    """Codes around each frame, ``(B, T, W)``, of semantic codes ``(B, T)``."""
    sizes = network.history, network.lookahead
    return F.pad(semantic, sizes, value=network.no_code).unfold(1, sum(sizes) + 1, 1)
