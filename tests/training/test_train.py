import copy
import errno
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import speechtok
from speechtok.config import from_mapping
from speechtok.errors import AudioError, CheckpointError, ConfigError, OutputError, SpeechtokError
from training.autoencoder import network_of
from training.checkpoints import CHECKPOINT_NAME
from training.config import TrainingConfig
from training.distributed import World
from training.muon import Muon
from training.teachers import extract, load_teacher
from training.train import Batch, Trainer, learning_rate_factor, make_optimizers, read_data, train
from training.validation import perplexity

ROOT = Path(__file__).resolve().parents[2]


def config_of(values: dict, **changes) -> TrainingConfig:
    return from_mapping(TrainingConfig, values | changes)


def trainer_of(config: TrainingConfig) -> Trainer:
    return Trainer(config, read_data(config, World()).train)


def state_of(values: dict) -> dict:
    return torch.load(Path(values["out"]) / CHECKPOINT_NAME, weights_only=True)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / CHECKPOINT_NAME, weights_only=True)["network"]


def assert_same_weights(a: Path, b: Path) -> None:
    left, right = weights_of(a), weights_of(b)
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.fixture(scope="session")
def once_trained(tiny_values: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that is done, once for all tests."""
    return train(config_of(tiny_values, out=str(tmp_path_factory.mktemp("once") / "run"))).parent


@pytest.fixture
def trained(tiny_config: dict, once_trained: Path) -> dict:
    """``tiny_config``, trained already, in a folder of the test's own."""
    shutil.copytree(once_trained, tiny_config["out"])
    return tiny_config


def exported_of(values: dict) -> Path:
    return Path(values["out"]) / "tokenizer"


def test_training_exports_a_tokenizer_that_encodes_and_decodes(trained):
    tokenizer = speechtok.load(exported_of(trained))
    waveform = torch.sin(torch.arange(5000) / 10) * 0.3
    tokens = tokenizer.encode(waveform, 16_000)
    assert tokens.codes.shape == (1, 3, 16)
    assert tokenizer.decode(tokens).shape == (1, 5000)


def test_training_lowers_the_loss(tiny_config):
    config = config_of(tiny_config, steps=60)
    trainer = trainer_of(config)
    mel = [float(trainer.run_step(trainer.batch(step))["mel"]) for step in range(60)]
    assert sum(mel[-5:]) < 0.7 * sum(mel[:5])


def test_every_prefix_of_the_codebooks_is_trained(tiny_config):
    config = config_of(tiny_config)
    trainer = trainer_of(config)
    frames = set()
    for step in range(8):
        counts = trainer.run_step(trainer.batch(step)).get("counts")
        if counts is not None:
            frames |= {tuple((counts.sum(1) / config.crop_frames).tolist())}
    # rows of a batch of 4 that use each of the 3 codebooks: all the first, and not always all the others
    assert all(rows[0] == 4 for rows in frames)
    assert len({rows[1] for rows in frames}) > 1
    assert len({rows[2] for rows in frames}) > 1


def test_an_interrupted_training_reaches_the_weights_of_an_uninterrupted_one(trained, tmp_path, monkeypatch):
    whole = Path(trained["out"])
    # checkpoints at steps 3 and 6; interrupted at 5, 7, and then run to the end
    for stop in (5, 7):
        original = Trainer.run_step

        def run_step(self, waveform, original=original, stop=stop):
            if self.step == stop:
                raise RuntimeError("power cut")
            return original(self, waveform)

        monkeypatch.setattr(Trainer, "run_step", run_step)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config_of(trained, out=str(tmp_path / "cut")))
        monkeypatch.setattr(Trainer, "run_step", original)
    cut = train(config_of(trained, out=str(tmp_path / "cut"))).parent
    assert_same_weights(whole, cut)
    assert speechtok.load(whole / "tokenizer").fingerprint == speechtok.load(cut / "tokenizer").fingerprint


