"""One response for each number of IN, so many milliseconds apart; takes its time over WAIT."""

import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.threads = []

    def execute(self, requests):
        for request in requests:
            values, delays, wait = (
                pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in ("IN", "DELAY", "WAIT")
            )
            arguments = (request.get_response_sender(), values, delays)
            thread = threading.Thread(target=self.respond, args=arguments)
            self.threads.append(thread)
            thread.start()
            time.sleep(wait.item() / 1000)

    def respond(self, sender, values, delays):
        for index, (value, delay) in enumerate(zip(values, delays, strict=True)):
            time.sleep(delay / 1000)
            out = pb_utils.Tensor("OUT", np.array([value], np.int32))
            place = pb_utils.Tensor("IDX", np.array([index], np.uint32))
            sender.send(pb_utils.InferenceResponse([out, place]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finalize(self):
        for thread in self.threads:
            thread.join()
