import flaxmodels
import jax
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.key = jax.random.PRNGKey(0)
        self.network = flaxmodels.ResNet18(output="logits", pretrained=None)

    def execute(self, requests):
        responses = []
        for request in requests:
            image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            variables = self.network.init(self.key, image)
            logits = self.network.apply(variables, image, train=False)
            tensor = pb_utils.Tensor("fc_out", np.asarray(logits))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
