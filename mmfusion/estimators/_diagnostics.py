"""Residuals of a fitted Cox model, and whether its hazards are proportional."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from mmfusion.heads.cox import (
    cox_deviance_residuals,
    cox_martingale_residuals,
    cox_scaled_schoenfeld_residuals,
    cox_schoenfeld_residuals,
    cox_score_residuals,
    proportional_hazards_test,
)
from mmfusion.heads.cox.proportional_hazards import TimeTransform
from mmfusion.inputs.parameters import check_choice, check_number
from mmfusion.model import Plan
from mmfusion.model.structured import Structured
from mmfusion.model.study import encode
from mmfusion.model.survival_error import survival_interval

__all__ = ["CoxDiagnostics"]

RESIDUALS = ("martingale", "deviance", "schoenfeld", "scaled_schoenfeld", "score", "dfbeta")


class CoxDiagnostics:
    """What a study looks at before it believes a Cox model; mixed into `FusionCox`."""

    def residuals(
        self, X: pd.DataFrame, y: Any, kind: str = "martingale", sample_weight: Any = None
    ) -> pd.Series | pd.DataFrame:
        """Return residuals of some rows, whose risk sets they form among themselves.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
            As a rule the training rows.
        y : survival outcome of n subjects
        kind : {"martingale", "deviance", "schoenfeld", "scaled_schoenfeld", "score", "dfbeta"}
            Events less expected events (Barlow & Prentice 1988); the same made symmetric
            (Therneau, Grambsch & Fleming 1990); for each event, the structured columns less
            their mean at risk (Schoenfeld 1982); the same scaled to show coefficients over time
            (Grambsch & Therneau 1994). Of each row, what it adds to the score of the structured
            coefficients (Lin & Wei 1989), and what these would be less without it, to first order.
            The last four need `structured`.
        sample_weight : array-like, shape (n,), optional

        Returns
        -------
        Series, shape (n,), or DataFrame, shape (n_events, n_coefficients) or (n, n_coefficients)
            Indexed by the rows of `X`.
        """
        check_choice("kind", kind, RESIDUALS)
        frame, eta, target = self._at(X, y, sample_weight)
        ties = self.ties  # type: ignore[attr-defined]
        if kind in ("martingale", "deviance"):
            of_rows = cox_martingale_residuals if kind == "martingale" else cox_deviance_residuals
            return pd.Series(of_rows(eta, target.plan, ties).numpy(), index=frame.index, name=kind)
        part = self._structured()
        design = torch.from_numpy(part.design(frame).dense())
        eta = _beside(part, frame, eta)
        names = list(part.final.names)
        if kind in ("score", "dfbeta"):
            values = cox_score_residuals(eta, target.plan, design, ties).numpy()
            values = values @ part.final.bread if kind == "dfbeta" else values
            return pd.DataFrame(values, index=frame.index, columns=names)
        rows, residuals = cox_schoenfeld_residuals(eta, target.plan, design, ties)
        if kind == "scaled_schoenfeld":
            residuals = cox_scaled_schoenfeld_residuals(
                residuals,
                torch.from_numpy(part.final.coef),
                torch.from_numpy(np.asarray(part.final.covariance)),
            )
        return pd.DataFrame(residuals.numpy(), index=frame.index[rows.numpy()], columns=names)

    def check_proportional_hazards(
        self,
        X: pd.DataFrame,
        y: Any,
        transform: TimeTransform = "km",
        sample_weight: Any = None,
    ) -> pd.DataFrame:
        """Test that the effects of the structured terms do not change over time.

        The score test on scaled Schoenfeld residuals (Grambsch & Therneau 1994) as R's ``cox.zph``
        has it since survival 3.0, with the networks' predictor held.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
            The training rows.
        y : survival outcome of n subjects
        transform : {"km", "rank", "identity", "log"}
            The function of time along which effects may change.
        sample_weight : array-like, shape (n,), optional

        Returns
        -------
        DataFrame
            chi2, df and p of each term, and of all of them in the row ``"GLOBAL"``. A small p
            says that a hazard ratio is an average over time.
        """
        part = self._structured()
        frame, eta, target = self._at(X, y, sample_weight)
        terms = {t.label: t.columns for t in part.layout.terms if t.by_coefficient or t.tested}
        design = torch.from_numpy(part.design(frame).dense())
        return proportional_hazards_test(
            _beside(part, frame, eta),
            target,
            design,
            terms,
            ties=self.ties,  # type: ignore[attr-defined]
            transform=transform,
            penalty=torch.from_numpy(np.asarray(part.final.penalty)),
        )

    def survival_interval(
        self,
        X: pd.DataFrame,
        times: Any,
        X_train: pd.DataFrame,
        y_train: Any,
        *,
        sample_weight: Any = None,
        level: float = 0.95,
    ) -> pd.DataFrame:
        """Return predicted survival with its standard error and pointwise interval.

        The delta method (Tsiatis 1981; R's ``survfit`` of a ``coxph``), with the covariance that
        ``effects_`` has, on the scale of ``log(-log S)``. The networks' predictor is taken as
        known: beside networks that were learned from few rows the intervals are too narrow.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        times : array-like, shape (m,)
        X_train, y_train, sample_weight
            The training rows, as given to `fit`: a fitted model keeps none.
        level : float, default=0.95

        Returns
        -------
        DataFrame, shape (n m, 4)
            survival, se, lower, upper; by row of `X` and time. NaN beyond the follow-up.

        Raises
        ------
        ValueError
            As `predict_survival_function`; without `structured`; a level outside (0, 1).
        """
        check_number("level", level, 0, 1, open_ends="low and high")
        part = self._structured()
        curves = self.predict_survival_function(X, times)  # type: ignore[attr-defined]
        frame, _ = self._predictors(X)  # type: ignore[attr-defined]
        trained, eta, target = self._at(X_train, y_train, sample_weight)
        return survival_interval(
            curves,
            part.design(frame).dense(),
            self.model_.head.stratum_codes(  # type: ignore[attr-defined]
                len(frame),
                **self._curve_context(frame),  # type: ignore[attr-defined]
            ),
            (eta, target, part.design(trained).dense()),
            self._reported().covariance.dense(),  # type: ignore[attr-defined]
            self.ties,  # type: ignore[attr-defined]
            level,
        )

    def _structured(self) -> Structured:
        self._reported()  # type: ignore[attr-defined]
        part = self.model_.structured  # type: ignore[attr-defined]
        assert isinstance(part, Structured)
        return part

    def _at(self, X: Any, y: Any, sample_weight: Any) -> tuple[pd.DataFrame, torch.Tensor, Any]:
        frame, eta = self._predictors(X)  # type: ignore[attr-defined]
        if eta.shape[1] > 1:
            raise ValueError(
                "Residuals are of a model with one log-hazard a row: fuse late with combine='risk'."
            )
        head = self.model_.head  # type: ignore[attr-defined]
        target = encode(head.encode, Plan.of(self), frame, y, sample_weight)
        return frame, torch.from_numpy(eta), target


def _beside(part: Structured, frame: pd.DataFrame, eta: torch.Tensor) -> torch.Tensor:
    """Return the predictor beside which the coefficients are those of largest likelihood."""
    if part.orthogonalization != "two_stage":
        return eta
    return torch.from_numpy(part.design(frame).predict(part.final.coef))
