import copy
import importlib
import inspect
import math
import pickle
import re
import sys
import textwrap

import pytest
import torch
from tests.processes import run_without
from torch import nn

from tombola import models
from tombola.ground import catalogue, seeds
from tombola.ground.errors import ConfigError
from tombola.models.building import build, find_head, head_name, initialise_, replace_head_

ENTRIES = catalogue.entries_for("tombola.models", "classification")


def paper_shape(name):
    return inspect.signature(getattr(models, name)).parameters["image_shape"].default


def parameters(model, kind=nn.Module):
    found = {id(p): p for m in model.modules() if isinstance(m, kind) for p in m.parameters()}
    return sum(p.numel() for p in found.values())


def conv_weights(model):
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d))


def same_bits(a, b):
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


# ---- parameter counts of the papers


def test_lenet5_has_the_61706_parameters_of_the_paper_layer_by_layer():
    model = models.lenet5(10)
    layers = {
        name: parameters(layer) for name, layer in model.named_children() if parameters(layer)
    }
    assert layers == {"conv1": 156, "conv2": 2_416, "fc1": 48_120, "fc2": 10_164, "head": 850}
    assert parameters(model) == 61_706
    assert (
        sum(p.numel() for name, p in model.named_parameters() if name.endswith("weight")) == 61_470
    )


def test_lenet_300_100_has_266200_weights_and_410_biases():
    model = models.lenet_300_100(10)
    assert parameters(model) == 266_610
    assert sum(p.numel() for p in model.parameters() if p.ndim == 2) == 266_200


@pytest.mark.parametrize(("classes", "total"), [(10, 374_282), (50, 384_562), (100, 397_412)])
def test_conv3_has_the_parameters_of_the_colt_paper(classes, total):
    model = models.conv3(classes)
    assert parameters(model) == total
    assert parameters(model, nn.Conv2d) == 370_816
    assert conv_weights(model) == 370_368


@pytest.mark.parametrize(
    ("classes", "total"), [(10, 11_173_962), (100, 11_220_132), (200, 11_271_432)]
)
def test_resnet18_has_the_parameters_of_the_colt_paper(classes, total):
    model = models.resnet18(classes)
    assert parameters(model) == total
    assert conv_weights(model) == 11_159_232
    assert sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)) == 4_800


def test_resnet18_with_the_imagenet_stem_agrees_with_torchvision():
    from torchvision.models import resnet18 as reference

    ours = models.resnet18(1000, image_shape=(3, 64, 64), stem="imagenet")
    theirs = reference(weights=None)
    assert parameters(ours) == parameters(theirs) == 11_689_512
    # Both register stem, stages and head in the same order, so the states can be carried over one
    # by one.
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_resnet20_has_269722_parameters():
    # stem    3*16*9 + 2*16 = 464
    # stage1  6 * (16*16*9 + 2*16) = 14,016
    # stage2  (16*32*9 + 2*32) + 5 * (32*32*9 + 2*32) = 51,072
    # stage3  (32*64*9 + 2*64) + 5 * (64*64*9 + 2*64) = 203,520
    # head    64*10 + 10 = 650; the shortcuts have none
    model = models.resnet20(10)
    layers = {
        name: parameters(layer) for name, layer in model.named_children() if parameters(layer)
    }
    assert layers == {
        "stem": 464,
        "stage1": 14_016,
        "stage2": 51_072,
        "stage3": 203_520,
        "head": 650,
    }
    assert parameters(model) == 269_722
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == 20


@pytest.mark.parametrize(
    ("name", "total"), [("conv2", 4_301_642), ("conv4", 2_425_930), ("conv6", 2_262_602)]
)
def test_conv2_conv4_and_conv6_have_the_parameters_of_the_lottery_ticket_paper(name, total):
    assert parameters(getattr(models, name)(10)) == total


def test_conv4_has_the_layers_of_the_lottery_ticket_paper():
    # 3*64*9 + 64, 64*64*9 + 64, 64*128*9 + 128, 128*128*9 + 128; then 128 * 8 * 8 = 8192 inputs
    layers = {
        name: parameters(layer)
        for name, layer in models.conv4(10).named_children()
        if parameters(layer)
    }
    assert layers == {
        "conv1": 1_792, "conv2": 36_928, "conv3": 73_856, "conv4": 147_584,
        "fc1": 8192 * 256 + 256, "fc2": 256 * 256 + 256, "head": 2_570,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["conv2", "conv4", "conv6"])
