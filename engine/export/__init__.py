"""A fitted model in the form of other systems: SQL for databases, ONNX, and a pipeline of scikit-learn."""
