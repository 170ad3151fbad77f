from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmfusion.datasets import ChecksumError, _porpoise, fetch_glioma, glioma
from mmfusion.datasets._checks import check_colours, content_hash, manifest
from mmfusion.datasets._images import mean_colours
from tests.datasets.network import Network, zip_of

IMAGES = (
    "https://codeload.github.com/bips-hb/Survival-XAI-ICML/zip/"
    "cd28209521846a8b84a899a66023051ac71ff8cc"
)
MOLECULAR = (
    "https://raw.githubusercontent.com/mahmoodlab/PORPOISE/"
    "3390dc40e15995ba852d7a561faf0e996cf20501/datasets_csv_mutsig/tcga_gbmlgg_all_clean.csv.zip"
)
PROJECTS = (
    "https://raw.githubusercontent.com/luisvalesilva/multisurv/"
    "deb35e12502f61a59726bfb543210735406d5959/data/clinical_data.tsv"
)
ROOT = "Survival-XAI-ICML-cd28209521846a8b84a899a66023051ac71ff8cc"


@pytest.mark.parametrize(("cohort", "n", "events"), [("genes", 490, 151), ("all", 768, 388)])
def test_cohorts(data_dir: Path, cohort: str, n: int, events: int) -> None:
    data = fetch_glioma(cohort)
    assert len(data.frame) == n
    assert data.target["event"].sum() == events
    assert (data.target["time"] > 0).all()
    assert data.frame.index.is_monotonic_increasing
    assert data.frame.index.is_unique
    for suffix, count in (("_rnaseq", 1544), ("_cnv", 30), ("_mut", 16)):
        assert data.frame.columns.str.endswith(suffix).sum() == count
    has_genes = data.frame.filter(like="_rnaseq").notna()
    assert has_genes.all(axis=1).sum() == 490
    assert has_genes.any(axis=1).sum() == 490
    assert not {"event", "time_days", "time_months", "split"} & set(data.frame.columns)
    assert (data.frame["image"].map(len) == data.frame["n_roi"]).all()
    for patient, bag in data.frame["image"].items():
        assert all(Path(path).is_absolute() and Path(path).exists() for path in bag)
        assert all(Path(path).name.startswith(f"{patient}_") for path in bag)
    assert set(data.split) == {"train", "test"}
    assert data.split.index.equals(data.frame.index)


def test_what_the_readme_says_of_the_cohort(data_dir: Path) -> None:
    frame = fetch_glioma("all").frame
    assert frame["n_roi"].sum() == 1505 - 2  # the patient left out has two
    assert (frame["n_roi"].min(), frame["n_roi"].max()) == (1, 16)
    assert frame["idh_mutation"].isna().sum() == 72
    assert frame["age"].between(10, 90).all()
    assert set(frame["male"]) == {0, 1}


def test_units_against_values_published_for_single_patients(data_dir: Path) -> None:
    # Age, months, death, sex: a notebook of the genes' source (datasets_csv/Preprocessing.ipynb).
    published = {
        "TCGA-06-0129": (30, 33.64, True, "male"),
        "TCGA-WY-A85A": (20, 43.36, False, "male"),
        "TCGA-WY-A85D": (60, 37.68, False, "male"),
        "TCGA-WY-A85E": (48, 20.80, False, "female"),
    }
    data = fetch_glioma("genes")
    for patient, (age, months, died, sex) in published.items():
        row = data.frame.index.get_loc(patient)
        assert data.frame["age"].iloc[row] == age
        assert data.frame["male"].iloc[row] == (sex == "male")
        assert data.target["event"][row] == died
        assert data.target["time"][row] == pytest.approx(months * 365.25 / 12, abs=1)


