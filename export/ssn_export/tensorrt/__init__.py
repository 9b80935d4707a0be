"""TensorRT engines: built, compared, inspected. No torch."""
