"""Reading a bundle: what a manifest may say, what later versions may add, and what is checked."""

import json
import os
import shutil

import pytest
import tiny

from ssn_edge import Detector, ModelError
from ssn_edge.backends import selection
from ssn_edge.errors import InputError, SsnEdgeError, VersionError
from ssn_edge.files import sha256
from ssn_edge.model import bundle
from ssn_edge.model.bundle_writer import MINOR
from ssn_export.bundles import info, pack
from ssn_export.serving import triton


@pytest.fixture
def path(tmp_path):
    return tiny.write_bundle(tmp_path / "m.ssn")


def document_of(path):
    return json.loads((path / bundle.MANIFEST).read_text())


def write(path, document):
    text = document if isinstance(document, (str, bytes)) else json.dumps(document)
    (path / bundle.MANIFEST).write_bytes(text if isinstance(text, bytes) else text.encode())


def test_what_was_written_is_read(tmp_path):
    engine = tiny.engine_info()
    found = bundle.read(tiny.write_bundle(tmp_path / "m.ssn", [engine], geometry="letterbox"))
    assert found.model == tiny.info(geometry="letterbox", precision="")
    assert [one.role for one in found.entries] == ["float32", "half", "reference", "engine"]
    for one in found.entries:
        place = found.place(one)
        assert one.sha256 == sha256(place) and one.size == place.stat().st_size
        assert one.name.startswith(f"{one.role}-{one.sha256[:8]}.")
    built = found.entries[-1].engine
    assert built.model.geometry == "letterbox" and built.model.precision == "float16"
    assert (built.device, built.batch, built.tensorrt) == (engine.device, engine.batch, engine.tensorrt)
    assert found.sha256 == sha256(tmp_path / "m.ssn" / bundle.MANIFEST)


def test_a_minor_version_may_add_fields(tmp_path):
    """Anywhere: older readers ignore them, and a role that they do not know."""
    path = tiny.write_bundle(tmp_path / "m.ssn", [tiny.engine_info()])
    document = document_of(path)
    document["minor"], document["colour_of_the_line"] = 7, {"a": [1, 2]}
    document["model"]["lens"] = document["model"]["verdict"]["promise"] = "new"
    (path / "thumbnail-01234567.json").write_text("{}")
    digest = sha256(path / "thumbnail-01234567.json")
    (path / "thumbnail-01234567.json").rename(path / f"thumbnail-{digest[:8]}.json")
    document["files"].append(
        {"name": f"thumbnail-{digest[:8]}.json", "role": "thumbnail", "sha256": digest, "size": 2}
    )
    lean = tiny.write_model(path / "lean.onnx", tiny.info(backbone="lean").to_json())
    digest = sha256(lean)
    lean.rename(path / f"lean-{digest[:8]}.onnx")
    document["files"].append({
        "name": f"lean-{digest[:8]}.onnx", "role": "lean", "precision": "float32", "sha256": digest,
        "size": (path / f"lean-{digest[:8]}.onnx").stat().st_size,
    })
    for one in document["files"]:
        one["note"] = "new"
        if "built" in one:
            one["built"]["power_mode"] = 3
    write(path, document)
    for precision in ("float32", "float16"):
        with Detector.open(path, "onnxruntime", precision=precision) as detector:
            assert detector.info == tiny.info(precision=precision)
    assert [one.role for one in bundle.read(path).entries][-2:] == ["thumbnail", "lean"]


@pytest.mark.parametrize("version", [2, 0, "1", 1.0, True, None, [1]])
def test_another_major_version_is_refused_with_the_remedy(path, version):
    write(path, {**document_of(path), "schema": version})
    kind = VersionError if type(version) is int else ModelError
    with pytest.raises(kind, match="this ssn-edge reads 1; .* or install the one that made it"):
        Detector.open(path)


def change(place, value):
    """The manifest with one value changed; ``place`` a path of keys and numbers."""
    def changed(document):
        inner = document
        for key in place[:-1]:
            inner = inner[key]
        if value is KeyError:
            del inner[place[-1]]
        else:
            inner[place[-1]] = value
        return document
    return changed


