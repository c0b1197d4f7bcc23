"""Building: from a name in a recipe to an initialised model that is known to take the images.

    name, options, seed -> [ build ] -> ( weights of a file ) -> rewind point -> search

A name is an entry of the catalogue (``lenet5``), ``torchvision:NAME``, or the user's own
``package.module:function``. Functions ending in ``_`` change a model in place.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.rnn import RNNCellBase
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from tombola.ground import catalogue, devices, seeds
from tombola.ground.catalogue import TORCHVISION
from tombola.ground.errors import ConfigError, InputError, near, shown
from tombola.ground.files import users_path
from tombola.masks import names, states
from tombola.masks.weights import copied, find_weights, roles, tensors, weight_parameter
from tombola.models.checks import check_arguments, check_classes
from tombola.models.running import alone, in_evaluation_mode

INITS = ("xavier", "default")

_RECURRENT = (nn.RNNBase, RNNCellBase)
# What spectral norm divides by is followed step by step while a model is trained; torch begins with
# as many.
_POWER_ITERATIONS = 15


def build(
    name: str,
    num_classes: int,
    image_shape: tuple[int, int, int],
    *,
    options: Mapping[str, Any] = {},
    init: str = "xavier",
    head: str | None = None,
    seed: int,
) -> nn.Module:
    """Build a model, initialise it, and try it on two images of zeros, as in a test and as in
    training.

    The same arguments give the same bits, whatever was drawn before; torch's global generator is
    left as it was.

    Args:
        name: An entry of ``tombola.models``, ``torchvision:NAME`` (without its pretrained weights)
            or the user's own ``package.module:function``, called as ``function(num_classes,
            **options)``, and with ``image_shape`` where it has a parameter of that name.
        num_classes: Number of outputs, at least 2.
        image_shape: Channels, height and width of one image.
        options: The model's own keyword arguments.
        init: How the weights are drawn, see ``initialise_``; torchvision's and the user's models
            are treated alike.
        head: Name of the output layer where it is not ``head``; see ``head_name``.
        seed: Everything is drawn at the address ``(seed, "init")``.

    Returns:
        A new model on the CPU in training mode, from ``[batch, *image_shape]`` to ``[batch,
        num_classes]``.

    Raises:
        ConfigError: There is no such model, option, init or head, or the model cannot take such
            images or does not give such outputs.

    >>> model = build("lenet5", 10, (1, 28, 28), seed=0)
    >>> model(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    check_arguments(name, num_classes, image_shape)
    model: nn.Module | None = None
    if not catalogue.is_own(name):
        # Without numbers, so that it costs nothing. Some models (RegNet) read numbers of tensors
        # while they are made, which cannot be done so; whatever else is wrong is told when the
        # model is made in earnest.
        with contextlib.suppress(ConfigError), seeds.seeded(seed, "size"), torch.device("meta"):
            model = _made(name, num_classes, image_shape, options)
        if model is not None:
            _check_size(name, model)
    with seeds.seeded(seed, "init"):
        model = _made(name, num_classes, image_shape, options)
        # Before the weights are drawn: lazy layers (nn.LazyLinear) have none until they have seen
        # an image.
        with in_evaluation_mode(model):
            _try(model, name, num_classes, image_shape)
        if not model.training:
            model.train()
        initialise_(model, init)
        # A copy, and after the weights are drawn: training moves batch statistics, and dropout
        # draws.
        _try(copied(model), name, num_classes, image_shape)
    found = head_name(model, head, outputs=num_classes if name.startswith(TORCHVISION) else None)
    outputs = _outputs(names.modules(model, shared=True)[found])
    if outputs != num_classes:
        raise ConfigError(
            f"head '{found}' of model '{name}' has {outputs} outputs; the output layer has "
            f"{num_classes}"
        )
    return model


def _made(
    name: str, num_classes: int, image_shape: tuple[int, int, int], options: Mapping[str, Any]
) -> nn.Module:
    if name.startswith(TORCHVISION):
        return _from_torchvision(name, num_classes, options)
    return _from_function(name, num_classes, image_shape, options)


def _check_size(name: str, model: nn.Module) -> None:
    """Refuse a model whose weights alone are more than the memory that is free."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    needed = sum(parameter.nbytes for parameter in model.parameters())
    free = devices.free_memory(torch.device("cpu"))
    if needed > free:
        raise ConfigError(
            f"model '{name}' has {weights:,} weights with these options, which take "
            f"{needed / 2**30:,.1f} GiB; {free / 2**30:.1f} GiB of memory are free"
        )


def initialise_(model: nn.Module, init: str = "xavier") -> None:
    """Draw the weights of all convolutions and linear layers anew, from torch's global generator.

    Args:
        model: Changed in place, in the order of ``model.modules()``. Norm layers keep the values
            they have, and so do weights that `masks.unmasked` names: nothing tells what they are
            for.
        init: ``"xavier"``, Gaussian with variance 2 / (fan in + fan out) and zero biases; or
            ``"default"``, which leaves everything as the model's own code and torch have drawn it.
            Each gate of a recurrent layer, each projection of attention and each matrix of a stack
            of them is a matrix of its own. Of a weight-normed layer the weight is drawn so, of a
            spectral-normed one what is divided by the norm.

    Raises:
        ConfigError: There is no such init.

    Source:
        Glorot & Bengio 2010, equation 12, as a Gaussian: Frankle & Carbin 2019, arXiv:1803.03635,
        figure 2, and COLT, arXiv:2212.12770.

    >>> layer = nn.Linear(3, 5)
    >>> initialise_(layer)
    >>> layer.bias.tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """
    if init not in INITS:
        raise ConfigError(
            f"no init '{init}'; it is one of: {', '.join(INITS)}.{near(str(init), INITS)}"
        )
    if init == "default":
        return
    maskable = {id(weight.parameter) for weight in find_weights(model).values() if weight.maskable}
    for module in model.modules():
        # A shared weight is drawn in each of its layers: so it always was, and the bits hang on it.
        for tensor in tensors(module):
            source = weight_parameter(module, tensor)
            if source is not None and id(source[0]) in maskable:
                _draw_(module, tensor, source[0])


@torch.no_grad()
def _draw_(module: nn.Module, tensor: str, parameter: nn.Parameter) -> None:
    """Draw one weight of a layer, by the parameter that a mask names, and have what goes with
    it follow.
    """
    for matrix in _matrices(module, tensor, parameter):
        nn.init.xavier_normal_(matrix)
    for name, bias in module.named_parameters(recurse=False):
        if name in ("bias", "in_proj_bias") or (
            name.startswith("bias_") and isinstance(module, _RECURRENT)
        ):
            nn.init.zeros_(bias)
    if is_parametrized(module, tensor):
        chain: nn.Module = module.parametrizations[tensor]  # type: ignore[index,assignment]
        for step in chain.children():
            if isinstance(step, _WeightNorm):
                length = torch.norm_except_dim(parameter, 2, step.dim)
                chain.get_parameter("original0").copy_(length)
        was = chain.training
        chain.train()
        for _ in range(_POWER_ITERATIONS):
            chain()
        chain.train(was)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and hook.name == tensor:
            module.get_parameter(f"{tensor}_g").copy_(torch.norm_except_dim(parameter, 2, hook.dim))
        if isinstance(hook, SpectralNorm) and hook.name == tensor:
            for _ in range(_POWER_ITERATIONS):
                hook.compute_weight(module, do_power_iteration=True)


def _matrices(module: nn.Module, tensor: str, values: Tensor) -> Sequence[Tensor]:
    """Return the matrices that a weight is made of."""
    if isinstance(module, _RECURRENT):
        gates = tensor.startswith(("weight_ih", "weight_hh"))
        return torch.split(values, module.hidden_size) if gates else [values]
    if isinstance(module, nn.MultiheadAttention):
        return torch.split(values, module.embed_dim)
    return [values] if roles(module) else values.unbind()


def head_name(model: nn.Module, given: str | None = None, *, outputs: int | None = None) -> str:
    """Return the dotted name of the output layer.

    Args:
        model: Any model.
        given: The name that the user gave, if any.
        outputs: Where nothing is given and the model has no ``head``, search for a layer with this
            many outputs (``find_head``). For torchvision's models, whose output layers have many
            names.

    Returns:
        ``given``, else ``"head"``, else what the search finds: the name of an ``nn.Linear`` or
        ``nn.Conv2d``.

    Raises:
        ConfigError: The given name is no such layer, or none is given and it cannot be told.

    >>> head_name(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "1")
    '1'
    """
    layers = names.modules(model, shared=True)
    if given is not None:
        if given not in layers:
            known = [name for name, layer in layers.items() if _can_be_head(layer)]
            raise ConfigError(
                f"the model has no layer {shown(given)} to be its head.{near(given, known)}"
            )
        if not _can_be_head(layers[given]):
            kind = type(layers[given]).__name__
            raise ConfigError(
                f"head '{given}' is a {kind}; the output layer is a Linear or a Conv2d"
            )
        return given
    if _can_be_head(layers.get("head")):
        return "head"
    if outputs is not None:
        return find_head(model, outputs)
    raise ConfigError(
        f"the model {type(model).__name__} has no Linear or Conv2d named 'head'; name it with "
        "head: NAME"
    )


def check_head(model: nn.Module, head: str, num_classes: int) -> None:
    """Refuse an output layer that cannot name every class; outputs that no class uses do no harm.

    Raises:
        ConfigError: It has fewer outputs than there are classes.

    >>> check_head(nn.Sequential(nn.Linear(4, 3)), "0", 2)
    >>> check_head(nn.Sequential(nn.Linear(4, 3)), "0", 10)
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: head '0' has 3 outputs for 10 classes; an output for each
    """
    outputs = _outputs(names.modules(model, shared=True)[head])
    assert outputs is not None  # head_name answers for it
    if outputs < num_classes:
        raise ConfigError(
            f"head '{head}' has {outputs} outputs for {num_classes} classes; an output for each"
        )


def find_head(model: nn.Module, num_classes: int) -> str:
    """Return the name of the last registered ``nn.Linear`` or ``nn.Conv2d`` that has
    ``num_classes`` outputs.

    Raises:
        ConfigError: There is none.

    >>> find_head(nn.Sequential(nn.Linear(4, 10), nn.Linear(10, 10), nn.ReLU()), 10)
    '1'
    """
    fitting: list[str] = [
        name for name, layer in names.modules(model).items() if _outputs(layer) == num_classes
    ]
    if not fitting:
        raise ConfigError(
            f"the model {type(model).__name__} has no Linear or Conv2d with {num_classes} outputs; "
            f"name its output layer with head: NAME"
        )
    return fitting[-1]


def replace_head_(
    model: nn.Module, head: str, classes: int, seed: int, *address: object, init: str = "xavier"
) -> None:
    """Put a new output layer for ``classes`` classes where the old one was.

    The new layer is of the same kind, inputs, device, type and mode, with a bias if the old one had
    one. Its bits depend on ``seed`` and ``address`` only: not on the old weights, nor on the
    device.

    Args:
        model: Changed in place. An optimiser made before still holds the old layer's parameters.
        head: Dotted name of the output layer, see ``head_name``.
        classes: Number of outputs of the new layer, at least 2.
        seed: The new layer is drawn at the address ``(seed, "head", *address)``.
        address: What tells this head from others of the same seed, such as the round and the
            partition.
        init: How it is drawn, see ``initialise_``; ``"default"`` is torch's own way.

    Raises:
        ConfigError: There is no such layer or init, or the number of classes will not do.

    >>> model = build("mlp", 10, (1, 2, 2), seed=0)
    >>> replace_head_(model, "head", 5, 0, "partition", 1)
    >>> model(torch.zeros(2, 1, 2, 2)).shape
    torch.Size([2, 5])
    """
    check_classes(classes)
    layers = names.modules(model, shared=True)
    old = layers[head_name(model, head)]
    with seeds.seeded(seed, "head", *address):
        new = _with_outputs(old, classes)
        initialise_(new, init)
    source = weight_parameter(old)
    assert source is not None  # head_name answers for it
    parent, _, child = head.rpartition(".")
    setattr(layers[parent], child, new.to(source[0]).train(old.training))


def load_weights_(model: nn.Module, path: str | Path, head: str | None = None) -> list[str]:
    """Take a model's weights and buffers from a local checkpoint, all of them but those of a head
    for other classes.

    The file is one that ``torch.save`` wrote, read with ``weights_only=True`` so that it cannot run
    code, or a ``.safetensors`` file. It holds a state dict, itself or as ``state_dict`` or
    ``model``; the prefixes of wrappers (``module.``, ``_orig_mod.``) are left aside, see
    `tombola.masks.names`. ``num_batches_tracked`` may be missing, as in files that are older than
    it, and so may all names but one of a parameter that the model shares, as in files of
    ``safetensors.torch.save_model``. A weight that ``torch.nn.utils.prune`` has pruned
    (``weight_orig`` and ``weight_mask``) is read as their product, and a sparse tensor as a dense
    one.

    Args:
        model: Changed in place, once the whole file is known to fit. Numbers become those of its
            dtypes and devices.
        path: The file.
        head: Name of the output layer, see ``head_name``. Where only the number of its outputs
            differs, it stays as it was drawn.

    Returns:
        The names of the head's entries that stayed; none where everything was taken from the file.

    Raises:
        ConfigError: There is no such file, it holds more than weights or is broken, or an entry is
            missing, unknown, of another shape or kind of number, not finite, or too large for the
            model's dtype; the first one is named.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(nn.Sequential(nn.Linear(2, 7)).state_dict(), f"{folder}/seven.pt")
    ...     load_weights_(nn.Sequential(nn.Linear(2, 3)), f"{folder}/seven.pt", head="0")
    ['0.weight', '0.bias']
    """
    file = users_path(path, "weights")
    own = states.state_of(model, keep_vars=True)
    given = _with_shared(_checkpoint(file, own), states.shared_names(own), file)
    layer = head_name(model, head)
    at_head = [name for name in own if name.rpartition(".")[0] == layer]
    fitting = [
        name for name in at_head if name in given and given[name].shape[1:] == own[name].shape[1:]
    ]
    stays = [name for name in fitting if given[name].shape != own[name].shape]
    # All of the head or nothing: a weight for other classes beside a bias for ours would be no head
    # of anything.
    stays = stays if stays == at_head else []
    for name, value in own.items():
        if name not in given:
            if name.endswith("num_batches_tracked"):
                continue
            raise ConfigError(f"{file} has no '{name}', which the model has.{near(name, given)}")
        if not states.is_extra(name):
            _check_entry(name, given[name], value, file, stays=name in stays)
    for name in given:
        if name not in own:
            raise ConfigError(f"{file} has '{name}', which the model has not.{near(name, own)}")
    whole = {name: value.detach() for name, value in own.items()}
    whole |= {name: value for name, value in given.items() if name not in stays}
    try:
        states.load_(model, states.noted_as(whole, given))
    except (
        Exception
    ) as error:  # a module's own code, which brings old states up to date or takes its extra state
        raise ConfigError(
            f"the model does not take the state in {file}: {_first_line(error)}"
        ) from error
    return stays


def _check_entry(name: str, given: Tensor, own: Tensor, file: Path, *, stays: bool) -> None:
    """Refuse an entry of a checkpoint that is not what the model has under its name."""
    if not stays and given.shape != own.shape:
        raise ConfigError(
            f"'{name}' has the shape {list(given.shape)} in {file}; it has {list(own.shape)} in "
            "the model"
        )
    if (
        given.is_floating_point() != own.is_floating_point()
        or given.is_complex() != own.is_complex()
    ):
        raise ConfigError(f"'{name}' is {given.dtype} in {file}; it is {own.dtype} in the model")
    # Through float32: of the small dtypes torch does not know whether they are finite.
    if not bool((given.float() if given.dtype.itemsize < 4 else given).isfinite().all()):
        raise ConfigError(f"'{name}' in {file} holds NaN or infinite values")
    if (value := states.lost(given, own.dtype)) is not None:
        raise ConfigError(
            f"'{name}' in {file} holds {value}, which {own.dtype} cannot hold, and the model is of "
            "that"
        )


def _with_shared(
    given: Mapping[str, Tensor], shared: Mapping[str, str], file: Path
) -> Mapping[str, Tensor]:
    """Give a parameter of several names under each of them, whichever the file has.

    Raises:
        ConfigError: The file has different values under two of the names.
    """
    found = dict(given)
    groups: dict[str, list[str]] = {}
    for name, first in shared.items():
        groups.setdefault(first, [first]).append(name)
    for group in groups.values():
        there = [name for name in group if name in given]
        for name in there[1:]:
            if not torch.equal(given[name], given[there[0]]):
                raise ConfigError(
                    f"'{there[0]}' and '{name}' differ in {file}; they are one parameter in the "
                    "model"
                )
        if there:
            found |= dict.fromkeys(group, given[there[0]])
    return states.noted_as(found, given)


def _checkpoint(file: Path, own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Read a state dict from a file by the names that the model has, with the versions of what
    wrote it, if noted.
    """
    if not file.is_file():
        raise ConfigError(f"no file {file} to take weights from")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(file)
        else:
            with warnings.catch_warnings():  # torch says that its sparse rows are in beta
                warnings.simplefilter("ignore")
                found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # broken bytes make the readers fail in any way
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ConfigError(
            f"{file} holds more than weights ({code[1]}) and reading it would run code; "
            "torch.save(model.state_dict(), ...) writes weights alone"
            if code
            else f"cannot read {file} as a checkpoint: {_first_line(error)}; it is broken, or no file of weights"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    tensors = isinstance(found, Mapping) and all(
        isinstance(value, Tensor) or states.is_extra(str(name)) for name, value in found.items()
    )
    if not tensors:
        raise ConfigError(
            f"{file} holds no state dict, neither itself nor as 'state_dict' or 'model'"
        )
    plain = {str(name): _dense(str(name), value, file) for name, value in found.items()}
    # A weight that torch has pruned stands there under two other names.
    known = {*own, *(f"{name}{end}" for name in own for end in ("_orig", "_mask"))}
    named = names.named_like(plain, known)
    return states.noted_as(_unpruned_names(named, own, file), found)


def _dense(name: str, value: Any, file: Path) -> Tensor:
    """Return an entry as a dense tensor; refuse one that holds no plain numbers."""
    if not isinstance(value, Tensor):
        try:
            return states.as_tensor(name, value)
        except InputError as error:
            raise ConfigError(f"{file}: {error}") from None
    odd = {
        "quantised": value.is_quantized,
        "nested": value.is_nested,
        "on the device meta": value.is_meta,
    }
    for what, it_is in odd.items():
        if it_is:
            raise ConfigError(
                f"'{name}' in {file} is {what}; a checkpoint holds plain tensors of numbers"
            )
    return value if value.layout is torch.strided else value.to_dense()


def _unpruned_names(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], file: Path
) -> dict[str, Tensor]:
    """Take the place of what ``torch.nn.utils.prune`` made of a weight: its values with the
    mask's zeros.
    """
    found = dict(given)
    for name, value in given.items():
        base = name.removesuffix("_orig")
        keep = given.get(f"{base}_mask")
        if base == name or keep is None or base in given or base not in own:
            continue
        if keep.shape != value.shape or not bool(((keep == 0) | (keep == 1)).all()):
            raise ConfigError(
                f"'{base}_mask' in {file} is no mask of ones and zeros of the shape "
                f"{list(value.shape)}"
            )
        del found[name], found[f"{base}_mask"]
        found[base] = value.masked_fill(keep == 0, 0)
    return found


def _from_torchvision(name: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    # Two seconds, so only for those who ask for it.
    from tombola.ground.extras import torchvision

    models = torchvision.models

    known = models.list_models(module=models)
    wanted = name.removeprefix(TORCHVISION)
    if wanted not in known:
        raise ConfigError(f"no classifier '{wanted}' in torchvision.models.{near(wanted, known)}")
    try:
        model: nn.Module = models.get_model(
            wanted, weights=None, num_classes=num_classes, **options
        )
    except (
        Exception
    ) as error:  # whatever torchvision's own code meets in options that it does not check
        raise ConfigError(
            f"'{name}' cannot be built with the options {shown(dict(options))}: "
            f"{_first_line(error)}"
        ) from error
    return model


def _from_function(
    name: str, num_classes: int, image_shape: tuple[int, int, int], options: Mapping[str, Any]
) -> nn.Module:
    function = catalogue.entry("tombola.models", name)
    try:
        with catalogue.own_code(name, "models"):
            takes_shape = "image_shape" in inspect.signature(function).parameters
            fixed = {"image_shape": tuple(image_shape)} if takes_shape else {}
            model = catalogue.call(function, name, num_classes, options=options, **fixed)
    except InputError:
        raise
    except (RuntimeError, TypeError, OverflowError) as error:
        if not options:
            raise  # tombola's own function: a bug, which keeps its traceback
        raise ConfigError(
            f"'{name}' failed: {type(error).__name__}: {_first_line(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"{shown(name)} returned a {type(model).__name__}; a model is a torch.nn.Module"
        )
    return model


def _try(model: nn.Module, name: str, num_classes: int, image_shape: tuple[int, int, int]) -> None:
    try:
        with torch.no_grad():
            logits = model(torch.zeros(2, *image_shape))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it is: here a user's code meets the data
        raise ConfigError(
            f"model '{name}' cannot take images of shape {tuple(image_shape)}: "
            f"{_first_line(error)}; another model, or other channels or sizes, would fit"
        ) from error
    seen = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if seen != [2, num_classes]:
        raise ConfigError(
            f"model '{name}' gives {seen} for 2 images of shape "
            f"{tuple(image_shape)}{' in training' * model.training}; it should give logits of "
            f"shape [2, {num_classes}]{alone(logits)}"
        )


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), "").rstrip(".")
    told = isinstance(
        error, RuntimeError | ValueError | TypeError
    )  # others, such as a KeyError, say little by themselves
    return line if line and told else f"{type(error).__name__}: {line}".rstrip(": ")


def check_shapes(model: nn.Module) -> None:
    """Refuse a model with parameters of unknown shape.

    Raises:
        ConfigError: The first of them is named.

    >>> check_shapes(nn.Linear(4, 2))
    """
    for name, parameter in names.parameters(model).items():
        if isinstance(parameter, nn.UninitializedParameter):
            raise ConfigError(
                f"the parameter '{name}' has no shape yet; run the model on a batch once before it "
                "is used here, so that its lazy layers have theirs"
            )


def _outputs(layer: nn.Module) -> int | None:
    match layer:
        case nn.Linear():
            return layer.out_features
        case nn.Conv2d():
            return layer.out_channels
        case _:
            return None


def _can_be_head(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.Linear | nn.Conv2d)


def _with_outputs(layer: nn.Module, outputs: int) -> nn.Module:
    has_bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, outputs, bias=has_bias)
    assert isinstance(layer, nn.Conv2d)
    shape = {
        key: getattr(layer, key)
        for key in ("kernel_size", "stride", "padding", "dilation", "groups")
    }
    return nn.Conv2d(
        layer.in_channels, outputs, **shape, padding_mode=layer.padding_mode, bias=has_bias
    )
