"""Building: from a name in a recipe to an initialised model that was tried on images.

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
# Spectral norm updates its estimate at every training step; torch begins with this many updates.
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
    """Build a model, initialise it, and try it on two images of zeros in both modes.

    The same arguments give the same bits, whatever was drawn before; torch's global generator is
    left unchanged.

    Args:
        name: An entry of ``tombola.models``, ``torchvision:NAME`` (without its pretrained weights)
            or the user's own ``package.module:function``, called as ``function(num_classes,
            **options)``, and with ``image_shape`` where it has a parameter of that name.
        num_classes: Number of outputs, at least 2.
        image_shape: Channels, height and width of one image.
        options: The model's own keyword arguments.
        init: How the weights are drawn, see ``initialise_``; also for torchvision's and the user's
            models.
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
    catalogue.check_is_for("tombola.models", name, catalogue.CLASSIFICATION)
    if not catalogue.is_own(name):
        _check_size(name, num_classes, image_shape, options, seed)
    with seeds.seeded(seed, "init"):
        model = _construct(name, num_classes, image_shape, options)
        # Before the weights are drawn: lazy layers (nn.LazyLinear) have none until they have seen
        # an image.
        with in_evaluation_mode(model):
            _try(model, name, num_classes, image_shape)
        if not model.training:
            model.train()
        initialise_(model, init)
        # On a copy, after the weights are drawn: training moves batch statistics, and dropout
        # draws.
        _try(copied(model), name, num_classes, image_shape)
    outputs_to_find = num_classes if name.startswith(TORCHVISION) else None
    head = head_name(model, head, outputs=outputs_to_find)
    outputs = _outputs(names.modules(model, shared=True)[head])
    if outputs != num_classes:
        raise ConfigError(
            f"head '{head}' of model '{name}' has {outputs} outputs; the output layer has "
            f"{num_classes}"
        )
    return model


def _construct(
    name: str, num_classes: int, image_shape: tuple[int, int, int], options: Mapping[str, Any]
) -> nn.Module:
    if name.startswith(TORCHVISION):
        return _from_torchvision(name, num_classes, options)
    return construct(name, num_classes, options=options, image_shape=tuple(image_shape))


def build_for(
    task: str,
    name: str,
    size: int,
    *,
    options: Mapping[str, Any] = {},
    init: str = "xavier",
    head: str | None = None,
    inputs: Tensor,
    outputs: Sequence[int],
    **known: Any,
) -> nn.Module:
    """Build a model for another task than classification, initialise and try it.

    Weights are drawn from torch's global generator.

    Args:
        task: The task's name.
        name: An entry of ``tombola.models`` for that task, or the user's own
            ``package.module:function``.
        size: The model's first argument: how many classes, tokens or features there are.
        options: The model's own keyword arguments.
        init: How the weights are drawn, see ``initialise_``.
        head: Name of the output layer where it is not ``head``; see ``head_name``.
        inputs: Some inputs; the model is tried on them in both modes.
        outputs: The shape that it has to give for them.
        known: What the data gives, for functions with a parameter of that name.

    Returns:
        A new model on the CPU in training mode.

    Raises:
        ConfigError: There is no such model, option, init or head, the model is for another task, or
            it does not give such outputs.

    >>> inputs = torch.zeros(2, 8, dtype=torch.int64)
    >>> model = build_for("tokens", "lstm", 30, inputs=inputs, outputs=(2, 8, 30))
    >>> type(model.head)
    <class 'torch.nn.modules.linear.Linear'>
    """
    catalogue.check_is_for("tombola.models", name, task)
    if name.startswith(TORCHVISION):
        raise ConfigError(
            f"{shown(name)} is a classifier; the task {task} takes: "
            f"{', '.join(catalogue.entries_for('tombola.models', task))}, or a function of your own"
        )
    model = construct(name, size, options=options, **known)
    # Before the weights are drawn: lazy layers have none until they have seen an input.
    with in_evaluation_mode(model):
        _try_on(model, name, inputs, outputs)
    if not model.training:
        model.train()
    initialise_(model, init)
    # On a copy, after the weights are drawn: training moves batch statistics, and dropout draws.
    _try_on(copied(model), name, inputs, outputs)
    head_name(model, head)
    return model