HUGE = b'{"schema": 1, "x": "' + b"x" * (1 << 20) + b'"}'
BAD = {
    "empty": lambda d: b"",
    "no JSON": lambda d: b"{",
    "no text": lambda d: b"\xff\xfe\x00",
    "huge": lambda d: HUGE,
    "deep": lambda d: b'{"schema": 1, "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "quite deep": lambda d: {**d, "a": [[[[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]]]]},
    "a key twice": lambda d: json.dumps(d).replace('"files"', '"schema": 1, "files"', 1),
    "a list": lambda d: [d],
    "endless number": lambda d: json.dumps(d).replace(f'"minor": {MINOR}', '"minor": 1e999'),
    "not a number": lambda d: json.dumps(d).replace(f'"minor": {MINOR}', '"minor": NaN'),
    "no files": change(["files"], KeyError),
    "files of another kind": change(["files"], "all"),
    "none of them": change(["files"], []),
    "too many": lambda d: {**d, "files": d["files"] * 350},
    "one twice": lambda d: {**d, "files": [*d["files"], d["files"][0]]},
    "a file that is none": change(["files", 0], 7),
    "no model": change(["model"], KeyError),
    "a model of another kind": change(["model"], [1]),
    "no verdict": change(["model", "verdict"], KeyError),
    "no threshold": change(["model", "verdict", "image_threshold"], "high"),
    "endless threshold": change(["model", "verdict", "image_threshold"], 10**400),
    "size as text": change(["model", "height"], "32"),
    "no size": change(["model", "width"], 0),
    "size beyond all": change(["model", "width"], 1 << 40),
    "frame of one": change(["model", "frame"], [7]),
    "geometry unknown": change(["model", "geometry"], "fish-eye"),
    "verdict unknown": change(["model", "verdict", "source"], "oracle"),
    "checkpoint no text": change(["model", "checkpoint_sha256"], 5),
    "negative size": change(["files", 0, "size"], -1),
    "size no number": change(["files", 0, "size"], "1"),
    "digest short": change(["files", 0, "sha256"], "00"),
    "digest another": change(["files", 0, "sha256"], "0" * 64),
    "role of another suffix": change(["files", 0, "role"], "engine"),
}
ESCAPES = [
    "../float32-{}.onnx", "/etc/passwd", "sub/float32-{}.onnx", "float32-{}.onnx/", "..", ".", "", ".lock",
    "manifest.json", "float32-{}.onnx\0", "float32-{}.onnx\n", "float32-.onnx", "C:\\x", "\u0661-{}.onnx", 7,
    None,
]


@pytest.mark.parametrize("case", BAD)
def test_a_manifest_that_does_not_fit(path, case):
    write(path, BAD[case](document_of(path)))
    with pytest.raises(ModelError) as caught:
        Detector.open(path)
    line = str(caught.value)
    assert str(path / bundle.MANIFEST) in line and "\n" not in line and len(line) < 400


ODD = [
    None, True, -1, 0, 1.5, 1e308, 10**30, 10**4000, "", "x" * 5000, "\ud800", "\n\x1b[31m", "\n", [], [1],
    [[[]]], {}, {"a": 1}, "../x", KeyError,
]


def places(document, before=()):
    """Of every value in a document."""
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in pairs:
        yield (*before, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*before, key))


def test_odd_values_anywhere(tmp_path):
    """Each value of a manifest replaced by each of these: read, or refused in one line, and nothing else."""
    path = tiny.write_bundle(tmp_path / "m.ssn", [tiny.engine_info()])
    text = (path / bundle.MANIFEST).read_text()
    refused = 0
    for place in list(places(json.loads(text))):
        for odd in ODD:
            data = json.dumps(change(place, odd)(json.loads(text))).encode()
            (path / bundle.MANIFEST).write_bytes(data)
            said = []
            try:
                found = bundle.read(path)
                selection.choose(path)
                info.lines(path, said.append)
                triton.of_bundle(path)
                assert found.document == json.loads(data)
            except SsnEdgeError as error:
                refused += 1
                said.append(str(error))
            assert all(line.isprintable() for line in said), (place, odd, said)
    assert refused > 500


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_leaves_the_folder(path, name):
    document = document_of(path)
    text = name.format(document["files"][0]["sha256"][:8]) if isinstance(name, str) else name
    document["files"][0]["name"] = text
    write(path, document)
    with pytest.raises(ModelError, match="does not follow its schema|control characters"):
        Detector.open(path)


