"""The training loop: deterministic patches per step, checkpoints that survive a kill, validation Dice per class."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from Agg2ExpLib.device import choose_device
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.training.cases import Case, find_cases
from Agg2ExpLib.training.data import Prepared, draw_patch, prepare_cases
from Agg2ExpLib.training.settings import TrainingSettings
from Agg2ExpLib.training.validation import validate


@dataclass
class _Run:
    """Everything that a checkpoint holds, and the process's place among its siblings."""

    settings: TrainingSettings
    folder: Path
    device: torch.device
    rank: int
    processes: int
    network: torch.nn.Module
    optimiser: torch.optim.Optimizer
    averaged: dict[str, torch.Tensor]
    step: int = 0
    scores: list[dict[str, Any]] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint beside the old one and put it in place at once."""
        if self.rank:
            return
        state = {
            "format_version": 1,
            "settings": json.dumps(self.settings.to_dict()),
            "step": self.step,
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimiser": self.optimiser.state_dict(),
            "scores": json.dumps(self.scores),
        }
        partial = self.checkpoint.with_name("checkpoint.partial")
        try:
            with partial.open("wb") as stream:
                torch.save(state, stream)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(self.checkpoint)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise OutputError(f"cannot write {self.checkpoint}: {error}; free space or choose another --run") from error

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one of the same settings."""
        if not self.checkpoint.is_file():
            return
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            before = json.loads(state["settings"])
        except Exception as error:  # torch raises many kinds for a damaged file
            raise InputError(
                f"{self.checkpoint} cannot be read ({type(error).__name__}); remove it to start anew"
            ) from error
        now = json.loads(json.dumps(self.settings.to_dict()))
        different = sorted(key for key in now if before.get(key) != now[key])
        if different:
            raise InputError(
                f"{self.checkpoint} was made with other settings ({', '.join(different)}); "
                "give the same ones to go on, or another --run folder"
            )
        self.network.load_state_dict(state["network"])
        self.averaged = {name: tensor.to(self.device) for name, tensor in state["averaged"].items()}
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.scores = int(state["step"]), json.loads(state["scores"])

    def final_weights(self) -> dict[str, torch.Tensor]:
        """Return the weights that become the model."""
        return dict(self.averaged) if self.settings.average else self.network.state_dict()


def train(
    data: str | Path,
    validation: str | Path,
    run: str | Path,
    out: str | Path,
    settings: TrainingSettings | None = None,
    device: str = "auto",
    description: str = "",
    command: str = "",
    licence: str = "",
    progress: Progress | None = None,
) -> Path:
    """Train a Swin UNETR and write it as a model folder.

    Parameters
    ----------
    data, validation : path
        Folders of cases (see :func:`~Agg2ExpLib.training.cases.find_cases`); no case may be in both.
    run : path
        Working folder: cache, checkpoint, logs. A run that was stopped goes on from its last checkpoint.
    out : path
        Model folder to write at the end.
    settings : TrainingSettings
        The recipe.
    device : str
        ``auto``, ``cpu`` or ``cuda:N``; under torchrun each process takes its own GPU.
    description, command, licence : str
        Go into the model's card.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    InputError
        Unusable cases, or a checkpoint of other settings.
    """
    from Agg2ExpLib.models.bundle import write_model_folder

    settings, progress = settings or TrainingSettings(), progress or Progress()
    cases, held_out = find_cases(data), find_cases(validation)
    _refuse_shared(cases, held_out)
    before = _training_of(settings.start)
    with _processes(device) as (rank, count, chosen):
        state = _start(settings, Path(run), chosen, rank, count)
        cache = Path(run) / "cache"
        prepared = prepare_cases(cases, settings.card(), cache, progress if not rank else Progress())
        _steps(state, prepared, held_out, progress if not rank else Progress())
        if rank == 0:
            table = validate(state.network, state.final_weights(), held_out, settings.card(), chosen, progress)
            card = settings.card(
                description=description,
                licence=licence,
                extra={
                    "training": {
                        "command": command,
                        "settings": settings.to_dict(),
                        "cases": len(cases),
                        "validation_cases": [case.name for case in held_out],
                        "validation_dice": table,
                        "before": before,
                    }
                },
            )
            weights = {name: tensor.detach().cpu().float() for name, tensor in state.final_weights().items()}
            write_model_folder(out, weights, card, readme=model_readme(card))
    return Path(out)


