"""Runs on positions: interrupted ones end as uninterrupted ones do, and a budget is what it says."""

import contextlib
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ssn_edge.errors import ModelError
from ssn_edge.frames.image_files import write_image
from ssn_train.data.samples import Sample
from ssn_train.network.backbones import Backbone
from ssn_train.options.settings import Settings
from ssn_train.steps import training_step
from ssn_train.steps.length import MEASURED
from ssn_train.training import fit, thresholds
from ssn_train.training.feature_cache import FeatureCache
from ssn_train.training.photo_loader import PhotoLoader
from ssn_train.training.resume import ResumeFile
from ssn_train.training.supervision import ORIENTATIONS

SIZE = 32, 48
LEVELS = (4, 6, 12), (2, 3, 20)
"""Of the features: height, width, channels."""

NORMALS = 5


@pytest.fixture(scope="module")
def loader():
    channels = tuple(level[2] for level in LEVELS)
    thirds = (0.5, 0.5, 0.5)
    backbone = Backbone("tiny", "tiny", torch.nn.Identity(), ("8", "16"), channels, (8, 16), thirds, thirds)
    return PhotoLoader(backbone, SIZE, "stretch", "cpu", 1)


def chosen(supervised=False, **changes):
    given = dict(
        size=SIZE, steps=9, batch=4, rate_scale=3.0, trainer="positions", seg_width=16, cls_width=None,
        cls_kernel=3, adaptor=False, verdict_source=None,
    )
    return Settings("tiny", **{**given, **changes}).settled(supervised)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Samples by supervision; a masked defect is the photo's left half."""
    folder = tmp_path_factory.mktemp("masks")
    mask = np.zeros(SIZE, np.uint8)
    mask[:, :24] = 255
    write_image(folder / "mask.png", mask)
    good = [Sample(folder / f"{number}.png", 0, None, "good") for number in range(NORMALS)]
    known = [Sample(folder / "x.png", 1, folder / "mask.png", "crack")]
    unknown = [Sample(folder / "y.png", 1, None, "crack")]
    return {
        "none": good, "supervised": good + known, "mixed": good + known + unknown, "weak": good + unknown,
    }


def features(samples):
    """As a cache of the photos' features would hold them, at random."""
    rng = np.random.default_rng(0)
    good = sum(not sample.label for sample in samples)
    count = good + len(ORIENTATIONS) * (len(samples) - good)
    cache = object.__new__(FeatureCache)
    cache.levels = [rng.standard_normal((20, *shape)).astype(np.float32)[:count] for shape in LEVELS]
    return cache


class Watch:
    """A clock of the steps' making and what they saw: ``rates`` relative to the first, a stop request after
    ``stop_after`` of them."""

    def __init__(self, monkeypatch, per_step=1.0, stop_after=None):
        self.now, self.rates, self.stop = 0.0, [], threading.Event()
        self._per_step, self._stop_after = per_step, stop_after
        take = training_step.take_step

        def take_step(optimizer, *arguments):
            self.rates.append(optimizer.param_groups[1]["lr"] / optimizer.param_groups[1]["initial_lr"])
            self.now += self._per_step if len(self.rates) > 1 else 20 * self._per_step  # caches fill
            if len(self.rates) == self._stop_after:
                self.stop.set()
            return take(optimizer, *arguments)

        monkeypatch.setattr(training_step, "take_step", take_step)
        monkeypatch.setattr(fit, "stop_on_signals", self._stop_on_signals)
        clock = SimpleNamespace(monotonic=lambda: self.now, perf_counter=time.perf_counter)
        monkeypatch.setattr(fit, "time", clock)

    @contextlib.contextmanager
    def _stop_on_signals(self, stop):
        yield self.stop


