"""What the docstrings of several estimators say, written once and filled into each."""

from __future__ import annotations

import re
from textwrap import indent
from typing import TypeVar

__all__ = ["documented"]

_Class = TypeVar("_Class", bound=type)

_SHARED = """
modalities : dict of str to Modality, optional
    What the table holds: ``{"ct": Image("ct_path"), "ehr": Tabular(["age", "sex"])}``.
    None infers it from the columns; a bare array is one `Tabular`.
fusion : str, JointFusion, EarlyFusion or LateFusion, default="concat"
    How the modalities are joined: the name of an operator in `mmfusion.fusion.OPERATORS`
    ("concat", "gated", "attention", ...) for joint fusion, or one of these objects.
structured : str or dict of str to str, optional
    Formula of the structured part, ``"treatment + s(age) + C(stage)"``: fitted exactly first,
    then beside the networks, which are trained with its predictor as an offset
    (`mmfusion.structured.Formula`). With ``modalities={}`` it is the whole model: the classical
    one. With several parameters (classes but the first) a dict has a formula for each; a
    parameter that it leaves out is constant.
linear : bool, default=True
    Whether the modalities' features (numbers, indicators, categories, genes, features of a frozen
    encoder) have a linear part: a ridge regression, fitted with the formula by restricted maximum
    likelihood, a penalty a modality. Networks learn what both leave, and are kept as far as rows
    that they did not see believe them. A trained image encoder offers no features.
n_members : int or "auto", default="auto"
    Networks that are averaged, each trained without a fold of its own: the epoch at which all
    stop, and the share of them that is kept, are judged by all rows, each by the network that did
    not see it. 1 is one network, judged by a part of the rows (`validation_fraction`); 0 is none:
    linear part and formula alone. "auto" is 5 up to 3,000 subjects, else 1, and 1 with an
    `eval_set`, auxiliary losses, or inputs that are chosen by the outcome.
head : {"additive", "nonlinear"}, default="additive"
    Beside a formula, what the networks' predictor is made of: of the modalities alone, so that
    it adds one interpretable number a row; or of the formula's columns too, which then may
    interact with the modalities (the two models of Law, Paige & Russell 2019).
orthogonalization : {"post_hoc", "online", "two_stage"} or None, default="post_hoc"
    "post_hoc" takes off the networks' predictor what lies in the formula's design, in the
    metric of the likelihood (Ruegamer 2023): the coefficients are the classical ones. "online"
    does so within the network, batch by batch in training, for all training rows after it (the
    cell of Ruegamer, Kolb & Klein 2023). "two_stage" adds the networks to the classical model
    as they are (Law, Paige & Russell 2019). None fits the coefficients beside the networks'
    predictor as it is: they then say what the networks happen not to.
inference : {"model", "robust", "sandwich", "cross_fit", "double_ml"}, default="model"
    Which effects are reported. "model": the coefficients of the classical model of the formula,
    not adjusted for the modalities, and the information of its likelihood (with
    ``orthogonalization=None``: beside the networks, taken as known). "robust": the same
    coefficients, and the sandwich, corrected where it is too small: HC3 of fewer than 250 rows,
    CR2 with Satterthwaite's degrees of freedom of fewer than 50 clusters. "sandwich": the plain
    one (HC0, CR0). "cross_fit": adjusted, beside the predictor, with a
    coefficient of its own, of networks that did not see the row, averaged over three splits
    into five folds, at fifteen more fits. "double_ml", of `FusionRegressor` and
    a `FusionClassifier` of two classes: see `treatment`.
treatment : str, optional
    The term of the formula that ``inference="double_ml"`` is about: a number, or a factor of
    two levels, that was not randomised. Cross-fitted networks learn, at thirty more fits, what
    all else says of the outcome and of the treatment (Chernozhukov et al. 2018, eq. 4.4; of
    two classes Liu, Zhang & Zhou 2021); the other rows of ``effects_`` are those of "model".
    No other term and no modality may read the treatment's column; modalities that are inferred
    leave it out. ``confounding_`` says how far the effect is to be believed.
id : column name, optional
    Rows that share a value of this column of `X` are one subject (start-stop rows, visits):
    they stay together in batches, in the validation part and in folds, and the subject's image
    is encoded once. None: a row is a subject.
cluster : column name, optional
    Rows that share a value of this column of `X` count as one in a robust covariance, which
    is then used whatever `inference` says (corrected, unless that is "sandwich"), and stay
    together in folds and in the validation part. Of fewer than 50 clusters each coefficient has
    degrees of freedom of its own, the column ``df`` of ``effects_``; tests of a
    `FusionRegressor` have at most as many as there are clusters, less one.
auxiliary : sequence of objectives, optional
    Losses of the embeddings, trained beside the likelihood: ``[Similarity(weight=0.1)]``; see
    `mmfusion.objectives`. They do not enter the validation loss.
pretrained : FusionPretrainer, optional
    Fitted: where the encoders start, and the preprocessing. Its modalities must be these (or
    more; by default they are its own) and its `dim` the fusion's. A clone shares it, so its
    parameters are none of the estimator's; it is not saved with the model. In a grid of
    candidates, which are cloned too, wrap it: ``sklearn.frozen.FrozenEstimator(pretrainer)``.
pretrained_lr_scale : float, default=0.1
    Learning rate of pretrained encoders as a multiple of their usual one; 0 freezes them.
modality_dropout : float or dict of str to float, default=0.0
    Chance that a present modality of a row is hidden in a training step; one always stays.
    A dict gives modalities their own chances, 0 to those it does not name.
epochs : int or "cv", default=100
    Most passes over the training rows. "cv": networks that are each trained without a fold say by
    the mean of their validation losses after how many (of at most 100) to stop; then one network
    is trained on all rows for as many. The networks of the folds judge how much of it is kept.
batch_size : int or None, default=256
    Rows of one step; each batch has its share of the events, of each class or of each fifth of
    the numbers. None is all rows.
learning_rate : float, default=3e-3
    Of AdamW, at its highest.
patience : int or None, default=15
    Epochs without a lower validation loss before training stops; the weights of the best epoch
    are kept. Where a share of the networks is kept, each epoch is judged at the share that is
    best in it. None trains all epochs on all rows.
validation_fraction : float, default=0.15
    Share of the rows held out for early stopping (with its share of the events, of each class
    or of each fifth of the numbers), where `fit` is given no `eval_set`. Fewer than 8 held-out
    rows (with `id`, subjects) are trained on instead, for all epochs.
training : Training, optional
    Rarely used settings of the optimiser: micro-batches, weight decay, warm-up, clipping, the
    moving average of the weights, precision, callbacks (`mmfusion.training.Training`). None is
    ``Training()``.
device : str, default="auto"
    "auto", "cpu", "cuda", "cuda:1" or "mps".
verbose : int, default=0
    1 shows a progress bar, 2 prints a line an epoch.
random_state : int, RandomState instance or None, default=None
    The same number gives the same weights.
modalities_ : dict of str to Modality
    Fitted on the training rows.
linear_effects_ : DataFrame
    Coefficients of the linear part, by modality and feature.
network_ : torch.nn.Module
    The trained network (with late fusion, one a modality; of several members the first), on the
    CPU.
history_ : DataFrame
    A row an epoch: losses, validation score, learning rate, seconds.
best_epoch_ : int
    The epoch whose weights were kept.
interrupted_ : bool
    Whether Ctrl-C ended the training: late fusion is then without the networks that had no
    turn.
fusion_weights_ : Series
    With `LateFusion`: a weight a modality, or the coefficients of a stack.
effects_ : DataFrame
    With `structured`: effects with 95 % intervals and p-values.
covariance_ : DataFrame
    With `structured`: the covariance of the effects.
structured_weight_ : float
    With `structured`: the formula's share of the predictor's variance.
deep_share_ : float
    With `structured`: the networks' share of the predictor's variance.
n_features_in_ : int
feature_names_in_ : ndarray of str
    Where `X` was a DataFrame with string column names.
"""

#: The entry of each name.
_ENTRIES = {entry.split(" :")[0]: entry for entry in re.split(r"\n(?=\S)", _SHARED.strip())}


def documented(kind: _Class) -> _Class:
    """Fill the shared entries into a class's docstring, where it names them in braces.

    Parameters
    ----------
    kind : type
        Its docstring may hold lines ``{epochs, batch_size}``: each stands for the entries of these
        parameters or attributes.

    Returns
    -------
    type
        The same. Where Python runs without docstrings (``-OO``) nothing is filled in.
    """

    def entries(found: re.Match[str]) -> str:
        names = re.split(r",\s*", found["names"])
        return indent("\n".join(_ENTRIES[name] for name in names), found["space"])

    pattern = r"^(?P<space> *)\{(?P<names>\w+(,\s*\w+)*)\}$"
    kind.__doc__ = kind.__doc__ and re.sub(pattern, entries, kind.__doc__, flags=re.MULTILINE)
    return kind
