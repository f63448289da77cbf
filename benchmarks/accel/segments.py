"""Segments of customers: standardise, reduce, cluster, and describe, with scikit-learn alone."""

from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X, _ = make_blobs(200_000, 40, centers=25, cluster_std=6.0, random_state=0)
pipeline = make_pipeline(StandardScaler(), PCA(0.9), KMeans(25, n_init=3, random_state=0))
labels = pipeline.fit_predict(X)
print(f"{labels.max() + 1} segments, inertia {pipeline[-1].inertia_:.6g}")
