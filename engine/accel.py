"""Put our estimators in the place of scikit-learn's, in scripts that import scikit-learn.

    python -m engine.accel script.py …   runs a script that way
    engine.accel.install()               does it for what is imported from now on;   uninstall() ends it

KMeans, PCA and TSNE of scikit-learn become subclasses of themselves that fit with ours, where ours can do what is
asked. Where not, a fit stays scikit-learn's, with an AccelerationWarning that gives the reason. What was imported
before install() stays as it was, and so do functions within scikit-learn that call its classes.
"""

from __future__ import annotations

import importlib
import runpy
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from sklearn import get_config

from engine.errors import UsageError

PACKAGES = {"KMeans": "sklearn.cluster", "PCA": "sklearn.decomposition", "TSNE": "sklearn.manifold"}
OUR_MODULES = {"KMeans": "engine.kmeans.estimator", "PCA": "engine.pca.estimator", "TSNE": "engine.tsne.estimator"}
# Methods of a fitted estimator that ours compute.
METHODS = {
    "KMeans": ("predict", "transform", "score"),
    "PCA": ("transform", "inverse_transform", "get_covariance", "get_precision", "score", "score_samples"),
    "TSNE": (),
}
MOST_FEATURES = 8192  # of PCA: beyond, the covariance takes more than half a gibibyte, and all of it is computed
FITTING_METHODS = {
    "KMeans": ("fit", "fit_predict", "fit_transform"),
    "PCA": ("fit", "fit_transform"),
    "TSNE": ("fit", "fit_transform"),
}
FIT_STATE = ("_n_features_out", "_n_init")  # fitted state of ours without a trailing underscore
_originals: dict[str, type] = {}


class AccelerationWarning(UserWarning):
    """Warns that a fit stays scikit-learn's, and why."""


def install() -> None:
    """Replace scikit-learn's KMeans, PCA and TSNE for what is imported from now on; again changes nothing."""
    for name, package in PACKAGES.items():
        module = importlib.import_module(package)
        if name not in _originals:
            _originals[name] = getattr(module, name)
            setattr(module, name, _accelerated(_originals[name], name))


def uninstall() -> None:
    """Put scikit-learn's classes back for what is imported from now on."""
    for name, package in PACKAGES.items():
        if name in _originals:
            setattr(importlib.import_module(package), name, _originals.pop(name))


def main(arguments: list[str]) -> None:
    """Run a script with our estimators; `arguments` are its path and its own arguments."""
    if not arguments or not Path(arguments[0]).is_file():
        named = f"there is no file {arguments[0]!r}" if arguments else "no script was given"
        print(f"{named}; usage: python -m engine.accel SCRIPT.py [ARGUMENT…]", file=sys.stderr)
        raise SystemExit(UsageError.exit_code)
    install()
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent.absolute()))  # as python itself does it
    runpy.run_path(arguments[0], run_name="__main__")


def _accelerated(theirs: type, name: str) -> type:
    """Return a subclass of scikit-learn's class that fits with ours where it can."""
    namespace: dict[str, Any] = {method: _fitting(theirs, name, method) for method in FITTING_METHODS[name]}
    namespace |= {method: _by_ours(theirs, method) for method in METHODS[name]}
    namespace |= {"__doc__": theirs.__doc__, "__module__": __name__, "__qualname__": name}
    made = type(name, (theirs,), namespace)
    globals()[name] = made  # so that it can be pickled
    return made


def _fitting(theirs: type, name: str, method: str) -> Callable[..., Any]:
    """Return `fit`, `fit_transform` or `fit_predict`, which fits an estimator of ours or theirs and takes its state."""
    original = getattr(theirs, method)

    @wraps(original)
    def call(self: Any, X: Any, y: Any = None, **options: Any) -> Any:
        parameters = self.get_params(deep=False)
        fitted = getattr(importlib.import_module(OUR_MODULES[name]), name)(**parameters)
        reason = _why_not(fitted, name, X)
        if reason is not None:
            package = PACKAGES[name]
            warnings.warn(f"{package}.{name} stays scikit-learn's: {reason}.", AccelerationWarning, stacklevel=2)
            fitted = theirs(**parameters)
        result = getattr(fitted, method)(X, y, **options)
        if reason is None:
            state = {key: value for key, value in vars(fitted).items() if key.endswith("_") or key in FIT_STATE}
            vars(self).update(state, _ours=fitted)
        else:
            vars(self).update({key: value for key, value in vars(fitted).items() if key not in parameters}, _ours=None)
        return self if result is fitted else result

    return call


def _by_ours(theirs: type, method: str) -> Callable[..., Any]:
    """Return a method that is ours on an estimator that ours has fitted, and scikit-learn's on another."""
    original = getattr(theirs, method)

    @wraps(original)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        ours = vars(self).get("_ours")
        if ours is None:
            return original(self, *arguments, **options)
        return getattr(ours, method)(*arguments, **options)

    return call


def _why_not(ours: Any, name: str, X: Any) -> str | None:
    """Return why a fit stays scikit-learn's, or None."""
    if get_config()["array_api_dispatch"]:
        return "array_api_dispatch is on, and ours takes arrays of NumPy"
    shape = getattr(X, "shape", None)
    if shape is None or len(shape) != 2:
        return None
    if name == "PCA":
        return _why_not_pca(ours, *shape)
    return _why_not_tsne(ours, *shape) if name == "TSNE" else None


def _why_not_pca(ours: Any, n_rows: int, n_features: int) -> str | None:
    if min(n_rows, n_features) <= MOST_FEATURES or ours.svd_solver in ("full", "covariance_eigh"):
        return None
    return f"ours computes all of more than {MOST_FEATURES:,} components, where few may be wanted"


def _why_not_tsne(ours: Any, n_rows: int, n_features: int) -> str | None:
    from engine.tsne.exact_descent import MOST_ROWS

    if 3 * ours.perplexity > n_rows > ours.perplexity:
        return f"ours lowers perplexity={ours.perplexity:g} to a third of the {n_rows} rows"
    if ours.n_components > 2 and n_rows > MOST_ROWS:
        return f"ours takes at most {MOST_ROWS:,} rows with n_components={ours.n_components}"
    return None


if __name__ == "__main__":
    from engine import accel  # the module that pickles name

    accel.main(sys.argv[1:])
