"""Sum and difference; counts the nanoseconds that it has spent on them, in all its instances."""

import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        # Kept: a metric dies with its family.
        self.family = pb_utils.MetricFamily(
            name="requests_process_latency_ns",
            description="Cumulative time spent processing requests",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        self.spent = self.family.Metric(
            labels={"model": args["model_name"], "version": args["model_version"]}
        )

    def execute(self, requests):
        start = time.perf_counter_ns()
        responses = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            responses.append(
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUTPUT0", a + b), pb_utils.Tensor("OUTPUT1", a - b)]
                )
            )
        self.spent.increment(time.perf_counter_ns() - start)
        pb_utils.Logger.log_info(f"Cumulative requests processing latency: {self.spent.value()}")
        return responses