def forking(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Processes forked from one that has imported everything: none costs a start of Python."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums may round differently with another number
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.train", "vector_quantize_pytorch"])
    return context


def train_as(rank: int, size: int, port: int, config: TrainingConfig) -> None:
    """Train as one of the processes that torchrun would start."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    train(config)


def train_in_two(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in two processes, without the time that torchrun takes to start."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = forking(monkeypatch)
    processes = [context.Process(target=train_as, args=(rank, 2, port, config)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()  # one waits for the other, if that has failed
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def test_a_training_killed_ten_times_at_any_moment_ends_with_the_same_weights(tiny_config, tmp_path, monkeypatch):
    context = forking(monkeypatch)
    values = tiny_config | {"steps": 30, "checkpoint_every": 2}
    cut = values | {"out": str(tmp_path / "cut")}

    def run(values: dict, seconds: float | None = None) -> int | None:
        process = context.Process(target=train, args=(config_of(values),))
        process.start()
        process.join(seconds)
        process.kill()
        process.join()
        return process.exitcode

    assert run(values, seconds=0.0) != 0  # the server is there now
    shutil.rmtree(values["out"], ignore_errors=True)
    start = time.perf_counter()
    assert run(values) == 0
    seconds = time.perf_counter() - start
    moments = random.Random(0)
    killed, steps = 0, set()
    while killed < 10:
        code = run(cut, moments.uniform(0.05, 0.5) * seconds)
        killed += code == -signal.SIGKILL
        if (Path(cut["out"]) / CHECKPOINT_NAME).exists():
            steps.add(state_of(cut)["step"])
        if code == 0:  # it came to its end: kill the rest of the ten from the start
            shutil.rmtree(cut["out"])
    assert run(cut) == 0
    assert_same_weights(Path(values["out"]), Path(cut["out"]))
    assert len(steps) > 1, "no kill came between two checkpoints"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_asked_to_stop_finishes_its_step_and_saves(trained, tmp_path, monkeypatch, number):
    original = Muon.step
    cut = config_of(trained, out=str(tmp_path / "cut"))
    steps = []

    def step(self):
        steps.append(0)
        if len(steps) == 5:  # in the middle of a step
            os.kill(os.getpid(), number)
        return original(self)

    monkeypatch.setattr(Muon, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    assert torch.load(Path(cut.out) / CHECKPOINT_NAME, weights_only=True)["step"] == 5
    assert_same_weights(Path(trained["out"]), train(cut).parent)


def test_a_checkpoint_in_the_making_is_a_loadable_tokenizer(trained):
    tokenizer = speechtok.load(Path(trained["out"]) / CHECKPOINT_NAME)
    assert tokenizer.encode(torch.zeros(320), 16_000).codes.shape == (1, 3, 1)


def test_a_training_starts_from_a_tokenizer(trained, tmp_path):
    first = exported_of(trained)
    config = config_of(trained, out=str(tmp_path / "second"), start_from=str(first))
    trainer = trainer_of(config)
    started = speechtok.load(first)
    trainer.continue_from(started)
    assert trainer.tokenizer.fingerprint == started.fingerprint
    assert trainer.quantizer.started
    assert torch.equal(trainer.quantizer.codebooks, started.quantizer.codebooks)
    live = dict(trainer.network.named_parameters())
    assert all(torch.equal(p, live[f"encoder.{name}"]) for name, p in started.encoder.named_parameters())
    trainer.run_step(trainer.batch(0))
    drift = (trainer.quantizer.codebooks - started.quantizer.codebooks).abs().max()
    assert 0 < drift < started.quantizer.codebooks.abs().max()


def test_a_tokenizer_of_another_config_is_no_start(tiny_config, new_tokenizer, tmp_path):
    new_tokenizer().save(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"start_from is .*other, a tokenizer of another config"):
        train(config_of(tiny_config, start_from=str(tmp_path / "other")))


def spoiled(batch: Batch, bad: bool) -> Batch:
    return batch._replace(waveform=batch.waveform * (float("nan") if bad else 1.0))


def test_what_is_trained_is_what_is_exported(tiny_config):
    """Training simulates the rounding of inference: both networks give the same audio."""
    config = config_of(tiny_config)
    trainer = trainer_of(config)
    waveform = trainer.batch(0).waveform
    simulated = trainer._encode(waveform)
    with torch.no_grad():
        exactly, _ = trainer.tokenizer.encoder(waveform, trainer.tokenizer.encoder.initial_state(len(waveform)))
        padded = torch.nn.functional.pad(exactly, (0, 0, 0, 1))
        audio, _ = trainer.tokenizer.decoder(padded, trainer.tokenizer.decoder.initial_state(len(waveform)))
    assert simulated.requires_grad
    assert torch.allclose(simulated, exactly, atol=1e-4)
    assert torch.allclose(trainer._decode(exactly), audio[:, 320:], atol=1e-4)


def test_a_resumed_training_needs_its_start_no_more(trained, tmp_path):
    first = exported_of(trained)
    changes = {"out": str(tmp_path / "second"), "start_from": str(first)}
    train(config_of(trained, **changes))
    shutil.rmtree(first)
    train(config_of(trained, **changes, steps=9))


def test_processes_that_read_batches_change_nothing(trained, tmp_path):
    train(config_of(trained, out=str(tmp_path / "second"), workers=2))
    assert_same_weights(Path(trained["out"]), tmp_path / "second")


def test_a_checkpoint_of_another_config_is_refused(trained):
    with pytest.raises(CheckpointError, match="batch_size"):
        train(config_of(trained, batch_size=2))


def test_a_training_may_be_made_longer(trained):
    train(config_of(trained, steps=10))
    assert torch.load(Path(trained["out"]) / CHECKPOINT_NAME, weights_only=True)["step"] == 10


def test_a_damaged_checkpoint_is_named(trained):
    path = Path(trained["out"]) / CHECKPOINT_NAME
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        train(config_of(trained))


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(tiny_config, monkeypatch):
    original = Trainer.batch
    bad = {1, 4, 6}
    monkeypatch.setattr(Trainer, "batch", lambda self, step: spoiled(original(self, step), step in bad))
    trainer = trainer_of(config_of(tiny_config))
    for step in range(8):
        before = {name: value.clone() for name, value in tensors_of(trainer.state_dict())}
        trainer.run_step(trainer.batch(step))
        same = all(
            torch.equal(before[name], value) for name, value in tensors_of(trainer.state_dict()) if name in before
        )
        assert same == (step in bad)
    assert trainer.skipped_steps == 3
    assert all(torch.isfinite(value).all() for _, value in tensors_of(trainer.state_dict()))


def test_skipped_steps_are_counted_over_a_resume(tiny_config, monkeypatch):
    original = Trainer.batch
    monkeypatch.setattr(Trainer, "batch", lambda self, step: spoiled(original(self, step), step in (1, 9)))
    train(config_of(tiny_config))
    assert state_of(tiny_config)["skipped_steps"] == 1
    train(config_of(tiny_config, steps=12))
    assert state_of(tiny_config)["skipped_steps"] == 2
    assert scalars_of(tiny_config, "train/skipped_steps")[12] == 2


def test_a_training_that_does_not_recover_stops_and_keeps_the_checkpoint(tiny_config, monkeypatch):
    original = Trainer.batch
    monkeypatch.setattr(Trainer, "batch", lambda self, step: spoiled(original(self, step), 3 <= step < 2**40))
    with pytest.raises(SpeechtokError, match="50 steps in a row, up to step 52, had no finite loss"):
        train(config_of(tiny_config, steps=60, checkpoint_every=3, validate_every=1000))
    state = state_of(tiny_config)
    assert state["step"] == 51
    assert all(torch.isfinite(value).all() for value in state["network"].values())


def tensors_of(state, name=""):
    """Every tensor of a nested state, by path."""
    if isinstance(state, torch.Tensor):
        yield name, state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from tensors_of(value, f"{name}/{key}")
    elif isinstance(state, (list, tuple)):
        for index, value in enumerate(state):
            yield from tensors_of(value, f"{name}/{index}")


def scalars_of(values: dict, name: str) -> dict[int, float]:
    """A scalar of the TensorBoard files, by step."""
    events = EventAccumulator(str(Path(values["out"]) / "tensorboard"))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def test_a_step_in_parts_is_the_step(tiny_config, tmp_path):
    values = tiny_config | {"steps": 20, "crop_seconds": 0.6, "loss": {"loudness": 3.0, "intelligibility": 3.0}}
    whole = trainer_of(config_of(values))
    parts = trainer_of(config_of(values, accumulate=4))
    for step in range(12):
        parts.load_state_dict(copy.deepcopy(whole.state_dict()))  # each step by itself: Muon amplifies rounding
        left, right = whole.run_step(whole.batch(step)), parts.run_step(parts.batch(step))
        assert left.keys() == right.keys()
        for name in left:
            assert torch.allclose(left[name], right[name], rtol=1e-4, atol=1e-5), (step, name)
    assert torch.allclose(whole.quantizer.codebooks, parts.quantizer.codebooks, rtol=1e-3, atol=1e-4)


def test_a_batch_that_cannot_be_shared_evenly_is_named(tiny_config):
    config = config_of(tiny_config, accumulate=2)
    corpus = read_data(config, World()).train
    with pytest.raises(ConfigError, match=r"batch_size is 4; expected a multiple of 6: accumulate \(2\) times the p"):
        Trainer(config, corpus, World(size=3))


def test_two_processes_walk_the_path_of_one(tiny_config, tmp_path):
    values = tiny_config | {"steps": 12, "log_every": 1, "quantizer": {"start_step": 4}}
    # Muon makes more of a sum's last bit than a step does; the same rates for any `steps`
    values["optimizer"] = {"warmup_steps": 2, "decay_fraction": 0.01, "muon_lr": 1e-12, "adamw_lr": 1e-4}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    train(config_of(values))
    two = values | {"out": str(tmp_path / "two")}
    script = [str(ROOT / "training/train.py"), "--config", str(path), f"out={two['out']}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    result = subprocess.run([*torchrun, *script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    for name in ("mel", "spectrum", "waveform", "gradient_norm"):
        left, right = scalars_of(values, f"train/{name}"), scalars_of(two, f"train/{name}")
        assert right == pytest.approx(left, rel=1e-3 if name == "gradient_norm" else 1e-4), name
    assert scalars_of(two, "train/commitment") == pytest.approx(scalars_of(values, "train/commitment"), rel=1e-4)


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(tiny_config, monkeypatch, capsys):
    original, saved = torch.save, []

    def save(state, path):
        saved.append(state["step"])
        if state["step"] == 6:
            Path(path).write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        original(state, path)

    monkeypatch.setattr(torch, "save", save)
    train(config_of(tiny_config))
    assert saved == [3, 6, 8]
    assert "the checkpoint of step 6 cannot be written" in capsys.readouterr().out
    assert state_of(tiny_config)["step"] == 8
    assert scalars_of(tiny_config, "train/failed_checkpoints")[8] == 1


def test_a_full_disk_at_the_end_is_an_error_and_the_last_checkpoint_stands(tiny_config):
    """A limit on the size of files stands for the disk, so that torch itself meets the error."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    train(config_of(tiny_config, steps=6))
    before = (Path(tiny_config["out"]) / CHECKPOINT_NAME).read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"the checkpoint of step 8 cannot be written .*is kept: make room at"
        ):
            train(config_of(tiny_config))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (Path(tiny_config["out"]) / CHECKPOINT_NAME).read_bytes() == before
    assert not list(Path(tiny_config["out"]).glob(".*"))


