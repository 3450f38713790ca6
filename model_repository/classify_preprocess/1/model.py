"""Files of pictures become images for a neural network.

The first step of the ensemble `classify`, and a model of its own: each request has the bytes of any
number of files, and is answered by as many images.
"""

import io
import json

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image, ImageOps

MARGIN = 256 / 224  # the network has learnt from the middle of pictures that were a little larger


class TritonPythonModel:
    """One instance of the model. Triton calls its methods one at a time."""

    def initialize(self, args):
        """Read from config.pbtxt how large an image is."""
        config = json.loads(args["model_config"])
        self.height, self.width, _ = pb_utils.get_output_config_by_name(config, "image")["dims"]

    def execute(self, requests):
        """One response for each of the requests, in their order."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """Images [n, height, width, 3] for the files [n, 1] of one request."""
        files = pb_utils.get_input_tensor_by_name(request, "picture").as_numpy()
        images = np.empty((len(files), self.height, self.width, 3), np.float32)
        for row, (file,) in enumerate(files):
            try:
                images[row] = self.load(file)
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as reason:
                # An exception that left `execute` would fail this request's neighbours too.
                text = f"picture {row} of the request cannot be read: {reason}"
                error = pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG)
                return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse([pb_utils.Tensor("image", images)])

    def load(self, file):
        """The middle of one picture, as RGB values from 0 to 1."""
        with Image.open(io.BytesIO(file)) as picture:
            # A camera that was turned says so beside the picture.
            upright = ImageOps.exif_transpose(picture).convert("RGB")
        # Scaled until it is just large enough, and what stands out on two sides cut off.
        larger = round(self.width * MARGIN), round(self.height * MARGIN)
        fitted = ImageOps.fit(upright, larger, Image.Resampling.BILINEAR)
        left, top = (larger[0] - self.width) // 2, (larger[1] - self.height) // 2
        middle = fitted.crop((left, top, left + self.width, top + self.height))
        return np.asarray(middle, np.float32) / 255
