"""Cox models: classical, of a table, of an image, of an image and genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmfusion.estimators import FusionCox
from mmfusion.fusion import EarlyFusion, JointFusion
from mmfusion.modalities import Image, Modality
from mmfusion.objectives import Correlation
from mmfusion.recipes._check import check_kinds
from mmfusion.recipes._published import PUBLISHED

__all__ = ["cph", "deep_conv_surv", "deep_corr_surv", "deep_surv"]


def cph(structured: str, **params: Any) -> FusionCox:
    """Return Cox's proportional hazards model (Cox 1972).

    Fitted exactly, by Newton's method; Efron's ties. No deviation.

    Parameters
    ----------
    structured : str
        The formula.
    **params
        Of `FusionCox`: strata, ties, inference, cluster.

    Returns
    -------
    FusionCox

    Examples
    --------
    >>> from mmfusion.datasets import load_digits_cohort
    >>> cohort = load_digits_cohort(n=200, random_state=0)
    >>> cph("treatment + age").fit(cohort.frame, cohort.target).effects_.index.tolist()
    ['treatment', 'age']
    """
    settings: dict[str, Any] = {"modalities": {}, "structured": structured}
    return FusionCox(**PUBLISHED | settings | params)


def deep_surv(
    modalities: Mapping[str, Modality] | None = None,
    hidden: Sequence[int] = (32, 32),
    dropout: float = 0.1,
    **params: Any,
) -> FusionCox:
    """Return DeepSurv: a multilayer perceptron on a table, trained on all rows at once.

    Katzman, Shaham, Cloninger, Bates, Jiang & Kluger (2018): full-batch gradient descent on
    Breslow's partial likelihood averaged over events, with an L2 penalty.

    Deviations: AdamW with warm-up and cosine decay for SGD with Nesterov momentum and inverse time
    decay; SiLU for SELU or ReLU; the penalty is on all layers, where the authors' code reaches the
    last one only; tied times are grouped, where their code orders ties by row; categories are
    embedded or one-hot as the modality says; widths and dropout are one default for all data, where
    the paper searches them for each.

    Parameters
    ----------
    modalities : dict of str to Modality, optional
        Tables; their columns enter side by side.
    hidden : tuple of int
        Widths of the layers.
    dropout : float
    **params
        Of `FusionCox`.

    Returns
    -------
    FusionCox

    Examples
    --------
    >>> deep_surv(hidden=(16,)).batch_size is None
    True
    """
    settings: dict[str, Any] = {
        "fusion": EarlyFusion(hidden=hidden, dropout=dropout),
        "ties": "breslow",
        "batch_size": None,
        "epochs": 500,
        "patience": 50,
        "learning_rate": 1e-2,
    }
    return FusionCox(modalities, **PUBLISHED | settings | params)


def deep_conv_surv(image: Image, **params: Any) -> FusionCox:
    """Return DeepConvSurv: a convolutional network whose output is the log hazard ratio.

    Zhu, Yao & Huang (2016): three convolution and pooling stages, a layer of 32 units, a risk;
    trained on minibatches of patches, each with its patient's outcome, whose risks are averaged.

    Deviations: the encoder is that of `image` (``"cnn"``: three or four stages with group
    normalisation and a global average, where the paper flattens); several images of a patient are
    averaged as embeddings before the risk, within the partial likelihood of patients, so that no
    patient counts more than once in a risk set; AdamW; Efron's ties.

    Parameters
    ----------
    image : Image
    **params
        Of `FusionCox`.

    Returns
    -------
    FusionCox

    Examples
    --------
    >>> from mmfusion import Image
    >>> deep_conv_surv(Image("image", size=8, channels="L")).fusion
    JointFusion(hidden=())
    """
    check_kinds("image", {"image": image}, {"image": "image"})
    settings: dict[str, Any] = {
        "modalities": {"image": image},
        "fusion": JointFusion("concat", dim=32, hidden=()),
    }
    return FusionCox(**PUBLISHED | settings | params)


def deep_corr_surv(
    modalities: Mapping[str, Modality], pretrain_epochs: int = 20, dim: int = 16, **params: Any
) -> FusionCox:
    """Return DeepCorrSurv: encoders first trained to correlate, then on survival.

    Yao, Zhu, Zhu & Huang (2017): stage one maximises the canonical correlation of the views'
    embeddings; stage two concatenates them and trains encoders and risk on Cox's partial
    likelihood. Both run in one ``fit``: the first `pretrain_epochs` have the correlation alone,
    those after it the likelihood alone.

    Deviations: the correlation is the trace norm of deep canonical correlation analysis with
    shrunken covariances (Andrew, Arora, Bilmes & Livescu 2013), of minibatches; more than two
    views are taken pair by pair; encoders are those of the modalities; AdamW; Efron's ties.

    Parameters
    ----------
    modalities : dict of str to Modality
        Two or more.
    pretrain_epochs : int
        Epochs of stage one; they count among `epochs`.
    dim : int
        Width of each embedding: a batch must have several times as many rows.
    **params
        Of `FusionCox`.

    Returns
    -------
    FusionCox

    Examples
    --------
    >>> from mmfusion import Genes, Image
    >>> views = {"scan": Image("image", size=8, channels="L"), "rna": Genes("gene_*")}
    >>> deep_corr_surv(views).auxiliary
    [Correlation(pretrain_epochs=20, weight=(1.0, 0.0))]
    """
    settings: dict[str, Any] = {
        "fusion": JointFusion("concat", dim=dim, hidden=()),
        "auxiliary": [Correlation(weight=(1.0, 0.0), pretrain_epochs=pretrain_epochs)],
        "epochs": 100 + pretrain_epochs,
    }
    return FusionCox(modalities, **PUBLISHED | settings | params)