def test_an_out_that_cannot_be_written_is_named_before_the_first_step(tiny_config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="which cannot be written"):
        train(config_of(tiny_config, out=str(tmp_path / "file" / "run")))


def test_a_training_that_is_done_says_so(trained, capsys):
    train(config_of(trained, steps=4))
    assert "is at step 8 of 4 already; choose another out=" in capsys.readouterr().out


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_this_machine_lacks_is_named(tiny_config, device):
    with pytest.raises(ConfigError, match=f"device is '{device}', which process 0 of this machine cannot use"):
        train(config_of(tiny_config, device=device))


def test_less_audio_than_a_batch_is_named(tiny_config):
    with pytest.raises(AudioError, match=r"s of audio to train on; expected at least a batch, 30\.0 s"):
        train(config_of(tiny_config, batch_size=100))


def test_files_that_cannot_be_read_are_counted(tiny_config, capsys):
    train(config_of(tiny_config))
    assert "skipped 1 of 11 files, not readable, such as " in capsys.readouterr().out


def test_tensorboard_holds_losses_sound_pictures_and_use_of_the_codes(trained):
    events = EventAccumulator(str(Path(trained["out"]) / "tensorboard"))
    tags = events.Reload().Tags()
    assert {"train/mel", "train/skipped_steps", "validation/mel", "validation/perplexity_2"} <= set(tags["scalars"])
    assert {"original/0", "decoded/1"} <= set(tags["audio"])
    assert {"spectrogram/0", "spectrogram/1"} <= set(tags["images"])
    assert tags["histograms"] == ["codes/0", "codes/1", "codes/2"]


