"""The command on small models with known answers, without torch."""

import contextlib
import hashlib
import json
import time

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

from ssn_bench.cli import main
from ssn_bench.measure import contenders, timing_run
from ssn_bench.measure.protocol import Call
from ssn_edge import Detector, backends
from ssn_edge.errors import InputError
from ssn_edge.frames.image_files import read_image, write_image
from ssn_edge.model import bundle


@pytest.fixture
def model(tmp_path):
    return tiny.write_bundle(tmp_path / "tiny.ssn")


def bench(*arguments, code=0):
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def test_one_model(model, tmp_path):
    out = tmp_path / "b.json"
    output = bench(model, "--budget", 0.01, "--out", out)
    document = json.loads(out.read_text())
    (entry,) = document["contenders"]
    assert document["shortened"] and "Shortened" in output and "shortened" in output
    assert entry["latency"]["repetitions"] == len(document["samples"]["latency"]["wall"][entry["name"]])
    assert len(entry["sha256"]) == 64 and document["environment"]["affinity"]
    assert "throughput" not in entry and "Not measured: throughput" in output
    assert out.with_suffix(".png").stat().st_size > 5000


def test_a_bundles_files_by_precision(model, tmp_path):
    """Every report is of the file that ran, whose name and digest it has; a plain file is that file."""
    out = tmp_path / "x.json"
    (half,) = bundle.read(model).of_role("half")
    arguments = ("--budget", 0.5, "--precision", "float16", "--out", out)
    bench(model, *arguments)
    (entry,) = json.loads(out.read_text())["contenders"]
    assert (entry["file"], entry["sha256"]) == (f"tiny.ssn/{half.name}", half.sha256)
    assert entry["precision"] == "float16" and entry["name"].startswith("tiny.ssn, ")
    reports = (
        ("--protocol", "camera", "--frame", "64x96"), ("--overhead", "--backend", "onnxruntime"),
        ("--data", photos(tmp_path / "data")),
    )
    for report in reports:
        bench(model, *report, *arguments)
        document = json.loads(out.read_text())
        assert document["model"]["sha256"] == half.sha256
        assert document["model"]["file"] == f"tiny.ssn/{half.name}"
    plain = tiny.write_model(tmp_path / "plain.onnx")
    bench(plain, "--budget", 0.1, "--out", out)
    assert json.loads(out.read_text())["contenders"][0]["file"] == "plain.onnx"
    assert "is float32, not float16" in bench(plain, *arguments, code=2)


def test_the_same_model_twice(model, tmp_path):
    out = tmp_path / "b.json"
    bench(model, model, "--budget", 1, "--protocol", "supersimplenet", "--out", out)
    document = json.loads(out.read_text())
    names = [entry["name"] for entry in document["contenders"]]
    assert len(set(names)) == 2 and names[1].endswith("#2")
    assert all(entry["throughput"]["batch"] == 16 for entry in document["contenders"])
    assert all(entry["memory"]["peak_mb"] > 0 for entry in document["contenders"])
    value, low, high = document["ratios"][names[0]][names[1]]
    assert 0.5 < low <= value <= high < 2


def test_every_backend(model, tmp_path):
    out = tmp_path / "b.json"
    bench(model, "--backend", "all", "--budget", 0.5, "--out", out)
    found = {entry["backend"].split()[0] for entry in json.loads(out.read_text())["contenders"]}
    assert found == set(backends.installed())


def test_threads(model, tmp_path):
    """Every way of measuring is told the number, and its document says so."""
    out = tmp_path / "b.json"
    protocol = ("--protocol", "supersimplenet", "--budget", 0.5)  # with memory, in a process of its own
    bench(model, "--backend", "all", "--threads", 1, *protocol, "--out", out)
    for entry in json.loads(out.read_text())["contenders"]:
        assert entry["threads"] == 1 and entry["name"].endswith(", 1 thread")
        assert entry["memory"]["peak_mb"] > 0
    bench(model, "--budget", 0.1, "--out", out)
    assert json.loads(out.read_text())["contenders"][0]["threads"] is None
    for report in (("--protocol", "camera", "--frame", "64x96"), ("--overhead", "--backend", "onnxruntime")):
        bench(model, *report, "--threads", 2, "--budget", 0.5, "--out", out)
        assert json.loads(out.read_text())["model"]["threads"] == 2
    bench(model, "--data", photos(tmp_path / "data"), "--threads", 1, "--out", out)
    for option in ("--profile", "--plans", "--self-test", "--compare"):
        assert f"error: --threads: not with {option}" in bench(model, option, "--threads", 1, code=2)


def test_a_slow_build_is_caught(model, tmp_path, monkeypatch):
    """A build that takes half as long again, made so on purpose, against itself and the first one.

    Sleeping does not depend on the processor, so its yardstick is held still.
    """
    monkeypatch.setattr(timing_run.protocol, "yardstick", lambda: 1.0)
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    opened = contenders.opened

    def runs(out, extra):
        def slower(*arguments):
            return _delayed(opened(*arguments), extra)

        monkeypatch.setattr(timing_run.contenders, "opened", slower)
        bench(model, "--budget", 1.5, "--out", out)

    runs(old, 0.010)
    runs(new, 0.016)
    output = bench("--compare", old, new, code=1)
    assert "slower" in output
    assert "same" in bench("--compare", old, old)
    assert "faster" in bench("--compare", new, old)


