"""One response for each text that it gets, and for as many as it is told again, up to 8."""

import numpy as np
import triton_python_backend_utils as pb_utils

MOST = 8


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().tolist()
            times = pb_utils.get_input_tensor_by_name(request, "TIMES")
            again = 1 if times is None else max(0, times.as_numpy().item())
            sender = request.get_response_sender()
            for text in (texts[:MOST] * min(again, MOST))[:MOST]:
                word = pb_utils.Tensor("WORD", np.array([text], np.object_))
                sender.send(pb_utils.InferenceResponse([word]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
