"""The runtime on every release: results, checks at opening, failures, threads, memory."""

import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
import tracemalloc

import cv2
import fakegpu
import numpy as np
import pytest
import tensorrt as trt
import tiny
from simulated_device import build, check_ledger, export, make_integrated

from ssn_edge import BackendError, Detector, InputError, ModelError, SsnEdgeError, backends
from ssn_edge.files import sha256
from ssn_edge.frames.image_files import list_images, read_image
from ssn_edge.model import bundle, bundle_writer

FRAME = np.random.default_rng(0).integers(0, 200, (64, 96, 3), np.uint8)


def expected_map(frame):
    return cv2.resize(frame, (tiny.WIDTH, tiny.HEIGHT)).astype(np.float32).mean(2)


def test_same_results_as_onnx_runtime_on_tiles(real, tiles):
    folders = [place for place in sorted(tiles.rglob("*")) if place.is_dir()]
    paths = [path for folder in folders for path in list_images(folder)[:2]][:12]
    frames = [read_image(path) for path in paths] or pytest.skip("no tile images")
    with Detector.open(real.engine) as ours, Detector.open(real.source, "onnxruntime") as theirs:
        assert ours.backend_name.startswith("tensorrt")
        for frame in frames:
            a, b = ours.detect(frame), theirs.detect(frame)
            np.testing.assert_array_equal(a.anomaly_map, b.anomaly_map)
            np.testing.assert_array_equal(a.mask, b.mask)
            assert (a.score, a.is_defect, a.regions) == (b.score, b.is_defect, b.regions)
            map_out, mask_out = np.empty_like(a.anomaly_map), np.empty_like(a.mask)
            assert ours.infer_into(frame, map_out, mask_out) == b.score
            np.testing.assert_array_equal(map_out, b.anomaly_map)


def test_auto_takes_a_bundles_engine(tiny_bundle):
    with Detector.open(tiny_bundle) as detector:
        assert detector.backend_name.startswith("onnxruntime")
        assert f"no engine in it; build one: ssn-export {tiny_bundle} --engine" in detector.choice
    assert export(tiny_bundle, "--engine")[0] == 0
    with Detector.open(tiny_bundle) as detector:
        assert detector.backend_name.startswith("tensorrt") and "built for this GPU" in detector.choice
        assert detector.path.name.startswith("engine-")
        np.testing.assert_allclose(detector.detect(FRAME).anomaly_map, expected_map(FRAME), rtol=1e-5)
    with Detector.open(tiny_bundle, "onnxruntime") as detector:
        assert detector.path.name.startswith("float32-") and "asked for" in detector.choice
    with pytest.raises(InputError, match="no float32 engine in it; build one"):
        Detector.open(tiny_bundle, "tensorrt", precision="float32")


def test_a_plain_file_is_that_file(tiny_engine):
    """The engine beside it is no part of it."""
    onnx = tiny_engine.with_suffix(".onnx")
    with Detector.open(onnx) as detector:
        assert detector.backend_name.startswith("onnxruntime") and detector.path == onnx
    with Detector.open(tiny_engine) as detector:
        assert detector.backend_name.startswith("tensorrt")


