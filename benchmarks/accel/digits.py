"""A map of handwritten digits, with scikit-learn alone."""

from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

X, _ = load_digits(return_X_y=True)
tsne = TSNE(perplexity=30, random_state=0)
embedding = tsne.fit_transform(PCA(30, random_state=0).fit_transform(X))
print(f"divergence {tsne.kl_divergence_:.4f}, trustworthiness {trustworthiness(X, embedding):.4f}")
