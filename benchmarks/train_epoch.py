"""Time of a training epoch: FusionCox's loop against bare PyTorch loops and pycox.

Contenders take turns in one process (so that a busy machine slows all of them), on one thread; a
turn is a few epochs, of which the first is not counted. Same network sizes, batch, optimiser
(fused AdamW) and gradient clipping for all; float32.

    python -m benchmarks.train_epoch --output epoch.md
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mmfusion import Image, Tabular, surv
from mmfusion.estimators import FusionCox
from mmfusion.fusion import EarlyFusion, JointFusion
from mmfusion.training import Training

HIDDEN, DROPOUT, LEARNING_RATE, CLIP = (32, 32), 0.1, 1e-3, 1.0
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: A contender: number of epochs -> seconds of each.
Contender = Callable[[int], list[float]]


def cox_loss(eta: Tensor, time_: Tensor, event: Tensor) -> Tensor:
    """Breslow's negative log partial likelihood of a batch, as one would write it."""
    order = torch.argsort(time_, descending=True)
    eta, event = eta[order, 0], event[order]
    return -((eta - torch.logcumsumexp(eta, 0)) * event).sum() / event.sum().clamp_min(1.0)


class BareLoop:
    """A training loop with nothing in it but training."""

    def __init__(self, network: nn.Module, batches: Callable[[], Iterator[tuple]]) -> None:
        self.network = network.train()
        self.batches = batches
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, fused=True)
        self.device = next(network.parameters()).device

    def __call__(self, epochs: int) -> list[float]:
        seconds = []
        for _ in range(epochs):
            started = time.perf_counter()
            for x, time_, event in self.batches():
                self.optimizer.zero_grad()
                cox_loss(self.network(x), time_, event).backward()
                nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
                self.optimizer.step()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seconds.append(time.perf_counter() - started)
        return seconds


def indexed(
    x: Tensor, time_: Tensor, event: Tensor, batch: int
) -> Callable[[], Iterator[tuple[Tensor, Tensor, Tensor]]]:
    def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for rows in torch.randperm(len(x), device=x.device).split(batch):
            yield x[rows], time_[rows], event[rows]

    return batches


def ours(frame: pd.DataFrame, y: np.ndarray, device: str, **parameters: object) -> Contender:
    def run(epochs: int) -> list[float]:
        model = FusionCox(
            epochs=epochs,
            learning_rate=LEARNING_RATE,
            training=Training(clip_norm=CLIP),
            patience=None,
            device=device,
            random_state=0,
            **parameters,  # type: ignore[arg-type]
        )
        return model.fit(frame, y).history_["seconds"].tolist()

    return run


def mlp(n_columns: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in HIDDEN:
        layers += [nn.Linear(n_columns, width), nn.SiLU(), nn.Dropout(DROPOUT)]
        n_columns = width
    return nn.Sequential(*layers, nn.Linear(n_columns, 1, bias=False))


def tabular(n: int, p: int, batch: int, device: str) -> dict[str, Contender]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p)).astype(np.float32)
    latent = rng.exponential(np.exp(-x[:, 0] + 0.5 * x[:, 1] * x[:, 2]))
    censoring = rng.exponential(2.0, n)
    times, event = np.minimum(latent, censoring), latent <= censoring
    tensors = [torch.from_numpy(a) for a in (x, times.astype(np.float32), event.astype(np.float32))]
    loader = DataLoader(TensorDataset(*tensors), batch_size=batch, shuffle=True)

    def loaded() -> Iterator[tuple[Tensor, ...]]:
        for parts in loader:
            yield tuple(part.to(device) for part in parts)

    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(p)])
    return {
        "bare loop": BareLoop(
            mlp(p).to(device), indexed(*(part.to(device) for part in tensors), batch)
        ),
        "mmfusion": ours(
            frame,
            surv(times, event),
            device,
            modalities={"table": Tabular()},
            fusion=EarlyFusion(hidden=HIDDEN, dropout=DROPOUT),
            batch_size=batch,
        ),
        "pycox": pycox(p, x, times.astype(np.float32), event.astype(np.float32), batch, device),
        "DataLoader loop": BareLoop(mlp(p).to(device), loaded),
    }