def test_the_exported_weights_are_an_average_of_the_live_ones(trained):
    state = torch.load(Path(trained["out"]) / CHECKPOINT_NAME, weights_only=True)
    live, averaged = state["network"]["encoder.embed.weight"], state["tokenizer"]["encoder.embed.weight"]
    assert not torch.equal(live, averaged)
    assert torch.nn.functional.cosine_similarity(live.flatten(), averaged.flatten(), dim=0) > 0.9


def test_every_parameter_is_optimized_once_and_matrices_inside_by_muon(tiny_config):
    network = network_of(speechtok.ConvNeXtTokenizer(config_of(tiny_config).model), False)
    (muon, _), (adamw, _) = make_optimizers(network, torch.nn.Module(), config_of(tiny_config))
    groups = [{id(p) for p in optimizer.param_groups[0]["params"]} for optimizer in (muon, adamw)]
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == {id(p) for p in network.parameters()}
    names = {name for name, p in network.named_parameters() if id(p) in groups[0]}
    assert {"encoder.merge.weight", "decoder.split.weight", "encoder.frame_blocks.blocks.0.expand.weight"} <= names
    assert not any("conv" in name or "head" in name or "embed" in name for name in names)


def test_the_rate_warms_up_stays_and_falls_to_zero(tiny_config):
    config = config_of(tiny_config, steps=100, optimizer={"warmup_steps": 10, "decay_fraction": 0.4})
    factors = [learning_rate_factor(step, config) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10:60] == [1.0] * 50
    assert factors[80] == pytest.approx(0.5)
    assert factors[100] == 0.0