def _refuse_shared(cases: Sequence[Case], held_out: Sequence[Case]) -> None:
    shared = {case.image.resolve() for case in cases} & {case.image.resolve() for case in held_out}
    if shared:
        raise InputError(
            f"{len(shared)} cases are both trained and validated on, such as {sorted(shared)[0]}; keep them apart"
        )


@contextlib.contextmanager
def _processes(device: str) -> Iterator[tuple[int, int, torch.device]]:
    """Join the other processes when started by torchrun; RANK and its like are torchrun's own way of telling."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield 0, 1, choose_device(device)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available() and device != "cpu"
    chosen = torch.device(f"cuda:{local}" if on_gpu else "cpu")
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield rank, count, chosen
    finally:
        torch.distributed.destroy_process_group()


def _start(settings: TrainingSettings, folder: Path, device: torch.device, rank: int, processes: int) -> _Run:
    from monai.networks.nets import SwinUNETR

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {folder}: {error.strerror}; choose another --run") from error
    torch.manual_seed(settings.seed)
    network = SwinUNETR(**settings.card().architecture["arguments"])
    if settings.start:
        _begin_with(network, settings.start)
    # On the CPU this layout makes the convolutions about a third faster; results are the same.
    network = network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    averaged = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    run = _Run(settings, folder, device, rank, processes, network, optimiser, averaged)
    run.restore()
    return run


def _begin_with(network: torch.nn.Module, source: str) -> None:
    from Agg2ExpLib.models import load_model

    weights = load_model(source).network.state_dict()
    own = network.state_dict()
    different = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    if different:
        raise InputError(
            f"{source} is another architecture than the one to train ({different[0]} differs); leave --start out"
        )
    network.load_state_dict({name: weights[name] for name in own})


def _steps(run: _Run, prepared: Sequence[Prepared], held_out: Sequence[Case], progress: Progress) -> None:
    from monai.losses import DiceCELoss

    settings = run.settings
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True).to(run.device)
    if settings.class_weights == "root":
        # Of the cross-entropy alone: Dice weighs classes evenly already.
        loss_function.cross_entropy.weight = root_weights(prepared, len(settings.labels)).to(run.device)
    model: torch.nn.Module = run.network
    if run.processes > 1:
        model = torch.nn.parallel.DistributedDataParallel(run.network, find_unused_parameters=True)
    half = settings.precision == "mixed" and run.device.type == "cuda"
    scaler = torch.amp.GradScaler("cuda", enabled=half)
    progress.stage("training", settings.steps)
    progress.advance(run.step)
    run.network.train()
    started = time.monotonic()
    losses: list[float] = []
    try:
        while run.step < settings.steps:
            for group in run.optimiser.param_groups:
                group["lr"] = learning_rate(run.step, settings)
            image, truth = _batch(run, prepared)
            with torch.autocast(run.device.type, dtype=torch.float16, enabled=half):
                loss = loss_function(model(image), truth)
            run.optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(run.optimiser)
            torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
            scaler.step(run.optimiser)
            scaler.update()
            run.step += 1
            _average(run)
            losses.append(float(loss.detach()))
            progress.advance(detail=f"loss {np.mean(losses[-50:]):.3f}")
            _bookkeeping(run, losses, held_out, time.monotonic() - started, progress)
    except BaseException:
        # A stop of any kind, Ctrl-C too, keeps what was learned.
        run.save()
        raise


def root_weights(prepared: Sequence[Prepared], classes: int) -> torch.Tensor:
    """Inverse square root of each class's share of all voxels, scaled so that the mean voxel weighs 1."""
    counts = np.sum([np.bincount(case.labels().ravel(), minlength=classes) for case in prepared], axis=0)
    share = np.maximum(counts, 1) / counts.sum()
    weights = share**-0.5
    return torch.tensor(weights / (share * weights).sum(), dtype=torch.float32)


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Warm-up, then cosine to 0."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def _batch(run: _Run, prepared: Sequence[Prepared]) -> tuple[torch.Tensor, torch.Tensor]:
    # Seeded by the step: a resumed run draws what an undisturbed one would have drawn.
    rng = np.random.default_rng([run.settings.seed, run.step, run.rank])
    settings = run.settings
    focus = [settings.labels.index(name) for name in settings.focus]
    pairs = [
        draw_patch(prepared[int(rng.integers(len(prepared)))], settings.window, rng, settings.balanced, focus)
        for _ in range(settings.batch_size)
    ]
    image = torch.from_numpy(np.stack([pair[0] for pair in pairs])[:, None]).to(run.device)
    truth = torch.from_numpy(np.stack([pair[1] for pair in pairs])[:, None]).to(run.device)
    return image.contiguous(memory_format=torch.channels_last_3d), truth


