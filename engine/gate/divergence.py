"""How far two distributions over the same bins are apart, and whether chance explains it.

    shares (n_bins,) of two samples, their sizes  ->  Divergence: PSI, Jensen-Shannon distance, G statistic

The population stability index of samples of one population is about (n_bins - 1) (1/n + 1/m), and 8 ln 2 times as large
as their Jensen-Shannon divergence in bits; `noise` is that expectation, by which limits are widened. A shift of normal
values by d standard deviations has a PSI of d squared.

Sources: Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37, 1991; Yurdakul & Naranjo,
"Statistical properties of the population stability index", 2020; Sokal & Rohlf, "Biometry" (the G test).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engine.utils.array_types import Float64s

PSI_PER_BIT = 8.0 * float(np.log(2.0))  # of Jensen-Shannon divergence, for small differences


class Divergence(NamedTuple):
    """The divergence of two distributions.

    Attributes
    ----------
    psi : float
        Population stability index; shares of 0 count as half a row.
    js : float
        Jensen-Shannon distance to base 2, from 0 to 1: the square root of the divergence.
    noise : float
        The PSI that two samples of one population have on average.
    g, freedom : float and int
        Statistic of the G test of homogeneity, and its degrees of freedom.
    """

    psi: float
    js: float
    noise: float
    g: float
    freedom: int

    @property
    def chance(self) -> float:
        """The probability that samples of one population differ as much."""
        return chi_square_tail(self.g, self.freedom)

    def exceeds(self, psi: float | None, js: float | None) -> bool:
        """Return whether the PSI or the distance is above its limit, widened by the noise."""
        by_psi = psi is not None and self.psi > psi + self.noise
        return by_psi or (js is not None and self.js**2 > js**2 + self.noise / PSI_PER_BIT)


def compare_shares(p: Float64s, q: Float64s, n: int, m: int) -> Divergence:
    """Return the divergence of the shares p of n values and q of m values, float64 of shape (n_bins,), sums 1."""
    used = (p > 0) | (q > 0)
    p, q = p[used], q[used]
    if n == 0 or m == 0 or len(p) < 2:
        return Divergence(0.0, 0.0, 0.0, 0.0, 0)
    middle, pooled = (p + q) / 2, (n * p + m * q) / (n + m)
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2 / np.log(2.0)
    g = 2.0 * (n * _relative_entropy(p, pooled) + m * _relative_entropy(q, pooled))
    smooth_p, smooth_q = ((share * size + 0.5) / (size + 0.5 * len(p)) for share, size in ((p, n), (q, m)))
    psi = float(((smooth_q - smooth_p) * np.log(smooth_q / smooth_p)).sum())
    noise = (len(p) - 1) * (1 / n + 1 / m)
    return Divergence(psi, float(np.sqrt(max(divergence, 0.0))), noise, g, len(p) - 1)


def compare_share(p: float, q: float, n: int, m: int) -> Divergence:
    """Return the divergence of the share p of n values and the share q of m values that have something."""
    return compare_shares(np.array([p, 1.0 - p]), np.array([q, 1.0 - q]), n, m)


def chi_square_tail(value: float, freedom: int) -> float:
    """Return the probability that a chi-square variable is at least this large."""
    if freedom == 0 or value <= 0.0:
        return 1.0
    from scipy.special import chdtrc  # its import takes a tenth of a second, which a gate that finds nothing saves

    return float(chdtrc(freedom, value))


def _relative_entropy(p: Float64s, q: Float64s) -> float:
    """Return the sum of p ln(p / q), in which p = 0 counts as 0."""
    ratios = np.divide(p, q, out=np.ones(len(p)), where=p > 0)
    return float((p * np.log(ratios)).sum())