def run(settings, loader, samples, path, resume=False, per_step=1.0, stop_after=None):
    """(fitted, watch), None in place of fitted where it was interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        watch = Watch(patch, per_step, stop_after)
        file = ResumeFile(path, settings, ())
        try:
            return fit.fit(settings, loader, samples, file, resume, features(samples)), watch
        except fit.Interrupted:
            return None, watch


def same(one, other):
    """Bit for bit."""
    left, right = one.model.state_dict(), other.model.state_dict()
    assert list(left) == list(right)
    for name, value in left.items():
        assert torch.equal(value, right[name]), name
    np.testing.assert_array_equal(one.history, other.history)


@pytest.mark.parametrize("kind, changes", [
    ("none", {}), ("none", {"cls_width": 4, "adaptor": True}), ("supervised", {}),
    ("mixed", {"grid": (5, 9)}), ("weak", {"variant": "jims", "adaptor": True}), ("none", {"budget": 40.0}),
    ("mixed", {"budget": 40.0}),
])
def test_resumed_runs_are_the_uninterrupted_ones(loader, photos, tmp_path, kind, changes):
    """Stopped before and behind a step of the classification head, before and behind the measuring of a
    budget, and twice; the rest with features read anew."""
    settings, samples = chosen(kind != "none", **changes), photos[kind]
    whole, watch = run(settings, loader, samples, tmp_path / "whole")
    steps = len(watch.rates)
    assert len(whole.history) == steps == (40 if settings.budget else 9)
    stops = (1, 4, 5, 7) if not settings.budget else (1, MEASURED, MEASURED + 1, 33)
    for stop in stops:
        path = tmp_path / f"stopped-{stop}"
        stopped, before = run(settings, loader, samples, path, stop_after=stop)
        assert stopped is None and len(before.rates) == stop
        again, first = run(settings, loader, samples, path, resume=True, stop_after=1)
        assert again is None
        resumed, rest = run(settings, loader, samples, path, resume=True)
        same(resumed, whole)
        assert before.rates + first.rates + rest.rates == watch.rates
    ended, none = run(settings, loader, samples, path, resume=True)  # what came behind was interrupted
    assert not none.rates
    same(ended, whole)
    left, right = (load_file(tmp_path / name) for name in ("whole", f"stopped-{stops[-1]}"))
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("per_step, steps", [(1.0, 60), (0.75, 80), (0.25, 240), (7.0, 2 * MEASURED)])
def test_a_budget_is_measured_and_planned(loader, photos, tmp_path, per_step, steps):
    """Rates drop at 0.8 and 0.9 of what was planned, which the resume file keeps: a machine that is slower
    afterwards makes the run longer, not another."""
    settings = chosen(budget=60.0, steps=None, seg_width=2)
    fitted, watch = run(settings, loader, photos["none"], tmp_path / "resume", per_step=per_step)
    assert len(fitted.history) == steps
    drops = [int(0.8 * steps + 0.5), int(0.9 * steps + 0.5)]
    expected = np.repeat([1, 0.4, 0.16], np.diff([0, *drops, steps]))
    np.testing.assert_allclose(watch.rates, expected)
    path = tmp_path / "stopped"
    run(settings, loader, photos["none"], path, per_step=per_step, stop_after=MEASURED + 2)
    resumed, rest = run(settings, loader, photos["none"], path, resume=True, per_step=5 * per_step)
    same(resumed, fitted)
    assert len(rest.rates) == steps - MEASURED - 2


def test_what_was_not_measured_yet_is_measured_again(loader, photos, tmp_path):
    """On the machine that goes on; steps that were taken count."""
    settings, path = chosen(budget=60.0, steps=None), tmp_path / "resume"
    run(settings, loader, photos["none"], path, stop_after=3)
    resumed, rest = run(settings, loader, photos["none"], path, resume=True, per_step=2.0)
    assert len(resumed.history) == 30 and len(rest.rates) == 27


@pytest.mark.parametrize("planned", [0, -3, 2.5, "300", True, [18]])
def test_a_plan_that_is_none(loader, photos, tmp_path, planned):
    from ssn_train.training import checkpoint

    settings, path = chosen(budget=60.0, steps=None), tmp_path / "resume"
    run(settings, loader, photos["none"], path, stop_after=3)
    tensors, header = checkpoint.load(path)
    checkpoint.save(path, tensors, {**header, "planned": planned})
    with pytest.raises(ModelError, match="its planned steps are .*start anew"):
        run(settings, loader, photos["none"], path, resume=True)


def test_labelled_defects_train_a_classification_head_that_judges(loader, photos, tmp_path):
    for kind in ("supervised", "mixed", "weak"):
        settings = chosen(supervised=True)
        assert (settings.cls_width, settings.verdict_source) == (128, "score")
        fitted, _ = run(settings, loader, photos[kind], tmp_path / kind)
        assert fitted.model.discriminator.classifies
        classified = np.flatnonzero(fitted.history[:, 3])
        assert list(classified) == [0, fit.CLASSIFY_EVERY, 2 * fit.CLASSIFY_EVERY]
        assert np.isfinite(fitted.history).all()
    settings = chosen(supervised=False)
    assert (settings.cls_width, settings.verdict_source) == (0, "map_max")
    fitted, _ = run(settings, loader, photos["none"], tmp_path / "none")
    assert not fitted.model.discriminator.classifies and not fitted.history[:, 3].any()


def test_a_photo_without_a_mask_teaches_the_classification_head_alone(loader, photos, tmp_path):
    """Weak labels: the map's head is that of a run without the photo."""
    weak, _ = run(chosen(True), loader, photos["weak"], tmp_path / "weak")
    none, _ = run(chosen(True), loader, photos["none"], tmp_path / "none")
    for name, value in none.model.discriminator.seg.state_dict().items():
        assert torch.equal(value, weak.model.discriminator.seg.state_dict()[name]), name
    np.testing.assert_array_equal(weak.history[:, :3], none.history[:, :3])
    head = "dec_head.0.weight"
    theirs = none.model.discriminator.state_dict()[head]
    assert not torch.equal(weak.model.discriminator.state_dict()[head], theirs)


def test_what_an_adaptor_is_that_was_left_out(loader, photos, tmp_path):
    fitted, _ = run(chosen(), loader, photos["none"], tmp_path / "resume")
    projection = fitted.model.feature_adaptor.projection
    assert torch.equal(projection.weight[:, :, 0, 0], torch.eye(32)) and not projection.bias.any()


def test_cross_fit_trainings_take_the_shipped_runs_steps(loader, photos, tmp_path, monkeypatch):
    """Whatever its length came from: they are to be as good."""
    settings = chosen(budget=33.0, steps=None, seed=3)
    shipped, _ = run(settings, loader, photos["none"], tmp_path / "resume")
    seen = []

    def other(own, loader, samples, file, resume):
        fitted, _ = run(own, loader, samples, file.path)
        seen.append((own.seed, own.steps, own.budget, len(fitted.history), len(samples)))
        return fitted

    def predict(fitted, loader, samples, what):
        rng = np.random.default_rng(len(samples))
        return SimpleNamespace(scores=rng.random(len(samples)), map_max=rng.normal(size=len(samples)))

    monkeypatch.setattr(thresholds, "fit", other)
    thresholds.estimated(shipped, loader, photos["none"], [], settings, 2, tmp_path, predict)
    assert [row[:4] for row in seen] == [(4, 33, None, 33), (5, 33, None, 33)]
    assert sorted(row[4] for row in seen) == [2, 3]