def pycox(
    p: int, x: np.ndarray, times: np.ndarray, event: np.ndarray, batch: int, device: str
) -> Contender:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchtuples as tt
        from pycox.models import CoxPH

    class Clip(tt.callbacks.Callback):
        def before_step(self) -> None:
            nn.utils.clip_grad_norm_(self.model.net.parameters(), CLIP)

    class Clock(tt.callbacks.Callback):
        def on_fit_start(self) -> None:
            self.stamps = [time.perf_counter()]

        def on_epoch_end(self) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.stamps.append(time.perf_counter())

    network = mlp(p).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, fused=True)
    model = CoxPH(network, optimizer, device=device)

    def run(epochs: int) -> list[float]:
        clock = Clock()
        model.fit(x, (times, event), batch, epochs, callbacks=[Clip(), clock], verbose=False)
        return np.diff(clock.stamps).tolist()

    return run


class Backbone(nn.Module):
    """Normalisation on the fly, resnet18, the layer between it and the risk, the risk."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None])
        self.layers = nn.Sequential(
            timm.create_model("resnet18", pretrained=False, num_classes=0),
            nn.Linear(512, HIDDEN[0]),
            nn.SiLU(),
            nn.Linear(HIDDEN[0], 1, bias=False),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels.float().div_(255).sub_(self.mean).div_(self.std))


def images(n: int, size: int, batch: int, device: str) -> dict[str, Contender]:
    rng = np.random.default_rng(0)
    brightness = rng.normal(size=n)
    pixels = np.clip(
        128 + 30 * brightness[:, None, None, None] + rng.normal(0, 40, (n, size, size, 3)), 0, 255
    ).astype(np.uint8)
    times, event = rng.exponential(np.exp(-brightness)), rng.random(n) < 0.7
    cached = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    outcome = [torch.from_numpy(a.astype(np.float32)) for a in (times, event)]
    frame = pd.DataFrame({"scan": pd.Series(list(pixels), dtype=object)})
    return {
        "bare loop": BareLoop(
            Backbone().to(device),
            indexed(*(part.to(device) for part in (cached, *outcome)), batch),
        ),
        "mmfusion": ours(
            frame,
            surv(times, event),
            device,
            modalities={"scan": Image("scan", size=size, encoder="resnet18")},
            fusion=JointFusion(dim=HIDDEN[0], hidden=()),
            batch_size=batch,
        ),
    }


def interleave(
    contenders: dict[str, Contender], turns: int, epochs: int
) -> dict[str, list[list[float]]]:
    """Return the counted epochs' seconds of each turn of each contender; one turn warms up."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for turn in range(turns + 1):
        for name, run in contenders.items():
            counted = run(epochs + 1)[1:]
            if turn:
                seconds[name].append(counted)
    return seconds


def report(title: str, seconds: dict[str, list[list[float]]]) -> str:
    """Return a Markdown table; the ratio is the median over turns, robust to a busy machine."""
    turns = {name: np.median(np.array(parts), axis=1) for name, parts in seconds.items()}
    lines = [
        f"### {title}",
        "",
        "| contender | median epoch, ms | fastest | bare loop's time / its own |",
        "| --- | --- | --- | --- |",
    ]
    for name, parts in seconds.items():
        ratio = np.median(turns["bare loop"] / turns[name])
        every = 1000 * np.array(parts)
        lines.append(f"| {name} | {np.median(every):.1f} | {every.min():.1f} | {ratio:.2f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("tabular", "image"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=7, help="of the tables; images take fewer")
    parser.add_argument("--output", type=Path, help="also write the Markdown here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = options.device
    machine = torch.cuda.get_device_name(device) if device != "cpu" else platform.machine()
    parts = [f"torch {torch.__version__}, {machine}, {options.threads} thread(s), float32.\n"]
    if options.only != "image":
        contenders = tabular(50_000, 20, 256, device)
        parts.append(
            report(
                "Table: 50,000 rows, 20 columns, network 32-32, batch 256",
                interleave(contenders, options.turns, epochs=3),
            )
        )
        print(parts[-1], flush=True)
    if options.only != "tabular":
        contenders = images(512, 64, 64, device)
        parts.append(
            report(
                "Images: 512 of 64 x 64, resnet18, batch 64",
                interleave(contenders, max(2, options.turns // 2), epochs=1),
            )
        )
        print(parts[-1], flush=True)
    if options.output is not None:
        options.output.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
