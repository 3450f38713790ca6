"""A module with a forward method, as the example with PyTorch has one; here it is NumPy's."""

import triton_python_backend_utils as pb_utils


class SumAndDifference:
    def __call__(self, a, b):
        return self.forward(a, b)

    def forward(self, a, b):
        return a + b, a - b


class TritonPythonModel:
    def initialize(self, args):
        self.net = SumAndDifference()

    def execute(self, requests):
        responses = []
        for request in requests:
            a, b = (
                pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in ("INPUT0", "INPUT1")
            )
            total, difference = self.net(a, b)
            responses.append(
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUTPUT0", total), pb_utils.Tensor("OUTPUT1", difference)]
                )
            )
        return responses
