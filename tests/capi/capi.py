"""Runs SavedModels as a program without Python would: through TensorFlow's C API, and through `saved_model_cli`.

Both see only what is in the SavedModel, so they catch what loading in the exporting process hides: a variable that was never
tracked, for instance.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

SOURCE = Path(__file__).with_name("run_saved_model.c")
LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")


def missing():
    """What the C API check needs and this machine lacks, in words; empty when it can run."""
    absent = [name for name in LIBRARIES if not (Path(tf.sysconfig.get_lib()) / name).exists()]
    return ", ".join(absent + ([] if shutil.which("gcc") else ["gcc"]))


@functools.cache
def program():
    """Compiles run_saved_model.c against the installed wheel, once a session, and returns the executable's path."""
    binary = Path(tempfile.mkdtemp(prefix="holotf_capi_")) / "run_saved_model"
    lib, include = tf.sysconfig.get_lib(), tf.sysconfig.get_include()
    libraries = [f"-l:{name}" for name in LIBRARIES]
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{include}", f"-L{lib}", f"-Wl,-rpath,{lib}"]
    _run(["gcc", str(SOURCE), "-o", str(binary), *flags, *libraries])
    return binary


def signature_of(saved_model_dir, signature="generate"):
    """Returns the `SignatureDef` named `signature` of the meta graph tagged `serve`."""
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString((Path(saved_model_dir) / "saved_model.pb").read_bytes())
    graph = next(graph for graph in saved_model.meta_graphs if list(graph.meta_info_def.tags) == ["serve"])
    if signature not in graph.signature_def:
        raise ValueError(f"signature={signature!r}: {saved_model_dir} has {sorted(graph.signature_def)}")
    return graph.signature_def[signature]


def generate_through_c(saved_model_dir, feeds, signature="generate", *, tmp, output=None):
    """Runs `signature` in a C program and returns its output as an array.

    Args:
        saved_model_dir: the SavedModel's folder.
        feeds: argument name -> float32 array, every argument of the signature.
        signature: the signature's name.
        tmp: a folder for the raw input and output files.
        output: the output's name; may be left out when there is only one.
    """
    definition, output = _checked(saved_model_dir, feeds, signature, output)
    arguments = []
    for name, value in feeds.items():
        value = np.ascontiguousarray(value, np.float32)
        path = Path(tmp) / f"{name}.bin"
        value.tofile(path)
        arguments += [definition.inputs[name].name, ",".join(map(str, value.shape)), str(path)]
    result = Path(tmp) / f"{output}.bin"
    tensor = definition.outputs[output]
    dims = _run([str(program()), str(saved_model_dir), tensor.name, str(result), *arguments])
    dtype = tf.dtypes.as_dtype(tensor.dtype).as_numpy_dtype
    return np.fromfile(result, dtype).reshape([int(dim) for dim in dims.split(",") if dim.strip()])


def generate_through_cli(saved_model_dir, feeds, signature="generate", *, tmp, output=None):
    """The same through `saved_model_cli run`, a process of its own (about 10 s)."""
    _, output = _checked(saved_model_dir, feeds, signature, output)
    for name, value in feeds.items():
        np.save(Path(tmp) / f"{name}.npy", np.asarray(value, np.float32))
    inputs = ";".join(f"{name}={Path(tmp) / name}.npy" for name in feeds)
    cli = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run", "--dir", str(saved_model_dir)]
    cli += ["--tag_set", "serve", "--signature_def", signature, "--inputs", inputs, "--outdir", str(tmp), "--overwrite"]
    _run(cli)
    return np.load(Path(tmp) / f"{output}.npy")


def _checked(saved_model_dir, feeds, signature, output):
    """Returns the signature's definition and the output's name; `feeds` must name every input and no other."""
    definition = signature_of(saved_model_dir, signature)
    if set(feeds) != set(definition.inputs):
        raise ValueError(f"feeds={sorted(feeds)}: {signature} takes {sorted(definition.inputs)}")
    if output is None and len(definition.outputs) == 1:
        (output,) = definition.outputs
    if output not in definition.outputs:
        raise ValueError(f"output={output!r}: {signature} gives {sorted(definition.outputs)}")
    return definition, output


def _run(command):
    """Runs `command`; returns its standard output, or raises with the end of its standard error."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} left with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
