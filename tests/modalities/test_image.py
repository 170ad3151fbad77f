from __future__ import annotations

import os
import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage
from sklearn.base import clone

from mmfusion.modalities import (
    Image,
    _decoding,
    clear_image_cache,
    infer_modalities,
    set_image_cache_limit,
)


@pytest.fixture(autouse=True)
def _fresh_cache():
    clear_image_cache()
    yield
    clear_image_cache()
    set_image_cache_limit(1 << 30)


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Return the names of the files that are opened from now on."""
    names: list[str] = []
    original = PILImage.open

    def counting(path, *args, **kwargs):
        names.append(Path(path).name)
        return original(path, *args, **kwargs)

    monkeypatch.setattr(_decoding.PILImage, "open", counting)
    return names


def noise(*shape: int, dtype=np.uint8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, endpoint=True, dtype=dtype)


def column(*cells) -> pd.DataFrame:
    return pd.DataFrame({"ct": pd.Series(list(cells), dtype=object)})


def pixels(cell, **parameters) -> np.ndarray:
    frame = column(cell)
    parameters = {"size": 8, **parameters}
    return Image("ct", **parameters).fit(frame).transform(frame).pixels[0].numpy()


# What a cell may hold


def test_path_pil_array_and_tensor_are_the_same(tmp_path):
    array = noise(20, 30, 3)
    PILImage.fromarray(array).save(tmp_path / "a.png")
    reference = np.asarray(
        PILImage.fromarray(array).resize((8, 8), PILImage.Resampling.BICUBIC)
    ).transpose(2, 0, 1)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for cell in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        PILImage.fromarray(array),
        array,
        tensor,
        np.dstack([array, noise(20, 30)]),  # with alpha
        array[:, ::-1][:, ::-1],  # not contiguous
    ):
        found = pixels(cell)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, reference)


def test_relative_paths_start_at_root(tmp_path):
    PILImage.fromarray(noise(8, 8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        pixels("a.png", root=tmp_path), pixels(tmp_path / "a.png", root="elsewhere")
    )


def test_size_is_height_and_width():
    frame = column(noise(20, 30, 3))
    image = Image("ct", size=(4, 6)).fit(frame)
    assert image.size_ == (4, 6)
    assert image.n_channels_ == 3
    assert image.transform(frame).pixels.shape == (1, 3, 4, 6)


def test_pixels_of_the_right_size_are_left_as_they_are():
    array = noise(8, 8, 3)
    np.testing.assert_array_equal(pixels(array), array.transpose(2, 0, 1))
    deep = noise(8, 8, dtype=np.float32)
    np.testing.assert_array_equal(pixels(deep, channels="L")[0], deep)


def test_antialias():
    board = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)  # its average is grey
    assert np.abs(pixels(board.astype(np.uint8), channels="L").astype(int) - 127).max() <= 2
    assert np.abs(pixels(board / 255.0, channels="L") - 0.5).max() < 0.02


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1)])
def test_grey_is_repeated_for_colour(shape):
    array = noise(*shape)
    found = pixels(array)
    assert found.shape == (3, 8, 8)
    for channel in found:
        np.testing.assert_array_equal(channel, array.reshape(8, 8))


def test_colour_is_weighted_for_grey():
    array = noise(8, 8, 3)
    assert pixels(array, channels="L").shape == (1, 8, 8)
    luma = array @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(pixels(array, channels="L")[0], luma, atol=1.0)
    np.testing.assert_allclose(pixels(array / 255.0, channels="L")[0], luma / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_modes_of_8_bits(mode):
    image = PILImage.fromarray(noise(8, 8, 3)).convert("L" if mode == "PA" else "RGB")
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    found = pixels(image)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def test_alpha_is_dropped_not_blended():
    array = np.dstack([noise(8, 8, 3), np.zeros((8, 8), dtype=np.uint8)])
    np.testing.assert_array_equal(pixels(array), array[:, :, :3].transpose(2, 0, 1))


def test_transparent_palette_gives_no_warning(tmp_path, recwarn):
    image = PILImage.fromarray(noise(8, 8, 3)).quantize(8)
    image.save(tmp_path / "p.png", transparency=bytes(range(8)))
    np.testing.assert_array_equal(
        pixels(tmp_path / "p.png"), np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    )
    assert not recwarn.list


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_files_keep_their_depth(tmp_path, suffix):
    deep = noise(8, 8, dtype=np.uint16)
    PILImage.fromarray(deep).save(tmp_path / f"a.{suffix}")
    for cell in (tmp_path / f"a.{suffix}", deep, PILImage.fromarray(deep.astype(np.int32))):
        found = pixels(cell)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.broadcast_to(deep / 65535, (3, 8, 8)), atol=1e-7)


@pytest.mark.parametrize(("color_type", "n_channels"), [(2, 3), (4, 2), (6, 4)])
def test_colour_of_16_bits_is_refused(tmp_path, color_type, n_channels):
    # Pillow would keep the high byte alone: 16 values from 1000 on become one.
    values = np.arange(1000, 1000 + 16 * n_channels).reshape(4, 4, n_channels)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path = tmp_path / "deep.png"
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        header = struct.pack(">IIBBBBB", 4, 4, 16, color_type, 0, 0, 0)
        for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            check = zlib.crc32(name + content)
            file.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", check))
    frame = pd.DataFrame({"ct": [str(path)]}, index=["p7"])
    with pytest.raises(ValueError, match=r"'ct', row 'p7': .*deep.png.*16 bits would lose 8"):
        Image("ct", size=4).fit(frame).transform(frame)
    with PILImage.open(path) as image, pytest.raises(ValueError, match="an array of uint16"):
        pixels(image, size=4)


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_several_pages_are_refused(tmp_path, suffix):
    pages = [PILImage.fromarray(noise(8, 8, 3, seed=seed)) for seed in range(3)]
    path = tmp_path / f"stack.{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    frame = pd.DataFrame({"ct": [str(path)]}, index=["p7"])
    wanted = r"'ct', row 'p7': .*must have one page or frame.*as a list.*Got 3\."
    with pytest.raises(ValueError, match=wanted):
        Image("ct", size=8).fit(frame).transform(frame)
    with PILImage.open(path) as image, pytest.raises(ValueError, match="Got 3"):
        pixels(image)
    as_list = column(pages)
    assert len(Image("ct", size=8).fit(as_list).transform(as_list).pixels) == 3
    pages[0].save(path)
    with PILImage.open(path) as image:
        image.load()
    np.testing.assert_array_equal(pixels(image), pixels(str(path)))


def test_a_photograph_with_a_preview_is_one_image(tmp_path):
    pages = [PILImage.fromarray(noise(8, 8, 3, seed=seed)) for seed in range(2)]
    path = tmp_path / "photo.jpg"
    pages[0].save(path, format="MPO", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "alone.jpg")
    np.testing.assert_array_equal(pixels(str(path)), pixels(str(tmp_path / "alone.jpg")))


def test_half_precision_tensors():
    half = torch.from_numpy(noise(3, 8, 8, dtype=np.float32)).bfloat16()
    np.testing.assert_array_equal(pixels(half), half.float().numpy())


def test_16_bit_is_resized_within_bounds():
    deep = np.zeros((32, 32), dtype=np.uint16)
    deep[:, 16:] = 65535
    found = pixels(deep, size=24)  # bicubic overshoots at the edge
    assert found.min() == 0.0
    assert found.max() == 1.0


def test_float_images(tmp_path):
    deep = noise(8, 8, 3, dtype=np.float64)
    found = pixels(deep)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, deep.transpose(2, 0, 1), atol=1e-7)
    PILImage.fromarray(deep[:, :, 0].astype(np.float32)).save(tmp_path / "f.tif")
    np.testing.assert_allclose(pixels(tmp_path / "f.tif")[0], deep[:, :, 0], atol=1e-7)


def test_8_and_16_bit_together_are_float():
    frame = column(np.full((8, 8), 255, np.uint8), np.full((8, 8), 65535, np.uint16))
    found = Image("ct", size=8).fit(frame).transform(frame).pixels
    assert found.dtype == torch.float32
    assert (found == 1.0).all()


def test_orientation_of_photographs_is_followed(tmp_path):
    array = noise(8, 16, 3)
    exif = PILImage.Exif()
    exif[0x0112] = 6  # turned by a quarter
    PILImage.fromarray(array).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(
        pixels(tmp_path / "photo.png", size=(16, 8)), np.rot90(array, -1).transpose(2, 0, 1)
    )


# Bags and missing images


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, "", " ", [], (), [None, ""]])
def test_missing(missing):
    frame = column(noise(8, 8), missing)
    data = Image("ct", size=8).fit(frame).transform(frame)
    assert data.present.tolist() == [True, False]
    assert data.start.tolist() == [0, 1, 1]


def test_bags():
    a, b, c = (noise(8, 8, 3, seed=seed) for seed in range(3))
    frame = column([a, b], None, c, (b,), np.array([None, None], dtype=object))
    data = Image("ct", size=8).fit(frame).transform(frame)
    assert data.start.tolist() == [0, 2, 2, 3, 4, 4]
    assert data.present.tolist() == [True, False, True, True, False]
    expected = np.stack([a, b, c, b]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(data.pixels.numpy(), expected)
    images, owner = data.inputs(torch.tensor([2, 0]))
    np.testing.assert_array_equal(images.numpy(), expected[[2, 0, 1]])
    assert owner.tolist() == [0, 1, 1]


def test_a_bag_of_paths_from_a_table_file(tmp_path):
    for name in "ab":
        PILImage.fromarray(noise(8, 8)).save(tmp_path / f"{name}.png")
    frame = column(np.array(["a.png", "b.png"], dtype=object), "a.png")  # as parquet gives them
    data = Image("ct", size=8, root=tmp_path).fit(frame).transform(frame)
    assert data.start.tolist() == [0, 2, 3]


def test_several_columns_make_one_bag():
    a, b, c = (noise(8, 8, 3, seed=seed) for seed in range(3))
    frame = pd.DataFrame({"front": [a, None], "bath": [[b], None], "bed": [None, c]})
    image = Image(["front", "bath", "bed"], size=8).fit(frame)
    assert image.columns_ == ["front", "bath", "bed"]
    data = image.transform(frame)
    assert data.start.tolist() == [0, 2, 3]
    np.testing.assert_array_equal(data.pixels.numpy(), np.stack([a, b, c]).transpose(0, 3, 1, 2))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8).filter(any))
def test_bags_of_any_length(lengths):
    stamp = iter(range(100))
    frame = column(*[[np.full((2, 2), next(stamp), np.uint8)] * n for n in lengths])
    data = Image("ct", size=2, channels="L").fit(frame).transform(frame)
    assert np.diff(data.start.numpy()).tolist() == lengths
    assert data.present.tolist() == [n > 0 for n in lengths]
    rows = torch.arange(len(lengths))[data.present]
    found = data.inputs(rows)
    assert len(found[0]) == sum(lengths)
    if len(found) == 2:
        assert np.bincount(found[1].numpy()).tolist() == [n for n in lengths if n]


def test_no_image_at_prediction_and_no_rows():
    frame = column(noise(8, 8), None)
    image = Image("ct", size=8).fit(frame)
    data = image.transform(frame.iloc[1:])
    assert data.pixels.shape == (0, 3, 8, 8)
    assert data.present.tolist() == [False]
    assert len(image.transform(frame.iloc[:0])) == 0


def test_no_image_at_fit_names_the_column():
    with pytest.raises(ValueError, match=r"column 'ct' is missing in all of the 2 rows"):
        Image("ct").fit(column(None, ""))


# Decoded once


def test_files_are_decoded_once_for_all_folds(tmp_path, opened):
    for i in range(4):
        PILImage.fromarray(noise(20, 20, 3, seed=i)).save(tmp_path / f"{i}.png")
    frame = column(*[f"{i}.png" for i in range(4)], "0.png")  # one of them twice
    for fold in ([0, 1, 2, 4], [1, 2, 3], [0, 3]):
        image = Image("ct", size=8, root=tmp_path).fit(frame.iloc[fold])
        first = image.transform(frame).pixels
        assert torch.equal(clone(image).fit(frame).transform(frame).pixels, first)
    assert sorted(opened) == ["0.png", "1.png", "2.png", "3.png"]


def test_fit_decodes_nothing(tmp_path, opened):
    PILImage.fromarray(noise(8, 8)).save(tmp_path / "a.png")
    Image("ct", root=tmp_path).fit(column("a.png"))
    assert opened == []


def test_another_size_or_a_changed_file_is_decoded_again(tmp_path, opened):
    path = tmp_path / "a.png"
    PILImage.fromarray(noise(8, 8)).save(path)
    os.utime(path, ns=(1, 1))
    first = pixels(path)
    assert len(opened) == 1
    assert pixels(path, size=4).shape == (3, 4, 4)
    assert pixels(path, channels="L").shape == (1, 8, 8)
    assert len(opened) == 3
    PILImage.fromarray(noise(8, 8, seed=1)).save(path)
    os.utime(path, ns=(2, 2))
    assert not np.array_equal(pixels(path), first)
    assert len(opened) == 4


def test_cache_is_bounded_and_drops_the_longest_unused(tmp_path, opened):
    for name in "abc":
        PILImage.fromarray(noise(8, 8)).save(tmp_path / f"{name}.png")
    set_image_cache_limit(2 * 3 * 8 * 8)
    for name in "abacab":
        pixels(f"{name}.png", root=tmp_path)
    assert [name[0] for name in opened] == ["a", "b", "c", "b"]
    assert _decoding._cache.n_bytes == 2 * 3 * 8 * 8
    set_image_cache_limit(0)
    assert _decoding._cache.n_bytes == 0
    pixels("a.png", root=tmp_path)
    pixels("a.png", root=tmp_path)
    assert len(opened) == 6
    with pytest.raises(ValueError, match=r"n_bytes parameter must be at least 0. Got -1"):
        set_image_cache_limit(-1)


def test_what_a_caller_does_to_pixels_stays_out_of_the_cache(tmp_path):
    PILImage.fromarray(noise(8, 8)).save(tmp_path / "a.png")
    frame = column(tmp_path / "a.png")
    image = Image("ct", size=8).fit(frame)
    first = image.transform(frame).pixels
    kept = first.clone()
    first.zero_()
    assert torch.equal(image.transform(frame).pixels, kept)


# Errors


def broken_text(path: Path) -> None:
    path.write_text("no image")


def broken_half(path: Path) -> None:
    PILImage.fromarray(noise(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def broken_empty(path: Path) -> None:
    path.touch()


def broken_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "make", [broken_text, broken_half, broken_empty, broken_folder, lambda path: None]
)
def test_unreadable_file_names_path_row_and_column(tmp_path, make):
    PILImage.fromarray(noise(8, 8)).save(tmp_path / "good.png")
    make(tmp_path / "bad.png")
    frame = column("good.png", ["good.png", "bad.png"])
    frame.index = ["p1", "p2"]
    image = Image("ct", root=tmp_path).fit(frame)
    with pytest.raises(ValueError, match=r"'ct', row 'p2': cannot read the image '.*bad\.png'"):
        image.transform(frame)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 9), np.uint8), r"\(height, width, 1, 3 or 4\).* Got .*\(3, 8, 9\)"),
        (np.zeros(8, np.uint8), r"Got .*\(8,\)"),
        (np.zeros((0, 8), np.uint8), r"Got .*\(0, 8\)"),
        (np.zeros((8, 8), np.int64), "uint8, uint16 or float in .*Got int64"),
        (np.zeros((8, 8), bool), "Got bool"),
        (np.full((8, 8), 255.0), r"in \[0, 1\] .*Got 255 to 255"),
        (np.full((8, 8), -0.1), r"Got -0.1 to -0.1"),
        (np.full((8, 8), np.nan), r"Got nan to nan"),
        (np.full((8, 8), 70000, np.int32), "Got int32"),
    ],
)
def test_wrong_arrays_name_the_row(array, message):
    frame = column(noise(8, 8), array)
    frame.index = ["p1", "p2"]
    with pytest.raises(ValueError, match=f"'ct', row 'p2': cannot read the image: .*{message}"):
        Image("ct").fit(frame).transform(frame)


def test_more_than_16_bits():
    image = PILImage.fromarray(np.full((8, 8), 70000, np.int32))
    with pytest.raises(ValueError, match=r"16-bit, 0 to 65535. Got 70000 to 70000"):
        pixels(image)


@pytest.mark.parametrize("cell", [3.0, {"path": "a.png"}, b"bytes", [1, 2]])
def test_other_cells_name_the_row(cell):
    with pytest.raises(ValueError, match=r"Column 'ct', row 1: an image cell must hold .* Got "):
        Image("ct").fit(column(noise(8, 8), cell))


@pytest.mark.parametrize("size", [0, -3, 2.5, "64", (3,), (8, 0), (8, 8, 3), None])
def test_bad_size(size):
    with pytest.raises(ValueError, match=r"size parameter of Image must be a positive integer"):
        Image("ct", size=size).fit(column(noise(8, 8)))


def test_bad_channels_and_columns():
    frame = column(noise(8, 8))
    with pytest.raises(ValueError, match=r"channels parameter of Image must be one of 'RGB', 'L'"):
        Image("ct", channels="BGR").fit(frame)
    with pytest.raises(ValueError, match=r"Column 'cts' not found .* Nearest to 'cts': 'ct'"):
        Image("cts").fit(frame)
    image = Image("ct").fit(frame)
    with pytest.raises(ValueError, match=r"Column 'ct' not found in the table"):
        image.transform(pd.DataFrame({"age": [1.0]}))
    with pytest.raises(ValueError, match=r"not fitted"):
        Image("ct").transform(frame)


# scikit-learn's promises


def test_clone_pickle_and_no_change_to_what_was_given():
    array, tensor = noise(20, 20, 3), torch.from_numpy(noise(3, 20, 20))
    picture = PILImage.fromarray(noise(20, 20)).convert("P")
    bag = [array, tensor, picture]
    kept = array.copy(), tensor.clone(), picture.copy()
    frame = column(bag, None)
    image = Image("ct", size=8, encoder="resnet18").fit(frame)
    found = image.transform(frame).pixels
    assert frame["ct"].iloc[0] is bag
    assert np.array_equal(array, kept[0])
    assert torch.equal(tensor, kept[1])
    assert picture.mode == "P"
    assert picture.tobytes() == kept[2].tobytes()
    again = clone(image)
    assert again.get_params() == image.get_params()
    assert not hasattr(again, "columns_")
    assert torch.equal(pickle.loads(pickle.dumps(image)).transform(frame).pixels, found)


def test_real_histology(data_dir):
    folder = data_dir / "tcga_gbmlgg"
    table = pd.read_csv(folder / "images.csv").head(6)
    bags = table.groupby("patient_id")["image"].agg(list).to_frame()
    assert isinstance(infer_modalities(bags)["image"], Image)
    data = Image("image", size=32, root=folder / "images224").fit(bags).transform(bags)
    assert data.pixels.shape == (6, 3, 32, 32)
    assert data.present.all()
    assert data.pixels.float().std() > 10


def test_twelve_bits_in_sixteen_are_told_of(tmp_path) -> None:
    """Scanners write them; an encoder that takes 65535 for white sees black."""
    pixels = np.linspace(0, 4095, 64).reshape(8, 8).astype(np.uint16)
    PILImage.fromarray(pixels).save(tmp_path / "ct.png")
    frame = pd.DataFrame({"scan": [str(tmp_path / "ct.png"), None]})
    modality = Image("scan", size=8, channels="L").fit(frame)
    with pytest.warns(UserWarning, match=r"'scan': the brightest .* 0.062 of white"):
        modality.transform(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        modality.transform(pd.DataFrame({"scan": [pixels * 16, None]}))
