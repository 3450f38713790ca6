"""The models of ``test_traps.py``: text of ``1/model.py`` and of ``config.pbtxt``."""

from __future__ import annotations

HEAD = """import json
import numpy as np
import triton_python_backend_utils as pb_utils

def out(value):
    value = np.array([json.dumps(value).encode()], object)
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)])

class TritonPythonModel:
"""
CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] }
"""
FOUR = "max_batch_size: 4 dynamic_batching {{ preferred_batch_size: [ 4 ] {delay} }}"
# The first batch is formed only when four requests are there.
TOGETHER = CONFIG + FOUR.format(delay="max_queue_delay_microseconds: 60000000")
ALONE = CONFIG + "max_batch_size: 4"


def execute(*lines: str) -> str:
    """A model with these lines in ``execute``."""
    return HEAD + "    def execute(self, requests):\n" + "".join(f"        {x}\n" for x in lines)


def method(name: str, argument: str, *lines: str) -> str:
    return f"    def {name}(self{argument}):\n" + "".join(f"        {line}\n" for line in lines)


EVERY = "return [out(self.told) for request in requests]"
SIZES = "return [out([len(requests), request.inputs()[0].shape()]) for request in requests]"
PRUNED = (
    "told = [t.name() for t in self.last.output_tensors()] if hasattr(self, 'last') else []",
    "self.last = out(told)",
    "more = [pb_utils.Tensor(name, np.zeros(1)) for name in ('OTHER', 'NO')]",
    "self.last = pb_utils.InferenceResponse([*self.last.output_tensors(), *more])",
    "return [self.last]",
)
FAILING_SENDER = (
    "if hasattr(self, 'sender'):",
    "    try:",
    "        self.sender.send(out(1))",
    "    except pb_utils.TritonModelException as error:",
    "        return [out(str(error))]",
    "self.sender = requests[0].get_response_sender()",
    "raise ValueError('closed by this')",
)
BUFFER = (
    "buffer = np.zeros(1, np.float32)",
    "responses = []",
    "for number, request in enumerate(requests):",
    "    buffer[:] = number",
    "    responses.append(pb_utils.InferenceResponse([pb_utils.Tensor('OUT', buffer)]))",
    "return responses",
)
TEXTS = (
    "buffer = np.array([b''], object)",
    "responses = []",
    "for number, request in enumerate(requests):",
    "    buffer[:] = [b'%d' % number]",
    "    responses.append(pb_utils.InferenceResponse([pb_utils.Tensor('OUT', buffer)]))",
    "return responses",
)
COMPLETED = """    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(4)
        config.set_dynamic_batching()
        config.add_output({"name": "MORE", "data_type": "TYPE_FP32", "dims": [2]})
        config._model_config["parameters"] = {"dropped": {"string_value": "yes"}}
        return config
"""
SETS_A_GLOBAL = """    @staticmethod
    def auto_complete_config(config):
        pb_utils.here = "not seen by instances"
        return config
"""
ARGS = method("initialize", ", args", "self.told = args")
BLS = "pb_utils.InferenceRequest(model_name='args', inputs=[], requested_output_names=['OUT'])"
BLS_IN_INITIALIZE = (
    HEAD + method("initialize", ", args", f"{BLS}.exec()") + method("execute", ", r")
)
FINALIZES = HEAD + (
    method("execute", ", requests", "return [out(0) for request in requests]")
    + method("finalize", "", f"{BLS}.exec()")
)
DEEP = execute("return self.deep()") + method("deep", "", "raise KeyError('deep')")
NAMED = 'instance_group [ { name: "named" }, { count: 2 } ]'

SEQUENCES = """
sequence_batching {
    control_input {
        name: "START"
        control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] }
    }
}
"""

MODELS: dict[str, tuple[str, str]] = {
    "import_from": ("from triton_python_backend_utils import Tensor\n", CONFIG),
    "annotation": (HEAD + "    def f(self, t: pb_utils.Tensor): pass\n", CONFIG),
    "constant": (HEAD + "    code = pb_utils.TritonError.INTERNAL\n", CONFIG),
    "future": (
        "from __future__ import annotations\n"
        + execute("return [out(1)]")
        + "    def f(self, t: pb_utils.Tensor): pass\n",
        CONFIG,
    ),
    "c_import": (
        "from c_python_backend_utils import Tensor\n" + execute("return [out(Tensor.__name__)]"),
        CONFIG,
    ),
    "pruned": (
        execute(*PRUNED),
        CONFIG + 'output { name: "OTHER" data_type: TYPE_FP32 dims: [ 1 ] }',
    ),
    "together": (execute(SIZES), TOGETHER),
    "alone": (execute(SIZES), ALONE),
    "buffer": (execute(*BUFFER), TOGETHER),
    "texts": (execute(*TEXTS), TOGETHER),
    "one_bad": (
        execute("responses = [out(1) for request in requests]", "return [*responses[1:], 'bad']"),
        TOGETHER,
    ),
    "deep": (DEEP, TOGETHER),
    "args": (execute(EVERY) + ARGS, CONFIG),
    "groups": (
        execute(EVERY) + method("initialize", ", args", "self.told = args['model_instance_name']"),
        CONFIG + NAMED,
    ),
    "completed": (execute(EVERY) + ARGS + COMPLETED, CONFIG),
    "not_returned": (
        execute(EVERY) + "    @staticmethod\n    def auto_complete_config(config): pass\n",
        CONFIG,
    ),
    "no_static_method": (
        execute(EVERY) + method("auto_complete_config", ", config", "pass"),
        CONFIG,
    ),
    "globals": (
        execute("return [out(hasattr(pb_utils, 'here'))]") + SETS_A_GLOBAL,
        CONFIG,
    ),
    "tuple": (execute("return (out(1),)"), CONFIG),
    "sender": (execute(*FAILING_SENDER), CONFIG),
    "list": (
        execute("return []"),
        CONFIG + "model_transaction_policy { decoupled: true }",
    ),
    "bls_in_initialize": (BLS_IN_INITIALIZE, CONFIG),
    "finalizes": (FINALIZES, CONFIG),
    "sequence": (
        execute("return [out(sorted(t.name() for t in requests[0].inputs()))]"),
        CONFIG + SEQUENCES,
    ),
    "exits": (execute("import sys", "sys.exit(3)"), CONFIG),
}
