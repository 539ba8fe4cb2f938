"""The training loop: deterministic patches per step, checkpoints that survive a kill, validation Dice per class."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from Agg2ExpLib.device import choose_device
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import open_folder
from Agg2ExpLib.training.cases import Case, find_cases
from Agg2ExpLib.training.checkpoint import LOG_EVERY, Run, append_row, logged_steps
from Agg2ExpLib.training.data import Prepared, draw_patch, prepare_cases
from Agg2ExpLib.training.record import mean_dice, model_readme, training_of, training_record
from Agg2ExpLib.training.settings import TrainingSettings
from Agg2ExpLib.training.validation import validate


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
        Unusable cases or settings, or a checkpoint of other ones.
    OutputError
        ``run`` or ``out`` cannot be written.
    """
    from Agg2ExpLib.models.bundle import refuse_other_folder, write_model_folder

    settings, progress = settings or TrainingSettings(), progress or Progress()
    cases, held_out = find_cases(data), find_cases(validation)
    _refuse_shared(cases, held_out)
    # Hours of training must not end at a folder that cannot be written.
    refuse_other_folder(out)
    before = training_of(settings.start)
    with _processes(device) as (rank, count, chosen), _alone(Path(run), rank):
        state = _start(settings, [case.name for case in cases], Path(run), chosen, rank, count)
        cache = Path(run) / "cache"
        prepared = prepare_cases(cases, settings.card(), cache, progress if not rank else Progress())
        _steps(state, prepared, held_out, progress if not rank else Progress())
        if rank == 0:
            table = validate(state.network, state.final_weights(), held_out, settings.card(), chosen, progress)
            card = settings.card(
                description=description,
                licence=licence,
                extra={"training": training_record(settings, command, cases, held_out, table, before)},
            )
            weights = {name: tensor.detach().cpu().float() for name, tensor in state.final_weights().items()}
            write_model_folder(out, weights, card, readme=model_readme(card))
    return Path(out)


def _alone(run: Path, rank: int) -> contextlib.AbstractContextManager[None]:
    """Keep the working folder for this training; its first process does so for all."""
    return contextlib.nullcontext() if rank else open_folder(run, option="--run")


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


def _start(
    settings: TrainingSettings, cases: Sequence[str], folder: Path, device: torch.device, rank: int, processes: int
) -> Run:
    from monai.networks.nets import SwinUNETR

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {folder}: {error.strerror}; choose another --run") from error
    torch.manual_seed(settings.seed)
    try:
        network = SwinUNETR(**settings.card().architecture["arguments"])
    except (ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"no Swin UNETR has these settings: {str(error).splitlines()[0]}") from error
    if settings.start:
        _begin_with(network, settings.start)
    # On the CPU this layout makes the convolutions about a third faster; results are the same.
    network = network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    averaged = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    half = settings.precision == "mixed" and device.type == "cuda"
    scaler = torch.amp.GradScaler("cuda", enabled=half)
    run = Run(settings, tuple(cases), folder, device, rank, processes, network, optimiser, scaler, averaged)
    run.restore()
    return run


def _begin_with(network: torch.nn.Module, source: str) -> None:
    from Agg2ExpLib.models import SegmentationModel, load_model

    model = load_model(source)
    if not isinstance(model, SegmentationModel):
        raise InputError(f"{source}: training can begin only with a model folder or a checkpoint of one network")
    weights = model.network.state_dict()
    own = network.state_dict()
    different = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    if different:
        raise InputError(
            f"{source} is another architecture than the one to train ({different[0]} differs); leave --start out"
        )
    network.load_state_dict({name: weights[name] for name in own})