def test_no_symlink_is_followed(path, tmp_path):
    """In a bundle. The bundle itself may be linked to: releases are switched like that."""
    found = bundle.read(path)
    (tmp_path / "current.ssn").symlink_to(path)
    Detector.open(tmp_path / "current.ssn", "onnxruntime").close()
    place = found.place(found.of_role("float32")[0])
    target = place.rename(tmp_path / "elsewhere.onnx")
    place.symlink_to(target)
    with pytest.raises(ModelError, match=f"{place.name}: a symlink, which is not followed"):
        Detector.open(path, "onnxruntime")
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(ModelError, match=f"{place.name}: not a plain file"):
        Detector.open(path, "onnxruntime")
    place.unlink()
    target.rename(place)
    manifest = path / bundle.MANIFEST
    manifest.rename(tmp_path / "manifest.json")
    manifest.symlink_to(tmp_path / "manifest.json")
    with pytest.raises(ModelError, match="manifest.json: a symlink, which is not followed"):
        Detector.open(path)
    manifest.unlink()
    os.mkfifo(manifest)  # nobody writes to it: opening must not wait
    with pytest.raises(ModelError, match="manifest.json: not a plain file"):
        Detector.open(path)
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(ModelError, match="manifest.json"):
        Detector.open(path)


@pytest.mark.parametrize("role", ["manifest", "float32"])
def test_what_may_not_be_read(path, monkeypatch, role):
    (entry,) = bundle.read(path).of_role("float32")
    name = bundle.MANIFEST if role == "manifest" else entry.name
    real = os.open

    def refuse(place, *arguments, **more):
        if str(place).endswith(name):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place, *arguments, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ModelError, match=f"{name}: cannot be read .Permission denied"):
        Detector.open(path, "onnxruntime")


def test_what_is_not_there(path, tmp_path):
    with pytest.raises(InputError, match="none.ssn: no such model; write one with ssn-export RUN --out"):
        Detector.open(tmp_path / "none.ssn")
    (tmp_path / "file.ssn").write_text("")
    with pytest.raises(InputError, match="file.ssn: not a folder, as a bundle is"):
        Detector.open(tmp_path / "file.ssn")
    (tmp_path / "empty.ssn").mkdir()
    with pytest.raises(ModelError, match="empty.ssn: no manifest.json inside"):
        Detector.open(tmp_path / "empty.ssn")
    shutil.copytree(path, tmp_path / "m")
    with pytest.raises(InputError, match="is a folder and no bundle"):
        Detector.open(tmp_path / "m")


@pytest.mark.parametrize("role", ["float32", "half", "reference"])
def test_a_file_that_is_missing_or_cut(path, role):
    """Whichever runs: a bundle is whole, or it is none."""
    found = bundle.read(path)
    place = found.place(found.of_role(role)[0])
    data = place.read_bytes()
    place.write_bytes(data[:-1])
    with pytest.raises(ModelError, match=f"{place.name}: {len(data) - 1} bytes, not the {len(data)}"):
        Detector.open(path, "onnxruntime")
    place.unlink()
    with pytest.raises(ModelError, match=f"{place.name}: No such file .*, but the manifest names it"):
        Detector.open(path, "onnxruntime")


