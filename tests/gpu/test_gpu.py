"""Build, parity, latency, throughput and memory on a real device."""

import importlib.util
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from commands import command

from ssn_edge import Detector, backends
from ssn_edge.model import bundle
from ssn_export.gates import parity

FRAMES = int(os.environ.get("SSN_GPU_FRAMES", "1000"))


def build(path, precision, *arguments):
    """Add an engine to the bundle; its place, what was printed, and what was measured."""
    output = command("ssn_export", path, "--engine", "--layers", "--precision", precision, *arguments)
    found = bundle.read(path)
    entry = [one for one in found.of_role("engine") if one.precision == precision][-1]
    return found.place(entry), output, entry.measured


def frames(path):
    """The bundle's reference images with their answers."""
    found = bundle.read(path)
    return parity.read_reference(found.place(found.of_role("reference")[0]))


def graph(path, role):
    found = bundle.read(path)
    return found.place(found.of_role(role)[0])


EXACT = {"use_tf32": "0"}
"""Else the nodes that must stay in float32 are rounded to 10 bits on Ampere and later."""


@pytest.fixture(scope="module")
def half(exported):
    """Half-precision engine for up to 16 images, the way this release builds it."""
    return build(exported, "float16", "--batch", "16", "--timing-cache", exported.with_name("timings.bin"))


