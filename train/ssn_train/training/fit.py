"""The training loop: cached features in, trained heads out, interruptible at any step."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Callable, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from tqdm import tqdm

from ssn_edge.errors import InputError, SsnEdgeError
from ssn_edge.signals import stop_on_signals
from ssn_train.data.datasets import Sample
from ssn_train.network.design import Design
from ssn_train.network.model import SuperSimpleNet
from ssn_train.options.recipe import Recipe
from ssn_train.options.settings import PAPER_NOISE, STANDARDISED_NOISE, Settings
from ssn_train.steps import positions, training_step
from ssn_train.steps.length import MEASURED, Plan, steps_in
from ssn_train.training import distance
from ssn_train.training.feature_cache import FeatureCache
from ssn_train.training.photo_loader import PhotoLoader
from ssn_train.training.resume import Progress, ResumeFile
from ssn_train.training.supervision import (
    BalancedOrder,
    Targets,
    TargetStore,
    TrainingSet,
    training_set,
)

SAVE_EVERY_S = 60.0

CLASSIFY_EVERY = 4
"""Steps on positions for one of the classification head, which costs several of them."""


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
class Setup:
    """What stays the same over a run's steps; ``statistics``: mean and standard deviation [C] of the normal
    photos' features."""

    settings: Settings
    recipe: Recipe
    loader: PhotoLoader
    data: TrainingSet
    cache: FeatureCache
    statistics: Tuple[torch.Tensor, torch.Tensor]
    model: SuperSimpleNet
    optimizer: torch.optim.Optimizer

    @property
    def supervised(self) -> bool:
        return bool(self.data.defects)

    @property
    def map_hw(self) -> Tuple[int, int]:
        return self.model.shape.map_size(self.cache.first_size)

    @property
    def noise_std(self) -> float:
        """Standard deviation of the synthetic anomalies: as asked for, else the backbone's."""
        if self.settings.noise_std is not None:
            return self.settings.noise_std
        return STANDARDISED_NOISE if self.loader.backbone.standardise else PAPER_NOISE

    @cached_property
    def targets(self) -> TargetStore:
        """Masks are read once: the steps and BatchNorm's settling both want them."""
        settings = self.settings
        return TargetStore(self.data, settings.size, self.map_hw, settings.geometry, settings.reading)

    @property
    def reader(self) -> positions.Reader:
        model = self.model
        return positions.Reader(self.cache.levels, self.map_hw, model.feature_shift, model.feature_scale)

    @cached_property
    def sampler(self) -> positions.Sampler:
        targets = self.targets
        return positions.Sampler(
            self.reader, self.data.normals, targets.masks, targets.segmented, self.noise_std
        )

    def order(self) -> Order:
        settings, data = self.settings, self.data
        if self.supervised:
            return BalancedOrder(settings.seed, data.normals, data.defects, settings.batch)
        return ShuffledOrder(settings.seed, data.normals, settings.batch)


def fit(
    settings: Settings, loader: PhotoLoader, samples: Sequence[Sample], file: ResumeFile, resume: bool,
    cache: Optional[FeatureCache] = None,
) -> Fitted:
    """Train on normal photos, and on labelled defects where ``samples`` holds any; with ``resume`` go on
    where ``file`` ends. Features that do not fit into memory lie beside it; ``cache`` has them already, in
    :func:`training_set`'s order.

    Raises Interrupted after saving to ``file`` when a signal asks to stop.
    """
    data = training_set(samples)
    if data.normals < 2:
        raise InputError(f"{data.normals} good photo to train on; at least 2 are needed")
    if cache is None:
        with tqdm(total=len(data.photos), desc="features", unit="img") as bar:
            cache = FeatureCache(loader, data.photos, file.path.parent, bar.update)
    setup = _set_up(settings, loader, data, cache)
    if settings.method == "distance":
        started = time.perf_counter()
        distance.fill(setup.model, setup.reader, data.normals, settings.seed)
        seconds = time.perf_counter() - started
        return Fitted(setup.model.eval(), *setup.statistics, np.zeros((0, 4), np.float32), seconds)
    progress = Progress()
    if resume:
        progress = file.restore(setup.model, setup.optimizer, trained(setup.optimizer, setup.recipe))
    started, before = time.perf_counter(), progress.step
    _loop(setup, progress, file)
    if settings.trainer == "positions":
        _settle(setup)
    seconds = time.perf_counter() - started
    file.save(setup.model, setup.optimizer, progress)  # what comes behind it may be interrupted too
    if progress.step > before:
        per_step = seconds / (progress.step - before)
        tqdm.write(f"{progress.step} steps, {per_step:.2f} s each")
    history = np.asarray(progress.history, np.float32).reshape(-1, 4)
    return Fitted(setup.model.eval(), *setup.statistics, history, seconds)


def _set_up(settings: Settings, loader: PhotoLoader, data: TrainingSet, cache: FeatureCache) -> Setup:
    """The model with random heads, and its optimizer."""
    recipe, backbone = settings.recipe(bool(data.defects)), loader.backbone
    statistics = cache.statistics(data.normals)
    torch.manual_seed(settings.seed)
    model = SuperSimpleNet(
        backbone.module,
        backbone.channels,
        settings.size,
        stop_grad=recipe.optimised and not data.defects,
        variant=settings.variant,
        shape=Design(**settings.design(recipe)),
    )
    if backbone.standardise:
        model.set_statistics(*statistics)
    model.to(loader.device).train()
    optimizer = training_step.make_optimizer(model, settings.rate_scale)
    return Setup(settings, recipe, loader, data, cache, statistics, model, optimizer)


