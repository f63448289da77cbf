"""Colour quantization of a picture: 64 colours for all its pixels, with scikit-learn alone."""

from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_image

pixels = load_sample_image("china.jpg").reshape(-1, 3) / 255.0
kmeans = KMeans(64, random_state=0).fit(pixels)
error = ((pixels - kmeans.cluster_centers_[kmeans.predict(pixels)]) ** 2).mean()
print(f"{len(pixels)} pixels, mean squared error {error:.6g}")
