"""Where the work runs: strategy, precision, threads, memory."""

import ctypes
from collections.abc import Callable

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import native
from holotf.errors import UserError, require

STRATEGIES = ("auto", "one", "mirrored", "multi_worker")
PRECISIONS = ("float32", "mixed_bfloat16")
XLA = ("auto", "on", "off")
MOST_THREADS = 1024  # TensorFlow starts as many as it is told


def check(device: ConfigDict) -> None:
    """Finds what is wrong with `config.device`.

    Raises:
      UserError: a precision, a strategy or a way to compile that is not there, or a number of threads that makes no sense.
    """
    require(device.precision in PRECISIONS, "device.precision", device.precision, " or ".join(PRECISIONS))
    require(device.strategy in STRATEGIES, "device.strategy", device.strategy, "auto, one, mirrored or multi_worker")
    require(device.xla in XLA, "device.xla", device.xla, "auto, on or off")
    require(0 <= device.threads <= MOST_THREADS, "device.threads", device.threads, f"0 (TensorFlow's choice) to {MOST_THREADS}")


def configure(device: ConfigDict) -> None:
    """Sets precision and threads for the process, before anything is built.

    Args:
      device: `config.device`.

    Raises:
      UserError: as `check`.
    """
    check(device)
    keras.mixed_precision.set_dtype_policy(device.precision)
    native.switch(device.native_kernels and device.xla != "on")  # XLA cannot look into our kernels
    if not tf.config.list_physical_devices("GPU"):
        _return_memory()
    if device.threads and tf.config.threading.get_intra_op_parallelism_threads() != device.threads:
        tf.config.threading.set_intra_op_parallelism_threads(device.threads)


def _return_memory():
    """Has glibc, where it is the C library, give freed memory back: a step's peak was 1.28 GiB without, 1.23 with.

    One arena for all threads instead of one each, and blocks from 8 MiB on straight from the system.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(-8, 1)  # M_ARENA_MAX
        mallopt(-3, 8 << 20)  # M_MMAP_THRESHOLD


def strategy(device: ConfigDict) -> tf.distribute.Strategy:
    """The `tf.distribute.Strategy` of a config.

    Args:
      device: `config.device`; "auto" mirrors over several GPUs where there are several, "multi_worker" reads TF_CONFIG.
    """
    kind = device.strategy
    if kind == "auto":
        kind = "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "one"
    if kind == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if kind == "mirrored":
        if gpus := tf.config.list_logical_devices("GPU"):
            return tf.distribute.MirroredStrategy([d.name for d in gpus])
        # Between logical CPUs the default collectives now and then pair the two players' reductions wrongly ("Shape mismatch").
        cpus = [d.name for d in tf.config.list_logical_devices("CPU")]
        return tf.distribute.MirroredStrategy(cpus, tf.distribute.ReductionToOneDevice())
    return tf.distribute.get_strategy()


def compiled(device: ConfigDict, replicas: int, step: Callable) -> Callable:
    """The training step, compiled whole by XLA where the config says so.

    Args:
      device: `config.device`; "auto" compiles on a single GPU.
      replicas: over all workers.
      step: function of a batch, and of options that are Python values.

    Raises:
      UserError: "on" with several replicas.
    """
    if device.xla == "on" and replicas > 1:
        raise UserError(f"device.xla='on' with {replicas} replicas: use auto or off, since the step exchanges gradients midway")
    if device.xla == "off" or (device.xla == "auto" and (replicas > 1 or not tf.config.list_physical_devices("GPU"))):
        return step
    return tf.function(step, autograph=False, jit_compile=True)


def worker(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """(index, count) of this process among the workers; (0, 1) on one machine."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec():
        return 0, 1
    # Worker 0 is the chief where no task is called so.
    spec = resolver.cluster_spec().as_dict()
    tasks = [(kind, i) for kind in ("chief", "worker") for i in range(len(spec.get(kind, ())))]
    return tasks.index((resolver.task_type, resolver.task_id)), len(tasks)
