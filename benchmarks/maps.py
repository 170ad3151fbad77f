"""Maps of planted lesions: their share in place, and their likeness to maps of random weights.

nice -n 19 python -m benchmarks.maps
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch

from mmfusion import Image
from mmfusion.estimators import FusionRegressor
from mmfusion.interpret import _maps, attribute
from mmfusion.interpret.sanity import randomized_weights
from tests.interpret.test_planted import lesions, share_in_place

RESULTS = Path(__file__).parent / "results" / "maps.csv"
#: Encoder, image size, contrast of the ground, images; test_vit has a token a 16 x 16 pixels.
NETWORKS = [
    ("cnn", 32, 0.1, 120),
    ("test_vit", 64, 0.1, 120),
    ("test_vit", 128, 0.1, 120),
    ("test_vit", 128, 0.3, 240),
]
GRADIENTS: dict[str, Any] = {"n_draws": 4, "n_steps": 16, "max_steps": 16}


def last_block(backbone: Any, shape: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
    """Return the layer that was read of a transformer before: what its last block attends to."""
    name, layout = chosen(backbone, shape)
    return f"blocks.{len(backbone.blocks) - 1}.attn" if "grid" in layout else name, layout


chosen = _maps._layer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", type=int, nargs="+", default=range(len(NETWORKS)))
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of gaps: few steps are taken
    rows: list[dict[str, Any]] = []
    for encoder, size, contrast, n in (NETWORKS[which] for which in given.networks):
        for seed in range(given.seeds):
            frame, y = lesions(n, seed, contrast)
            params: dict[str, Any] = {"epochs": 8, "batch_size": 12, "learning_rate": 0.002}
            images = {"scan": Image("scan", size=size, channels="L", encoder=encoder)}
            model: Any = FusionRegressor(
                images, n_members=1, device="cpu", random_state=seed, **params
            ).fit(frame, y)
            some = frame[y > 2][:4]
            asked = [
                ("integrated gradients", chosen, GRADIENTS),
                ("grad_cam", chosen, {"n_draws": 20, "method": "grad_cam"}),
            ]
            if encoder != "cnn":
                asked.append(("grad_cam, last block", last_block, asked[-1][2]))
            for method, layer, options in asked:
                once = {key: value for key, value in options.items() if key != "n_draws"}
                with mock.patch.object(_maps, "_layer", layer):
                    maps = attribute(model, some, **once).images["scan"]
                    found = randomized_weights(model, some, **options).loc["scan"]
                rows.append(
                    {
                        "encoder": f"{encoder}, {size} pixels",
                        "contrast": contrast,
                        "method": method,
                        "seed": seed,
                        "R2": round(model.score(frame, y), 2),
                        "share in place": round(share_in_place(maps), 2),
                        "size": round(found["size"], 2),
                        "among": round(found["among"], 2),
                    }
                )
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    keys = ["encoder", "contrast", "method"]
    if RESULTS.is_file():  # the networks that were asked for are written anew
        table = pd.concat([pd.read_csv(RESULTS), table]).drop_duplicates(
            [*keys, "seed"], keep="last"
        )
    table.to_csv(RESULTS, index=False)
    by = table.groupby(keys, sort=False)
    worst = {"share in place": ["mean", "min"], "size": ["mean", "max"], "among": ["mean"]}
    print(by.agg(worst).round(2).to_string())


if __name__ == "__main__":
    main()
