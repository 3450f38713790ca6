"""Fails in the way that the request names."""

import sys

import numpy as np
import triton_python_backend_utils as pb_utils


def deeper(how):
    raise ValueError(f"asked for {how}")


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            how = pb_utils.get_input_tensor_by_name(request, "HOW").as_numpy()[0, 0].decode()
            if how == "exception":
                deeper(how)
            if how == "key":
                {}[how]
            if how == "silent":
                raise RuntimeError
            if how == "exit":
                sys.exit(3)
            if how == "chained":
                try:
                    deeper(how)
                except ValueError as error:
                    raise TypeError("from another") from error
            if how == "triton_error":
                raise pb_utils.TritonError("not an exception")
            if how == "model_exception":
                raise pb_utils.TritonModelException("one of the backend's own")
            if how == "tuple":
                return ()
            if how == "too_many":
                return [None, None]
            if how == "text":
                return ["text"]
            if how.startswith("error:"):
                code = getattr(pb_utils.TritonError, how.removeprefix("error:"))
                error = pb_utils.TritonError(f"a {how}", code)
                responses.append(pb_utils.InferenceResponse(error=error))
                continue
            out = pb_utils.Tensor("OUT", np.array([[how.encode()]], dtype=object))
            responses.append(pb_utils.InferenceResponse([out]))
        return responses
