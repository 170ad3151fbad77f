"""A fitted estimator's whole prediction as a function of float tensors, on one graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mmfusion.interpret._baseline import FORMULA, Baseline, names_of
from mmfusion.interpret._formula import FormulaPath, formula_path
from mmfusion.interpret._inputs import Inputs, Tensors, inputs_of
from mmfusion.interpret._late import Late
from mmfusion.interpret._numeric import differentiable
from mmfusion.interpret._targets import target_of
from mmfusion.modalities.base import DESIGN
from mmfusion.model.linear_part import CLIP, PRESENCE
from mmfusion.model.subjects import Subjects
from mmfusion.training import make_fabric

__all__ = ["Explained"]


class Explained(nn.Module):
    """The prediction of some rows: formula, linear part and networks, through pool and head.

    Parameters
    ----------
    estimator : FusionEstimator
        Fitted; left as it is.
    X : DataFrame
    target
        See `target_of`.
    names : collection of str
        The modalities (and `FORMULA`) that are attributed; the others stay as they are.

    Attributes
    ----------
    table : DataFrame
    names : list of str
    inputs : dict of str to Inputs
        Of all modalities, a row a subject.
    alone : ndarray of bool, shape (n,)
        The rows that the formula alone predicts.
    """

    def __init__(self, estimator: Any, X: Any, target: Any, names: Collection[str]) -> None:
        super().__init__()
        self.estimator, self.model = estimator, estimator.model_
        self.names = [name for name in names_of(estimator) if name in names]
        self.table = estimator._frame(X)
        self.subjects = Subjects.read(estimator.id, self.table, complete=False)
        owner = self.subjects.owner
        n = len(self.table)
        self.owner = torch.arange(n) if owner is None else torch.from_numpy(owner)
        deep, structured = self.model.deep, self.model.structured
        self.subjects.refuse_changes(deep.modalities, self.table)
        self.inputs = self.inputs_in(self.subjects.table(self.table))
        self.context = estimator._curve_context(self.table) if self._has_context else {}
        self.target = target_of(self.model.head, target)
        present = [part.present[self.owner].numpy() for part in self.inputs.values()]
        self.present = np.stack(present, 1) if present else np.zeros((n, 0), dtype=bool)
        absent = ~self.present.any(axis=1)
        if absent.any() and not structured.complete:
            row = self.table.index[absent][0]
            raise ValueError(f"Row {row!r} has no modality to be predicted from.")
        self.alone = np.asarray(absent & (self.model.alone is not None))
        self.reads_design = any(network.design_use.read for network in deep.networks.values())
        fabric = make_fabric(estimator.device, fall_back=True)
        self.device = fabric.device
        self.members = nn.ModuleList(
            m for network in deep.networks.values() for m in network.members
        )
        self._paths: dict[tuple[str, int], FormulaPath] = {}
        self._path = self.path(Baseline()) if FORMULA in names_of(estimator) else None
        self._presence = self._of_presence()
        first = structured.design(self.table.iloc[:1])
        self._constant = structured.predictor(first, np.zeros((1, len(structured.pool_base))))

    @property
    def _has_context(self) -> bool:
        return hasattr(self.estimator, "_curve_context")

    def inputs_in(self, table: pd.DataFrame) -> dict[str, Inputs]:
        """Return the float inputs of the rows of a table, a row a subject."""
        return {
            name: inputs_of(modality, table, network.encoders[name])
            for network in self.model.deep.networks.values()
            for name, modality in network.modalities.items()
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have the networks where they run, in evaluation mode, their embeddings replaced."""
        self.members.to(self.device).eval()
        self._bits: dict[int, Tensor] = {}
        self._features: dict[str, dict[int, Tensor]] = {}
        with ExitStack() as stack:
            members: Any = self.members
            for member in members:
                for encoder in member.encoders.values():
                    for table in _embeddings(encoder):
                        handle = table.register_forward_hook(self._embedded)
                        stack.callback(handle.remove)
            try:
                yield
            finally:
                self.members.to("cpu")

    def _embedded(self, module: Any, args: Any, output: Tensor) -> Tensor:
        return self._bits[id(module)].to(output.dtype) @ module.weight

    # The path -----------------------------------------------------------------------------------

    def path(self, baseline: Baseline) -> FormulaPath | None:
        """Return what each column of the formula moves the predictors by, of all rows."""
        structured = self.model.structured
        if not len(structured.columns):
            return None
        key = (baseline.kind, baseline.number if baseline.table is not None else -1)
        if key not in self._paths:
            cells = baseline.cells(structured)
            found = formula_path(structured, self.table, cells, alone=False)
            if self.alone.any():
                other = formula_path(structured, self.table, cells, alone=True)
                found.moves[self.alone] = other.moves[self.alone]
                found.start[self.alone] = other.start[self.alone]
            self._paths[key] = found
        return self._paths[key]

    def ends(self, rows: Tensor, baseline: Baseline) -> tuple[Tensors, Tensors]:
        """Return the inputs of some rows and their baseline, tensors in the order of `names`."""
        self._path = self.path(baseline)
        ends: tuple[list[Tensor], list[Tensor]] = ([], [])
        mine = self.owner[rows]
        for name in self.names:
            if name == FORMULA:
                assert self._path is not None
                at = torch.ones(len(rows), len(self._path.columns), dtype=torch.float64)
                found: tuple[Tensors, Tensors] = ((at,), (torch.zeros_like(at),))
                if self.reads_design:
                    shown = self.model.structured.network_design(self.table.iloc[rows.numpy()])
                    cells = baseline.cells(self.model.structured)
                    typical = self.table.iloc[rows.numpy()].assign(**cells)
                    start = self.model.structured.network_design(typical)
                    found = ((at, shown), (torch.zeros_like(at), start))
            else:
                part = self.inputs[name]
                found = part.tensors(mine), baseline.of(name, part, mine)
            for end, own in zip(ends, found, strict=True):
                end += [tensor.to(self.device) for tensor in own]
        return tuple(ends[0]), tuple(ends[1])

    def split(self, tensors: Sequence[Any]) -> dict[str, tuple[Any, ...]]:
        """Return what belongs to each of the `names`, of a flat sequence in their order."""
        found, first = {}, 0
        for name in self.names:
            count = self._count(name)
            found[name] = tuple(tensors[first : first + count])
            first += count
        return found

    def _count(self, name: str) -> int:
        if name == FORMULA:
            return 1 + self.reads_design
        part = self.inputs[name]
        return len(part.tensors(torch.zeros(min(len(part.present), 1), dtype=torch.int64)))

    @property
    def formula_columns(self) -> list[str]:
        """The columns of the formula."""
        return list(self.model.structured.columns)

    def summed(self, arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
        """Return attributions of all inputs by the columns, pixels or points of a modality."""
        own = self.split(arrays)[name]
        if name != FORMULA:
            return self.inputs[name].summed(own)
        moves = own[0].copy()
        for extra in own[1:]:  # of the design that networks read
            for place, columns in enumerate(self._design_columns()):
                moves[:, columns] += extra[:, [place]] / len(columns)
        return moves

    def spread(self, name: str, chosen: np.ndarray, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return which inputs belong to chosen features, as `summed` counts them, of one name."""
        if name != FORMULA:
            found = self.inputs[name].spread(chosen)
        else:
            found = [chosen]
            if self.reads_design:
                every = [chosen[:, columns].all(axis=1) for columns in self._design_columns()]
                found.append(np.stack(every, axis=1))
        return [
            torch.from_numpy(each).to(t.device).expand(t.shape)
            for each, t in zip(found, tensors, strict=True)
        ]

    def _design_columns(self) -> list[list[int]]:
        """Return the columns of the formula that each column networks read is made of."""
        structured, columns = self.model.structured, self.formula_columns
        design = structured.design(self.table.iloc[:1])
        blocks = [block for block in design.blocks if hasattr(block, "rows")]
        coefficients = np.concatenate([block.columns[0] for block in blocks])
        found = []
        for coefficient in coefficients[structured.spread > 0]:
            for term in structured.layout.terms:
                if term.columns.start <= coefficient < term.columns.stop:
                    found.append([columns.index(c) for c in columns if c in term.variables])
        return found

    # The prediction -----------------------------------------------------------------------------

    def forward(self, *args: Tensor) -> Tensor:
        """Return the target of some rows, float64 of shape (n,).

        Parameters
        ----------
        *args : Tensor
            The inputs of the `names`, as of `ends`, then which rows they are.
        """
        *tensors, rows = args
        numbers = rows.cpu().numpy()
        given = self.split(tensors)
        design = self._design(given, numbers)
        outputs, features = self._networks(given, rows, numbers, design)
        linear = self._linear(features, len(rows))
        formula = given[FORMULA][0] if FORMULA in given else outputs.new_zeros(len(rows), 0)
        late = Late(self, numbers, outputs.shape[1:], linear.shape[1], formula.shape[1])
        if late.narrow:
            found = differentiable(late.targets, self._eta(outputs, linear, formula, numbers))
        else:
            together = torch.cat([outputs.flatten(1), linear, formula], dim=1)
            found = differentiable(late, together)
        for tensor in tensors:  # on the graph, whoever lacks the modality
            found = found + 0.0 * tensor.flatten(1)[:, :1].sum(1).double()
        return found

    def targets(self, eta: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Return what the heads make of predictors (n, K) of some rows."""
        alone = self.alone[numbers]
        result = np.zeros(len(eta))
        for head, mine in ((self.model.head, ~alone), (self.model.alone, alone)):
            if mine.any():
                context = {
                    name: None if labels is None else np.asarray(labels)[numbers[mine]]
                    for name, labels in self.context.items()
                }
                result[mine] = self.target(head, eta[mine], context)
        return result

    def known(self, numbers: np.ndarray, *, moved: bool) -> np.ndarray:
        """Return what is added to networks and linear part, (n, K): of the formula and presence.

        With `moved` what the columns of the formula move it by is in it.
        """
        if self._path is None:
            start = np.repeat(self._constant, len(numbers), axis=0)
        else:
            start = self._path.start[numbers]
            start = start + self._path.moves[numbers].sum(1) if moved else start
        return start + np.where(self.alone[numbers, None], 0.0, self._presence[numbers])

    def moves(self, numbers: np.ndarray) -> np.ndarray:
        """Return what each column of the formula moves the predictors by, (n, J, K)."""
        assert self._path is not None
        return self._path.moves[numbers]

    def _eta(self, outputs: Tensor, linear: Tensor, formula: Tensor, numbers: np.ndarray) -> Tensor:
        """Return the predictors (n, K) where there is one network at most."""
        device = outputs.device
        eta = self._array(self.known(numbers, moved=not formula.shape[1]))
        if formula.shape[1]:
            eta = eta + torch.einsum("nj,njk->nk", formula, self._array(self.moves(numbers)))
        deep = torch.zeros_like(eta)
        if self.model.deep.linear is not None:
            deep = deep + linear @ self._array(self.model.deep.linear.basis).T
        if outputs.shape[1]:
            etas = self._array(self.model.structured.pool_base) + outputs[:, 0] @ (
                self._array(self.model.head.deep_basis.matrix).T
            )
            deep = deep + self._array(self.model.deep.share) * etas
        alone = torch.from_numpy(self.alone[numbers]).to(device)
        return eta + torch.where(alone[:, None], 0.0 * deep, deep)

    def _array(self, values: Any) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float64)).to(self.device)

    def _networks(
        self,
        given: Mapping[str, tuple[Tensor, ...]],
        rows: Tensor,
        numbers: np.ndarray,
        design: Tensor | None,
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Return the outputs of all networks, (n, M, D), and what the linear part reads."""
        mine = self.owner[rows.cpu()]

        def tensors(name: str) -> Tensors:
            known = given.get(name)
            return known or tuple(t.to(self.device) for t in self.inputs[name].tensors(mine))

        present = torch.from_numpy(self.present[numbers]).to(self.device)
        outputs: list[Tensor] = []
        features: dict[str, tuple[Tensor, Tensor]] = {}
        first = 0
        for network in self.model.deep.networks.values():
            own = present[:, first : first + len(network.modalities)]
            first += len(network.modalities)
            found, seen = self._outputs(network, tensors, mine.to(self.device), own, design)
            outputs.append(found)
            features |= seen
        if not outputs:
            width = len(self.model.head.deep_basis)
            return torch.zeros(len(rows), 0, width, dtype=torch.float64, device=self.device), {}
        return torch.stack(outputs, dim=1), features

    def _design(
        self, given: Mapping[str, tuple[Tensor, ...]], numbers: np.ndarray
    ) -> Tensor | None:
        if not self.reads_design:
            return None
        if FORMULA in given:
            return given[FORMULA][1]
        return self.model.structured.network_design(self.table.iloc[numbers]).to(self.device)

    def _outputs(
        self,
        network: Any,
        tensors: Callable[[str], Tensors],
        rows: Tensor,
        present: Tensor,
        design: Tensor | None,
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Return a network's outputs (n, D), and the features that the linear part reads.

        The features of a modality, numbers and indicators, are those of the rows that have it.
        """
        inputs: dict[str, tuple[Tensor, ...]] = {}
        features: dict[str, tuple[Tensor, Tensor]] = {}
        embedded: dict[str, list[Tensor]] = {}
        for place, name in enumerate(network.modalities):
            mine = torch.nonzero(present[:, place])[:, 0]
            if not len(mine):
                continue
            encoder = network.encoders[name]
            kept = self._kept(name, rows[mine])
            if kept is not None:
                features[name], inputs[name] = (mine, kept.double()), (kept,)
                continue
            encoded, bits = self.inputs[name].encoded(tensors(name), rows, mine)
            if network.modalities[name].kind == "table":
                columns = torch.cat([encoded[0], *(each[:, 1:] for each in bits)], dim=1)
                features[name] = (mine, columns)
                encoded = (encoded[0].float(), *encoded[1:])
                if encoder.frozen:
                    encoded = (columns.float(),)
            elif encoder.frozen:
                found = getattr(encoder, "source", encoder).features(*encoded)
                if name not in self.names:
                    self._keep(name, rows[mine], found)
                features[name] = (mine, found.double())
                encoded = (found,)
            inputs[name], embedded[name] = encoded, bits
        if design is not None:
            inputs[DESIGN] = (design.float(),)
        there = None if bool(present.all()) else present
        found = []
        for member in network.members:
            for name, bits in embedded.items():
                for table, own in zip(_embeddings(member.encoders[name]), bits, strict=False):
                    self._bits[id(table)] = own
            found.append(member(inputs, there).double())
        self._bits.clear()
        return torch.stack(found).mean(0), features

    def _kept(self, name: str, subjects: Tensor) -> Tensor | None:
        """Return the features of a modality that stays as it is, if a frozen encoder made them."""
        store, keys = self._features.get(name, {}), subjects.tolist()
        if not all(key in store for key in keys):
            return None
        return torch.stack([store[key] for key in keys])

    def _keep(self, name: str, subjects: Tensor, features: Tensor) -> None:
        store = self._features.setdefault(name, {})
        store |= dict(zip(subjects.tolist(), features.detach(), strict=True))

    def _linear(self, features: Mapping[str, tuple[Tensor, Tensor]], n: int) -> Tensor:
        """Return the linear part's coordinates in its basis of the predictors, (n, F)."""
        linear = self.model.deep.linear
        width = 0 if linear is None else linear.basis.shape[1]
        total = torch.zeros(n, width, dtype=torch.float64, device=self.device)
        for name, (mine, columns) in features.items():
            if linear is None or name not in linear.coef:
                continue
            learned = linear.features
            standard = (columns - self._array(learned.center[name])) * self._array(
                learned.factor[name]
            )
            if name in learned.clipped:
                standard = standard.clamp(-CLIP, CLIP)
            total = total.index_add(0, mine, standard @ self._array(linear.coef[name]))
        return total

    def seen(self, numbers: np.ndarray) -> np.ndarray:
        """Return which networks see some rows, (n, M)."""
        sizes = [len(n.modalities) for n in self.model.deep.networks.values()]
        parts = np.split(self.present[numbers], np.cumsum(sizes)[:-1], axis=1) if sizes else []
        seen = [part.any(axis=1) for part in parts]
        return np.stack(seen, 1) if seen else np.zeros((len(numbers), 0), dtype=bool)

    def _of_presence(self) -> np.ndarray:
        """Return what the bits that say which modality a row has add to its predictors, (n, K)."""
        linear, shape = self.model.deep.linear, (len(self.table), len(self.model.deep.share))
        if linear is None or PRESENCE not in linear.coef:
            return np.zeros(shape)
        features = linear.features
        bits = (self.present - features.center[PRESENCE]) * features.factor[PRESENCE]
        return bits @ linear.coef[PRESENCE] @ linear.basis.T


def _embeddings(encoder: Any) -> list[nn.Module]:
    """Return the embeddings of a table's categories, in their order."""
    own = getattr(getattr(encoder, "source", encoder), "embeddings", ())
    return list(own)