def _try_on(model: nn.Module, name: str, inputs: Tensor, outputs: Sequence[int]) -> None:
    """Refuse a model that fails on some inputs, or gives outputs of another shape."""
    described = f"inputs of shape {list(inputs.shape)}"
    try:
        with torch.no_grad():
            found = model(inputs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # any error of the user's own code, sys.exit() too
        raise ConfigError(f"model '{name}' cannot take {described}: {first_line(error)}") from error
    shape = list(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
    if shape != list(outputs):
        mode = " in training" if model.training else ""
        raise ConfigError(
            f"model '{name}' gives {shape} for {described}{mode}; it should give a tensor of shape "
            f"{list(outputs)}{alone(found)}"
        )


def _check_size(
    name: str,
    num_classes: int,
    image_shape: tuple[int, int, int],
    options: Mapping[str, Any],
    seed: int,
) -> None:
    """Refuse a model whose weights alone need more than the free memory."""
    model: nn.Module | None = None
    # On the device meta, which allocates nothing. Some models (RegNet) read values of tensors while
    # they are constructed, which fails there; every other fault is reported when the model is
    # constructed for use.
    with contextlib.suppress(ConfigError), seeds.seeded(seed, "size"), torch.device("meta"):
        model = _construct(name, num_classes, image_shape, options)
    if model is None:
        return
    weights = needed = 0
    for parameter in model.parameters():
        weights += parameter.numel()
        needed += parameter.nbytes
    free = devices.free_memory(torch.device("cpu"))
    if needed > free:
        raise ConfigError(
            f"model '{name}' has {weights:,} weights with these options, which take "
            f"{needed / 2**30:,.1f} GiB; {free / 2**30:.1f} GiB of memory are free"
        )


def initialise_(model: nn.Module, init: str = "xavier") -> None:
    """Draw the weights of all convolutions and linear layers, from torch's global generator.

    Args:
        model: Changed in place, in the order of ``model.modules()``. Norm layers keep the values
            they have, and so do weights that `masks.unmasked` names: their use is not known.
        init: ``"xavier"``, Gaussian with variance 2 / (fan in + fan out) and zero biases; or
            ``"default"``, which leaves everything as the model's own code and torch have drawn it.
            Each gate of a recurrent layer, each projection of attention and each matrix of a stack
            is a matrix of its own. In a weight-normed layer it is the weight that is drawn so, in a
            spectral-normed one the tensor that is divided by the norm.

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
        # A shared weight is drawn in each of its layers: it always was, and the bits depend on it.
        for tensor in tensors(module):
            parameter, _ = weight_parameter(module, tensor) or (None, "")
            if parameter is not None and id(parameter) in maskable:
                _draw_(module, tensor, parameter)


@torch.no_grad()
def _draw_(module: nn.Module, tensor: str, parameter: nn.Parameter) -> None:
    """Draw one weight of a layer, and update what belongs to it."""
    for matrix in _matrices(module, tensor, parameter):
        nn.init.xavier_normal_(matrix)
    for name, bias in module.named_parameters(recurse=False):
        recurrent_bias = name.startswith("bias_") and isinstance(module, _RECURRENT)
        if name in ("bias", "in_proj_bias") or recurrent_bias:
            nn.init.zeros_(bias)
    # Weight norm keeps the lengths of the rows apart, spectral norm an estimate of the norm: both
    # must be those of the new weight.
    if is_parametrized(module, tensor):
        chain: nn.Module = module.parametrizations[tensor]  # type: ignore[index,assignment]
        for step in chain.children():
            if isinstance(step, _WeightNorm):
                length = torch.norm_except_dim(parameter, 2, step.dim)
                chain.get_parameter("original0").copy_(length)
        was_training = chain.training
        chain.train()
        for _ in range(_POWER_ITERATIONS):
            chain()
        chain.train(was_training)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and hook.name == tensor:
            module.get_parameter(f"{tensor}_g").copy_(torch.norm_except_dim(parameter, 2, hook.dim))
        if isinstance(hook, SpectralNorm) and hook.name == tensor:
            for _ in range(_POWER_ITERATIONS):
                hook.compute_weight(module, do_power_iteration=True)


def _matrices(module: nn.Module, tensor: str, values: Tensor) -> Sequence[Tensor]:
    """Return the matrices that a weight consists of."""
    if isinstance(module, _RECURRENT):
        gates = tensor.startswith(("weight_ih", "weight_hh"))
        return torch.split(values, module.hidden_size) if gates else [values]
    if isinstance(module, nn.MultiheadAttention):
        return torch.split(values, module.embed_dim)
    # An embedding that shares its matrix with a layer is that matrix; what else a module of unknown
    # kind has is a stack of them.
    is_stack = not roles(module) and values.dim() > 2
    return values.unbind() if is_stack else [values]


def head_name(model: nn.Module, head: str | None = None, *, outputs: int | None = None) -> str:
    """Return the dotted name of the output layer.

    Args:
        model: Any model.
        head: The name that the user gave, if any.
        outputs: Where no name is given and the model has no ``head``, search for a layer with this
            many outputs (``find_head``). For torchvision's models, whose output layers have various
            names.

    Returns:
        The given name, else ``"head"``, else the result of the search: the name of an ``nn.Linear``
        or ``nn.Conv2d``.

    Raises:
        ConfigError: The given name is no such layer, or none is given and none is found.

    >>> head_name(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "1")
    '1'
    """
    # The user's own word comes first, then the usual name, then a search for torchvision's models.
    layers = names.modules(model, shared=True)
    if head is not None:
        if head not in layers:
            known = [name for name, layer in layers.items() if _can_be_head(layer)]
            raise ConfigError(
                f"the model has no layer {shown(head)} to be its head.{near(head, known)}"
            )
        if not _can_be_head(layers[head]):
            kind = type(layers[head]).__name__
            raise ConfigError(
                f"head '{head}' is a {kind}; the output layer is a Linear or a Conv2d"
            )
        return head
    if _can_be_head(layers.get("head")):
        return "head"
    if outputs is not None:
        return find_head(model, outputs)
    raise ConfigError(
        f"the model {type(model).__name__} has no Linear or Conv2d named 'head'; name it with "
        "head: NAME"
    )


def check_head(model: nn.Module, head: str, num_classes: int) -> None:
    """Refuse an output layer with fewer outputs than classes; more outputs do no harm.

    Raises:
        ConfigError: It has fewer outputs than there are classes.

    >>> check_head(nn.Sequential(nn.Linear(4, 3)), "0", 2)
    >>> check_head(nn.Sequential(nn.Linear(4, 3)), "0", 10)
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: head '0' has 3 outputs for 10 classes; an output for each
    """
    outputs = _outputs(names.modules(model, shared=True)[head])
    assert outputs is not None  # as head_name has checked
    if outputs < num_classes:
        raise ConfigError(
            f"head '{head}' has {outputs} outputs for {num_classes} classes; an output for each"
        )


def find_head(model: nn.Module, num_classes: int) -> str:
    """Return the name of the last ``nn.Linear`` or ``nn.Conv2d`` with ``num_classes`` outputs.

    Raises:
        ConfigError: There is none.

    >>> find_head(nn.Sequential(nn.Linear(4, 10), nn.Linear(10, 10), nn.ReLU()), 10)
    '1'
    """
    # The last one, as hidden layers may happen to have as many outputs.
    last = None
    for name, layer in names.modules(model).items():
        if _outputs(layer) == num_classes:
            last = name
    if last is None:
        raise ConfigError(
            f"the model {type(model).__name__} has no Linear or Conv2d with {num_classes} outputs; "
            f"name its output layer with head: NAME"
        )
    return last


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
        address: Distinguishes this head from others of the same seed, such as the round and the
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
        new = with_outputs(old, classes)
        initialise_(new, init)
    weight_and_reason = weight_parameter(old)
    assert weight_and_reason is not None  # as head_name has checked
    weight, _ = weight_and_reason
    parent, _, child = head.rpartition(".")
    setattr(layers[parent], child, new.to(weight).train(old.training))


def load_weights_(model: nn.Module, path: str | Path, head: str | None = None) -> list[str]:
    """Load a model's weights and buffers from a local checkpoint.

    A head for other classes is left as it was drawn. The file is one that ``torch.save`` wrote,
    read with ``weights_only=True`` so that it cannot run code, or a ``.safetensors`` file. It holds
    a state dict, itself or as ``state_dict`` or ``model``; the prefixes of wrappers (``module.``,
    ``_orig_mod.``) are ignored, see `tombola.masks.names`. ``num_batches_tracked`` may be missing,
    as in old files, and so may all names but one of a shared parameter, as in files of
    ``safetensors.torch.save_model``. A weight that ``torch.nn.utils.prune`` has pruned
    (``weight_orig`` and ``weight_mask``) is read as their product, and a sparse tensor as a dense
    one.

    Args:
        model: Changed in place, once the file is known to fit. Values are converted to its dtypes
            and devices.
        path: The file.
        head: Name of the output layer, see ``head_name``. Where only the number of its outputs
            differs, it stays as it was drawn.

    Returns:
        The names of the head's entries that stayed; none where everything came from the file.

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
    current = states.state_of(model, keep_vars=True)
    loaded = _with_shared(checkpoint(file, current), states.shared_names(current), file)
    staying = _entries_of_other_head(head_name(model, head), current, loaded)
    for name, value in current.items():
        if name not in loaded:
            # It is younger than batch norm itself, and decides nothing with a fixed momentum.
            if name.endswith("num_batches_tracked"):
                continue
            raise ConfigError(f"{file} has no '{name}', which the model has.{near(name, loaded)}")
        if not states.is_extra(name):
            check_loaded_entry(name, loaded[name], value, file, stays=name in staying)
    for name in loaded:
        if name not in current:
            raise ConfigError(f"{file} has '{name}', which the model has not.{near(name, current)}")

    state = {name: value.detach() for name, value in current.items()}
    for name, value in loaded.items():
        if name not in staying:
            state[name] = value
    try:
        states.load_(model, states.noted_as(state, loaded))
    except Exception as error:  # a module's own code may convert old states, or load extra ones
        raise ConfigError(
            f"the model does not take the state in {file}: {first_line(error)}"
        ) from error
    return staying


def _entries_of_other_head(
    layer: str, current: Mapping[str, Tensor], loaded: Mapping[str, Tensor]
) -> list[str]:
    """Return the entries of the output layer if the checkpoint has it for other classes.

    All of them or none: a weight for other classes beside a bias for ours would be no head at all.
    """
    of_head = [name for name in current if name.rpartition(".")[0] == layer]
    for name in of_head:
        if name not in loaded or loaded[name].shape == current[name].shape:
            return []
        # Only the number of outputs may differ.
        if loaded[name].shape[1:] != current[name].shape[1:]:
            return []
    return of_head


def check_loaded_entry(
    name: str, loaded: Tensor, current: Tensor, file: Path, *, stays: bool
) -> None:
    """Refuse an entry of a checkpoint that does not fit the model's entry of its name."""
    if not stays and loaded.shape != current.shape:
        raise ConfigError(
            f"'{name}' has the shape {list(loaded.shape)} in {file}; it has {list(current.shape)} "
            "in the model"
        )
    is_real = loaded.is_floating_point(), loaded.is_complex()
    if is_real != (current.is_floating_point(), current.is_complex()):
        raise ConfigError(
            f"'{name}' is {loaded.dtype} in {file}; it is {current.dtype} in the model"
        )
    # Through float32: torch has no isfinite for the small dtypes.
    wide = loaded.float() if loaded.dtype.itemsize < 4 else loaded
    if not bool(wide.isfinite().all()):
        raise ConfigError(f"'{name}' in {file} holds NaN or infinite values")
    value = states.lost(loaded, current.dtype)
    if value is not None:
        raise ConfigError(
            f"'{name}' in {file} holds {value}, which {current.dtype} cannot hold, and the model "
            "is of that"
        )


def _with_shared(
    loaded: Mapping[str, Tensor], shared: Mapping[str, str], file: Path
) -> Mapping[str, Tensor]:
    """Give a shared parameter under each of its names, whichever of them the file has.

    Raises:
        ConfigError: The file has different values under two of the names.
    """
    completed = dict(loaded)
    groups: dict[str, list[str]] = {}
    for name, first in shared.items():
        groups.setdefault(first, [first]).append(name)
    for group in groups.values():
        present = [name for name in group if name in loaded]
        # Two different values cannot both be taken.
        for name in present[1:]:
            if not torch.equal(loaded[name], loaded[present[0]]):
                raise ConfigError(
                    f"'{present[0]}' and '{name}' differ in {file}; they are one parameter in the "
                    "model"
                )
        if present:
            completed |= dict.fromkeys(group, loaded[present[0]])
    return states.noted_as(completed, loaded)


def checkpoint(file: Path, current: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Read a state dict from a file by the model's names, with torch's versions if it has them."""
    content = _content(file)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not _is_state_dict(content):
        raise ConfigError(
            f"{file} holds no state dict, neither itself nor as 'state_dict' or 'model'"
        )
    plain = {str(name): _dense(str(name), value, file) for name, value in content.items()}
    # A weight that torch has pruned has two other names there.
    known = set(current)
    for name in current:
        known |= {f"{name}_orig", f"{name}_mask"}
    named = names.named_like(plain, known)
    return states.noted_as(_unpruned_names(named, current, file), content)


def _content(file: Path) -> Any:
    """Read a checkpoint, whatever is in it."""
    if not file.is_file():
        raise ConfigError(f"no file {file} to take weights from")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        with warnings.catch_warnings():  # torch warns that its sparse rows are in beta
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # broken bytes raise all kinds of errors
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code:
            raise ConfigError(
                f"{file} holds more than weights ({code[1]}) and reading it would run code; "
                "torch.save(model.state_dict(), ...) writes weights alone"
            ) from error
        raise ConfigError(
            f"cannot read {file} as a checkpoint: {first_line(error)}; it is broken, or no file "
            "of weights"
        ) from error


def _is_state_dict(content: Any) -> bool:
    if not isinstance(content, Mapping):
        return False
    for name, value in content.items():
        if not isinstance(value, Tensor) and not states.is_extra(str(name)):
            return False
    return True


def _dense(name: str, value: Any, file: Path) -> Tensor:
    """Return an entry as a dense tensor; refuse one that holds no plain numbers."""
    if not isinstance(value, Tensor):
        try:
            return states.as_tensor(name, value)
        except InputError as error:
            raise ConfigError(f"{file}: {error}") from None
    # Converting these to numbers is a decision that the user has to make.
    kinds = {
        "quantised": value.is_quantized,
        "nested": value.is_nested,
        "on the device meta": value.is_meta,
    }
    for kind, applies in kinds.items():
        if applies:
            raise ConfigError(
                f"'{name}' in {file} is {kind}; a checkpoint holds plain tensors of numbers"
            )
    return value if value.layout is torch.strided else value.to_dense()


def _unpruned_names(
    loaded: Mapping[str, Tensor], current: Mapping[str, Tensor], file: Path
) -> dict[str, Tensor]:
    """Undo the names of ``torch.nn.utils.prune``: a weight is its values with the mask's zeros."""
    # A model may have parameters of its own that end so, which stay as they are.
    unpruned = dict(loaded)
    for name, value in loaded.items():
        base = name.removesuffix("_orig")
        keep = loaded.get(f"{base}_mask")
        if base == name or keep is None or base in loaded or base not in current:
            continue
        if keep.shape != value.shape or not bool(((keep == 0) | (keep == 1)).all()):
            raise ConfigError(
                f"'{base}_mask' in {file} is no mask of ones and zeros of the shape "
                f"{list(value.shape)}"
            )
        del unpruned[name], unpruned[f"{base}_mask"]
        unpruned[base] = value.masked_fill(keep == 0, 0)
    return unpruned


def _from_torchvision(name: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    # The import takes two seconds, so it is left to those who use it.
    from tombola.ground.extras import torchvision

    models = torchvision.models
    known = models.list_models(module=models)
    short = name.removeprefix(TORCHVISION)
    if short not in known:
        raise ConfigError(f"no classifier '{short}' in torchvision.models.{near(short, known)}")
    try:
        model: nn.Module = models.get_model(short, weights=None, num_classes=num_classes, **options)
    except Exception as error:  # torchvision does not check its options
        raise ConfigError(
            f"'{name}' cannot be built with the options {shown(dict(options))}: {first_line(error)}"
        ) from error
    return model


def construct(name: str, size: int, *, options: Mapping[str, Any], **known: Any) -> nn.Module:
    """Call a model's function; its weights are those that its own code and torch have drawn.

    Args:
        name: An entry of ``tombola.models`` or the user's own ``package.module:function``.
        size: The first argument: how many classes, tokens or features there are.
        options: The model's own keyword arguments.
        known: What the data gives, such as ``image_shape``, for functions with a parameter of that
            name.

    Raises:
        ConfigError: There is no such model or option, or the function fails or returns no module.
    """
    function = catalogue.entry("tombola.models", name)
    try:
        with catalogue.own_code(name, "models"):
            parameters = inspect.signature(function).parameters
            fixed = {key: value for key, value in known.items() if key in parameters}
            model = catalogue.call(function, name, size, options=options, **fixed)
    except InputError:
        raise
    except (RuntimeError, TypeError, OverflowError) as error:
        # Without options it is a bug of tombola's own function, and keeps its traceback.
        if not options:
            raise
        raise ConfigError(
            f"'{name}' failed: {type(error).__name__}: {first_line(error)}"
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
    except BaseException as error:  # any error of the user's own code, sys.exit() too
        raise ConfigError(
            f"model '{name}' cannot take images of shape {tuple(image_shape)}: "
            f"{first_line(error)}; another model, or other channels or sizes, would fit"
        ) from error
    shape = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if shape != [2, num_classes]:
        mode = " in training" if model.training else ""
        raise ConfigError(
            f"model '{name}' gives {shape} for 2 images of shape {tuple(image_shape)}{mode}; it "
            f"should give logits of shape [2, {num_classes}]{alone(logits)}"
        )


def first_line(error: BaseException) -> str:
    """Say in one line what an error of another library was."""
    line = next(iter(str(error).splitlines()), "").rstrip(".")
    # Others, such as a KeyError, say little without their name.
    if line and isinstance(error, RuntimeError | ValueError | TypeError):
        return line
    return f"{type(error).__name__}: {line}".rstrip(": ")


def check_shapes(model: nn.Module) -> None:
    """Refuse a model with parameters whose shape is not known yet.

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


def with_outputs(layer: nn.Module, outputs: int) -> nn.Module:
    """Draw a layer of the same kind and inputs with another number of outputs."""
    # Drawn anew instead of copied and cut, as its bits must not depend on the old layer.
    has_bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, outputs, bias=has_bias)
    assert isinstance(layer, nn.Conv2d)
    return nn.Conv2d(
        layer.in_channels,
        outputs,
        kernel_size=layer.kernel_size,  # type: ignore[arg-type]
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        dilation=layer.dilation,  # type: ignore[arg-type]
        groups=layer.groups,
        padding_mode=layer.padding_mode,
        bias=has_bias,
    )
