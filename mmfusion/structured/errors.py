"""What a structured fit says when the data do not determine its coefficients."""

from __future__ import annotations

from sklearn.exceptions import ConvergenceWarning

__all__ = ["CollinearityError", "SeparationWarning"]


class CollinearityError(ValueError):
    """The outcome does not tell the coefficients apart: some columns are redundant.

    Attributes
    ----------
    columns : tuple of str
        The redundant columns.
    """

    def __init__(self, message: str, columns: tuple[str, ...]) -> None:
        super().__init__(message)
        self.columns = columns

    def __reduce__(self) -> tuple[type, tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.columns)


class SeparationWarning(ConvergenceWarning):
    """The likelihood rises for ever as coefficients go to infinity: there is no finite estimate."""
