#!/usr/bin/env bash
# A K-Means model exported to ONNX assigns most rows to other clusters, and some distances are NaN.
#
# Expected: the exported model gives the clusters of the original, up to ties.
# Happens: with FloatTensorType, the usual input, squared distances are |x|^2 - 2 x c + |c|^2 in float32. With means
# of 10,000 standard deviations they are rounding errors: most rows get another cluster, and the square root of a
# negative one is NaN. With DoubleTensorType all rows agree.
# Versions: skl2onnx 1.20.0, onnx 1.23.2, onnxruntime 1.32.0, scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1
# Output seen:
#   skl2onnx 1.20.0 onnxruntime 1.32.0 scikit-learn 1.9.1
#   FloatTensorType  other clusters 84%, distances that are NaN 32%
#   DoubleTensorType other clusters 0%, distances that are NaN 0%
#
# Why it matters: export is how a clustering reaches the service that scores members. It loads, answers, and answers
# something else.
# This engine: it writes no ONNX; assign reads its own model and evaluates distances in float64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile skl2onnx==1.20.0 onnx==1.23.2 onnxruntime==1.32.0 \
    scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import onnxruntime
import skl2onnx
import sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.cluster import KMeans

print("skl2onnx", skl2onnx.__version__, "onnxruntime", onnxruntime.__version__, "scikit-learn", sklearn.__version__)
X = np.random.default_rng(0).normal(1e4, 1.0, (2000, 8)).astype(np.float32)
model = KMeans(6, n_init=1, random_state=0).fit(X.astype(np.float64))
expected = model.predict(X.astype(np.float64))
changed = {}
for kind, dtype in ((FloatTensorType, np.float32), (DoubleTensorType, np.float64)):
    exported = skl2onnx.to_onnx(model, initial_types=[("X", kind([None, 8]))]).SerializeToString()
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    labels, distances = session.run(None, {"X": X.astype(dtype)})
    changed[kind] = float((labels != expected).mean())
    undefined = float(np.isnan(distances).mean())
    print(f"{kind.__name__:16} other clusters {changed[kind]:.0%}, distances that are NaN {undefined:.0%}")
if changed[FloatTensorType] < 0.1:
    raise SystemExit("changed: the float32 export agrees")
PYTHON
