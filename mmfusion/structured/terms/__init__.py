"""Terms of a formula: each builds its own columns and penalties."""

from __future__ import annotations

from mmfusion.structured.terms.base import Product, Term
from mmfusion.structured.terms.registry import fit_terms, term_from_state, term_state

__all__ = ["Product", "Term", "fit_terms", "term_from_state", "term_state"]
