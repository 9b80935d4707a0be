"""Our reader of ONNX metadata against the onnx package, and on bytes that are not ONNX."""

import onnx
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge.errors import InputError, ModelError
from ssn_edge.model.onnx_metadata import read_info, read_metadata

TEXT = st.text(max_size=300)


@settings(deadline=None, max_examples=60)
@given(props=st.dictionaries(TEXT, TEXT, max_size=5), doc=TEXT, version=st.integers(-5, 2**62))
def test_reads_what_onnx_writes(tmp_path_factory, props, doc, version):
    path = tmp_path_factory.mktemp("m") / "m.onnx"
    model = onnx.load(tiny.write_model(path, with_metadata=False))
    onnx.helper.set_model_props(model, props)
    model.doc_string, model.model_version = doc, version
    onnx.save(model, path)
    assert read_metadata(path) == props


def test_description(tmp_path):
    path = tiny.write_model(tmp_path / "m.onnx", tiny.info(float32_nodes=("heads/MatMul_3",)).to_json())
    assert read_info(path) == tiny.info(float32_nodes=("heads/MatMul_3",))
    with pytest.raises(ModelError, match="no ssn-edge metadata"):
        read_info(tiny.write_model(tmp_path / "bare.onnx", with_metadata=False))
    with pytest.raises(InputError, match="no such model file"):
        read_info(tmp_path / "none.onnx")


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=200), cut=st.integers(0, 2000))
def test_anything_else_is_one_error(tmp_path_factory, data, cut):
    folder = tmp_path_factory.mktemp("m")
    good = tiny.write_model(folder / "m.onnx").read_bytes()
    for content in (data, good[: cut % len(good)], good[: cut % len(good)] + data):
        (folder / "x.onnx").write_bytes(content)
        try:
            read_info(folder / "x.onnx")
        except ModelError as error:
            assert "x.onnx" in str(error)
