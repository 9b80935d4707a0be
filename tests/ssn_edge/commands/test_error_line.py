"""Errors of commands: one line, exit code 2."""

from commands import fails


def test_errors_are_one_line(model, photos, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    (tmp_path / "broken.avi").write_bytes(b"RIFF")
    (tmp_path / "file").write_text("")
    cases = {
        "no such file or folder": (model, tmp_path / "none.png"),
        "no images or videos in this folder": (model, empty),
        "matches no image": (model, tmp_path / "*.webp"),
        "not a complete image": (model, broken),
        "none.mp4: no such file or folder": (model, tmp_path / "none.mp4"),
        "broken.avi: does not open": (model, tmp_path / "broken.avi"),
        "camera 97: does not open": (model, 97),
        "no such model file": (tmp_path / "none.onnx", photos),
        "not an .onnx, .engine or .xml file": (photos / "a.png", photos),
        "results.jsonl: cannot be written": (model, photos, "--json", tmp_path / "file/results.jsonl"),
        "file: cannot be made": (model, photos, "--save", tmp_path / "file"),
    }
    for expected, arguments in cases.items():
        assert expected in fails(*arguments)
