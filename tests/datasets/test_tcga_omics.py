from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmfusion.datasets import ChecksumError, _porpoise, fetch_tcga_omics, tcga_omics
from mmfusion.datasets._checks import content_hash, manifest
from tests.datasets.network import Network, zip_of

ROOT = (
    "https://raw.githubusercontent.com/mahmoodlab/PORPOISE/3390dc40e15995ba852d7a561faf0e996cf20501"
)


@pytest.mark.parametrize(
    ("cancer", "n", "share", "rna", "cnv", "mut"),
    [
        ("blca", 373, 0.45, 1554, 256, 371),
        ("brca", 956, 0.14, 1558, 1333, 21),
        ("hnsc", 416, 0.47, 1557, 477, 174),
        ("ucec", 480, 0.16, 0, 5, 1406),
    ],
)
def test_cohorts(
    data_dir: Path, cancer: str, n: int, share: float, rna: int, cnv: int, mut: int
) -> None:
    data = fetch_tcga_omics(cancer)
    assert len(data.frame) == n
    assert data.target["event"].mean() == pytest.approx(share, abs=5e-3)
    for suffix, count in (("_rnaseq", rna), ("_cnv", cnv), ("_mut", mut)):
        assert data.frame.columns.str.endswith(suffix).sum() == count
    assert data.frame.index.name == "patient_id"
    assert data.frame.index.is_unique
    assert list(data.frame.columns[:4]) == ["age", "is_female", "site", "oncotree_code"]
    assert not {"event", "time_months"} & set(data.frame.columns)
    assert len(data.signatures) == 6
    assert "TP53" in data.signatures["Tumor Suppressor Genes"]


def test_an_unknown_cancer_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"The cancer parameter .*Did you mean 'luad'"):
        fetch_tcga_omics("LUDA")


# A piece of the public UCEC table, in the layout of the source: a row a slide, the index unnamed.
SLIDES = """,case_id,slide_id,oncotree_code,is_female,site,age,survival_months,censorship,train,\
MTAP_cnv,TP53_mut,ALG3_cnv,A1_rnaseq
0,TCGA-5B-A90C,TCGA-5B-A90C-01Z-00-DX1.svs,UEC,1,5B,69.0,39.49,1,1.0,-1,0,1,-0.1599
1,TCGA-4E-A92E,TCGA-4E-A92E-01Z-00-DX1.svs,UEC,1,02,54.0,0.43,0,1.0,0,1,0,1.41685
2,TCGA-4E-A92E,TCGA-4E-A92E-01Z-00-DX2.svs,UEC,1,02,54.0,0.43,0,1.0,0,1,0,1.41685
"""
EXPECTED = pd.DataFrame(
    {
        "patient_id": ["TCGA-4E-A92E", "TCGA-5B-A90C"],
        "age": [54.0, 69.0],
        "site": ["02", "5B"],
        "is_female": [1, 1],
        "oncotree_code": ["UEC", "UEC"],
        "time_months": [0.43, 39.49],
        "event": [1, 0],
        "A1_rnaseq": np.array([1.41685, -0.1599], np.float32),
        "MTAP_cnv": np.array([0, -1], np.int8),
        "ALG3_cnv": np.array([0, 1], np.int8),
        "TP53_mut": np.array([1, 0], np.int8),
    }
)


def test_conversion(tmp_path: Path) -> None:
    (tmp_path / "raw.zip").write_bytes(zip_of({"table.csv": SLIDES.encode()}))
    pd.testing.assert_frame_equal(_porpoise.read_molecular(tmp_path / "raw.zip"), EXPECTED)
    dropped = _porpoise.read_molecular(tmp_path / "raw.zip", drop=["A1_rnaseq"])
    pd.testing.assert_frame_equal(dropped, EXPECTED.drop(columns="A1_rnaseq"))


def test_conversion_of_a_table_indexed_by_barcode(tmp_path: Path) -> None:
    barcoded = SLIDES.replace(",case_id", "")
    for row, patient in enumerate(["5B-A90C", "4E-A92E", "4E-A92E"]):
        barcoded = barcoded.replace(f"{row},TCGA-{patient},", f"TCGA-{patient}-01,")
    (tmp_path / "raw.zip").write_bytes(zip_of({"table.csv": barcoded.encode()}))
    pd.testing.assert_frame_equal(_porpoise.read_molecular(tmp_path / "raw.zip"), EXPECTED)


def test_conversion_gives_the_known_table_back(data_dir: Path, tmp_path: Path) -> None:
    known = pd.read_parquet(data_dir / "tcga_omics" / "hnsc.parquet")
    raw = known.rename(columns={"patient_id": "case_id", "time_months": "survival_months"})
    raw = raw.assign(censorship=1.0 - raw.pop("event"), slide_id="x", train=1.0)
    raw = pd.concat([raw, raw[::3]]).sample(frac=1, random_state=0, axis="index")
    raw = raw.sample(frac=1, random_state=0, axis="columns")
    (tmp_path / "raw.zip").write_bytes(zip_of({"table.csv": raw.to_csv().encode()}))
    converted = _porpoise.read_molecular(tmp_path / "raw.zip")
    assert content_hash(converted) == manifest()["tcga_omics"]["hnsc"]


def test_download(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    signatures = "Oncogenes,Cytokines\nABI1,ADA2\nABL1,\n"
    network.files = {
        f"{ROOT}/datasets_csv_mutsig/tcga_ucec_all_clean.csv.zip": zip_of({"t": SLIDES.encode()}),
        f"{ROOT}/datasets_csv/signatures.csv": signatures.encode(),
    }
    with pytest.raises(ChecksumError, match=r"480 patients and \(0, 5, 1406\).*Got 2 and \(1, 2,"):
        fetch_tcga_omics("ucec")
    monkeypatch.setitem(tcga_omics.CANCERS, "ucec", ("uterus", (2, 1, 2, 1)))
    with pytest.raises(ChecksumError, match="tcga_ucec"):
        fetch_tcga_omics("ucec")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    groups = pd.DataFrame({"Oncogenes": ["ABI1", "ABL1"], "Cytokines": ["ADA2", None]})
    known = {"ucec": content_hash(EXPECTED), "signatures": content_hash(groups)}
    monkeypatch.setattr(tcga_omics, "manifest", lambda: {"tcga_omics": known})
    data = fetch_tcga_omics("ucec")
    assert data.signatures == {"Oncogenes": ["ABI1", "ABL1"], "Cytokines": ["ADA2"]}
    expected = EXPECTED.set_index("patient_id")
    pd.testing.assert_frame_equal(data.frame, expected[data.frame.columns])
    assert data.target["time"].tolist() == [0.43, 39.49]
    assert data.target["event"].tolist() == [True, False]
