"""Eigenvectors of small symmetric matrices, without LAPACK and without allocation.

Source:
    C. G. J. Jacobi's method, cyclic by rows; G. H. Golub, C. F. Van Loan, "Matrix Computations".
"""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel

SWEEPS = 8  # quadratic convergence: 6 x 6 is done after five or six


@kernel
def symmetric_eigen(matrix: np.ndarray, vectors: np.ndarray) -> None:
    """Turn a symmetric matrix into its eigenvalues, and write the eigenvectors.

    Args:
        matrix: Shape (n, n), changed in place: the eigenvalues are on its diagonal afterwards.
        vectors: Out, shape (n, n), a column each.
    """
    n = matrix.shape[0]
    scale = 0.0
    for i in range(n):
        scale = max(scale, abs(matrix[i, i]))
        for j in range(n):
            vectors[i, j] = 1.0 if i == j else 0.0
    for _ in range(SWEEPS):
        off = 0.0
        for p in range(n - 1):
            for q in range(p + 1, n):
                off = max(off, abs(matrix[p, q]))
        if off <= 1e-13 * scale:
            return
        for p in range(n - 1):
            for q in range(p + 1, n):
                if matrix[p, q] == 0.0:
                    continue
                theta = (matrix[q, q] - matrix[p, p]) / (2.0 * matrix[p, q])
                t = math.copysign(1.0, theta) / (abs(theta) + math.sqrt(theta * theta + 1.0))
                c = 1.0 / math.sqrt(t * t + 1.0)
                s = t * c
                for k in range(n):
                    a, b = matrix[k, p], matrix[k, q]
                    matrix[k, p], matrix[k, q] = c * a - s * b, s * a + c * b
                for k in range(n):
                    a, b = matrix[p, k], matrix[q, k]
                    matrix[p, k], matrix[q, k] = c * a - s * b, s * a + c * b
                    a, b = vectors[k, p], vectors[k, q]
                    vectors[k, p], vectors[k, q] = c * a - s * b, s * a + c * b