def _average(run: _Run) -> None:
    if not run.settings.average:
        return
    # A short memory at first, so that the random start is forgotten.
    decay = min(run.settings.average, (1.0 + run.step) / (10.0 + run.step))
    for name, tensor in run.network.state_dict().items():
        if tensor.is_floating_point():
            run.averaged[name].lerp_(tensor, 1.0 - decay)
        else:
            run.averaged[name].copy_(tensor)


def _bookkeeping(run: _Run, losses: list[float], held_out: Sequence[Case], seconds: float, progress: Progress) -> None:
    settings = run.settings
    if run.step % 25 == 0 and not run.rank:
        _append(
            run.folder / "log.csv",
            {
                "step": run.step,
                "loss": f"{np.mean(losses[-25:]):.5f}",
                "learning_rate": f"{learning_rate(run.step, settings):.3g}",
                "seconds": f"{seconds:.0f}",
            },
        )
    if run.step % settings.validate_every == 0 and run.step < settings.steps and not run.rank:
        run.save()
        table = validate(run.network, run.final_weights(), held_out[:3], settings.card(), run.device, Progress())
        run.scores.append({"step": run.step, **table})
        _append(run.folder / "validation.csv", {"step": run.step, **{k: f"{v:.4f}" for k, v in table.items()}})
        progress.message(f"step {run.step}: mean validation Dice {np.nanmean(list(table.values())):.3f}")
        run.network.train()
    elif run.step % settings.checkpoint_every == 0 or run.step == settings.steps:
        run.save()


def _append(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _training_of(start: str) -> dict[str, Any] | None:
    """What made the model that training begins with, so that the new card tells the whole story."""
    if not start:
        return None
    from Agg2ExpLib.models import load_model

    training = load_model(start).card.extra.get("training")
    return training if isinstance(training, dict) else None


def model_readme(card: ModelCard) -> str:
    """Text of the model folder's docs/README.md: what it is, the commands that made it, the validation table."""
    training = card.extra["training"]
    table = training["validation_dice"]
    commands: list[str] = []
    stage: dict[str, Any] | None = training
    while stage:
        commands.insert(0, str(stage.get("command") or "not recorded"))
        stage = stage.get("before")
    made = "\n\n".join(f"```\n{command}\n```" for command in commands)
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in table.items())
    mean = float(np.nanmean(list(table.values())))
    return (
        f"# {card.name}\n\n{card.description}\n\n"
        f"Made by{', one after the other' if len(commands) > 1 else ''}:\n\n{made}\n\n"
        f"Dice on the validation cases, per class (mean over classes {mean:.3f}):\n\n| class | Dice |\n|---|---|\n{rows}\n"
    )