def _steps(run: Run, prepared: Sequence[Prepared], held_out: Sequence[Case], progress: Progress) -> None:
    from monai.losses import DiceCELoss

    settings = run.settings
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True).to(run.device)
    if settings.class_weights == "root":
        # Of the cross-entropy alone: Dice weighs classes evenly already.
        loss_function.cross_entropy.weight = root_weights(prepared, len(settings.labels)).to(run.device)
    model: torch.nn.Module = run.network
    if run.processes > 1:
        model = torch.nn.parallel.DistributedDataParallel(run.network, find_unused_parameters=True)
    progress.stage("training", settings.steps, before=run.step)
    run.network.train()
    started = time.monotonic()
    try:
        # A run that was stopped between a step and its rows in the logs makes up for them.
        _log(run, 0.0)
        _validate(run, held_out, progress)
        while run.step < settings.steps:
            _step(run, model, loss_function, prepared)
            progress.advance(detail=f"loss {np.mean(run.losses):.3f}")
            _log(run, time.monotonic() - started)
            _save_when_due(run)
            _validate(run, held_out, progress)
    except BaseException:
        # A stop of any kind, Ctrl-C too, keeps what was learned.
        run.save()
        raise


def _step(run: Run, model: torch.nn.Module, loss_function: torch.nn.Module, prepared: Sequence[Prepared]) -> None:
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(run.step, run.settings)
    image, truth = _batch(run, prepared)
    with torch.autocast(run.device.type, dtype=torch.float16, enabled=run.scaler.is_enabled()):
        loss = loss_function(model(image), truth)
    run.optimiser.zero_grad(set_to_none=True)
    run.scaler.scale(loss).backward()
    run.scaler.unscale_(run.optimiser)
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
    run.whole = False
    run.scaler.step(run.optimiser)
    run.scaler.update()
    run.step += 1
    _average(run)
    run.losses = [*run.losses, float(loss.detach())][-LOG_EVERY:]
    run.whole = True


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


def _batch(run: Run, prepared: Sequence[Prepared]) -> tuple[torch.Tensor, torch.Tensor]:
    # Seeded by the step: a resumed run draws what an undisturbed one would have drawn.
    rng = np.random.default_rng([run.settings.seed, run.step, run.rank])
    settings = run.settings
    focus = [settings.labels.index(name) for name in settings.focus]
    pairs = [
        draw_patch(
            prepared[int(rng.integers(len(prepared)))],
            settings.window,
            rng,
            settings.balanced,
            focus,
            settings.margin,
        )
        for _ in range(settings.batch_size)
    ]
    image = torch.from_numpy(np.stack([pair[0] for pair in pairs])[:, None]).to(run.device)
    truth = torch.from_numpy(np.stack([pair[1] for pair in pairs])[:, None]).to(run.device)
    return image.contiguous(memory_format=torch.channels_last_3d), truth


def _average(run: Run) -> None:
    if not run.settings.average:
        return
    # A short memory at first, so that the random start is forgotten.
    decay = min(run.settings.average, (1.0 + run.step) / (10.0 + run.step))
    for name, tensor in run.network.state_dict().items():
        if tensor.is_floating_point():
            run.averaged[name].lerp_(tensor, 1.0 - decay)
        else:
            run.averaged[name].copy_(tensor)


def _log(run: Run, seconds: float) -> None:
    log = run.folder / "log.csv"
    if run.rank or not run.step or run.step % LOG_EVERY or run.step in logged_steps(log):
        return
    append_row(
        log,
        {
            "step": run.step,
            "loss": f"{np.mean(run.losses):.5f}",
            "learning_rate": f"{learning_rate(run.step, run.settings):.3g}",
            "seconds": f"{seconds:.0f}",
        },
    )


def _save_when_due(run: Run) -> None:
    settings = run.settings
    if any(run.step % every == 0 for every in (settings.validate_every, settings.checkpoint_every, settings.steps)):
        run.save()


def _validate(run: Run, held_out: Sequence[Case], progress: Progress) -> None:
    """Score a few held-out cases when it is time; the end of the training scores them all."""
    settings = run.settings
    if run.rank or not 0 < run.step < settings.steps or run.step % settings.validate_every:
        return
    if run.step in logged_steps(run.folder / "validation.csv"):
        return
    table = validate(run.network, run.final_weights(), held_out[:3], settings.card(), run.device, Progress())
    append_row(run.folder / "validation.csv", {"step": run.step, **{k: f"{v:.4f}" for k, v in table.items()}})
    progress.message(f"step {run.step}: mean validation Dice {mean_dice(table):.3f}")
    run.network.train()