def test_timeline_of_a_stream(tiny_engine):
    """A frame is taken when the one before it is judged, so that it is the newest: none is queued ahead."""
    from ssn_edge.line import stream

    with Detector.open(tiny_engine) as detector:
        before = len(fakegpu.trace())
        assert stream.run([FRAME, 255 - FRAME, FRAME // 2], detector).complete
        calls = fakegpu.trace()[before:]
    steps = ("HtoD", "enqueueV3", "EventSynchronize")
    kinds = [kind for line in calls for kind in steps if kind in line]
    assert kinds == [*steps] * 3, kinds


def test_any_batch_up_to_the_engines(tiny_engine):
    """On one session: only the images that were given are copied, and the shape is set where it changes."""
    images = np.random.default_rng(5).integers(0, 256, (2, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    with Detector.open(tiny_engine, batch=2) as detector:
        for count in (2, 1, 1, 2):
            maps, scores = detector.infer_batch(images[:count])
            np.testing.assert_allclose(maps, images[:count].astype(np.float32).mean(3), rtol=1e-5)
            np.testing.assert_allclose(scores, maps.max((1, 2)) / 255, rtol=1e-6)
            np.testing.assert_allclose(detector.detect(FRAME).anomaly_map, expected_map(FRAME), rtol=1e-5)


@pytest.mark.parametrize("place", ["np.empty", "queued", "np.copyto"])
def test_after_ctrl_c_or_a_lack_of_memory_the_next_frame_is_judged(tiny_engine, monkeypatch, place):
    """Wherever it strikes, nothing of the frame is under way when the next is written."""
    def strike(*_):
        raise KeyboardInterrupt if place == "queued" else MemoryError

    with Detector.open(tiny_engine) as detector:
        queue = detector._session._queue
        with monkeypatch.context() as patch:
            if place == "queued":
                patch.setattr(detector._session, "_queue", lambda count: (queue(count), strike()))
            else:
                module = "detector" if place == "np.empty" else "backends.engine_session"
                patch.setattr(f"ssn_edge.{module}.{place}", strike)
            with pytest.raises((KeyboardInterrupt, MemoryError)):
                detector.detect(FRAME)
        assert not fakegpu.report()["queued_ops"]
        np.testing.assert_allclose(detector.detect(FRAME).anomaly_map, expected_map(FRAME), rtol=1e-5)


def test_mapped_memory_needs_no_copies(tiny_engine, monkeypatch):
    make_integrated(monkeypatch)
    fakegpu.reset()
    with Detector.open(tiny_engine) as detector:
        np.testing.assert_allclose(detector.detect(FRAME).anomaly_map, expected_map(FRAME), rtol=1e-5)
    calls = fakegpu.report()["calls"]
    assert not any("HtoD" in name or "DtoH" in name or "MemAlloc_" in name for name in calls), calls
    assert calls["cuMemHostGetDevicePointer_v2"] == 3


def set_capability(value):
    """The simulation reads the C environment."""
    libc = ctypes.CDLL(None)
    libc.setenv(b"FAKEGPU_CC", value.encode(), 1) if value else libc.unsetenv(b"FAKEGPU_CC")


def test_the_gpus_clock_and_layer_times(tiny_engine):
    """Values are invented by the stand-in; that they arrive, in order, is not."""
    with Detector.open(tiny_engine) as detector:
        detector.detect(FRAME)
        assert detector.device_ms() >= 0
    session = backends.load("tensorrt").open_session(tiny_engine, 1)
    session.prepare((tiny.HEIGHT, tiny.WIDTH))[:] = 7
    maps, scores = np.empty((1, tiny.HEIGHT, tiny.WIDTH), np.float32), np.empty(1, np.float32)
    times = session.layer_times(maps, scores)
    session.close()
    assert len(times) >= 4 and all(name and ms >= 0 for name, ms in times)
    np.testing.assert_allclose(maps, 7)


def test_another_gpu(tiny_engine, tiny_bundle):
    assert export(tiny_bundle, "--engine")[0] == 0
    (entry,) = bundle.read(tiny_bundle).of_role("engine")
    try:
        set_capability("7.5")
        with pytest.raises(ModelError, match="build it again: ssn-export"):
            Detector.open(tiny_engine)
    finally:
        set_capability("")
    built = {**tiny.engine_info(onnx_sha256=entry.engine.onnx_sha256).__dict__, "tensorrt": trt.__version__}
    path = tiny.write_bundle(tiny_bundle.with_name("t4.ssn"), [
        tiny.engine_info(**{**built, "compute_capability": "7.5", "device": "T4"})
    ])
    with Detector.open(path) as detector:  # not tried: the manifest says that it does not fit
        assert "built on T4 (compute capability 7.5), here is" in detector.choice
        assert f"build one: ssn-export {path} --engine" in detector.choice
    with pytest.raises(InputError, match=r"T4 .*7.5\), here.*8.6.*ssn-export .* --engine"):
        Detector.open(path, "tensorrt")


def test_another_tensorrt(tiny_bundle, tiny_onnx):
    core = tiny.engine_info(model=tiny.info(), tensorrt="9.9.9.9", compute_capability="8.6")
    path = tiny.write_bundle(tiny_bundle.with_name("old.ssn"), [core])
    with pytest.raises(InputError, match="built with TensorRT 9.9.9.9, here is"):
        Detector.open(path, "tensorrt")
    engine = serialized(tiny_onnx, core)
    with pytest.raises(ModelError, match="built with TensorRT 9.9.9.9, here is .*; build it again"):
        Detector.open(engine)


def serialized(onnx, core):
    """An engine that says ``core`` of itself."""
    from ssn_export.tensorrt import builder

    device = backends.engine_library().open_device()
    with device.active("building"):
        product, name = backends.engine_library().PRODUCT, core.to_name()
        plan = builder.serialize(product, onnx, name, builder.BuildOptions(), print)
    onnx.with_suffix(".engine").write_bytes(plan)
    return onnx.with_suffix(".engine")


def test_a_swapped_engine_is_never_loaded(tiny_bundle, tiny_engine):
    """By its digest; by what it says of itself, where somebody made a manifest for it."""
    assert export(tiny_bundle, "--engine")[0] == 0
    found = bundle.read(tiny_bundle)
    (entry,) = found.of_role("engine")
    found.place(entry).write_bytes(b"x" * entry.size)
    before = fakegpu.report()["calls"].get("deserializeCudaEngine", 0)
    with pytest.raises(ModelError, match=f"{entry.name}: its sha256 is .* not the {entry.sha256[:12]}"):
        Detector.open(tiny_bundle)
    assert fakegpu.report()["calls"].get("deserializeCudaEngine", 0) == before
    path = tiny_bundle.with_name("other.ssn")
    other = tiny.engine_info(tensorrt=trt.__version__, compute_capability="8.6", batch=2)
    with bundle_writer.writing(path, print) as writer:
        entries = [writer.add(content) for content in tiny.contents(checkpoint_sha256="b" * 64)]
        entries.append(writer.add(bundle_writer.Content(
            "engine", lambda place: place.write_bytes(tiny_engine.read_bytes()), "float32", "none", other,
            {"parity": {"trained model": {}}},
        )))
        writer.commit(tiny.info(checkpoint_sha256="b" * 64), entries)
    with pytest.raises(ModelError, match="made from another training .checkpoint 0000.*the bundle's is bbbb"):
        Detector.open(path)


def test_damaged_foreign_and_wrong_digest(tiny_engine):
    plan = tiny_engine.read_bytes()
    for damaged in (plan[:-1], plan[: len(plan) // 2], b"", b"x" * 64):
        tiny_engine.write_bytes(damaged)
        with pytest.raises(ModelError, match="cannot load it.*build it again"):
            Detector.open(tiny_engine)
    tiny_engine.write_bytes(plan)
    for digest in ("0" * 64, ""):
        with pytest.raises(ModelError, match="its sha256 is"):
            Detector.open(tiny_engine, sha256=digest)


def test_engine_of_another_program(tiny_onnx, tmp_path):
    from ssn_export.tensorrt import builder

    device = backends.engine_library().open_device()
    with device.active("building"):
        product, name = backends.engine_library().PRODUCT, "somebody's network"
        plan = builder.serialize(product, tiny_onnx, name, builder.BuildOptions(), print)
    engine = tmp_path / "foreign.engine"
    engine.write_bytes(plan)
    with pytest.raises(ModelError, match="not built by ssn-edge"):
        Detector.open(engine)


def test_inputs_must_be_the_descriptions(tiny_onnx):
    """A name that promises another size than the tensors have."""
    engine = serialized(tiny_onnx, tiny.engine_info(
        model=tiny.info(height=64), tensorrt=trt.__version__, compute_capability="8.6"
    ))
    with pytest.raises(ModelError, match="not what its description says"):
        Detector.open(engine)


def test_version_compatible_engines_need_trust(tiny_onnx, tiny_bundle):
    engine = tiny_onnx.with_suffix(".engine")
    assert build(tiny_onnx, engine, "--version-compatible")[0] == 0
    with pytest.raises(ModelError, match="host code.*--sha256"):
        Detector.open(engine)
    with Detector.open(engine, sha256=sha256(engine).upper()) as detector:
        detector.detect(FRAME)
    assert export(tiny_bundle, "--engine", "--version-compatible")[0] == 0
    with pytest.raises(ModelError, match="host code.*--sha256"):
        Detector.open(tiny_bundle, "tensorrt")
    with Detector.open(tiny_bundle) as detector:
        assert "brings code for the host; --sha256" in detector.choice
    with Detector.open(tiny_bundle, sha256=sha256(tiny_bundle / "manifest.json")) as detector:
        detector.detect(FRAME)
    with pytest.raises(ModelError, match="manifest.json: its sha256 is"):
        Detector.open(tiny_bundle, sha256="0" * 64)


OPENING = [
    "cuCtxPushCurrent", "createInferRuntime",
    "deserializeCudaEngine", "createExecutionContext", "setInputShape", "trtAlloc",
    *(f"{call}:{n}" for call in ("cuMemAlloc", "cuMemHostAlloc") for n in (1, 2, 3)),
    "cuStreamCreate:1", "cuEventCreate:1", "cuEventCreate:2",
]


@pytest.mark.parametrize("point", OPENING)
def test_failure_while_opening(tiny_engine, point):
    call, _, count = point.partition(":")
    fakegpu.set_fail(f"{call}:{count or 1}+:2" if call.startswith("cuMem") else f"{call}:{count or 1}+")
    with pytest.raises(SsnEdgeError) as caught:
        Detector.open(tiny_engine, "tensorrt")
    fakegpu.set_fail("")
    assert len(str(caught.value).splitlines()) == 1
    if call.startswith("cuMem"):
        assert "out of memory" in str(caught.value)
    check_ledger()
    with Detector.open(tiny_engine) as detector:  # and it works once the cause is gone
        detector.detect(FRAME)


RUNNING = ["cuCtxPushCurrent", "cuMemcpyHtoDAsync", "cuEventRecord:1", "enqueueV3",
           "cuMemcpyDtoHAsync:1", "cuMemcpyDtoHAsync:2", "cuEventRecord:2", "cuEventSynchronize"]


@pytest.mark.parametrize("point", RUNNING)
@pytest.mark.parametrize("persistent", [False, True])
def test_failure_while_running(tiny_engine, point, persistent):
    call, _, count = point.partition(":")
    with Detector.open(tiny_engine) as detector:
        fakegpu.set_fail(f"{call}:{count or 1}{'+' if persistent else ''}")
        for _ in range(3 if persistent else 1):
            with pytest.raises(BackendError):
                detector.detect(FRAME)
        fakegpu.set_fail("")
        for frame in (FRAME, 255 - FRAME):
            np.testing.assert_allclose(
                detector.detect(frame).anomaly_map, expected_map(frame), rtol=1e-5
            )


def test_broken_context(tiny_engine):
    """A failing kernel breaks the CUDA context for good, as on a device: every call says so, and
    closing and leaving still work. In a process of its own, since this one's would stay broken."""
    code = f"""
import fakegpu, numpy as np
from ssn_edge import BackendError, Detector
detector = Detector.open({str(tiny_engine)!r})
fakegpu.set_fail("kernel:1")
for _ in range(3):
    try: detector.detect(np.zeros((9, 9, 3), np.uint8))
    except BackendError as error: print(error)
detector.close()
try: Detector.open({str(tiny_engine)!r}, "tensorrt")
except BackendError as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 4, done.stderr
    assert all("CUDA failed" in line or "TensorRT" in line for line in lines), lines
    assert "restart the program" in lines[0]


def in_threads(count, work):
    errors = []

    def run(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return errors


def test_threads_share_one_detector_and_have_their_own(tiny_engine):
    def work(number, detector):
        frame = np.full((64, 96, 3), 10 + 20 * number, np.uint8)
        for _ in range(40):
            assert (detector.detect(frame).anomaly_map == 10 + 20 * number).all()

    with Detector.open(tiny_engine) as one, Detector.open(tiny_engine) as two:
        assert not in_threads(4, lambda n: work(n, (one, two)[n % 2]))

    def own(number):
        with Detector.open(tiny_engine) as detector:
            work(number, detector)

    assert not in_threads(3, own)


def test_close_while_busy(tiny_engine):
    detector = Detector.open(tiny_engine)
    started = threading.Barrier(4)

    def work(number):
        started.wait()
        if number == 3:
            detector.close()
        else:
            for _ in range(200):
                detector.detect(FRAME)

    errors = in_threads(4, work)
    assert errors and all(isinstance(e, ModelError) and "closed" in str(e) for e in errors)


def test_dropped_without_closing(tiny_engine):
    for _ in range(3):
        Detector.open(tiny_engine).detect(FRAME)
    check_ledger()


def test_opened_and_closed_in_different_threads(tiny_engine):
    opened = []
    assert not in_threads(1, lambda n: opened.append(Detector.open(tiny_engine)))
    assert not in_threads(1, lambda n: opened[0].detect(FRAME))
    assert not in_threads(1, lambda n: opened[0].close())


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "raise ValueError", "a.close()"])
def test_interpreter_exit_with_open_detectors(tiny_engine, tmp_path, end):
    code = f"""
import fakegpu, numpy as np
from ssn_edge import Detector
a, b = (Detector.open({str(tiny_engine)!r}) for _ in range(2))
a.detect(np.zeros((9, 9, 3), np.uint8)); b.detect(np.zeros((9, 9, 3), np.uint8))
{end}
"""
    report = tmp_path / "report.json"
    environment = {**os.environ, "FAKEGPU_REPORT": str(report)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1, 3), done.stderr
    assert "PyCUDA" not in done.stderr and "VIOLATION" not in done.stderr, done.stderr
    found = json.loads(report.read_text())
    assert not found["violations"] and not found["live"] and not found["queued_ops"], found


def test_ten_thousand_frames_in_constant_memory(tiny_engine):
    map_out, mask_out = (np.empty((tiny.HEIGHT, tiny.WIDTH), t) for t in (np.float32, np.uint8))
    image = np.zeros((tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    with Detector.open(tiny_engine) as detector:
        def frames(count):
            for number in range(count):
                image[:] = number % 251
                assert detector.infer_into(image, map_out, mask_out) == np.float32(number % 251) / 255

        frames(500)
        gc.collect()
        before, resident = fakegpu.report(), _resident()
        tracemalloc.start()
        frames(500)
        start = tracemalloc.take_snapshot()
        frames(9000)
        end = tracemalloc.take_snapshot()
        tracemalloc.stop()
        after = fakegpu.report()
    ours = [tracemalloc.Filter(True, "*ssn_edge*")]
    rows = end.filter_traces(ours).compare_to(start.filter_traces(ours), "lineno")
    assert sum(row.size_diff for row in rows) < 4096, rows[:5]
    for what in ("created", "live", "device_bytes", "pinned_bytes"):
        assert after[what] == before[what], what
    assert _resident() - resident < 32 << 20  # the simulation's own trace included


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
