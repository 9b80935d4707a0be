"""Writing a bundle: one writer, whole or not at all, whatever the disk does."""

import json
import os
import time

import pytest
import tiny
from bundles import NEW, OLD, checkpoint_of, names, old, replace

from ssn_edge import ModelError
from ssn_edge.errors import InputError
from ssn_edge.files import sha256
from ssn_edge.model import bundle, bundle_writer


@pytest.fixture
def path(tmp_path):
    return old(tmp_path)


def age(path, seconds):
    for one in path.iterdir():
        os.utime(one, (time.time() - seconds,) * 2)


def test_a_replaced_bundle_is_the_new_one(path):
    before = names(path)
    found = replace(path)
    assert checkpoint_of(path) == NEW and not found.of_role("engine")
    assert found == bundle.read(path)
    assert before <= names(path), "a reader may be about to open the old files"


def test_files_that_nothing_names_go_after_a_while(path):
    """Counted from when they lost their name: not from when they were made."""
    old = {one.name for one in bundle.read(path).entries}
    (path / "notes.txt").write_text("the user's")
    age(path, 1e6)
    new = {one.name for one in replace(path).entries}
    said = []
    replace(path, said.append, checkpoint=NEW)
    assert old <= names(path) and not said
    age(path, bundle_writer.GRACE_S - 60)
    replace(path, said.append)
    assert old <= names(path) and not said
    age(path, bundle_writer.GRACE_S + 60)
    replace(path, said.append)
    gone = old - new
    assert not gone & names(path) and new <= names(path) and (path / "notes.txt").exists()
    assert said == [f"{path}: removed {len(gone)} files that nothing names (0.0 MB)"]


def test_an_equal_file_stays_as_it_is(path):
    """Under a reader nothing is written, also where the content is the same; a damaged one is mended."""
    before = {one.role: os.stat(path / one.name).st_ino for one in bundle.read(path).entries}
    found = replace(path, checkpoint=OLD)
    after = {one.role: os.stat(path / one.name).st_ino for one in found.entries}
    assert after == {role: before[role] for role in after}
    place = found.place(found.of_role("half")[0])
    data = place.read_bytes()
    place.write_bytes(data[:-1] + b"\0")
    replace(path, checkpoint=OLD)
    assert place.read_bytes() == data


def test_engines_of_the_same_graphs_stay(tmp_path):
    """Where a model is exported again: others are told, and so is what was there."""
    half = tiny.write_model(tmp_path / "half.onnx", tiny.info(precision="float16").to_json())
    engines = [tiny.engine_info(onnx_sha256=sha256(half)), tiny.engine_info()]
    path = tiny.write_bundle(tmp_path / "m.ssn", engines)
    stays, goes = bundle.read(path).of_role("engine")

    def again(said, **changes):
        with bundle_writer.writing(path, said.append) as writer:
            found = writer.replace(tiny.info(**changes), tiny.contents(**changes))
        return found.of_role("engine")

    said = []
    assert again(said) == [stays]
    assert said == [f"without {goes.name}, an engine of another graph; build one with --engine"]
    said.clear()
    assert again(said, checkpoint_sha256=NEW) == []
    assert said == [
        f"in place of another model (checkpoint {'0' * 12}...)",
        f"without {stays.name}, an engine of another graph; build one with --engine",
    ]
    (path / bundle.MANIFEST).write_text("{")
    said.clear()
    assert again(said) == [] and said[0].startswith("in place of a bundle that does not open: ")
    assert bundle.read(path).model == tiny.info().core()


def test_names_that_begin_alike(path):
    """Eight digits of a digest are short: a file in use is not replaced by another of that beginning."""
    with bundle_writer.writing(path, print) as writer:
        (entry,) = writer.current.of_role("float32")
        digest = entry.sha256[:8] + "0" * 56
        assert writer._name("float32", digest, ".onnx") == f"float32-{digest}.onnx"
        assert writer._name("float32", entry.sha256, ".onnx") == entry.name
    assert bundle.NAME.fullmatch(f"float32-{digest}.onnx")


def test_what_is_not_committed_goes(path, tmp_path):
    before = names(path)
    with pytest.raises(KeyError), bundle_writer.writing(path, print) as writer:
        for content in tiny.contents(checkpoint_sha256=NEW):
            writer.add(content)
        assert len(names(path)) > len(before)
        raise KeyError
    assert names(path) == before and checkpoint_of(path) == OLD
    with pytest.raises(KeyError), bundle_writer.writing(tmp_path / "new" / "n.ssn", print) as writer:
        writer.add(tiny.contents()[0])
        raise KeyError
    assert not (tmp_path / "new" / "n.ssn").exists()


def test_a_manifest_that_no_reader_takes_is_not_written(path):
    with pytest.raises(ModelError, match="expected 1 to 1024"), bundle_writer.writing(path, print) as writer:
        writer.commit(tiny.info(checkpoint_sha256=NEW), [])
    assert checkpoint_of(path) == OLD


def test_fields_of_later_versions_stay_when_an_entry_is_added(path):
    document = json.loads((path / bundle.MANIFEST).read_text())
    document["minor"], document["promise"] = 9, {"parts": 40}
    document["files"][0]["note"] = "kept"
    (path / bundle.MANIFEST).write_text(json.dumps(document))
    with bundle_writer.writing(path, print) as writer:
        (content,) = tiny.contents([tiny.engine_info(batch=1)], roles=())
        writer.commit_more([writer.add(content)], writer.current.of_role("engine"))
    after = json.loads((path / bundle.MANIFEST).read_text())
    assert (after["minor"], after["promise"], after["files"][0]) == (9, {"parts": 40}, document["files"][0])
    assert [one.engine.batch for one in bundle.read(path).of_role("engine")] == [1]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}'])
def test_a_damaged_bundle_may_be_replaced(path, content):
    (path / bundle.MANIFEST).write_text(content)
    with bundle_writer.writing(path, print) as writer:
        assert writer.current is None and "manifest.json" in str(writer.problem)
    replace(path)
    assert checkpoint_of(path) == NEW


def test_one_of_a_later_version_may_not(path):
    document = json.loads((path / bundle.MANIFEST).read_text())
    (path / bundle.MANIFEST).write_text(json.dumps({**document, "schema": 2}))
    with pytest.raises(InputError, match="schema version 2, this ssn-edge reads 1; give another name"):
        replace(path)


def test_places_that_are_no_place_for_a_bundle(tmp_path):
    (tmp_path / "photos.ssn").mkdir()
    (tmp_path / "photos.ssn" / "a.png").write_text("")
    with pytest.raises(InputError, match=r"photos.ssn: is a folder with other files .a.png.; choose another"):
        replace(tmp_path / "photos.ssn")
    (tmp_path / "file.ssn").write_text("")
    with pytest.raises(InputError, match="file.ssn: is a file"):
        replace(tmp_path / "file.ssn")
    with pytest.raises(InputError, match="cannot be written .File exists"):
        replace(tmp_path / "file.ssn" / "m.ssn")
    with pytest.raises(InputError, match="a name that ends in .ssn"):
        replace(tmp_path / "m")
    (tmp_path / "empty.ssn").mkdir()
    replace(tmp_path / "empty.ssn")
    (tmp_path / "link.ssn").symlink_to("empty.ssn")
    replace(tmp_path / "link.ssn", checkpoint=OLD)
    assert checkpoint_of(tmp_path / "empty.ssn") == OLD and (tmp_path / "link.ssn").is_symlink()
