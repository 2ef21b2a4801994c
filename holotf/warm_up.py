"""A request to each endpoint, which TensorFlow Serving works on before it says that it is ready: none of its first ones is slow."""

import os

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

REQUESTS = os.path.join("assets.extra", "tf_serving_warmup_requests")  # where it looks for them


def write(endpoints: dict, folder: str) -> None:
    """Writes requests of one row of ones, which every endpoint takes, for each endpoint and the default.

    Args:
      endpoints: of the card.
      folder: the SavedModel.
    """
    asked = [("serving_default", told) for told in endpoints.values() if told["default"]] + list(endpoints.items())
    with tf.io.TFRecordWriter(os.path.join(folder, REQUESTS)) as file:
        for name, told in asked:
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = name
            for key, tensor in told["inputs"].items():
                shape = [1 if size == "n" else size for size in tensor["shape"]]
                ones = np.full(shape, b"" if tensor["dtype"] == "string" else 1)
                request.inputs[key].CopyFrom(tf.make_tensor_proto(ones, tensor["dtype"]))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            file.write(log.SerializeToString())
