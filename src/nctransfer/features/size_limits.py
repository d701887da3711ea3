"""How large or small features may be."""

from __future__ import annotations

from nctransfer.errors import FeaturesError

__all__ = ["check_size"]

SMALLEST, LARGEST = 1e-60, 1e60  # the fourth power of a length is then far inside float64; float32 never leaves them


def check_size(size: float) -> None:
    """Refuse features whose moments would overflow or vanish in float64.

    Args:
        size: The largest absolute value, or another measure of the size of all features; 0 if all features are zero.

    Raises:
        FeaturesError: The size is neither zero nor within the limits.

    >>> check_size(1e-30)
    >>> check_size(1e-80)
    Traceback (most recent call last):
    nctransfer.errors.FeaturesError: the features are of size 1e-80; expected a size between 1e-60 and 1e+60
    """
    if size != 0 and not SMALLEST <= size <= LARGEST:
        raise FeaturesError(
            f"the features are of size {size:.3g}; expected a size between {SMALLEST:g} and {LARGEST:g}",
            "multiply the features by a constant",
        )
