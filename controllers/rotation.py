"""Unit quaternions (x, y, z, w) and rotation vectors as plain tuples, for compiled code.

Tuples of floats live in registers: no allocation on the control path.
"""

from __future__ import annotations

import math

from controllers.kernel import kernel

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]  # x, y, z, w


@kernel
def multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """Return the rotation that does `b` first, then `a`."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


@kernel
def conjugate(q: Quaternion) -> Quaternion:
    """Return the inverse of a unit quaternion."""
    return (-q[0], -q[1], -q[2], q[3])


@kernel
def normalise(q: Quaternion) -> Quaternion:
    """Return q scaled to unit length."""
    n = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    return (q[0] / n, q[1] / n, q[2] / n, q[3] / n)


@kernel
def log(q: Quaternion) -> Vector:
    """Return the rotation vector of a unit quaternion, the shortest one [rad].

    q and -q give the same vector.
    """
    x, y, z, w = q
    if w < 0.0:
        x, y, z, w = -x, -y, -z, -w
    s = math.sqrt(x * x + y * y + z * z)
    scale = 2.0 if s < 1e-9 else 2.0 * math.atan2(s, w) / s
    return (scale * x, scale * y, scale * z)


@kernel
def exp(v: Vector) -> Quaternion:
    """Return the unit quaternion of a rotation vector [rad]."""
    angle = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    scale = 0.5 if angle < 1e-9 else math.sin(0.5 * angle) / angle
    return normalise((scale * v[0], scale * v[1], scale * v[2], math.cos(0.5 * angle)))


@kernel
def between(a: Quaternion, b: Quaternion) -> Vector:
    """Return the rotation vector, base frame, that leads from `a` to `b` [rad]."""
    return log(multiply(b, conjugate(a)))


@kernel
def turn(q: Quaternion, v: Vector, share: float) -> Quaternion:
    """Return `q` turned by a share of the rotation vector `v`, base frame [rad]."""
    return normalise(multiply(exp((share * v[0], share * v[1], share * v[2])), q))


@kernel
def z_axis(q: Quaternion) -> Vector:
    """Return the body's z axis in the base frame."""
    x, y, z, w = q
    return (2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y))


@kernel
def from_axes(x: Vector, y: Vector, z: Vector) -> Quaternion:
    """Return the quaternion of the frame whose x, y, z axes are given in the base frame.

    Source:
        S. W. Shepperd, "Quaternion from Rotation Matrix", 1978: divide by the largest component.
    """
    xx, xy, xz = x
    yx, yy, yz = y
    zx, zy, zz = z
    trace = xx + yy + zz
    if trace > 0.0:
        s = 2.0 * math.sqrt(1.0 + trace)
        q = ((yz - zy) / s, (zx - xz) / s, (xy - yx) / s, 0.25 * s)
    elif xx > yy and xx > zz:
        s = 2.0 * math.sqrt(1.0 + xx - yy - zz)
        q = (0.25 * s, (xy + yx) / s, (zx + xz) / s, (yz - zy) / s)
    elif yy > zz:
        s = 2.0 * math.sqrt(1.0 + yy - xx - zz)
        q = ((xy + yx) / s, 0.25 * s, (yz + zy) / s, (zx - xz) / s)
    else:
        s = 2.0 * math.sqrt(1.0 + zz - xx - yy)
        q = ((zx + xz) / s, (yz + zy) / s, 0.25 * s, (xy - yx) / s)
    return normalise(q)
