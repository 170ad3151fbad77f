"""YAML files whose values know their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmfusion.cli.document import ConfigError, Document

TEXT = """\
# a comment
rate: 1e-3
words: [no, "yes", 1.0, 010, .inf, null, ~]
nested:
  deep:
    - name: a
      size: 64
    - {name: b, size: [8, 9]}
time: 12:30
day: 2020-01-01
"""


def read(tmp_path: Path, text: str) -> Document:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return Document.read(path)


def test_values_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    values = read(tmp_path, TEXT).values
    assert values["rate"] == 0.001
    assert values["words"] == ["no", "yes", 1.0, 10, float("inf"), None, None]
    assert values["nested"] == {"deep": [{"name": "a", "size": 64}, {"name": "b", "size": [8, 9]}]}
    assert (values["time"], values["day"]) == ("12:30", "2020-01-01")


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("rate",), 2),
        (("nested",), 4),
        (("nested", "deep", 0, "size"), 7),
        (("nested", "deep", 1, "size"), 8),
        (("nested", "deep", 7, "size"), 5),  # of what is not there, the nearest around it
        (("time",), 9),
        (("nothing",), 2),
    ],
)
def test_every_value_knows_its_line(tmp_path: Path, place: tuple, line: int) -> None:
    assert str(read(tmp_path, TEXT).error(place, "wrong")).endswith(f"study.yaml:{line}: wrong")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", r"study\.yaml:3: this is not YAML: "),
        ("a: 1\n\tb: 2\n", r"study\.yaml:2: this is not YAML: "),
        ("- a\n- b\n", r"study\.yaml:1: the file must be a mapping"),
        ("", r"study\.yaml:1: the file must be a mapping"),
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", r"study\.yaml:5: 'c' is there twice, .* line 3"),
        ("a: 1\n? [1, 2]\n: 3\n", r"study\.yaml:2: a key must be text or a number"),
        ("a: \x07\n", r"study\.yaml: this is not YAML: "),
    ],
)
def test_what_is_no_configuration_is_an_error_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml cannot be read: .*No such file"):
        Document.read(tmp_path / "no.yaml")


MODEL = """\
modalities:
  scan: {type: Image, column: ct, size: 8, encoder: cn}
  clinic:
    type: Tabular
    columns: [age, agee]
    encoder: mpl
structured: treatment + s(dose)
parameters:
  epochs: 0
"""


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("The epochs parameter must be an integer in [1, inf]. Got 0.", 9),
        ("The encoder parameter of Tabular must be one of ['mlp']. Got 'mpl'.", 6),
        ("The encoder parameter of Image must be one of ['cnn']. Got 'cn'.", 2),
        ("Column 'agee' not found in the table. Nearest to 'agee': 'age'.", 5),
        ("Column 'dose' not found in the table.", 7),
        ("Column 'ct', row 'patient_3': cannot read the image 'a.png'", 2),
    ],
)
def test_messages_of_the_package_get_the_line_they_are_about(
    tmp_path: Path, message: str, line: int
) -> None:
    blamed = read(tmp_path, MODEL).blame(ValueError(message))
    assert blamed == f"{tmp_path / 'study.yaml'}:{line}: {message}"


def test_a_message_about_nothing_in_the_file_names_the_file(tmp_path: Path) -> None:
    blamed = read(tmp_path, MODEL).blame(ValueError("Nothing 'here' is known."))
    assert blamed == f"{tmp_path / 'study.yaml'}: Nothing 'here' is known."
