"""OUTPUT0 is the sum of two vectors, OUTPUT1 their difference."""

import json

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.dtypes = {
            name: pb_utils.triton_string_to_numpy(
                pb_utils.get_output_config_by_name(config, name)["data_type"]
            )
            for name in ("OUTPUT0", "OUTPUT1")
        }

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
        outputs = {"OUTPUT0": a + b, "OUTPUT1": a - b}
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor(name, array.astype(self.dtypes[name]))
                for name, array in outputs.items()
            ]
        )

    def finalize(self):
        print("add_sub is cleaning up", flush=True)
