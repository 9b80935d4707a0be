"""The trained model as one ONNX graph: fused, traced, in half precision, compared."""
