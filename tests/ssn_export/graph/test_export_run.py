"""A run folder of a lean design, through the checkpoint and the export's gates to the runtime's answers."""

import numpy as np
import onnx
import pytest
import torch
from commands import call, ssn_run
from random_model import LEAN, photos
from run_folder import SIZE, write_run

from ssn_edge import Detector
from ssn_edge.frames.image_files import read_image
from ssn_edge.model import bundle
from ssn_edge.model.onnx_metadata import read_info
from ssn_export.cli import main as export_main
from ssn_export.gates import lint, parity
from ssn_export.graph import float64_reference, half_precision, mixed_precision, tracing
from ssn_export.graph.deployed import Deployed
from ssn_train.network.design import PAPER
from ssn_train.training import checkpoint


@pytest.fixture(scope="module", params=[(0, ()), (2, ("--fp16",))], ids=["no-classification", "three-levels"])
def exported(request, tmp_path_factory):
    """(run folder, bundle, the export's output)"""
    folder = tmp_path_factory.mktemp("lean")
    of, options = request.param
    run = write_run(folder / "run", *LEAN[of])
    code, output = call(export_main, run, "--out", folder / "model.ssn", "--plan", "full", *options)
    assert code == 0, output
    return run, folder / "model.ssn", output


def test_a_bundle_of_a_lean_model_is_it(exported):
    """The checkpoint read back in float64, the graphs in ONNX Runtime, and the detector on the photos."""
    run, path, _ = exported
    model, header, backbone = checkpoint.load_model(run)
    assert model.shape == header.shape in [shape for _, shape in LEAN]
    files = sorted((run / "reference").iterdir())
    images = np.stack([read_image(file) for file in files])
    truth = float64_reference.reference(model, backbone, images)
    found = bundle.read(path)
    for entry in found.graphs().values():
        assert lint.problems(onnx.load(found.place(entry))) == []
    kept = parity.read_reference(found.place(found.of_role("reference")[0]))
    np.testing.assert_allclose(kept.maps, truth.maps, atol=1e-6 * np.abs(truth.maps).max())
    with Detector.open(path, "onnxruntime", precision="float32") as detector:
        for image, exact, score in zip(images, truth.maps, truth.scores):
            detection = detector.detect(image)
            np.testing.assert_allclose(detection.anomaly_map, exact, atol=1e-4 * truth.maps.std())
            assert detection.score == pytest.approx(score, abs=1e-5)
            assert detection.is_defect == (exact.max() >= header.verdict.image_threshold)


def test_commands_take_a_lean_bundle(exported):
    run, path, output = exported
    half = bool(bundle.read(path).of_role("half"))
    assert ("float16: map error" in output and "nodes stay in float32" in output) == half
    code, output = call(export_main, path, "--info")
    assert code == 0 and f"{SIZE[0]}x{SIZE[1]} BGR" in output and "plan" in output, output
    design = bundle.read(path).model.design
    assert output.splitlines()[1] == design.words
    result = ssn_run(path, run / "reference")
    assert result.exit_code in (0, 1) and "6" in result.output, result.output
    assert design.words in result.output.splitlines()


def test_a_file_says_what_its_network_is_built_of(exported):
    """The map's size is the one that the network has for this input."""
    run, path, _ = exported
    model, header, _ = checkpoint.load_model(run)
    shape, design = header.shape, bundle.read(path).model.design
    for name in ("levels", "seg_width", "cls_width", "cls_kernel", "adaptor"):
        assert getattr(design, name) == getattr(shape, name)
    adapted, _ = model.head_inputs(model.features(torch.zeros(1, 3, *SIZE)))
    assert design.grid == tuple(model.discriminator.seg(adapted).shape[2:])
    for entry in bundle.read(path).graphs().values():
        assert read_info(bundle.read(path).place(entry)).design == design


def test_a_half_graph_without_classification_head_meets_its_target(tmp_path):
    """Which nodes stay in float32 is found for such graphs too; rounding is emulated."""
    run = write_run(tmp_path / "run", *LEAN[3])
    model, header, backbone = checkpoint.load_model(run)
    graph = tracing.trace(Deployed(model, backbone, "full", header.feature_mean), SIZE)
    truth = float64_reference.reference(model, backbone, photos(2, SIZE))
    half, kept = mixed_precision.mixed_half(graph, truth, header.calibrated)
    lint.check_valid(half)
    lint.check(half)
    answers = float64_reference.run_onnx(half_precision.emulated(half), truth.images)
    found = parity.compare(truth, *answers, header.calibrated, "float16")
    parity.gate(found, "float16")
    everything = mixed_precision.all_half_rms(graph, truth, header.calibrated)
    assert found.map_rms <= mixed_precision.TARGET_RMS < everything
    assert 0 < len(kept) < len(graph.graph.node) / 2


def test_a_checkpoint_from_before_designs_has_the_papers(tmp_path):
    run = write_run(tmp_path / "run", "resnet18", PAPER)
    model, header, _ = checkpoint.load_model(run)
    tensors, document = checkpoint.load(run / checkpoint.MODEL_FILE)
    assert document.pop("design") is not None
    checkpoint.save(run / checkpoint.MODEL_FILE, tensors, document)
    old, old_header, backbone = checkpoint.load_model(run)
    assert old_header.design is None and old.shape == model.shape == PAPER
    assert old.discriminator.seg_layers[0].weight.shape == (1024, 384, 1, 1)
    assert old.discriminator.cls_layers[0].weight.shape == (128, 385, 5, 5)
    images = photos(1, SIZE)
    exact = float64_reference.reference(model, backbone, images)
    again = float64_reference.reference(old, backbone, images)
    np.testing.assert_array_equal(exact.maps, again.maps)
    np.testing.assert_array_equal(exact.scores, again.scores)
