"""The color palette of clusters: a cluster has the same color on the map, in every chart and on its card.

The first seven are those of Okabe and Ito ("Color universal design", 2008), without black, which cannot be seen on a
dark page. The others were added one by one, each at the largest distance in OKLab from all before it, as seen with full
color vision, with protanopia and with deuteranopia (Machado, Oliveira and Fernandes, IEEE TVCG 2009), at lightnesses
visible on white and on black. tests/report/test_palette.py checks the distances.
"""

from __future__ import annotations

from collections.abc import Iterable

# fmt: off
COLORS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#92003D", "#0000FF", "#31F3CE"),
    *("#8679FF", "#6100B6", "#554979", "#86C286", "#92553D", "#AACEFF", "#557979", "#CE18C2", "#AAE792", "#1861F3"),
    *("#00CEC2", "#7992DB", "#F3C249", "#249218", "#FF5555", "#790092", "#923100", "#9E499E", "#316161", "#3D00DB"),
    *("#FF9EB6", "#3D79DB", "#92AA92", "#FF9E61", "#F386FF", "#AA6D9E", "#9E3155", "#31AAC2", "#DB4955", "#FF1879"),
    *("#6D3DAA", "#B6CE92", "#79DBDB", "#79C255", "#9E1886", "#AA86FF", "#B6310C", "#E78618", "#553DDB", "#FF55C2"),
    *("#E7CEB6", "#9E00C2", "#92C2E7", "#79E76D", "#FF79AA", "#CE3186", "#C23DDB", "#49AA49", "#F36D79", "#559E92"),
)
# fmt: on


def palette(numbers: Iterable[int]) -> list[str]:
    """Return the color of each cluster's number as #RRGGBB; after the sixtieth they repeat."""
    return [COLORS[number % len(COLORS)] for number in numbers]