def test_dropout_stands_behind_the_two_hidden_layers_and_has_no_weights(name):
    plain, dropped = getattr(models, name)(10), getattr(models, name)(10, dropout=0.5)
    assert not any(isinstance(layer, nn.Dropout) for layer in plain)
    assert plain.state_dict().keys() == dropped.state_dict().keys()
    kinds = [type(layer) for layer in dropped][-8:]
    assert kinds == [
        nn.Flatten,
        nn.Linear,
        nn.ReLU,
        nn.Dropout,
        nn.Linear,
        nn.ReLU,
        nn.Dropout,
        nn.Linear,
    ]
    assert dropped.drop1.p == dropped.drop2.p == 0.5


@pytest.mark.parametrize(
    ("classes", "total"), [(10, 2_254_090), (50, 2_305_330), (100, 2_369_380), (200, 2_497_480)]
)
def test_mobilenet_v2_has_the_parameters_of_the_colt_paper(classes, total):
    model = models.mobilenet_v2(classes)
    assert parameters(model) == total
    assert conv_weights(model) == 2_190_016
    assert parameters(model, nn.Conv2d) == 2_190_016 + 17_088
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 2 + 17 * 3


def test_mobilenet_v2_with_the_standard_stem_has_no_bias_in_its_convolutions():
    model = models.mobilenet_v2(10, stem="standard")
    assert parameters(model) == 2_237_770
    assert conv_weights(model) == parameters(model, nn.Conv2d) == 2_190_016 + 32 * 3 * 8


@pytest.mark.parametrize(
    ("stem", "sizes"), [("repo", [34, 34, 17, 9, 5]), ("standard", [32, 32, 16, 8, 4])]
)
def test_mobilenet_v2_makes_small_images_as_small_as_the_colt_authors_code(stem, sizes):
    seen, image = [], torch.zeros(2, 3, 32, 32)
    for layer in models.mobilenet_v2(10, stem=stem)[:8]:
        image = layer(image)
        seen.append(image.shape[2])
    assert seen[:5] == sizes
    assert set(seen[4:]) == {sizes[-1]}


@pytest.mark.parametrize(("inputs", "channels", "stride"), [(24, 24, 1), (24, 32, 2), (64, 96, 1)])
def test_a_block_of_mobilenet_v2_agrees_with_torchvision(inputs, channels, stride):
    from torchvision.models.mobilenetv2 import InvertedResidual as Reference

    from tombola.models._mobilenet_v2 import InvertedResidual

    ours, theirs = (
        InvertedResidual(inputs, channels, stride, 6, bias=False),
        Reference(inputs, channels, stride, 6),
    )
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(2, inputs, 9, 9, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize(
    ("name", "small", "large"),
    [
        ("vgg16", 14_728_266, 138_365_992),
        ("vgg19", 20_040_522, 143_678_248),
        ("resnet50", 23_520_842, 25_557_032),
    ],
)
def test_vgg_and_resnet50_have_the_parameters_of_torchvision_and_the_usual_ones_for_cifar(
    name, small, large
):
    function = getattr(models, name)
    options = {"stem": "imagenet"} if name == "resnet50" else {"classifier": "imagenet"}
    with torch.device("meta"):
        assert parameters(function(10)) == small
        assert parameters(function(1000, image_shape=(3, 224, 224), **options)) == large


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "vgg19"])
def test_vgg_and_resnet50_for_imagenet_agree_with_torchvision(name):
    from torchvision import models as reference

    options = {"stem": "imagenet"} if name == "resnet50" else {"classifier": "imagenet"}
    with torch.device("meta"):
        theirs = getattr(reference, name if name == "resnet50" else f"{name}_bn")(num_classes=10)
        ours = getattr(models, name)(10, image_shape=(3, 64, 64), **options)
    # One piece of memory for all weights: the large layers of VGG would take half a gigabyte each
    # time.
    values = theirs.state_dict().values()
    drawn = (
        torch.randn(
            max(value.numel() for value in values), generator=torch.Generator().manual_seed(0)
        )
        * 0.02
    )
    weights = [drawn[: value.numel()].view(value.shape).to(value.dtype) for value in values]
    for model in (ours, theirs):
        model.load_state_dict(dict(zip(model.state_dict(), weights, strict=True)), assign=True)
        for layer in model.modules():
            # by the batch, or such small weights would let nothing through
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean = layer.running_var = None
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.eval()(images)
        torch.testing.assert_close(ours.eval()(images), expected)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # the images come through


