"""Answers IN with IN responses of the value IN, from a thread of its own; none if IN is 0."""

import json
import threading

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        if not pb_utils.using_decoupled_model_transaction_policy(config):
            raise pb_utils.TritonModelException(f"{args['model_name']} has to be decoupled")
        self.threads = []

    def execute(self, requests):
        for request in requests:
            number = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()[0]
            thread = threading.Thread(
                target=self.respond, args=(request.get_response_sender(), number), daemon=True
            )
            self.threads.append(thread)
            thread.start()

    def respond(self, sender, number):
        for _ in range(number):
            tensor = pb_utils.Tensor("OUT", np.array([number], np.int32))
            sender.send(pb_utils.InferenceResponse([tensor]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finalize(self):
        for thread in self.threads:
            thread.join()
        print("square_int32 is done", flush=True)