@contextlib.contextmanager
def _delayed(manager, seconds):
    with manager as one:
        yield one._replace(call=Call(lambda: (time.sleep(seconds), one.call.run())))


def test_camera(model, tmp_path):
    out = tmp_path / "c.json"
    arguments = ["--protocol", "camera", "--fps", 50, "--frame", "64x96", "--budget", 1, "--out", out]
    output = bench(model, *arguments)
    document = json.loads(out.read_text())
    assert document["judged"] + document["dropped"] == document["frames"] == 50
    assert document["latency_ms"]["p50"] > 0 and document["latency_ms"]["p99.9"] is None
    assert "too few frames" in output


def photos(folder):
    """Good photos dark, bad ones bright: the tiny model's score is exactly their brightness."""
    rng = np.random.default_rng(0)
    for kind, low, count in (("train/good", 10, 4), ("test/good", 10, 5), ("test/bright", 150, 5)):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            image = np.full((tiny.HEIGHT, tiny.WIDTH, 3), low + number, np.uint8)
            image[: number + 1, 0] = low + rng.integers(40)
            write_image(folder / kind / f"{number}.png", image)
    return folder


def test_accuracy_of_the_deployed_file(model, tmp_path):
    out = tmp_path / "a.json"
    output = bench(model, "--data", photos(tmp_path / "data"), "--out", out)
    document = json.loads(out.read_text())
    assert document["metrics"]["I-AUROC"] == 1 and document["at_threshold"]["missed defects"] == 0
    assert document["images"] == {"good": 5, "defective": 5}
    assert "Not compared with training" in output
    assert document["line"]["figures"]["FPR at 100 % recall"]["count"] == 0
    assert "FPR at 100 % recall        0.0 %  0 of 5 sound parts alarm" in output
    assert "recall at the threshold  100.0 %  5 of 5 defective parts caught" in output


def trained(folder, info_sha, scores, files):
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    assert hashlib.sha256(b"weights").hexdigest() == info_sha
    (folder / "metrics.json").write_text(json.dumps({"metrics": {"I-AUROC": 1.0, "AUPRO": None}}))
    lines = ["file,label,defect,score,map_max,is_defect"]
    lines += [f"{file},0,good,{score},0,{int(score >= 0.5)}" for file, score in zip(files, scores)]
    (folder / "predictions.csv").write_text("\n".join(lines))
    return folder


def test_a_gap_to_training_is_a_failure_with_the_photo_named(tmp_path):
    digest = hashlib.sha256(b"weights").hexdigest()
    model = tiny.write_model(tmp_path / "tiny.onnx", tiny.info(checkpoint_sha256=digest).to_json())
    data = photos(tmp_path / "data")
    out = tmp_path / "a.json"
    bench(model, "--data", data, "--out", out)
    files = sorted((data / "test").rglob("*.png"))
    with Detector.open(model) as detector:
        scores = [detector.detect(read_image(file)).score for file in files]
    same = trained(tmp_path / "same", digest, scores, files)
    assert "no gap" in bench(model, "--data", data, "--run", same, "--out", out)
    scores[3] -= 0.3
    other = trained(tmp_path / "other", digest, scores, files)
    output = bench(model, "--data", data, "--run", other, "--out", out, code=1)
    assert "GAP" in output and files[3].name in output.split("differ most:")[1].splitlines()[1]
    short = trained(tmp_path / "short", digest, scores[1:], files[1:])
    assert "--category and --fold" in bench(model, "--data", data, "--run", short, code=2)
    wrong = tiny.write_model(tmp_path / "wrong.onnx")
    assert "another run's" in bench(wrong, "--data", data, "--run", same, code=2)


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "give a model file"),
    (["nowhere.onnx"], "nowhere.onnx: no such model file"),
    (["--compare", "one.json"], "two files"),
    (["--compare", "one.json", "two.json"], "one.json: cannot be read"),
    (["MODEL", "MODEL", "--protocol", "camera"], "one model file"),
    (["MODEL", "--protocol", "camera", "--frame", "big"], "--frame big"),
    (["MODEL", "--protocol", "camera", "--frame", "²x²"], "--frame ²x²"),
    (["MODEL", "--backend", "torch"], "eager PyTorch"),
    (["MODEL", "--predict", "Abacus"], "--predict Abacus"),
    (["MODEL", "--data", "nowhere"], "nowhere"),
    (["MODEL", "--data", ".", "--backend", "all"], "one back end"),
])
def test_wrong_input(model, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    output = bench(*[str(model) if word == "MODEL" else word for word in arguments], code=2)
    assert said in output and len(output.strip().splitlines()) <= 2
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("arguments, expected", [
    ((), None), (("--run", "RUN"), "RUN/parts.csv"), (("--run", "RUN", "--part", "x(.)"), "x(.)"),
])
def test_accuracy_takes_the_parts_of_the_run(model, tmp_path, monkeypatch, arguments, expected):
    """Or it would test other photos than training did."""
    from ssn_bench.measure import accuracy

    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "parts.csv").touch()
    monkeypatch.chdir(tmp_path)
    asked = []

    def instead(model, backend, data, select, *rest):
        asked.append(select.part)
        raise InputError("enough")

    monkeypatch.setattr(accuracy, "bench", instead)
    bench(model, "--data", tmp_path, *arguments, code=2)
    assert asked == [expected]