def test_mlp_has_the_hidden_layers_it_is_asked_for():
    model = models.mlp(3, image_shape=(1, 8, 8), hidden=[20, 7])
    assert [list(p.shape) for p in model.parameters() if p.ndim == 2] == [[20, 64], [7, 20], [3, 7]]
    assert parameters(models.mlp(3, image_shape=(1, 8, 8), hidden=[])) == 64 * 3 + 3


# ---- what every entry of the catalogue keeps


@pytest.mark.parametrize("name", ENTRIES)
def test_every_model_gives_logits_and_has_a_linear_head(name):
    shape = paper_shape(name)
    model = getattr(models, name)(7)
    assert isinstance(model.head, nn.Linear)
    assert model.head.out_features == 7
    assert list(model.state_dict())[-2:] == ["head.weight", "head.bias"]
    assert model(torch.zeros(2, *shape)).shape == (2, 7)
    assert head_name(model) == "head"


@pytest.mark.parametrize("name", ENTRIES)
def test_every_model_has_keyword_only_options_with_defaults_and_no_catch_all(name):
    first, *options = inspect.signature(getattr(models, name)).parameters.values()
    assert first.name == "num_classes"
    assert options[0].name == "image_shape"
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in options)


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_model_takes_other_channels_and_sizes(name, channels):
    model = build(name, 4, (channels, 20, 24), seed=0)
    assert model(torch.zeros(2, channels, 20, 24)).shape == (2, 4)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_model_survives_deepcopy_and_pickle(name):
    model = build(name, 3, paper_shape(name), seed=0).eval()
    images = torch.ones(2, *paper_shape(name))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(twin.state_dict()) == list(model.state_dict())
        assert torch.equal(twin(images), model(images))