def trained(optimizer: torch.optim.Optimizer, recipe: Recipe) -> List[torch.Tensor]:
    """The parameters that every step changes: without its loss the classification head, the last group,
    gets no gradient."""
    groups = optimizer.param_groups if recipe.cls_head else optimizer.param_groups[:-1]
    return [parameter for group in groups for parameter in group["params"]]


TakeStep = Callable[[int], Tuple[float, ...]]
"""One optimizer step, known by its number; the loss's terms."""


def _loop(setup: Setup, progress: Progress, file: ResumeFile) -> None:
    """Steps until the plan's end; saves every minute, and when a signal asks to stop."""
    settings = setup.settings
    take, per_epoch = (_position_steps if settings.trainer == "positions" else _photo_steps)(setup)
    scheduled = setup.recipe.optimised
    plan = Plan.of(settings, per_epoch, scheduled, progress.planned)
    saved = measured = time.monotonic()
    bar = tqdm(total=plan and plan.steps, initial=progress.step, desc="training", unit="step")
    with bar, stop_on_signals(threading.Event()) as stop:
        begun = progress.step
        while plan is None or progress.step < plan.steps:
            step = progress.step
            if plan is None and step == begun + 1:
                measured = time.monotonic()
            if plan is None and step >= begun + MEASURED and settings.budget is not None:
                per_step = (time.monotonic() - measured) / (MEASURED - 1)
                progress.planned = steps_in(settings.budget, per_step)
                plan = Plan.of(settings, per_epoch, scheduled, progress.planned)
                assert plan is not None
                bar.total = plan.steps
                tqdm.write(f"a step takes {per_step:.3f} s: {plan.steps} in {settings.budget:.0f} s")
            drops = sum(step >= drop for drop in plan.milestones) if plan else 0
            training_step.set_rates(setup.optimizer, drops)
            terms = take(step)
            progress.history.append(terms)
            progress.step += 1
            if not math.isfinite(sum(terms)):
                raise InputError(f"the loss became {sum(terms)} at step {step}; lower --lr-scale")
            bar.set_postfix(loss=f"{np.mean([sum(h) for h in progress.history[-20:]]):.3f}")
            bar.update()
            if stop.is_set() or time.monotonic() - saved > SAVE_EVERY_S:
                file.save(setup.model, setup.optimizer, progress)
                saved = time.monotonic()
            if stop.is_set():
                of = f" of {plan.steps}" if plan else ""
                raise Interrupted(f"stopped after step {progress.step}{of}")


def _photo_steps(setup: Setup) -> Tuple[TakeStep, int]:
    """The published step on whole photos, and steps an epoch."""
    settings, recipe = setup.settings, setup.recipe
    order, targets = setup.order(), setup.targets
    clip = training_step.CLIP_NORM if recipe.optimised and setup.supervised else None

    def take(step: int) -> Tuple[float, ...]:
        features, draws, goal = _whole_photos(setup, step, order, targets)
        loss = training_step.batch_loss(
            setup.model, features, draws, *goal, recipe=recipe, plain=settings.plain,
            low_precision=settings.bfloat16,
        )
        training_step.take_step(setup.optimizer, loss.total, clip)
        return tuple(float(term.detach()) for term in loss)

    return take, order.per_epoch


def _whole_photos(
    setup: Setup, step: int, order: Order, targets: TargetStore
) -> Tuple[List[torch.Tensor], training_step.Draws, Targets]:
    """A batch: raw features, the random part, and what is right."""
    settings, device = setup.settings, setup.loader.device
    index = order.indices(step)
    draws = training_step.draw(
        order.batch, sum(setup.model.channels), setup.map_hw, setup.noise_std,
        settings.mask_threshold(setup.supervised), training_step.step_generator(settings.seed, step),
        setup.recipe.anomalies,
    )
    draws = training_step.Draws(*(part.to(device) for part in draws))
    goal = Targets(*(part.to(device) for part in targets[index]))
    return [level.to(device) for level in setup.cache[index]], draws, goal


def _position_steps(setup: Setup) -> Tuple[TakeStep, int]:
    """Steps on single positions, every few of them with one of the classification head on whole photos; and
    steps that see as many positions as there are."""
    settings, model = setup.settings, setup.model
    order, targets, sampler = setup.order(), setup.targets, setup.sampler
    every = CLASSIFY_EVERY if model.discriminator.classifies else 0

    def take(step: int) -> Tuple[float, ...]:
        batch = sampler.draw(training_step.step_generator(settings.seed, step)).to(setup.loader.device)
        loss = positions.loss(model, batch)
        if every and step % every == 0:
            features, draws, goal = _whole_photos(setup, step // every, order, targets)
            focal = positions.classification_loss(model, features, draws, goal.mask, goal.label)
            loss = loss._replace(focal_cls=focal)
        training_step.take_step(setup.optimizer, loss.total)
        return tuple(float(term.detach()) for term in loss)

    count = setup.data.normals * setup.map_hw[0] * setup.map_hw[1]
    return take, -(-count // positions.BATCH)


def _settle(setup: Setup) -> None:
    """BatchNorm's statistics at the end of steps on positions."""
    sampler, device = setup.sampler, setup.loader.device
    seed = setup.settings.seed
    generators = (training_step.step_generator(seed, -1 - n) for n in range(positions.SETTLING))
    positions.settle(setup.model, (sampler.draw(generator).to(device) for generator in generators))
