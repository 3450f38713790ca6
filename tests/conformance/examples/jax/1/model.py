"""Sum and difference by JAX."""

import jax
import numpy as np
import triton_python_backend_utils as pb_utils
from jax import numpy as jnp


@jax.jit
def sum_and_difference(a, b):
    return jnp.add(a, b), jnp.subtract(a, b)


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            arrays = sum_and_difference(a, b)
            responses.append(
                pb_utils.InferenceResponse(
                    [
                        pb_utils.Tensor(f"OUTPUT{number}", np.asarray(array))
                        for number, array in enumerate(arrays)
                    ]
                )
            )
        return responses
