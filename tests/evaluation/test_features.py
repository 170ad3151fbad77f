"""Tables of several modalities as one matrix, and the ridge Cox model of them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA

from mmfusion import Genes, Image, Tabular
from mmfusion.evaluation import CoxRidge, TableFeatures
from tests.helpers import make_cohort

FRAME, Y = make_cohort(100)
TABLES = {"clinic": Tabular(["age", "sex"]), "genes": Genes("gene_*", clip=None)}


def test_columns_are_those_of_each_table_on_its_own() -> None:
    features = TableFeatures(TABLES | {"scan": Image("image")})
    numbers = clone(features).fit_transform(FRAME)
    assert numbers.shape == (100, 13)
    age, genes = FRAME["age"], FRAME.filter(like="gene_")
    np.testing.assert_allclose(numbers[:, 0], (age - age.mean()) / age.std(ddof=0), atol=1e-6)
    np.testing.assert_array_equal(numbers[:, 1], FRAME["sex"] == "f")
    standard = (genes - genes.mean()) / genes.std(ddof=0)
    np.testing.assert_allclose(numbers[:, 3:], standard, atol=1e-5)
    labels = features.fit(FRAME).feature_labels_
    assert labels[:4] == ["clinic: age", "clinic: sex=f", "clinic: sex=m", "genes: gene_0"]
    assert list(features.modalities_) == ["clinic", "genes"]


def test_wide_genes_become_components_unless_they_say_how_many() -> None:
    features = TableFeatures({"genes": Genes("gene_*", clip=None)}, n_components=3)
    numbers = features.fit_transform(FRAME)
    genes = FRAME.filter(like="gene_")
    standard = (genes - genes.mean()) / genes.std(ddof=0)
    known = PCA(3).fit_transform(standard)
    np.testing.assert_allclose(numbers, known / known[:, 0].std(ddof=1), atol=1e-4)
    own = TableFeatures({"genes": Genes("gene_*", n_components=5)}, n_components=3)
    assert own.fit_transform(FRAME).shape == (100, 5)


def test_a_table_that_rows_lack_has_zeros_and_a_column_of_presence() -> None:
    frame = FRAME.copy()
    genes = [column for column in frame if column.startswith("gene_")]
    frame.loc[frame.index[:30], genes] = np.nan
    features = TableFeatures(TABLES).fit(frame)
    numbers = features.transform(frame)
    assert features.feature_labels_[-1] == "genes: present"
    np.testing.assert_array_equal(numbers[:, -1], np.arange(100) >= 30)
    assert (numbers[:30, 3:] == 0).all()
    assert np.isfinite(numbers).all()


def test_ridge_cox_of_several_tables() -> None:
    both = CoxRidge(TABLES).fit(FRAME, Y)
    columns = ["age", "sex", *FRAME.filter(like="gene_").columns]
    one = CoxRidge(Tabular(columns, encoding="onehot")).fit(FRAME, Y)
    np.testing.assert_allclose(both.predict(FRAME), one.predict(FRAME), atol=1e-4)
    assert both.coef_.index[0] == "clinic: age"


def test_no_table() -> None:
    with pytest.raises(ValueError, match=r"must hold a table.*\['scan'\]"):
        TableFeatures({"scan": Image("image")}).fit(FRAME)


@pytest.mark.parametrize("modality", [*TABLES.values(), Image("image", size=8)])
def test_presence_is_that_of_the_tensors(modality) -> None:
    frame = FRAME.copy()
    frame.loc[frame.index[:9]] = None
    fitted = clone(modality).fit(FRAME)
    present = fitted.present(frame)
    np.testing.assert_array_equal(present, fitted.transform(frame).present.numpy())
    assert not present[:9].any()
    assert present[9:].any()