@pytest.mark.parametrize("cohort", ["genes", "all"])
def test_folds_and_baselines_are_those_of_the_data(data_dir: Path, cohort: str) -> None:
    data = fetch_glioma(cohort)
    order = ["repeat", "fold", "patient_id"]
    known = pd.read_csv(data_dir / "tcga_gbmlgg" / "folds.csv").query("cohort == @cohort")
    pd.testing.assert_frame_equal(
        data.folds.sort_values(order, ignore_index=True),
        known.sort_values(order, ignore_index=True),
    )
    for _, fold in data.folds.groupby("repeat"):
        assert sorted(fold["patient_id"]) == list(data.frame.index)
    baselines = pd.read_csv(data_dir / "tcga_gbmlgg" / "baselines.csv").query("cohort == @cohort")
    pd.testing.assert_frame_equal(data.baselines, baselines.reset_index(drop=True))


def test_images_as_arrays(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir.resolve() / "tcga_gbmlgg"
    folder = tmp_path / "tcga_gbmlgg"
    folder.mkdir()
    for name in ("images.csv", "genes.parquet", "clinical.csv"):
        (folder / name).symlink_to(source / name)
    # One small picture stands for all of them: reading 1,505 is slow and shows no more.
    (folder / "images224").mkdir()
    paths = pd.read_csv(source / "images.csv")["image"]
    picture = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    Image.fromarray(picture).save(tmp_path / "one.png")
    for name in paths:
        (folder / "images224" / name).symlink_to(tmp_path / "one.png")
    frame = fetch_glioma("genes", image_size=64, data_home=tmp_path).frame
    np.testing.assert_array_equal(frame["image"].iloc[0][0], picture)
    frame = fetch_glioma("genes", image_size=16, data_home=tmp_path).frame
    assert frame["image"].map(len).equals(frame["n_roi"])
    assert {a.shape for bag in frame["image"] for a in bag} == {(16, 16, 3)}
    assert {a.dtype.name for bag in frame["image"] for a in bag} == {"uint8"}


@pytest.mark.slow
def test_the_known_colours_are_those_of_the_images(data_dir: Path) -> None:
    names = pd.read_csv(data_dir / "tcga_gbmlgg" / "images.csv")["image"]
    found = mean_colours(data_dir / "tcga_gbmlgg" / "images224" / name for name in names)
    check_colours(found, manifest()["glioma"]["colours"], "images224")
    with pytest.raises(ChecksumError, match="of 1505 images"):
        check_colours(np.roll(found, 1, axis=0), manifest()["glioma"]["colours"], "images224")


def test_bad_parameters() -> None:
    with pytest.raises(ValueError, match=r"The cohort parameter .*Did you mean 'genes'"):
        fetch_glioma("gene")
    with pytest.raises(ValueError, match=r"The image_size parameter must be .*Got 0\."):
        fetch_glioma(image_size=0)


def source_table(clinical: pd.DataFrame, images: pd.DataFrame) -> str:
    """Return the CSV text that the images' source would have for these patients."""
    rows = images[["patient_id", "source_roi"]].merge(clinical, on="patient_id")
    table = pd.DataFrame(
        {
            "Age (at index)": rows["age"] / 100,
            "gender": rows["male"],
            "idh.mutation": rows["idh_mutation"].fillna(-1.0),
            "codeletion": rows["codeletion_1p19q"].fillna(-1.0),
            "censored": 1.0 - rows["event"],
            "Survival.months": rows["time_days"] / 365,
            "TCGA.ID": rows["patient_id"],
            "full_path": rows["source_roi"],
            "train": rows["split"] == "train",
        }
    )
    return table.sample(frac=1, random_state=0).to_csv(index=False)


def test_conversion_gives_the_known_tables_back(data_dir: Path, tmp_path: Path) -> None:
    """Undo the conversion of all 769 patients by other means, convert, compare hashes."""
    folder = data_dir / "tcga_gbmlgg"
    clinical = pd.read_csv(folder / "clinical.csv")
    images = pd.read_csv(folder / "images.csv")
    splits = images.pop("split")
    names = {
        f"{ROOT}/real_data/data/full/{split}/{roi}": b""
        for split, roi in zip(splits, images["source_roi"], strict=True)
    }
    images["split"] = splits
    others = {f"{ROOT}/README.md": b"", f"{ROOT}/real_data/data/small/test/TCGA-1.png": b""}
    table = {
        f"{ROOT}/real_data/data/deephit_tabular_data.csv": source_table(
            clinical.drop(columns="split").merge(images[["patient_id", "split"]].drop_duplicates()),
            images.drop(columns="split"),
        ).encode()
    }
    content = zip_of(others | dict(reversed(names.items())) | table)
    genes = pd.read_parquet(folder / "genes.parquet").reset_index()
    codes = clinical.set_index("patient_id")["oncotree_code"].reindex(genes["patient_id"])
    raw = genes.rename(columns={"patient_id": "case_id", "time_months": "survival_months"})
    raw = raw.assign(
        censorship=1 - raw.pop("event"),
        age=50.0,
        site="02",
        is_female=1,
        # Patients with genes and without images do not enter; they have a code in the source.
        oncotree_code=codes.to_numpy(),
    )
    (tmp_path / "raw.zip").write_bytes(zip_of({"table.csv": raw.to_csv().encode()}))
    projects = pd.read_csv(data_dir / "tcga_omics" / "pancancer_clinical_multisurv.csv.gz")

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        listed = glioma.list_images(archive)
        converted = glioma.read_clinical(archive)
    molecular = _porpoise.read_molecular(tmp_path / "raw.zip")
    joined = glioma.join_clinical(converted, listed, molecular, projects)
    known = manifest()["glioma"]
    assert content_hash(listed) == known["images"]
    assert content_hash(joined) == known["clinical"]
    kept = molecular.drop(columns=["age", "site", "is_female", "oncotree_code"])
    assert content_hash(kept) == known["genes"]


def region(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (256, 256), (*colour, 255)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def source(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Serve three patients as the three sources have them; return what they are to become."""
    images = pd.DataFrame(
        {
            "patient_id": ["TCGA-02-0001", "TCGA-02-0001", "TCGA-06-0002", "TCGA-12-0003"],
            "source_roi": [
                *("TCGA-02-0001-01Z-00-DX1.aa_1.png", "TCGA-02-0001-01Z-00-DX2.bb_1.png"),
                *("TCGA-06-0002-01Z-00-DX1.cc_1.png", "TCGA-12-0003-01Z-00-DX1.dd_1.png"),
            ],
            "split": ["train", "train", "test", "train"],
            "roi": [0, 1, 0, 0],
            "image": [
                *("TCGA-02-0001_0.jpg", "TCGA-02-0001_1.jpg"),
                *("TCGA-06-0002_0.jpg", "TCGA-12-0003_0.jpg"),
            ],
        }
    )
    clinical = pd.DataFrame(
        {
            "patient_id": ["TCGA-02-0001", "TCGA-06-0002", "TCGA-12-0003"],
            "age": [44, 57, 88],
            "male": [0, 1, 1],
            "idh_mutation": [0.0, 1.0, np.nan],
            "codeletion_1p19q": [0.0, 1.0, np.nan],
            "time_days": [358, 6423, 0],
            "event": [1, 0, 1],
            "split": ["train", "test", "train"],
            "n_roi": [2, 1, 1],
            "oncotree_code": ["GBM", None, None],
            "has_genes": [True, False, False],
            "project": ["GBM", "LGG", None],
            "race": ["white", None, None],
        }
    )
    genes = pd.DataFrame(
        {
            "patient_id": ["TCGA-02-0001", "TCGA-99-0009"],
            "A1_rnaseq": [1.5517, -0.0356],
            "A2_cnv": [-1, 0],
            "A3_mut": [1, 0],
            "time_months": [11.77, 5.0],
            "event": [1, 0],
        }
    )
    colours = [(200, 100, 150), (180, 90, 140), (220, 120, 160), (100, 50, 90)]
    files = {f"{ROOT}/README.md": b""}
    for row, colour in zip(images.itertuples(), colours, strict=True):
        files[f"{ROOT}/real_data/data/full/{row.split}/{row.source_roi}"] = region(colour)
    files[f"{ROOT}/real_data/data/deephit_tabular_data.csv"] = (
        "Age (at index),gender,idh.mutation,codeletion,censored,Survival.months,TCGA.ID,full_path,"
        "train\n"
        f"0.44,0,0.0,0.0,0.0,{358 / 365},TCGA-02-0001,{images['source_roi'][0]},True\n"
        f"0.44,0,0.0,0.0,0.0,{358 / 365},TCGA-02-0001,{images['source_roi'][1]},True\n"
        f"0.57,1,1.0,1.0,1.0,{6423 / 365},TCGA-06-0002,{images['source_roi'][2]},False\n"
        f"0.88,1,-1.0,-1.0,0.0,0.0,TCGA-12-0003,{images['source_roi'][3]},True\n"
    ).encode()
    molecular = (
        ",case_id,slide_id,site,is_female,oncotree_code,age,survival_months,censorship,A3_mut,"
        "A1_rnaseq,A2_cnv\n"
        "0,TCGA-99-0009,s,06,1.0,ODG,30.0,5.0,1.0,0.0,-0.0356,0.0\n"
        "1,TCGA-02-0001,s,02,1.0,GBM,44.0,11.77,0.0,1.0,1.5517,-1.0\n"
    )
    network.files = {
        IMAGES: zip_of(files, "cd28209521846a8b84a899a66023051ac71ff8cc"),
        MOLECULAR: zip_of({"table.csv": molecular.encode()}),
        PROJECTS: b"submitter_id\trace\tproject_id\nTCGA-02-0001\twhite\tGBM\n"
        b"TCGA-06-0002\t\tLGG\nTCGA-3B-A9HI\twhite\tSARC\n",
    }
    known = {
        "clinical": content_hash(clinical),
        "genes": content_hash(genes),
        "images": content_hash(images),
        "colours": base64.b64encode(np.array(colours, np.uint8).tobytes()).decode(),
        "folds": {"genes": ["0", "0", "0"], "all": ["01", "10", "01"]},
    }
    monkeypatch.setattr(glioma, "manifest", lambda: {"glioma": known})
    return clinical, genes, known


def test_download(source: tuple, network: Network, tmp_path: Path) -> None:
    clinical = source[0]
    data = fetch_glioma("all")
    assert sorted(network.asked) == sorted([IMAGES, MOLECULAR, PROJECTS])
    folder = tmp_path / "user" / "tcga_gbmlgg"
    names = ["clinical.csv", "genes.parquet", "images.csv", "images224"]
    assert sorted(path.name for path in folder.iterdir()) == names

    # The third patient's time is zero: left out of both cohorts, as of the folds.
    assert list(data.frame.index) == ["TCGA-02-0001", "TCGA-06-0002"]
    assert data.target["time"].tolist() == [358, 6423]
    assert data.target["event"].tolist() == [True, False]
    columns = ["age", "male", "idh_mutation", "codeletion_1p19q", "n_roi", "project", "race"]
    expected = clinical.set_index("patient_id").iloc[:2]
    pd.testing.assert_frame_equal(
        data.frame[columns].fillna("?"), expected[columns].fillna("?"), check_dtype=False
    )
    np.testing.assert_allclose(data.frame["A1_rnaseq"], [1.5517, np.nan], rtol=1e-6)
    assert list(data.frame.columns[-3:]) == ["A1_rnaseq", "A2_cnv", "A3_mut"]
    with Image.open(data.frame["image"].iloc[0][1]) as image:
        assert (image.size, image.mode) == ((224, 224), "RGB")
        mean = np.asarray(image).mean(axis=(0, 1))
    np.testing.assert_allclose(mean, [180, 90, 140], atol=2)
    assert data.folds["fold"].tolist() == [0, 1, 0, 1, 0, 1]
    assert list(fetch_glioma("genes").frame.index) == ["TCGA-02-0001"]
    assert len(network.asked) == 3


@pytest.mark.parametrize("table", ["clinical", "genes", "images", "colours"])
def test_what_is_not_the_known_leaves_nothing(
    source: tuple, network: Network, tmp_path: Path, table: str
) -> None:
    known = source[2]
    known[table] = "0" * 64 if table != "colours" else base64.b64encode(bytes(range(12))).decode()
    with pytest.raises(ChecksumError):
        fetch_glioma("all")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