@pytest.mark.parametrize("init", ["xavier", "default"])
@pytest.mark.parametrize("name", ENTRIES)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(name, init):
    shape = paper_shape(name)
    before = torch.random.get_rng_state()
    first = build(name, 3, shape, init=init, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    assert same_bits(first, build(name, 3, shape, init=init, seed=1))
    other = build(name, 3, shape, init=init, seed=2)
    assert not any(
        torch.equal(p, q)
        for p, q in zip(first.parameters(), other.parameters(), strict=True)
        if p.ndim > 1
    )


@pytest.mark.parametrize("name", ENTRIES)
def test_every_model_is_built_in_training_mode_with_fresh_buffers(name):
    model = build(name, 3, paper_shape(name), seed=0)
    assert all(m.training for m in model.modules())
    assert all(m.num_batches_tracked == 0 for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("classes", [1, 0, 2.5])
def test_every_model_refuses_fewer_than_two_classes(name, classes):
    with pytest.raises(ConfigError, match=re.escape(f"num_classes is {classes}; ")):
        getattr(models, name)(classes)


def test_the_catalogue_is_listed_without_importing_torch():
    done = run_without(["torch"], "import tombola.models; print(*dir(tombola.models))")
    assert (done.returncode, done.stderr) == (0, "")
    assert "lenet5" in done.stdout.split()


# ---- initialisation


def test_xavier_has_the_deviation_of_glorot_and_zero_biases():
    model = build("conv3", 10, (3, 32, 32), seed=0)
    # fan in and fan out of a convolution count its 9 positions
    assert model.conv3.weight.std().item() == pytest.approx(
        math.sqrt(2 / (128 * 9 + 256 * 9)), rel=0.01
    )
    assert model.head.weight.std().item() == pytest.approx(math.sqrt(2 / (256 + 10)), rel=0.05)
    assert model.conv3.weight.mean().item() == pytest.approx(0, abs=1e-3)
    # Gaussian, not uniform: about 4.6 % lie beyond two deviations
    beyond = (model.conv3.weight.abs() > 2 * model.conv3.weight.std()).float().mean().item()
    assert beyond == pytest.approx(0.0455, abs=0.003)
    assert not model.conv3.bias.any()
    assert not model.head.bias.any()
    assert (model.bn3.weight == 1).all()
    assert not model.bn3.bias.any()


def test_the_default_init_leaves_what_torch_has_drawn():
    model = build("mlp", 10, (1, 28, 28), init="default", seed=0)
    bound = 1 / math.sqrt(784)
    assert model.fc1.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert model.fc1.bias.any()


def test_an_unknown_init_says_which_there_are():
    with pytest.raises(
        ConfigError,
        match=r"no init 'xavir'; it is one of: xavier, default. Did you mean 'xavier'\?",
    ):
        build("lenet5", 10, (1, 28, 28), init="xavir", seed=0)
    with pytest.raises(ConfigError, match="no init"):
        initialise_(nn.Linear(2, 2), "he")


# ---- refusals


def test_an_unknown_model_gets_did_you_mean():
    with pytest.raises(
        ConfigError, match=r"no 'lennet5' in tombola.models; .* Did you mean 'lenet5'\?"
    ):
        build("lennet5", 10, (1, 28, 28), seed=0)


def test_an_unknown_option_gets_did_you_mean():
    with pytest.raises(
        ConfigError, match=r"'mlp' has no option 'hiden'; it has: hidden. Did you mean 'hidden'\?"
    ):
        build("mlp", 10, (1, 28, 28), options={"hiden": [3]}, seed=0)
    with pytest.raises(ConfigError, match="'conv3' has no option 'width'; it has none"):
        build("conv3", 10, (3, 32, 32), options={"width": 2}, seed=0)


@pytest.mark.parametrize("hidden", [[0], [3, -1], [2.5], 300])
def test_a_hidden_width_that_will_not_do_is_refused(hidden):
    with pytest.raises(ConfigError, match="hidden is "):
        models.mlp(10, hidden=hidden)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_an_unknown_stem_gets_did_you_mean(name):
    with pytest.raises(
        ConfigError, match=r"stem is 'cifra'; it is one of: cifar, imagenet. Did you mean 'cifar'\?"
    ):
        getattr(models, name)(10, stem="cifra")


def test_an_option_that_is_none_of_its_choices_or_no_fraction_is_refused_in_one_line():
    with pytest.raises(
        ConfigError,
        match=r"stem is 'standart'; it is one of: repo, standard. Did you mean 'standard'",
    ):
        models.mobilenet_v2(10, stem="standart")
    with pytest.raises(
        ConfigError, match=r"classifier is 'large'; it is one of: cifar, imagenet\."
    ):
        models.vgg16(10, classifier="large")
    for wrong in (1, -0.1, True, "0.5"):
        with pytest.raises(
            ConfigError,
            match=f"dropout is {wrong!r}; it is a fraction from 0 to below 1, such as 0.5",
        ):
            models.conv2(10, dropout=wrong)
    with pytest.raises(ConfigError, match=r"conv6\.dropout is 'half'; it should be a number"):
        build("conv6", 10, (3, 32, 32), options={"dropout": "half"}, seed=0)


@pytest.mark.parametrize(
    ("name", "smallest", "options"),
    [
        ("lenet5", 12, {}),
        ("conv3", 8, {}),
        ("conv4", 4, {}),
        ("conv6", 8, {}),
        ("vgg16", 16, {}),
        ("vgg19", 32, {"classifier": "imagenet"}),
    ],
)
def test_images_below_the_smallest_size_are_refused_in_one_line(name, smallest, options):
    for shape in [(1, smallest - 1, 33), (1, 33, smallest - 1), (1, 3, 3)]:
        with pytest.raises(ConfigError) as refused:
            getattr(models, name)(10, image_shape=shape, **options)
        assert str(refused.value) == (
            f"model '{name}' cannot take images of shape {shape}; they must be at least {smallest} "
            f"x {smallest} pixels"
        )
    if not options:
        assert build(name, 10, (1, smallest, smallest), seed=0)(
            torch.zeros(2, 1, smallest, smallest)
        ).shape == (2, 10)


@pytest.mark.parametrize("shape", [(28, 28), (1, 0, 28), (1, 28, 28, 1), (1, 28.0, 28)])
def test_what_is_no_image_shape_is_refused(shape):
    with pytest.raises(
        ConfigError, match=re.escape(f"image_shape is {shape}; it is (channels, height, width)")
    ):
        build("mlp", 10, shape, seed=0)


# ---- heads


def test_a_head_is_what_is_given_else_head_else_what_has_the_outputs():
    plain = nn.Sequential(nn.Conv2d(1, 10, 3), nn.Flatten(), nn.Linear(10, 10), nn.ReLU())
    assert head_name(plain, "0") == "0"
    assert head_name(plain, outputs=10) == find_head(plain, 10) == "2"
    assert head_name(models.lenet5(10), "fc2") == "fc2"
    with pytest.raises(
        ConfigError, match=r"the model Sequential has no .* named 'head'; name it with head: NAME"
    ):
        head_name(plain)
    with pytest.raises(ConfigError, match=r"no Linear or Conv2d with 3 outputs; .* head: NAME"):
        head_name(plain, outputs=3)


def test_a_given_head_that_is_not_there_or_no_output_layer_is_refused():
    model = models.conv3(10)
    with pytest.raises(ConfigError, match=r"no layer 'haed' to be its head. Did you mean 'head'\?"):
        head_name(model, "haed")
    with pytest.raises(
        ConfigError, match="head 'bn1' is a BatchNorm2d; the output layer is a Linear or a Conv2d"
    ):
        head_name(model, "bn1")
    with pytest.raises(
        ConfigError, match="head 'fc1' of model 'mlp' has 300 outputs; the output layer has 10"
    ):
        build("mlp", 10, (1, 28, 28), head="fc1", seed=0)


def test_a_replaced_head_has_the_new_classes_and_depends_on_its_address_only():
    def headed(*address, start=0, seed=5):
        model = build("lenet5", 10, (1, 28, 28), seed=start)
        rest = model.fc2.weight.clone()
        replace_head_(model, "head", 4, seed, *address)
        assert torch.equal(model.fc2.weight, rest)
        assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 4)
        return model.head

    first = headed("partition", 1)
    assert first.weight.std().item() == pytest.approx(math.sqrt(2 / (84 + 4)), rel=0.1)
    assert not first.bias.any()
    assert same_bits(first, headed("partition", 1, start=9))
    assert not same_bits(first, headed("partition", 2))
    assert not same_bits(first, headed("partition", 1, seed=6))


def test_a_replaced_head_keeps_kind_bias_type_and_mode():
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.ModuleList(
                [nn.Conv2d(6, 10, (3, 1), stride=2, padding=1, groups=2, bias=False)]
            )

    model = Body().double().eval()
    replace_head_(model, "last.0", 4, 0, init="default")
    new = model.last[0]
    assert type(new) is nn.Conv2d
    assert (new.in_channels, new.out_channels, new.kernel_size) == (6, 4, (3, 1))
    assert (new.stride, new.padding, new.groups) == ((2, 2), (1, 1), 2)
    assert new.bias is None
    assert new.weight.dtype == torch.float64
    assert not new.training


def test_replacing_a_head_leaves_the_global_generator_and_refuses_one_class():
    model = models.lenet5(10)
    before = torch.random.get_rng_state()
    replace_head_(model, "head", 4, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(ConfigError, match="num_classes is 1"):
        replace_head_(model, "head", 1, 0)


# ---- torchvision's models


def test_torchvision_models_are_built_and_their_head_is_found():
    model = build("torchvision:resnet18", 5, (3, 32, 32), seed=0)
    assert parameters(model) == 11_176_512 + 512 * 5 + 5
    assert head_name(model, outputs=5) == "fc"
    assert model.fc.weight.std().item() == pytest.approx(math.sqrt(2 / (512 + 5)), rel=0.05)
    assert same_bits(model, build("torchvision:resnet18", 5, (3, 32, 32), seed=0))


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("squeezenet1_1", "classifier.1"),
        ("mobilenet_v2", "classifier.1"),
        ("vgg11_bn", "classifier.6"),
    ],
)
def test_the_heads_of_torchvision_models_are_replaced_under_their_own_names(name, head):
    model = build(f"torchvision:{name}", 6, (3, 64, 64), seed=0)
    assert head_name(model, outputs=6) == head
    replace_head_(model, head, 3, 0)
    assert model.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_torchvision_models_that_do_not_exist_or_fit_are_refused_in_one_line():
    with pytest.raises(
        ConfigError, match=r"no classifier 'resnet19' in torchvision.models. Did you mean 'resnet1"
    ):
        build("torchvision:resnet19", 5, (3, 32, 32), seed=0)
    with pytest.raises(
        ConfigError, match=r"cannot be built with the options {'widht': 2}: .*'widht'"
    ):
        build("torchvision:resnet18", 5, (3, 32, 32), options={"widht": 2}, seed=0)
    with pytest.raises(
        ConfigError, match=r"cannot take images of shape \(1, 32, 32\): .* 1 channels"
    ) as refused:
        build("torchvision:resnet18", 5, (1, 32, 32), seed=0)
    assert "\n" not in str(refused.value)


