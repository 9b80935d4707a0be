"""The training loop: cached features in, trained heads out, interruptible at any step."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, List, Sequence, Tuple, Union

import numpy as np
import torch
from tqdm import tqdm

from ssn_edge.errors import InputError, SsnEdgeError
from ssn_train.data.datasets import Sample
from ssn_train.network.backbones import Backbone
from ssn_train.network.model import SuperSimpleNet
from ssn_train.protocol.recipe import Recipe
from ssn_train.protocol.settings import PAPER_NOISE, STANDARDISED_NOISE, Settings
from ssn_train.training import training_step
from ssn_train.training.feature_cache import FeatureCache
from ssn_train.training.resume import Progress, ResumeFile
from ssn_train.training.supervision import BalancedOrder, TargetStore, TrainingSet, training_set

SAVE_EVERY_S = 60.0


class Interrupted(SsnEdgeError):
    """Training was stopped by a signal; the run folder can be resumed."""


@dataclass(frozen=True)
class Fitted:
    model: SuperSimpleNet
    feature_mean: torch.Tensor
    feature_std: torch.Tensor
    history: np.ndarray
    """float32 [steps, 4]: the four loss terms of every step."""
    seconds: float
    """Wall time of the optimizer steps of this process."""


class ShuffledOrder:
    """Batches of good photos: the epoch's permutation depends on seed and epoch alone."""

    def __init__(self, seed: int, photos: int, batch: int):
        self.batch = min(batch, photos)
        self.per_epoch = photos // self.batch  # whole batches: BatchNorm sees the same count each time
        self._seed, self._photos = seed, photos

    def indices(self, step: int) -> np.ndarray:
        epoch, position = divmod(step, self.per_epoch)
        generator = training_step.step_generator(self._seed + 1, epoch)
        order = torch.randperm(self._photos, generator=generator).numpy()
        return order[position * self.batch : (position + 1) * self.batch]


Order = Union[ShuffledOrder, BalancedOrder]


@dataclass(frozen=True)
class Plan:
    """A run's length in steps and when the learning rates drop."""

    steps: int
    milestones: Tuple[int, ...]

    @classmethod
    def of(cls, settings: Settings, per_epoch: int, scheduled: bool) -> Plan:
        if settings.steps is not None:
            drops = training_step.milestones(settings.steps)
            steps = settings.steps
        else:
            drops = [epoch * per_epoch for epoch in training_step.milestones(settings.epochs)]
            steps = settings.epochs * per_epoch
        return cls(steps, tuple(drops) if scheduled else ())


def fit(
    settings: Settings,
    backbone: Backbone,
    samples: Sequence[Sample],
    run: Path,
    device: str,
    workers: int,
    file: ResumeFile,
    resume: bool,
) -> Fitted:
    """Train on normal photos, and on labelled defects where ``samples`` holds any; with ``resume`` go on
    where ``file`` ends.

    Raises Interrupted after saving to ``file`` when a signal asks to stop.
    """
    data = training_set(samples)
    if data.normals < 2:
        raise InputError(f"{data.normals} good photo to train on; at least 2 are needed")
    recipe = settings.recipe(bool(data.defects))
    with tqdm(total=len(data.photos), desc="features", unit="img") as bar:
        cache = FeatureCache(
            backbone, data.photos, settings.size, run, settings.geometry, device, workers, tick=bar.update
        )
    torch.manual_seed(settings.seed)
    model = SuperSimpleNet(
        backbone.module,
        backbone.channels,
        settings.size,
        stop_grad=recipe.optimised and not data.defects,
        variant=settings.variant,
        upscale=recipe.upscale,
    )
    mean, std = cache.statistics(data.normals)
    if backbone.standardise:
        model.set_statistics(mean, std)
    model.to(device).train()
    optimizer = training_step.make_optimizer(model, settings.rate_scale)
    progress = file.restore(model, optimizer, trained(optimizer, recipe)) if resume else Progress()
    started, before = time.perf_counter(), progress.step
    _loop(settings, recipe, backbone, data, cache, model, optimizer, progress, file, device)
    seconds = time.perf_counter() - started
    if progress.step > before:
        per_step = seconds / (progress.step - before)
        tqdm.write(f"{progress.step} steps, {per_step:.2f} s each")
    history = np.asarray(progress.history, np.float32).reshape(-1, 4)
    return Fitted(model.eval(), mean, std, history, seconds)


def trained(optimizer: torch.optim.Optimizer, recipe: Recipe) -> List[torch.Tensor]:
    """The parameters that every step changes: without its loss the classification head, the last group,
    gets no gradient."""
    groups = optimizer.param_groups if recipe.cls_head else optimizer.param_groups[:-1]
    return [parameter for group in groups for parameter in group["params"]]


def _loop(
    settings: Settings,
    recipe: Recipe,
    backbone: Backbone,
    data: TrainingSet,
    cache: FeatureCache,
    model: SuperSimpleNet,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    file: ResumeFile,
    device: str,
) -> None:
    order: Order
    if data.defects:
        order = BalancedOrder(settings.seed, data.normals, data.defects, settings.batch)
    else:
        order = ShuffledOrder(settings.seed, data.normals, settings.batch)
    plan = Plan.of(settings, order.per_epoch, recipe.optimised)
    clip = training_step.CLIP_NORM if recipe.optimised and data.defects else None
    standard = STANDARDISED_NOISE if backbone.standardise else PAPER_NOISE
    noise_std = standard if settings.noise_std is None else settings.noise_std
    size = model.map_size(cache.level2_size)
    store = TargetStore(data, settings.size, size, settings.geometry)
    saved = time.monotonic()
    bar = tqdm(total=plan.steps, initial=progress.step, desc="training", unit="step")
    with bar, stop_requests() as stop:
        while progress.step < plan.steps:
            step = progress.step
            training_step.set_rates(optimizer, sum(step >= drop for drop in plan.milestones))
            index = order.indices(step)
            draws = training_step.draw(
                order.batch, sum(backbone.channels), size, noise_std,
                settings.mask_threshold(bool(data.defects)),
                training_step.step_generator(settings.seed, step), recipe.anomalies,
            )
            draws = training_step.Draws(*(part.to(device) for part in draws))
            loss = training_step.batch_loss(
                model, [f.to(device) for f in cache[index]], draws,
                *(part.to(device) for part in store[index]),
                recipe=recipe, plain=settings.plain, low_precision=settings.bfloat16,
            )
            training_step.take_step(optimizer, loss.total, clip)
            progress.history.append(tuple(float(term.detach()) for term in loss))
            progress.step += 1
            total = sum(progress.history[-1])
            if not math.isfinite(total):
                raise InputError(f"the loss became {total} at step {step}; lower --lr-scale")
            bar.set_postfix(loss=f"{np.mean([sum(h) for h in progress.history[-20:]]):.3f}")
            bar.update()
            if stop.is_set() or time.monotonic() - saved > SAVE_EVERY_S:
                file.save(model, optimizer, progress)
                saved = time.monotonic()
            if stop.is_set():
                raise Interrupted(f"stopped after step {progress.step} of {plan.steps}")


@contextlib.contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that a step is never left half done.

    A second signal acts as usual. Outside the main thread signals cannot be caught.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    previous = {kind: signal.getsignal(kind) for kind in kinds}

    def request(number: int, frame: Any) -> None:
        stop.set()
        for kind, handler in previous.items():
            signal.signal(kind, handler)

    for kind in kinds:
        signal.signal(kind, request)
    try:
        yield stop
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)