def test_perplexity_counts_what_is_used():
    counts = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 4], [2, 1, 0, 0, 0, 0]])
    assert perplexity(counts) == pytest.approx([4.0, 1.0, 1.8899], abs=1e-4)


def test_the_command_reports_a_config_mistake_in_one_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("out: run\nsteps: 5\nbatch_sise: 3\n")
    command = [sys.executable, str(ROOT / "training/train.py"), "--config", str(path), f"data={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "error: config has an unknown field 'batch_sise'; did you mean 'batch_size'?"
    )


def extracted(tiny_config: dict, folder: Path, layer: str | int = "average") -> str:
    extract(load_teacher("mfcc", layer), "mfcc", tiny_config["data"], folder)
    return str(folder)


def test_codebook_0_learns_from_a_teacher(tiny_config, tmp_path):
    features = extracted(tiny_config, tmp_path / "features")
    model = tiny_config["model"] | {"semantic_dim": 3}
    config = config_of(
        tiny_config, steps=60, model=model, distillation={"features": features, "features_by_frame": 5.0}
    )
    data = read_data(config, World())
    trainer = Trainer(config, data.train, features=data.features)
    losses = [trainer.run_step(trainer.batch(step)) for step in range(60)]
    first, last = (sum(float(x["features_by_frame"]) for x in some) for some in (losses[:10], losses[-10:]))
    assert last < 0.8 * first
    trainer.load_state_dict(trainer.state_dict())
    assert trainer.tokenizer.config.semantic_dim == 3


def test_a_training_with_a_teacher_that_hears_decoded_audio_and_an_adversary_runs_and_resumes(tiny_config):
    changes = {
        "distillation": {"teacher": "mfcc"},
        "adversary": {"weight": 1.0, "start_step": 2, "period_channels": 8, "spectrum_channels": 4},
    }
    train(config_of(tiny_config, steps=5, **changes))
    once = state_of(tiny_config)
    shutil.rmtree(tiny_config["out"])
    train(config_of(tiny_config, steps=5, checkpoint_every=3, **changes))
    assert all(torch.equal(x, once["network"][name]) for name, x in state_of(tiny_config)["network"].items())
    judges = once["adversary"][0]
    train(config_of(tiny_config, steps=7, **changes))
    assert any(not torch.equal(x, judges[name]) for name, x in state_of(tiny_config)["adversary"][0].items())
    assert scalars_of(tiny_config, "train/representation")


def test_the_decoder_does_not_go_on_for_codes_that_have_changed(trained, tmp_path):
    start = exported_of(trained)
    changes = {"out": str(tmp_path / "second"), "start_from": str(start), "only": "decoder"}
    train(config_of(trained, **changes))
    train(config_of(trained, steps=10, **changes))
    shutil.rmtree(trained["out"])
    train(config_of(trained, seed=1))
    with pytest.raises(CheckpointError, match="no longer is"):
        train(config_of(trained, steps=12, **changes))


