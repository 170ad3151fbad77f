"""What the published systems have not: defaults of this library that recipes switch off."""

from __future__ import annotations

from typing import Any

__all__ = ["PUBLISHED"]

#: One network from its own start, judged by one part of the rows.
PUBLISHED: dict[str, Any] = {"linear": False, "n_members": 1}