# ---- the user's own models


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(
        textwrap.dedent("""
            from torch import nn

            def plain(num_classes):
                return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

            def shaped(num_classes, *, image_shape, width=4):
                model = nn.Sequential(nn.Conv2d(image_shape[0], width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
                model.head = nn.Linear(width, num_classes)
                return model

            def catch_all(num_classes, **options):
                assert not options
                return shaped(num_classes, image_shape=(1, 8, 8))

            def wrong(num_classes):
                return nn.Flatten()

            def nothing(num_classes):
                pass

            class Net(nn.Module):
                def __init__(self, num_classes, *, fails="", aux=False, width: int = 4):
                    super().__init__()
                    self.fails, self.aux = fails, aux
                    self.flat, self.norm = nn.Flatten(), nn.BatchNorm1d(16)
                    self.drop, self.head = nn.Dropout(), nn.Linear(16, num_classes)

                def forward(self, x):
                    if self.fails == "attribute":
                        self.not_there
                    if self.fails == "key":
                        {}["x"]
                    if self.fails == "training" and self.training:
                        raise RuntimeError("no labels")
                    out = self.head(self.drop(self.norm(self.flat(x))))
                    return (out, out) if self.aux and self.training else out
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield "own_nets"
    sys.modules.pop("own_nets", None)


def test_a_users_own_model_is_built_with_its_options(own):
    model = build(f"{own}:shaped", 3, (2, 8, 8), options={"width": 6}, seed=0)
    assert model[0].weight.shape == (6, 2, 3, 3)
    assert not model.head.bias.any()
    assert same_bits(model, build(f"{own}:shaped", 3, (2, 8, 8), options={"width": 6}, seed=0))
    assert head_name(build(f"{own}:catch_all", 3, (1, 8, 8), seed=0)) == "head"
    with pytest.raises(
        ConfigError, match=r"has no option 'widht'; it has: width. Did you mean 'width'\?"
    ):
        build(f"{own}:shaped", 3, (2, 8, 8), options={"widht": 6}, seed=0)


def test_a_users_own_model_without_head_is_asked_for_its_name(own):
    with pytest.raises(ConfigError, match="name it with head: NAME"):
        build(f"{own}:plain", 3, (1, 4, 4), seed=0)
    model = build(f"{own}:plain", 3, (1, 4, 4), head="1", seed=0)
    assert model[1].weight.shape == (3, 16)
    assert not model[1].bias.any()  # lazy layers are initialised like all others


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        ("attribute", "'Net' object has no attribute 'not_there'"),
        ("key", "KeyError: 'x'"),
        ("training", "no labels"),
    ],
)
def test_whatever_a_users_own_model_raises_is_told_in_one_line(own, fails, told):
    with pytest.raises(
        ConfigError, match=rf"cannot take images of shape \(1, 4, 4\).*: .*{told}; .*"
    ) as refused:
        build(f"{own}:Net", 3, (1, 4, 4), options={"fails": fails}, seed=0)
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is not None


def test_a_model_that_gives_two_outputs_only_in_training_is_refused(own):
    message = "gives a tuple for 2 images of shape (1, 4, 4) in training; it should give logits of shape [2, 3]"
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(f"{own}:Net", 3, (1, 4, 4), options={"aux": True}, seed=0)


def test_trying_a_model_in_training_leaves_its_buffers_and_its_weights_as_they_are(own):
    from torch.nn.init import xavier_normal_

    before = torch.random.get_rng_state()
    model = build(f"{own}:Net", 3, (1, 4, 4), seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training
    assert model.norm.num_batches_tracked == 0
    assert (model.norm.running_mean == 0).all()
    with seeds.seeded(0, "init"):
        # dropout has drawn nothing before the weights
        weight = importlib.import_module(own).Net(3).head.weight
        assert torch.equal(model.head.weight, xavier_normal_(weight))


def test_the_options_of_a_users_own_class_are_checked_by_its_constructor(own):
    with pytest.raises(ConfigError, match=rf"{own}:Net.width is 'x'; it should be a whole number"):
        build(f"{own}:Net", 3, (1, 4, 4), options={"width": "x"}, seed=0)


def test_a_users_own_model_of_other_outputs_or_no_module_is_refused(own):
    with pytest.raises(
        ConfigError, match=re.escape("gives [2, 16] for 2 images of shape (1, 4, 4)")
    ):
        build(f"{own}:wrong", 3, (1, 4, 4), seed=0)
    with pytest.raises(ConfigError, match="returned a NoneType"):
        build(f"{own}:nothing", 3, (1, 4, 4), seed=0)
    with pytest.raises(ConfigError, match=r"Did you mean 'shaped'\?"):
        build(f"{own}:shapd", 3, (1, 4, 4), seed=0)