def ms(call, count=None):
    """Milliseconds of each of ``count`` calls after a tenth as many to warm up."""
    count = count or FRAMES
    for _ in range(max(3, count // 10)):
        call()
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        times.append(1e-6 * (time.perf_counter_ns() - start))
    low, median, high = np.quantile(times, [0.01, 0.5, 0.99])
    return {"p1": low, "median": median, "p99": high, "n": count}


def test_float32_engine(exported, figures):
    _, _, description = build(exported, "float32")
    figures["float32"] = {k: description[k] for k in ("parity", "layers", "build_seconds", "warnings")}
    assert description["parity"]["trained model"]["map_rms"] <= parity.FLOAT_LIMITS["map_rms"]


def test_half_engine(half, figures):
    engine, _, description = half
    figures["float16"] = {k: description[k] for k in ("parity", "layers", "build_seconds", "warnings")}
    figures["float16"]["bytes"] = engine.stat().st_size
    assert description["parity"]["trained model"]["map_rms"] <= parity.HALF_LIMITS["map_rms"]


def test_every_way_gives_the_same(half, exported):
    images = frames(exported).images
    with Detector.open(half[0]) as detector:
        for image in images:
            found, map_out = detector.detect(image), np.empty(detector.info.size_hw, np.float32)
            assert detector.infer_into(image, map_out) == found.score
            np.testing.assert_array_equal(map_out, found.anomaly_map)


def test_latency_and_throughput(half, exported, figures):
    image = frames(exported).images[0]
    with Detector.open(half[0]) as detector:
        maps = np.empty(detector.info.size_hw, np.float32)
        figures["latency_ms"] = ms(lambda: detector.infer_into(image, maps))
        figures["detect_ms"] = ms(lambda: detector.detect(image))
    batch = np.repeat(image[None], 16, 0)
    with Detector.open(half[0], batch=16) as detector:
        figures["batch16_ms"] = ms(lambda: detector.infer_batch(batch), max(3, FRAMES // 10))
        figures["batch16_images_per_s"] = 16e3 / figures["batch16_ms"]["median"]
        repeated, _ = detector.infer_batch(batch)
    np.testing.assert_allclose(repeated, np.repeat(maps[None], 16, 0), atol=0.05 * maps.std())


def test_memory_comes_back(half, exported, figures):
    image = frames(exported).images[0]
    device = backends.engine_library().open_device()

    def free():
        with device.active("asking for memory"):
            return device.free_memory()[0]

    with Detector.open(half[0]) as detector:  # loads what the libraries keep for good
        detector.detect(image)
    before = free()
    with Detector.open(half[0]) as detector:
        detector.detect(image)
        start = free()
        for _ in range(FRAMES):
            detector.detect(image)
        end = free()
    figures["memory"] = {"open_bytes": before - start, "growth_bytes": start - end,
                         "not_returned_bytes": before - free()}
    assert start - end <= 1 << 20 and before - free() <= 4 << 20


def test_two_detectors_in_two_threads(half, exported):
    truth = frames(exported)
    with Detector.open(half[0]) as one, Detector.open(half[0]) as two:
        expected = [one.detect(image).score for image in truth.images]
        wrong = []

        def work(detector):
            for _ in range(20):
                for image, score in zip(truth.images, expected):
                    if detector.detect(image).score != score:
                        wrong.append(score)

        threads = [threading.Thread(target=work, args=(d,)) for d in (one, two, one)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not wrong and not any(thread.is_alive() for thread in threads)


@pytest.mark.filterwarnings("ignore:CUDA initialization")
def test_shares_the_gpu_with_torch(half, exported):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("no PyTorch here")
    import torch

    if not torch.cuda.is_available():
        pytest.skip("PyTorch without CUDA")
    image = frames(exported).images[0]
    x = torch.ones(1000, device="cuda")
    with Detector.open(half[0]) as detector:
        score = detector.detect(image).score
        assert float((x * 2).sum()) == 2000 and detector.detect(image).score == score
    assert float((x * 3).sum()) == 3000


def test_fused_against_naive(run, figures, tmp_path):
    """Both plans' half engines in turn; the ratio is the fusion's gain on this device."""
    from ssn_export.tensorrt.builder import typed

    calls, open_now = {}, []
    for plan in ("none", "full"):
        model = tmp_path / plan / "model.ssn"
        command("ssn_export", run, "--out", model, "--fp16", "--plan", plan)
        detector = Detector.open(model, "tensorrt")
        image = np.zeros((*detector.info.input_hw, 3), np.uint8)
        maps = np.empty(detector.info.size_hw, np.float32)
        calls[plan] = lambda d=detector, i=image, m=maps: d.infer_into(i, m)
        open_now.append(detector)
    rounds = [{plan: ms(call, max(3, FRAMES // 10))["median"] for plan, call in calls.items()}
              for _ in range(7)]
    for detector in open_now:
        detector.close()
    ratios = [r["none"] / r["full"] for r in rounds]
    figures["none_over_full"] = {"median": float(np.median(ratios)), "all": ratios, "typed": typed()}
    assert min(ratios) > 0  # a figure to read, not a limit: no GPU has told yet


def test_onnx_runtime_on_the_gpu(exported, figures):
    """The typed half graph where ONNX Runtime has CUDA: a second opinion on half precision."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime without CUDA; pip install onnxruntime-gpu")
    truth = frames(exported)
    path = graph(exported, "half")
    session = onnxruntime.InferenceSession(str(path), providers=[("CUDAExecutionProvider", EXACT)])
    parts = [session.run(["anomaly_map", "score"], {"image": i[None]}) for i in truth.images]
    with Detector.open(path, "onnxruntime") as detector:
        verdict = detector.info.verdict
    found = parity.compare(
        truth, *(np.concatenate([p[i] for p in parts]) for i in (0, 1)), verdict, "float16"
    )
    figures["onnxruntime_cuda"] = {**vars(found), "ms": ms(
        lambda: session.run(None, {"image": truth.images[:1]}), max(3, FRAMES // 10))}
    parity.gate(found, "float16")
    assert found.map_rms <= parity.HALF_LIMITS["map_rms"] and not found.changed_outside_margin


def test_trtexec_takes_the_file(exported, figures):
    """NVIDIA's own tool parses and runs the graph, where it is installed."""
    import shutil
    import subprocess

    program = shutil.which("trtexec") or "/usr/src/tensorrt/bin/trtexec"
    if not Path(program).is_file():
        pytest.skip("trtexec is not installed")
    from ssn_edge.model.onnx_metadata import read_info
    from ssn_export.tensorrt.builder import typed

    path = graph(exported, "half" if typed() else "float32")
    shape = "image:1x{}x{}x3".format(*read_info(path).input_hw)
    arguments = [f"--onnx={path}", f"--shapes={shape}", "--stronglyTyped" if typed() else "--fp16"]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-2000:]
    figures["trtexec"] = [line for line in done.stdout.splitlines() if "GPU Compute Time:" in line]
