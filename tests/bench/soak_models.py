"""The twenty models of the soak test. Each answers with the number that it is asked with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# What a model has done is a line of the log when it ends: TALLY {"model": …}.
MODEL = """
import json
import time
import numpy as np
import triton_python_backend_utils as pb_utils


def numbers(request):
    return pb_utils.get_input_tensor_by_name(request, "NUMBER").as_numpy()


def answer(array):
    return pb_utils.InferenceResponse([pb_utils.Tensor("ANSWER", array.astype(np.int64))])


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.kind = getattr(self, config["parameters"]["kind"]["string_value"])
        self.tally = dict(model=args["model_name"], executions=0, requests=0, responses=0)
        self.sums = {}

    def execute(self, requests):
        self.tally["executions"] += 1
        self.tally["requests"] += len(requests)
        return self.kind(requests)

    def finalize(self):
        pb_utils.Logger.log_info("TALLY " + json.dumps(self.tally))

    def echo(self, requests):
        self.tally["responses"] += len(requests)
        return [answer(numbers(request)) for request in requests]

    def slow(self, requests):
        time.sleep(0.01)
        return self.echo(requests)

    def fails(self, requests):
        number = int(numbers(requests[0]).flat[0])
        self.tally["responses"] += 1
        if number % 3 == 0:
            raise ValueError(f"cannot {number}")
        if number % 3 == 1:
            error = pb_utils.TritonError(f"will not {number}")
            return [pb_utils.InferenceResponse(error=error)]
        return [answer(numbers(requests[0]))]

    def stream(self, requests):
        for request in requests:
            number, count = numbers(request)
            sender = request.get_response_sender()
            for index in range(count):
                if request.is_cancelled():
                    break
                if count > 100:  # somebody is going to cancel it
                    time.sleep(0.001)
                sender.send(answer(np.array([number, index])))
                self.tally["responses"] += 1
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def sequence(self, requests):
        responses = []
        for request in requests:
            start, end, ready, who = (
                int(pb_utils.get_input_tensor_by_name(request, name).as_numpy().flat[0])
                for name in ("START", "END", "READY", "CORRID")
            )
            number = numbers(request)
            if not ready:
                self.tally["requests"] -= 1
            else:
                self.tally["responses"] += 1
                self.sums[who] = int(number.flat[0]) + (0 if start else self.sums[who])
                number = np.full_like(number, self.sums[who])
                if end:
                    del self.sums[who]
            responses.append(answer(number))
        return responses
"""
# A client that comes late, on a busy machine, has not given up its sequence.
_CONTROL = """
  max_sequence_idle_microseconds: 10000000
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] },
    { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] } ]
"""
_BATCHED = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 500 }"
_CHAIN = """
platform: "ensemble"
ensemble_scheduling { step [
  { model_name: "chain_first" model_version: -1
    input_map { key: "NUMBER" value: "NUMBER" } output_map { key: "ANSWER" value: "between" } },
  { model_name: "chain_second" model_version: -1
    input_map { key: "NUMBER" value: "between" } output_map { key: "ANSWER" value: "ANSWER" } }
] }
"""


@dataclass(frozen=True)
class Kind:
    """A model: which method of the class answers, what its clients do, and its configuration.

    ``restless`` ones are unloaded and loaded again, or replaced, all the time.
    """

    method: str = "echo"
    client: str = "one"
    config: str = ""
    size: int = 1
    restless: bool = False
    is_ensemble: bool = False

    def pbtxt(self) -> str:
        """The content of config.pbtxt."""
        tensors = "".join(
            f'{way} {{ name: "{name}" data_type: TYPE_INT64 dims: [ {self.size} ] }}\n'
            for way, name in (("input", "NUMBER"), ("output", "ANSWER"))
        )
        kind = f'parameters {{ key: "kind" value {{ string_value: "{self.method}" }} }}\n'
        return tensors + self.config + ("" if self.is_ensemble else f'backend: "python"\n{kind}')


_STREAM = Kind("stream", "stream", "model_transaction_policy { decoupled: true }\n", 2)
MODELS = {
    "plain": Kind(),
    "plain_of_three": Kind(config="instance_group { kind: KIND_CPU count: 3 }\n"),
    "plain_restless": Kind(restless=True),
    "plain_replaced": Kind(restless=True),
    "batched": Kind(client="rows", config=_BATCHED),
    "batched_cancelled": Kind(client="cancelled", config=_BATCHED),
    "batched_restless": Kind(client="rows", config=_BATCHED, restless=True),
    "fails": Kind("fails", "failing"),
    "fails_restless": Kind("fails", "failing", restless=True),
    "slow": Kind("slow"),
    "slow_restless": Kind("slow", restless=True),
    "stream": _STREAM,
    "stream_of_two": Kind(
        "stream", "stream", f"{_STREAM.config}instance_group {{ kind: KIND_CPU count: 2 }}\n", 2
    ),
    "stream_restless": Kind("stream", "stream", _STREAM.config, 2, restless=True),
    "cached": Kind(client="cached", config="response_cache { enable: true }\n"),
    "direct": Kind(
        "sequence",
        "sequence",
        f"max_batch_size: 4 sequence_batching {{ {_CONTROL} direct {{ }} }}\n",
    ),
    "oldest": Kind(
        "sequence",
        "sequence",
        f"max_batch_size: 4 sequence_batching {{ {_CONTROL} "
        "oldest { max_candidate_sequences: 16 } }\n",
    ),
    "chain": Kind(config=_CHAIN, is_ensemble=True),
    "chain_first": Kind(client="nobody"),
    "chain_second": Kind(client="nobody"),
}


def write(repository: Path) -> None:
    """All of them, as a model repository."""
    for name, kind in MODELS.items():
        version = repository / name / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(kind.pbtxt())
        if not kind.is_ensemble:
            (version / "model.py").write_text(MODEL)