def test_the_codes_stay_when_the_decoder_learns_from_a_checkpoint_that_is_not_rounded(trained, tmp_path):
    start = str(Path(trained["out"]) / CHECKPOINT_NAME)
    changes = {"out": str(tmp_path / "second"), "start_from": start, "only": "decoder", "steps": 3}
    config = config_of(trained, **changes)
    trainer = trainer_of(config)
    trainer.continue_from(speechtok.load(start))
    learned_for = {name: x.clone() for name, x in trainer.tokenizer.state_dict().items() if name[:7] != "decoder"}
    exported = speechtok.load(train(config)).state_dict()
    assert all(torch.equal(x, exported[name]) for name, x in learned_for.items())


def test_a_training_may_go_on_at_other_rates(trained):
    train(config_of(trained, steps=10, optimizer={"muon_lr": 1e-3, "warmup_steps": 2}))
    assert state_of(trained)["step"] == 10


def test_labels_are_not_features(tiny_config, tmp_path):
    features = extracted(tiny_config, tmp_path / "features")
    with pytest.raises(CheckpointError, match="expected phone logits"):
        train(config_of(tiny_config, distillation={"labels": features}))


def test_the_codes_stay_when_the_decoder_alone_is_trained(trained, tmp_path):
    first = speechtok.load(exported_of(trained))
    changes = {"out": str(tmp_path / "second"), "start_from": str(exported_of(trained))}
    second = speechtok.load(train(config_of(trained, only="decoder", **changes)))
    audio = torch.sin(torch.arange(8000) / 10) * 0.3
    codes = first.encode(audio, 16_000).codes
    assert torch.equal(codes, second.encode(audio, 16_000).codes)
    assert not torch.equal(first.decode(codes), second.decode(codes))


