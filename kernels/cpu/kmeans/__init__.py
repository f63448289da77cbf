"""K-Means on the CPU: rows are labelled by filter and refine, and the labels are those of the float64 definition.

The filter ranks the centers of every row in small integers, and its result is kept only where it is proven to be right:

- Quantized rows (quantize.py) are uint8 or int16, with a bound of every row's error; quantized centers
  (quantized_centers.py) are int8 or int16. At the level FLOAT32 both are float32: on hosts without integer dot
  products, and for tables of which integers leave too many rows open.
- The score of a center c for a row y (tiled_scores.py) is a lower bound of ||c||^2 / 2 - y.c, from quantized values
  with a step of the row and one of the center. The nearest center has the least exact score.
- The error bound (ErrorBound) says by how much a score can be below the exact one.
- A row is certified (certify.py) if its best score is less than the second best by more than the best one's bound. Its
  label is then proven, and so is a lower bound of its gap: the distance to any other center minus that to its own.
- All other rows that were filtered are open. Their candidates (block_scores.py) are the centers whose scores lie within
  1.25 bounds of the best one.
- To refine a row (refine.py) is to measure its candidates in float32 and, where those distances are too close to tell
  them apart, by the definition in kernels/cpu/distance.py.

Lloyd's iterations (lloyd.py) skip rows whose gap exceeds what the centers have moved, or compare them with the few fast
centers alone (fast_centers.py). The proofs: decisions/0005-screening.md, decisions/0058-heavy-tails.md.

Layouts. Lanes are those of a SIMD register (kernels/cpu/simd); a word is 4 bytes: 4 values of 8 bits, 2 of 16, or one
float32.

- TILE: the register block of the product. TILE_ROWS rows lie in the lanes of TILE_VECTORS vectors, and TILE_CENTERS
  centers are broadcast against them.
- BLOCK: BLOCK_CENTERS centers, two tiles, that lie in the lanes of BLOCK_VECTORS vectors, to score a single row.
- RUN: RUN_ROWS rows that go through filter and refine together, in a RowBuffer that stays in the L2 cache.
- STRIP: STRIP_ROWS rows in the lanes, stored feature by feature, to measure squared distances in float64 (plus_plus.py,
  and center_utility.py, where the rows are centers).
- PANEL: the references in the lanes of one register block of the neighbor search (neighbors/packed_leaves.py).
"""
