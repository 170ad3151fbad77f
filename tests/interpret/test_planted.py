"""What was planted is found: lesions in images by CNN and ViT, genes among a thousand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion import Genes, Image
from mmfusion.estimators import FusionCox, FusionRegressor
from mmfusion.fusion import JointFusion
from mmfusion.interpret import attribute
from mmfusion.interpret.sanity import randomized_weights
from mmfusion.survival import surv
from tests.estimators.common import cohort_for, make_model, modalities
from tests.interpret.test_attribution import heard

#: Where the lesion is, in pixels of the originals, and 4 pixels around it: a quarter of an image.
PLACE, AROUND = (slice(16, 40), slice(24, 48)), (slice(12, 44), slice(20, 52))


def lesions(n: int, seed: int = 0, contrast: float = 0.1) -> tuple[pd.DataFrame, np.ndarray]:
    """Return images of 64 pixels, some with a bright lesion, and a number that knows it.

    The ground is a patchwork of gratings: were it even, all weights would react to the lesion, the
    only thing in the image, and maps of random ones would mark it too.
    """
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:8, :8]
    angle, period, phase = rng.random((3, n, 9, 9, 1, 1))
    along = np.cos(np.pi * angle) * down + np.sin(np.pi * angle) * across
    tiles = np.sin(2 * np.pi * (along / (4 + 5 * period) + phase))
    ground = tiles.transpose(0, 1, 3, 2, 4).reshape(n, 72, 72)[:, 4:68, 4:68]
    images = (
        0.4 + contrast * ground + rng.normal(0, 0.03, (n, 64, 64)) + rng.normal(0, 0.05, (n, 1, 1))
    )
    size = rng.random(n) * (rng.random(n) < 0.7)
    images[:, *PLACE] += 0.4 * size[:, None, None]
    cells = pd.Series(list((images.clip(0, 1) * 255).astype(np.uint8)), dtype=object)
    return pd.DataFrame({"scan": cells}), 4 * size + 0.1 * rng.normal(size=n)


def share_in_place(maps: np.ndarray) -> float:
    """Return the share of the positive mass that lies in and around the lesion."""
    positive = maps.clip(min=0)
    return float(positive[:, *AROUND].sum() / positive.sum())


@pytest.mark.parametrize(
    ("encoder", "size"),
    [("cnn", 32), pytest.param("test_vit", 64, marks=pytest.mark.slow)],
)
@pytest.mark.filterwarnings("ignore::mmfusion.interpret.AttributionWarning")
def test_a_planted_lesion_holds_the_positive_mass(encoder: str, size: int) -> None:
    frame, y = lesions(120)
    model: Any = FusionRegressor(
        {"scan": Image("scan", size=size, channels="L", encoder=encoder)},
        n_members=1,
        epochs=8,
        batch_size=12,
        learning_rate=0.002,
        device="cpu",
        random_state=0,
    ).fit(frame, y)
    assert model.score(frame, y) > 0.6
    some, without = frame[y > 2][:4], frame[y < 0.3][:2]
    found = attribute(model, some, max_steps=64)
    assert found.images["scan"].shape == (4, 64, 64)
    assert share_in_place(found.images["scan"]) > 0.6
    quick: dict[str, Any] = {"n_draws": 4, "n_steps": 16, "max_steps": 16}
    for options in (quick, {"n_draws": 20, "method": "grad_cam"}):
        changed = randomized_weights(model, some, **options).loc["scan"]
        assert abs(changed["correlation"]) < 0.3
        assert changed["size"] < 0.3
        # No more alike than maps of two networks that learned nothing.
        assert changed["size"] < changed["among"] + 0.15
    for baseline in (None, without):
        cam = attribute(model, some, method="grad_cam", baseline=baseline).images["scan"]
        assert cam.shape == (4, 64, 64)
        assert share_in_place(cam) > 0.6
    if encoder == "test_vit":
        rollout = attribute(model, some, method="attention_rollout").images["scan"]
        assert rollout.shape == (4, 64, 64)
        assert (rollout >= 0).all()


def test_maps_know_their_networks() -> None:
    frame, y = lesions(24)
    quick: dict[str, Any] = {"epochs": 1, "n_members": 2, "device": "cpu", "random_state": 0}
    frame.loc[1, "scan"] = None
    frame["bag"] = [[image, image] if image is not None else [] for image in frame["scan"]]
    models = {
        encoder: FusionRegressor(
            {"scan": Image(column, size=64, channels="L", encoder=encoder, freeze=freeze)},
            fusion=JointFusion(dim=6, hidden=(4,)),
            **quick,
        ).fit(frame.drop(index=1), y[np.arange(24) != 1])
        for encoder, freeze, column in (
            ("cnn", None, "scan"),
            ("test_resnet", "all", "scan"),
            ("test_vit", None, "bag"),
        )
    }
    some = frame.drop(index=1)[:3]
    for encoder, model in models.items():
        heard(model)
        before = model.predict(some)
        found = attribute(model, some, method="grad_cam")
        maps = found.images["scan"]
        assert len(maps) == (6 if encoder == "test_vit" else 3)
        assert (np.abs(maps).max(axis=(1, 2)) > 0).all()
        assert found.gap.isna().all()
        only = attribute(model, some, method="grad_cam", relu=True).images["scan"]
        assert (only > -1e-9).all()
        np.testing.assert_array_equal(model.predict(some), before)
    vit = models["test_vit"]
    rolled = attribute(vit, some, method="attention_rollout")
    np.testing.assert_allclose(rolled.images["scan"][::2], rolled.images["scan"][1::2], rtol=1e-4)
    # A row of attention sums to 1, of which the class's own token has a part.
    assert (rolled.images["scan"].sum((1, 2)) < 1).all()
    guided = attribute(models["test_resnet"], some, method="guided_backprop")
    assert np.abs(guided.images["scan"]).max() > 0
    with pytest.raises(ValueError, match=r"networks of ReLU.*'SiLU'"):
        attribute(models["cnn"], some, method="guided_backprop")
    with pytest.raises(ValueError, match="of transformers"):
        attribute(models["cnn"], some, method="attention_rollout")


def test_attention_finds_the_image_of_a_bag_that_matters() -> None:
    rng = np.random.default_rng(0)
    bags: list[list[np.ndarray]] = []
    bright = rng.random(90)
    for row in range(90):
        count = 1 + row % 3
        images = rng.normal(0.3, 0.05, (count, 8, 8))
        images[row % count] += bright[row] * np.eye(8) * 0.6
        bags.append([(255 * image.clip(0, 1)).astype(np.uint8) for image in images])
    bags[7] = []
    frame = pd.DataFrame({"bag": pd.Series(bags, dtype=object)}).rename(lambda k: f"p{k}")
    rest, y = frame.drop(index="p7"), np.delete(bright, 7)
    quick: dict[str, Any] = {"n_members": 2, "device": "cpu", "random_state": 0}
    images = {"bag": Image("bag", size=8, channels="L", pool="attention")}
    model: Any = FusionRegressor(
        images, structured="1", epochs=12, learning_rate=0.01, **quick
    ).fit(rest, y)
    weights = attribute(model, frame[:12], "bag", method="attention").weights["bag"]
    counts = [0 if row == 7 else 1 + row % 3 for row in range(12)]
    assert [len(weights.get(f"p{row}", ())) for row in range(12)] == counts
    np.testing.assert_allclose(weights.groupby(level=0).sum(), 1, rtol=1e-5)
    every = attribute(model, rest, "bag", method="attention").weights["bag"]
    clear = [row for row in range(90) if row % 3 and row != 7 and bright[row] > 0.5]
    shares = [every[f"p{row}", row % (1 + row % 3)] * (1 + row % 3) for row in clear]
    assert np.mean(shares) > 1.05  # as a multiple of an even share
    network = next(iter(model.model_.deep.networks.values()))
    found = []
    for member in network.members:  # the formula of the paper
        encoder = member.encoders["bag"]
        pixels = torch.from_numpy(np.stack(bags[2]))[:, None]
        h, pool = encoder._run(encoder._normalise(pixels)), encoder.attention
        gated = torch.tanh(pool.content(h)) * torch.sigmoid(pool.gate(h))
        found.append(torch.softmax(pool.score(gated)[:, 0], 0).detach().numpy())
    np.testing.assert_allclose(weights["p2"], np.mean(found, axis=0), rtol=1e-4)
    plain = FusionRegressor({"bag": Image("bag", size=8, channels="L")}, epochs=1, **quick)
    with pytest.raises(ValueError, match="pool='attention'"):
        attribute(plain.fit(rest, y), rest, "bag", method="attention")


def test_an_image_that_a_row_lacks_has_no_map() -> None:
    frame, y = cohort_for("cox")
    model = heard(
        make_model("cox", "gated", epochs=1, modalities=modalities(size=16)).fit(frame, y)
    )
    found = attribute(model, frame[:8], method="grad_cam").images["scan"]
    absent = frame["image"][:8].isna().to_numpy()
    assert (found[absent] == 0).all()
    assert (found[~absent] != 0).any((1, 2)).all()
    tables = make_model("cox", "gated", epochs=1, modalities={"rna": Genes("gene_*")})
    with pytest.raises(ValueError, match="is of images, and the model has none"):
        attribute(tables.fit(frame, y), frame, method="grad_cam")


def test_planted_genes_rank_among_the_first() -> None:
    rng = np.random.default_rng(0)
    n, p = 400, 1000
    genes = pd.DataFrame(rng.normal(size=(n, p)), columns=[f"g{j}" for j in range(p)])
    planted = ["g10", "g200", "g500", "g999"]
    eta = genes[planted].sum(axis=1).to_numpy() * 1.2
    y = surv(rng.exponential(np.exp(-eta)), rng.random(n) < 0.8)
    model = FusionCox({"rna": Genes("g*")}, epochs=10, n_members=1, device="cpu", random_state=0)
    model.fit(genes, y)
    found = attribute(model, genes[:60])
    assert (found.gap < 0.01).all()
    importance = found.tables["rna"].abs().mean().sort_values(ascending=False)
    assert set(planted) <= set(importance.index[:10])
