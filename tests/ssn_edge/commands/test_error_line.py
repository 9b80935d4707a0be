"""Errors of commands: one line, exit code 2."""

import cv2
import numpy as np
import pytest
import tiny
from click.testing import CliRunner

from ssn_edge.commands.ssn_run import main


@pytest.fixture
def model(tmp_path):
    return str(tiny.write_model(tmp_path / "m.onnx"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.full((40, 60, 3), 30, np.uint8))
    cv2.imwrite(str(folder / "b.png"), np.full((40, 60), 250, np.uint8))
    return folder


def run(*arguments):
    result = CliRunner().invoke(main, [str(w) for w in arguments])
    assert "Traceback" not in result.output
    return result


def fails(*arguments):
    """Exit code 2 and one line."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    return line


def test_errors_are_one_line(model, photos, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    (tmp_path / "broken.avi").write_bytes(b"RIFF")
    (tmp_path / "file").write_text("")
    cases = {
        "no such file or folder": (model, tmp_path / "none.png"),
        "no images in this folder": (model, empty),
        "matches no image": (model, tmp_path / "*.webp"),
        "not a complete image": (model, broken),
        "no such video": (model, tmp_path / "none.mp4"),
        "broken.avi: does not open": (model, tmp_path / "broken.avi"),
        "camera 97: does not open": (model, 97),
        "no such model file": (tmp_path / "none.onnx", photos),
        "not an .onnx, .engine or .xml file": (photos / "a.png", photos),
        "results.jsonl: cannot be written": (model, photos, "--json", tmp_path / "file/results.jsonl"),
        "file: cannot be made": (model, photos, "--save", tmp_path / "file"),
    }
    for expected, arguments in cases.items():
        assert expected in fails(*arguments)