def flip(place, times=True):
    """Another last byte; the times of before, if asked for."""
    state, data = os.stat(place), bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    if times:
        os.utime(place, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize("times", [False, True])
def test_a_changed_byte_is_refused_naming_the_file(path, times):
    place = bundle.check(bundle.read(path), bundle.read(path).of_role("float32")[0])
    flip(place, times)
    for _ in range(2):  # not remembered as right by the first
        with pytest.raises(ModelError, match=f"{place.name}: its sha256 is .* do not run it, copy it again"):
            Detector.open(path, "onnxruntime")
    with Detector.open(path, "onnxruntime", precision="float16") as detector:
        assert detector.path.name.startswith("half-")


def test_what_was_read_is_not_read_again_unless_asked_for(path, monkeypatch):
    read = []
    digest_of = bundle.digest_of
    monkeypatch.setattr(bundle, "digest_of", lambda file: read.append(1) or digest_of(file))
    for expected in (1, 1):
        Detector.open(path, "onnxruntime").close()
        assert len(read) == expected
    Detector.open(path, "onnxruntime", verify=True).close()
    assert len(read) == 2
    Detector.open(path, "onnxruntime", precision="float16").close()
    assert len(read) == 3
    for damaged in (b"", b"{", b"[]", b'{"x": 1}', b"[" * 100_000):
        (path / bundle.CHECKED).write_bytes(damaged)
        Detector.open(path, "onnxruntime").close()
    assert len(read) == 8
    assert not [one for one in path.iterdir() if one.name.startswith(bundle.CHECKED + ".")]


def test_a_note_that_lies_is_found_by_verify(path):
    """The fast path goes by size and times; a disk that changes a byte changes none of them."""
    found = bundle.read(path)
    (entry,) = found.of_role("float32")
    flip(found.place(entry))
    state = os.stat(found.place(entry))
    note = {entry.name: [entry.sha256, state.st_size, state.st_mtime_ns, state.st_ctime_ns]}
    (path / bundle.CHECKED).write_text(json.dumps(note))
    assert bundle.check(found, entry) == found.place(entry)
    with pytest.raises(ModelError, match=f"{entry.name}: its sha256 is"):
        Detector.open(path, "onnxruntime", verify=True)
    with pytest.raises(ModelError, match=f"{entry.name}: its sha256 is"):
        Detector.open(path, "onnxruntime", sha256=sha256(path / bundle.MANIFEST))


def test_a_disk_that_cannot_be_written_only_costs_time(path, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(bundle.tempfile, "mkstemp", refuse)
    Detector.open(path, "onnxruntime").close()
    assert not (path / bundle.CHECKED).exists()


def test_a_file_of_another_training_in_a_manifest_made_for_it(path, tmp_path):
    """Its digest is right: what it says of itself is not."""
    other = tiny.write_bundle(tmp_path / "other.ssn", checkpoint_sha256="b" * 64)
    document, foreign = document_of(path), document_of(other)
    shutil.copy(other / foreign["files"][0]["name"], path)
    document["files"][0] = foreign["files"][0]
    write(path, document)
    for use in (lambda: Detector.open(path, "onnxruntime"), lambda: triton.of_bundle(path),
                lambda: info.lines(path, str), lambda: pack.unpack(path, tmp_path / "out", str)):
        with pytest.raises(ModelError, match="another training .checkpoint bbbb.*, the bundle's is 0000"):
            use()
    assert not (tmp_path / "out").exists()
    document["model"]["checkpoint_sha256"] = "b" * 64
    document["model"]["verdict"]["image_threshold"] = 0.25
    write(path, document)
    with pytest.raises(ModelError, match="describes another model than the manifest"):
        Detector.open(path, "onnxruntime")


def test_sha256_of_a_bundle_is_its_manifests(path):
    digest = sha256(path / bundle.MANIFEST)
    Detector.open(path, "onnxruntime", sha256=digest.upper() + "\n").close()
    document = document_of(path)
    write(path, {**document, "minor": 9})
    with pytest.raises(ModelError, match="manifest.json: its sha256 is"):
        Detector.open(path, "onnxruntime", sha256=digest)


def test_verify_is_for_bundles(tmp_path):
    with pytest.raises(InputError, match="--verify is for bundles"):
        Detector.open(tiny.write_model(tmp_path / "m.onnx"), verify=True)
