"""The measures of this package as attributes of a report, so that type checkers and editors know them."""

from __future__ import annotations

from typing import Any, overload

__all__ = ["MeasureAttributes"]


class _Metric:
    """An attribute that is the value of the measure of the same name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, report: None, owner: type) -> _Metric: ...
    @overload
    def __get__(self, report: object, owner: type) -> float | None: ...
    def __get__(self, report: Any, owner: type) -> _Metric | float | None:
        if report is None:
            return self
        value: float | None = report.metrics[self._name]
        return value


class MeasureAttributes:
    """Attributes for a class with ``metrics``. Measures of other packages are found there: ``report.metrics[name]``."""

    cdnv = _Metric()
    cdnv_debiased = _Metric()
    directional_cdnv = _Metric()
    directional_cdnv_debiased = _Metric()
    nc1 = _Metric()
    separation_fuzziness = _Metric()
    variance_ratio = _Metric()
    variability_collapse_index = _Metric()
    vci_noise_level = _Metric()
    equinorm = _Metric()
    equiangularity = _Metric()
    maximal_angle = _Metric()
    etf_error = _Metric()
    mean_uniformity = _Metric()
    self_duality = _Metric()
    mutual_information_ratio = _Metric()
    entropy_difference_ratio = _Metric()
    ncc_agreement = _Metric()
    ncc_accuracy = _Metric()
    effective_rank = _Metric()
    participation_ratio = _Metric()
    within_participation_ratio = _Metric()
    matrix_entropy = _Metric()
    rankme = _Metric()
