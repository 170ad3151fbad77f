"""The report as a filled TRIPOD+AI table (Collins et al. 2024, BMJ 385:e078378), in our words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import pandas as pd

__all__ = ["ITEMS", "META", "Item", "check_meta", "tripod_table"]

#: What only people know: the keys of ``meta=``, and what each holds.
META = {
    "title": "title of the study",
    "authors": "who made the report",
    "abstract": "a structured summary of the study",
    "background": "the health problem, who is to use the model and in which decision",
    "earlier_models": "earlier models, and why another one",
    "inequalities": "known differences between groups in the health problem or its care",
    "objective": "whether a model is developed, evaluated, or both",
    "source": "where the data are from, and why they stand for the patients meant",
    "dates": "first and last date of inclusion, end of follow-up",
    "centres": "number and kind of centres, and where they are",
    "eligibility": "who was eligible, who was left out and why",
    "treatments": "treatments received, and how they were dealt with",
    "preparation": "what was done to the data before this software read them",
    "outcome": "how and when the outcome was assessed",
    "outcome_assessors": "who assessed the outcome, with which qualification",
    "blinding": "whether outcome and predictors were assessed without knowledge of each other",
    "predictor_choice": "why these predictors were offered to the model",
    "predictor_assessment": "how and when predictors (and images) were measured, by whom",
    "sample_size": "how the size of the study was arrived at",
    "missing_reasons": "why values or modalities are missing",
    "fairness": "what was done for fairness beyond the subgroups shown",
    "output_use": "how the output is to be read, and which thresholds are meant",
    "ethics": "ethics committee, number of the approval, consent",
    "funding": "who paid, and the role of funders",
    "conflicts": "conflicts of interest",
    "protocol": "where the protocol is, or that there is none",
    "registration": "register and number, or that there is none",
    "data_sharing": "whether and how the data can be had",
    "code_sharing": "whether and how the code and the model can be had",
    "involvement": "how patients and the public were involved, or that they were not",
    "interpretation": "what the results mean, beside those of other studies",
    "limitations": "limits, of who is represented and of what was measured",
    "usability": "what must be there at use: inputs of poor quality or missing, skills of users",
    "next_steps": "what is to be studied next, for use elsewhere",
    "time_unit": "unit of the outcome's time",
}

BLANK = "To be completed by the authors: "


@dataclass(frozen=True)
class Item:
    """A line of the table.

    Attributes
    ----------
    number : str
    part : str
        Of the paper.
    asks : str
        What is to be reported.
    meta : str or None
        Which of `META` fills it.
    known : str or None
        Which of the software's own findings fills it.
    """

    number: str
    part: str
    asks: str
    meta: str | None = None
    known: str | None = None


ITEMS = (
    Item(
        "1",
        "Title",
        "Says that a prediction model was made or tested, for whom and for which outcome",
        "title",
        "title",
    ),
    Item("2", "Abstract", "A summary with the main numbers", "abstract", "summary"),
    Item("3a", "Introduction", "The health problem, the decision, earlier models", "background"),
    Item(
        "3b", "Introduction", "Who is to use the model, on whom; why another one", "earlier_models"
    ),
    Item("3c", "Introduction", "Known inequalities between groups", "inequalities"),
    Item("4", "Introduction", "The aim: development, evaluation, or both", "objective", "aim"),
    Item(
        "5a",
        "Methods: data",
        "Sources of the data, for fitting and for judging",
        "source",
        "sources",
    ),
    Item("5b", "Methods: data", "Dates of the data and of follow-up", "dates", "follow_up"),
    Item("6a", "Methods: participants", "Setting: number and place of centres", "centres"),
    Item("6b", "Methods: participants", "Who was eligible", "eligibility"),
    Item("6c", "Methods: participants", "Treatments received", "treatments"),
    Item(
        "7",
        "Methods: preparation",
        "Preparation and checks of the data, alike in all groups",
        "preparation",
        "preparation",
    ),
    Item(
        "8a", "Methods: outcome", "The outcome, its time, how it was assessed", "outcome", "outcome"
    ),
    Item(
        "8b", "Methods: outcome", "Who assessed it, where judgement is needed", "outcome_assessors"
    ),
    Item("8c", "Methods: outcome", "Whether the assessors knew the predictors", "blinding"),
    Item(
        "9a",
        "Methods: predictors",
        "How predictors were chosen before modelling",
        "predictor_choice",
        "predictors",
    ),
    Item(
        "9b",
        "Methods: predictors",
        "Each predictor: what, how and when it was measured",
        "predictor_assessment",
    ),
    Item(
        "9c",
        "Methods: predictors",
        "Who assessed them, where judgement is needed",
        "predictor_assessment",
    ),
    Item(
        "10",
        "Methods: sample size",
        "How the size was arrived at, and whether it is enough",
        "sample_size",
        "sample_size",
    ),
    Item(
        "11",
        "Methods: missing data",
        "How missing values were handled, and why they are missing",
        "missing_reasons",
        "missing",
    ),
    Item("12a", "Methods: analysis", "How the data were used to fit and to judge", None, "split"),
    Item("12b", "Methods: analysis", "How predictors entered (form, scaling)", None, "forms"),
    Item(
        "12c",
        "Methods: analysis",
        "Kind of model, steps of building it, settings, internal validation",
        None,
        "building",
    ),
    Item("12d", "Methods: analysis", "Differences between clusters (centres)", None, "clusters"),
    Item("12e", "Methods: analysis", "Measures of performance, and why", None, "measures"),
    Item("12f", "Methods: analysis", "Updating of the model after evaluation", None, "updating"),
    Item(
        "12g",
        "Methods: analysis",
        "How predictions are computed: formula, code, object",
        None,
        "formula",
    ),
    Item(
        "13",
        "Methods: class imbalance",
        "What was done about rare classes, and about what it does to calibration",
        None,
        "imbalance",
    ),
    Item("14", "Methods: fairness", "What was done for fairness, and why", "fairness", "fairness"),
    Item(
        "15", "Methods: output", "What the model puts out, and thresholds", "output_use", "output"
    ),
    Item(
        "16",
        "Methods: training and evaluation",
        "Differences between data for fitting and for judging",
        None,
        "differences",
    ),
    Item("17", "Methods: ethics", "Approval and consent", "ethics"),
    Item("18a", "Open science", "Funding and the role of funders", "funding"),
    Item("18b", "Open science", "Conflicts of interest", "conflicts"),
    Item("18c", "Open science", "Where the protocol is", "protocol"),
    Item("18d", "Open science", "Registration", "registration"),
    Item("18e", "Open science", "Availability of the data", "data_sharing"),
    Item("18f", "Open science", "Availability of code and model", "code_sharing", "software"),
    Item("19", "Involvement", "Involvement of patients and the public", "involvement"),
    Item(
        "20a",
        "Results: participants",
        "Flow of participants, with and without the outcome, follow-up",
        None,
        "flow",
    ),
    Item(
        "20b",
        "Results: participants",
        "Characteristics, and missing values, by group",
        None,
        "characteristics",
    ),
    Item(
        "20c", "Results: participants", "Comparison with the data of fitting", None, "differences"
    ),
    Item("21", "Results: development", "Rows and events in each analysis", None, "numbers"),
    Item(
        "22",
        "Results: specification",
        "The full model, so that others can predict",
        None,
        "specification",
    ),
    Item(
        "23a",
        "Results: performance",
        "Performance with intervals, in subgroups too",
        None,
        "performance",
    ),
    Item(
        "23b",
        "Results: performance",
        "Differences of performance between clusters",
        None,
        "clusters",
    ),
    Item("24", "Results: updating", "Results of updating the model", None, "updating"),
    Item("25", "Discussion", "What the results mean, fairness included", "interpretation"),
    Item(
        "26", "Discussion", "Limits, and what they do to bias and use", "limitations", "limitations"
    ),
    Item("27a", "Discussion: use", "Poor or missing inputs at use", "usability", "use"),
    Item("27b", "Discussion: use", "What users must do and know", "usability"),
    Item("27c", "Discussion: use", "Next steps, use elsewhere", "next_steps"),
)


def check_meta(meta: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what people said, as text.

    Raises
    ------
    ValueError
        For a key that fills nothing; the allowed ones are listed.
    TypeError
        If it is no mapping.
    """
    if meta is not None and not isinstance(meta, Mapping):
        raise TypeError(f"The meta parameter must be a dict of texts. Got {meta!r}.")
    given = {} if meta is None else dict(meta)
    for key in given:
        if key not in META:
            near = get_close_matches(str(key), META, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"The meta parameter may hold {sorted(META)}. Got {key!r}.{hint}")
    return {key: str(value) for key, value in given.items() if str(value).strip()}


def tripod_table(known: Mapping[str, str], meta: Mapping[str, str]) -> pd.DataFrame:
    """Return the table: item, part, what it asks for, status, and the text that fills it.

    Parameters
    ----------
    known : mapping of str to str
        What the software knows, by the name that items have for it.
    meta : mapping of str to str
        As `check_meta` returns it.

    Returns
    -------
    DataFrame
        ``status`` is "filled", "blank" (only people can fill it), or "in part" where the software
        knows something and people's part is blank.
    """
    rows = []
    for item in ITEMS:
        texts: Sequence[str] = [
            text
            for text in (
                meta.get(item.meta) if item.meta else None,
                known.get(item.known) if item.known else None,
            )
            if text
        ]
        status, content = "filled", " ".join(texts)
        if item.meta and item.meta not in meta:
            blank = f"{BLANK}{META[item.meta]}."
            status = "in part" if texts else "blank"
            content = f"{content} {blank}".strip()
        rows.append((item.number, item.part, item.asks, status, content))
    return pd.DataFrame(rows, columns=["item", "part", "asks", "status", "content"])
