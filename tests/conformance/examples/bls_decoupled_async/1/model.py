"""Asks square_int32 twice at once and adds up all that it sends: twice the square of IN."""

import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        return [await self.answer(request) for request in requests]

    async def answer(self, request):
        number = pb_utils.get_input_tensor_by_name(request, "IN")
        asked = [
            pb_utils.InferenceRequest(
                model_name="square_int32", inputs=[number], requested_output_names=["OUT"]
            ).async_exec(decoupled=True)
            for _ in range(2)
        ]
        total = np.zeros(1, np.int32)
        for responses in await asyncio.gather(*asked):
            for response in responses:
                if response.has_error():
                    raise pb_utils.TritonModelException(response.error().message())
                if response.output_tensors():
                    total += pb_utils.get_output_tensor_by_name(response, "OUT").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("SUM", total)])
