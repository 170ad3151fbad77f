"""Predictions in time with their bands, and hazard ratios as functions of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from mmfusion.inputs.parameters import check_choice
from mmfusion.model.bands import curve_bands, ratio_bands
from mmfusion.structured import Bands
from mmfusion.survival.outcome import snap

from ._cuts import IntervalPredictions
from ._survival import check_times

__all__ = ["HazardBands"]

_CURVES = ("survival", "cumulative_hazard", "cumulative_incidence", "hazard")


class HazardBands(IntervalPredictions):
    """Hazards, bands of all curves, and hazard ratios; mixed into models of hazards."""

    def predict_hazard(
        self,
        X: pd.DataFrame | np.ndarray,
        times: Sequence[float] | np.ndarray | None = None,
        cause: int | None = None,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Return the hazard of each row at each time.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        times : array-like, shape (m,), optional
            By default the ends of the intervals, over each of which the hazard is constant. NaN
            beyond the last one.
        cause : int, optional
            One of `causes_`; by default all of them together.
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        DataFrame, shape (n, m)
        """
        times = self._ends() if times is None else times
        return self._curves("hazard", X, times, modalities, exclude, True, cause=cause)

    def predict_band(
        self,
        X: pd.DataFrame | np.ndarray,
        times: Sequence[float] | np.ndarray | None = None,
        curve: Literal[
            "survival", "cumulative_hazard", "cumulative_incidence", "hazard"
        ] = "survival",
        cause: int | None = None,
        *,
        level: float = 0.95,
        bands: Bands = "pointwise",
        unconditional: bool = True,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Return a curve of each row with standard errors and bands, by the delta method.

        They are those of the formula's coefficients: what the networks add is taken as known. A
        level of ``re()`` that no training row had has effect 0, with the variance of these effects;
        one that is excluded has none.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        times : array-like, shape (m,), optional
            By default the ends of the intervals.
        curve : {"survival", "cumulative_hazard", "cumulative_incidence", "hazard"}
        cause : int, optional
            One of `causes_`: an incidence needs one where there are several, a hazard may have one.
        level : float, default=0.95
        bands : {"pointwise", "simultaneous"}
            Whether the band holds each point with probability `level`, or the whole curve of a row.
        unconditional : bool, default=True
            Whether the errors hold that smoothing parameters are estimates, without which bands of
            curves cover too little; False takes them as known, as `effects_` does.
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        DataFrame, shape (n m, 4)
            The curve, by its name, se, lower and upper; indexed by row and time. NaN beyond the
            follow-up of the training rows, with a warning; of a hazard, beyond the last interval.
        """
        reported = self._reported()  # type: ignore[attr-defined]
        check_choice("curve", curve, _CURVES)
        if curve == "survival" and cause is not None:
            raise ValueError("The cause parameter must be None for a survival curve.")
        if curve == "cumulative_incidence" and cause is None:
            if len(self.causes_) > 1:
                raise ValueError(
                    f"The cause parameter must be one of {self.causes_.tolist()}. Got None."
                )
            cause = int(self.causes_[0])
        times = self._ends() if times is None else check_times(times)
        table, eta = self._predictors(X, modalities, exclude)  # type: ignore[attr-defined]
        found = curve_bands(
            self.model_,  # type: ignore[attr-defined]
            reported,
            table,
            eta,
            times,
            curve,
            cause,
            level=level,
            bands=bands,
            unconditional=unconditional,
            exclude=exclude,
        )
        if curve != "hazard":
            last = self._follow_up(table)
            beyond = snap(times, np.unique(last)) > last[:, None]
            blank = self._blank(
                found.to_numpy().reshape(*beyond.shape, -1), beyond[..., None], last
            )
            found.iloc[:] = blank.reshape(found.shape)
        return found

    def hazard_ratio(
        self,
        X: pd.DataFrame,
        reference: pd.DataFrame,
        times: Sequence[float] | np.ndarray | None = None,
        cause: int | None = None,
        *,
        level: float = 0.95,
        bands: Bands = "pointwise",
        unconditional: bool = True,
    ) -> pd.DataFrame:
        """Compare profiles over time: hazards by the formula over those of a reference.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
            The columns of the formula suffice, for the reference too.
        reference : DataFrame, shape (1, p) or (n, p)
            One row for all, or one for each.
        times : array-like, shape (m,), optional
            Within the grid; by default the ends of the intervals.
        cause : int, optional
            One of `causes_`, where there are several.
        level : float, default=0.95
        bands : {"pointwise", "simultaneous"}
        unconditional : bool, default=True
            As in `predict_band`.

        Returns
        -------
        DataFrame, shape (n m, 4)
            hazard_ratio, se, lower and upper (whose logarithms are symmetric), indexed by row and
            time.

        Raises
        ------
        ValueError
            If `reference` has neither one row nor as many as `X`, or a time is beyond the grid.
        """
        reported, head = self._reported(), self._head  # type: ignore[attr-defined]
        if len(reference) not in (1, len(X)):
            raise ValueError(
                f"The reference must have one row or as many as X ({len(X)}). "
                f"Got {len(reference)} rows."
            )
        times = self._ends() if times is None else check_times(times)
        chosen = head.predictors_at(times, cause)
        return ratio_bands(
            reported,
            X,
            reference,
            chosen,
            times,
            level=level,
            bands=bands,
            unconditional=unconditional,
        )

    def _ends(self) -> np.ndarray:
        ends: Any = self.cuts_[1:]
        return ends
