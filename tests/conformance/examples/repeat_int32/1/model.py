"""Answers each element of IN with a response of its own, DELAY milliseconds after the last one.

``execute`` returns after WAIT milliseconds, whether or not all is sent, so one instance may answer
several requests at a time. A parameter tells how many times OUT has the element.
"""

import json
import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        if not pb_utils.using_decoupled_model_transaction_policy(config):
            raise pb_utils.TritonModelException(f"{args['model_name']} has to be decoupled")
        size = config["parameters"].get("output_num_elements", {}).get("string_value", 1)
        self.size = int(size)
        self.threads = []

    def execute(self, requests):
        (request,) = requests
        values, delays, wait = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("IN", "DELAY", "WAIT")
        )
        if values.shape != delays.shape:
            raise pb_utils.TritonModelException(
                f"IN has shape {list(values.shape)} and DELAY has {list(delays.shape)}"
            )
        thread = threading.Thread(
            target=self.respond, args=(request.get_response_sender(), values, delays), daemon=True
        )
        self.threads.append(thread)
        thread.start()
        time.sleep(wait[0] / 1000)

    def respond(self, sender, values, delays):
        for index, (value, delay) in enumerate(zip(values, delays, strict=True)):
            time.sleep(delay / 1000)
            outputs = [
                pb_utils.Tensor("IDX", np.array([index], np.uint32)),
                pb_utils.Tensor("OUT", np.full(self.size, value, np.int32)),
            ]
            sender.send(pb_utils.InferenceResponse(outputs))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finalize(self):
        for thread in self.threads:
            thread.join()
