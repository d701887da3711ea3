r"""Planes through class means, onto which images are projected exactly by products of vectors alone.

Let z be the features of an image minus the mean of all images, and ``c_k`` the mean of class k minus the same mean.
The products ``z · c_k`` of every image with K classes and ``c_k · c_l`` are known. With p, q, r three points of the
plane, and the origin in the middle between p and q::

    e = q − p                                 L² = e · e
    o = (p + q) / 2
    s = r − o                                 t = (s · e) / L²
    h = s − t e                               H² = s · s − t (s · e)
    x = (z · e − o · e) / L
    y = (z · s − o · s − t (z · e − o · e)) / H

The first axis points from p to q, the second to the side of r. Each product of these vectors is a sum of those that are
known::

    L²    = p·p − 2 p·q + q·q                 o · e = (q·q − p·p) / 2
    o · o = (p·p + 2 p·q + q·q) / 4           o · r = (r·p + r·q) / 2
    s · s = r·r − 2 o · r + o · o             s · e = r·q − r·p − o · e
    o · s = o · r − o · o                     z · e = z·q − z·p
                                              z · s = z·r − (z·p + z·q) / 2

For three classes, p, q and r are their means. For two classes, p and q are their means and r is the mean of all images,
so that ``r·r``, ``r·p``, ``r·q`` and ``z·r`` are 0.

If r lies on the line through p and q (``H² ≤ 10⁻⁶ (s · s + L²)``), as the mean of all images does if there are only two
classes, no second axis follows from the three points. Then s is the one of the two principal axes of all images for
which ``H² = 1 − (s · e)² / L²`` is larger, which is at least ½: ``z · s`` is the image's coordinate on the map and
``c_k · s`` that of the class mean, so that ``s · e = q·s − p·s`` and ``o · s = (p·s + q·s) / 2``. The formulas of t, x
and y are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import FeaturesError, SettingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ON_THE_LINE", "ClassPlanes"]

ON_THE_LINE = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassPlanes:
    """What is needed to project m images onto the planes of any 2 or 3 of K classes.

    Attributes:
        codes: The codes of these classes, ``(K,)`` int64, ascending.
        products: ``z · c_k`` of each image with each class mean, both about the mean of all images, ``(m, K)``
            float32, or float64 if they are so large or small that float32 does not hold them.
        gram: ``c_k · c_l``, ``(K, K)`` float64.
        points: The coordinates of the images on the two principal axes of all images, ``(m, 2)`` float32.
        means: Those of the class means, ``(K, 2)`` float64.
    """

    codes: NDArray[np.int64]
    products: NDArray[np.float32] | NDArray[np.float64]
    gram: NDArray[np.float64]
    points: NDArray[np.float32]
    means: NDArray[np.float64]

    def plane(self, codes: Sequence[int]) -> NDArray[np.float32]:
        """The images, projected at a right angle onto the plane of two or three classes.

        The origin lies in the middle between the means of the first two classes, the first axis points from the first
        mean to the second one, and the second axis points to the side of the third class; of two classes, to the side
        of the mean of all images. The units are those of the features. The formula stands in the docstring of
        :mod:`~nctransfer.maps.class_planes`.

        Args:
            codes: The codes of two or three different classes of ``self.codes``.

        Returns:
            ``(m, 2)`` float32.

        Raises:
            SettingError: These are not two or three different classes among those of the map.
            FeaturesError: The first two classes have the same mean.
        """
        import numpy as np

        return self._projected(codes, self.products, self.points).astype(np.float32)

    def plane_of_means(self, codes: Sequence[int]) -> NDArray[np.float64]:
        """The means of all K classes in the same plane, ``(K, 2)`` float64; see :meth:`plane`."""
        return self._projected(codes, self.gram, self.means)

    def _projected(
        self, codes: Sequence[int], products: NDArray[np.floating], points: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        import numpy as np

        places = self._places(codes)
        plane = _Plane.of(self.gram, self.means, places)
        z_p, z_q = (products[:, place].astype(np.float64) for place in places[:2])
        along = z_q - z_p - plane.o_e
        if plane.axis is not None:
            z_s = points[:, plane.axis].astype(np.float64)
        else:
            z_r = products[:, places[2]].astype(np.float64) if len(places) == 3 else 0.0
            z_s = z_r - (z_p + z_q) / 2
        across = z_s - plane.o_s - plane.t * along
        return np.stack([along / plane.length, across / plane.height], axis=1)

    def _places(self, codes: Sequence[int]) -> list[int]:
        """The positions of classes among the K.

        Raises:
            SettingError: See :meth:`plane`.
        """
        place = {code: i for i, code in enumerate(self.codes.tolist())}
        given = [int(code) for code in codes]
        if len(given) not in (2, 3) or len(set(given)) < len(given) or not place.keys() >= set(given):
            raise SettingError(
                f"a plane through the classes {given} is asked for", "give the codes of 2 or 3 classes of the map"
            )
        return [place[code] for code in given]


class _Plane(NamedTuple):
    """The numbers of the formula that do not depend on the image.

    Attributes:
        length: L.
        height: H.
        t: ``(s · e) / L²``.
        o_e: ``o · e``.
        o_s: ``o · s``.
        axis: Which principal axis s is; ``None`` if s follows from the third point.
    """

    length: float
    height: float
    t: float
    o_e: float
    o_s: float
    axis: int | None

    @classmethod
    def of(cls, gram: NDArray[np.float64], means: NDArray[np.float64], places: Sequence[int]) -> _Plane:
        p, q, *rest = places
        pp, pq, qq = gram[p, p], gram[p, q], gram[q, q]
        squared, o_e = float(pp - 2 * pq + qq), float(qq - pp) / 2
        if squared <= 0:
            raise FeaturesError("two classes of the plane have the same mean", "choose two other classes")
        rp, rq, rr = (gram[rest[0], p], gram[rest[0], q], gram[rest[0], rest[0]]) if rest else (0.0, 0.0, 0.0)
        o_o = float(pp + 2 * pq + qq) / 4
        o_r = float(rp + rq) / 2
        s_s, s_e, o_s = float(rr) - 2 * o_r + o_o, float(rq - rp) - o_e, o_r - o_o
        height = s_s - s_e**2 / squared
        axis = None
        if height <= ON_THE_LINE * (s_s + squared):
            slopes = [float(means[q, i] - means[p, i]) for i in range(2)]  # s · e
            heights = [1 - slope**2 / squared for slope in slopes]
            axis = 0 if heights[0] > heights[1] else 1
            height, s_e, o_s = heights[axis], slopes[axis], float(means[p, axis] + means[q, axis]) / 2
        return cls(squared**0.5, height**0.5, s_e / squared, o_e, o_s, axis)