@pytest.fixture(scope="session")
def once_distilled(tiny_values: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher's ``features``, and a training that has learned them, ``run``; once for all tests."""
    folder = tmp_path_factory.mktemp("once")
    distillation = {"features": extracted(tiny_values, folder / "features"), "features_by_frame": 5.0}
    model = tiny_values["model"] | {"semantic_dim": 3}
    train(config_of(tiny_values, out=str(folder / "run"), model=model, distillation=distillation))
    return folder


@pytest.fixture
def encoder_leg(tiny_config: dict, once_distilled: Path, tmp_path: Path) -> dict:
    """Plain values of a training of the encoder alone, and where it starts, in a folder of the test's own."""
    shutil.copytree(once_distilled / "run" / "tokenizer", tmp_path / "first")
    return tiny_config | {
        "model": tiny_config["model"] | {"semantic_dim": 3},
        "distillation": {"features": str(once_distilled / "features"), "features_by_frame": 5.0},
        "out": str(tmp_path / "second"),
        "start_from": str(tmp_path / "first"),
        "only": "encoder",
        "optimizer": {"muon_lr": 5e-3, "adamw_lr": 5e-3},
    }


def test_the_encoder_alone_learns_what_is_said_and_leaves_how_it_sounds(encoder_leg):
    values = encoder_leg
    config = config_of(values, steps=90)
    data = read_data(config, World())
    trainer = Trainer(config, data.train, features=data.features)
    first = speechtok.load(values["start_from"])
    trainer.continue_from(first)
    terms = [trainer.run_step(trainer.batch(step % 3)) for step in range(90)]
    assert "mel" not in terms[0]
    assert float(terms[0]["acoustic"]) < 1e-6
    early, late = (sum(float(x["features_by_frame"]) for x in some) for some in (terms[:3], terms[-3:]))
    assert late < 0.85 * early
    audio = torch.sin(torch.arange(8000) / 10)[None] * 0.3
    then, now = (x.encoder(audio, x.encoder.initial_state(1))[0] for x in (first, trainer.tokenizer))
    moved = (now - then).square().mean((0, 1))
    assert moved[3:].mean() < 0.1 * moved[:3].mean()
    exported, given = trainer.tokenizer.state_dict(), first.state_dict()
    assert all(torch.equal(x, given[name]) for name, x in exported.items() if name.startswith("decoder."))
    assert not torch.equal(exported["quantizer.codebooks"][0], given["quantizer.codebooks"][0])


def test_the_encoder_alone_is_held_to_its_start_after_a_resume_too(encoder_leg):
    values = encoder_leg
    train(config_of(values, steps=6))
    once = state_of(values)
    shutil.rmtree(values["out"])
    train(config_of(values, steps=6, checkpoint_every=3))
    assert all(torch.equal(x, once["network"][name]) for name, x in state_of(values)["network"].items())
    shutil.rmtree(values["start_from"])  # which a checkpoint does not need
    train(config_of(values, steps=8))
    assert all(torch.equal(x, once["before"][name]) for name, x in state_of(values)["before"].items())
    assert scalars_of(values, "train/acoustic")


def test_two_processes_train_the_encoder_alone_as_one_does(encoder_leg, tmp_path, monkeypatch):
    values = encoder_leg | {"log_every": 1, "steps": 5}
    values["optimizer"] = {"warmup_steps": 2, "decay_fraction": 0.01, "muon_lr": 1e-12, "adamw_lr": 1e-4}
    two = values | {"out": str(tmp_path / "two"), "accumulate": 2}
    train(config_of(values))
    train(config_of(two, steps=3))
    train_in_two(config_of(two), monkeypatch)  # goes on
    for name in ("features_by_frame", "features_over_time", "commitment"):
        assert scalars_of(two, f"train/{name}") == pytest.approx(scalars_of(values, f"train/{name}"), rel=1e-3), name
    assert scalars_of(two, "train/acoustic") == pytest.approx(scalars_of(values, "train/acoustic"), abs=1e-6)


def test_the_encoder_does_not_go_on_from_a_start_that_has_changed(encoder_leg):
    values = encoder_leg
    train(config_of(values))
    train(config_of(values, steps=10))
    first = Path(values["start_from"])
    speechtok.load(first).half().float().save(first)  # the same
    train(config_of(values, steps=11))
    changed = speechtok.load(first)
    changed.encoder.embed.bias += 0.25
    changed.save(first)
    with pytest.raises(CheckpointError, match="no longer is"):
        train(config_of(values, steps=12))


def test_what_a_checkpoint_says_nothing_of_was_as_it_is_by_default(trained):
    with pytest.raises(CheckpointError, match=r"speed 1\.0, and the config says 1\.1"):
        train(config_of(trained, speed=1.1, steps=9))
    state = state_of(trained)
    state["config"]["speed"] = 1.1
    torch.save(state, Path(trained["out"]) / CHECKPOINT_NAME)
    with pytest.raises(CheckpointError, match=r"speed 1\.1"):
        train(config_of(trained, steps=9))


def test_heads_are_fitted_to_the_tokenizer_that_is_trained_further(encoder_leg):
    values = encoder_leg | {"only": ""}
    config = config_of(values)
    data = read_data(config, World())
    losses = []
    for fitted in (True, False):
        trainer = Trainer(config, data.train, features=data.features)
        trainer.continue_from(speechtok.load(values["start_from"]))
        if not fitted:
            trainer._start_distillation = lambda: None
        losses.append(float(trainer.run_step(trainer.batch(0))["features_by_frame"]))
    assert losses[0] < 0.8 * losses[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"only": "decoder"}, "start_from"),
        ({"only": "head"}, "'encoder' or 'decoder'"),
        ({"only": "encoder", "start_from": "x"}, "semantic_dim is 0"),
        ({"only": "encoder", "start_from": "x", "model": {"semantic_dim": 3}}, "without a teacher"),
        (
            {"only": "encoder", "start_from": "x", "model": {"semantic_dim": 3}, "adversary": {"weight": 1.0}},
            "nothing is decoded",
        ),
        ({"only": "decoder", "start_from": "x", "distillation": {"labels": "y"}}, "codes stay"),
        ({"distillation": {"features": "nowhere"}}, "nowhere"),
        ({"distillation": {"teacher": "own:nowhere"}}, "nowhere"),
        ({"distillation": {"teacher": "nobody"}}, "nobody"),
        ({"adversary": {"weight": -1.0}}, "weight"),
        ({"adversary": {"weight": 1.0, "start_step": 8}}, "start_step"),
        ({"model": {"semantic_dim": 3}}, "semantic_dim"),
    ],
)
def test_a_teacher_or_adversary_that_cannot_be_is_an_error_before_the_first_step(tiny_config, changes, message):
    with pytest.raises(SpeechtokError, match=message):
        train(config_of(tiny_config, **changes))
