"""A sequence batcher without any model, and what becomes of its requests."""

import threading

from queued import Told, pending, read_config

from triton_stub.core.scheduling.batch_policy import BatchPolicy
from triton_stub.core.scheduling.sequences import SequenceBatcher

START, END = 1, 2
DIRECT = "sequence_batching { }"
OLDEST = "sequence_batching { oldest { max_candidate_sequences: 2 } }"
ITERATIVE = "sequence_batching { iterative_sequence: true }"
ITERATIVE_OLDEST = (
    "sequence_batching { iterative_sequence: true oldest { max_candidate_sequences: 2 "
    "preferred_batch_size: [ 2 ] } }"
)
SECOND = 10**9
MISSING_START = (
    "inference request for sequence {} to model 'model' must specify the START flag on the first "
    "request of the sequence"
)


class Watched:
    """A batcher with a clock of the test's own, and what becomes of its requests."""

    def __init__(self, scheduling=ITERATIVE, max_batch_size=2, instances=1, clock=None):
        config = read_config(scheduling, max_batch_size=max_batch_size)
        self.now = 0
        self.dropped = []
        self.notes = []
        self.answered = threading.Event()
        self.batcher = SequenceBatcher(
            config,
            BatchPolicy(config),
            instances,
            drop=self.drop,
            note=lambda level, text: self.notes.append((level, text)),
            clock=clock or Told(lambda: self.now),
        )

    def drop(self, pending, error):
        self.dropped.append((pending, error.message, error.code))
        self.answered.set()

    def put(self, *ids):
        requests = [pending(request_id=request_id) for request_id in ids]
        for request in requests:
            self.batcher.put(request)
        return requests

    def send(self, sequence, request_id, flags=0, *, timeout=0, sizes=None):
        request = pending(request_id=request_id, enqueued=self.now, **(sizes or {}))
        request.correlation_id, request.flags = sequence, flags
        request.request.timeout = timeout
        self.batcher.put(request)
        return request

    def next(self, instance=0):
        return self.batcher.next_batch(instance)

    def run(self, instance=0):
        """Take a batch, and have it executed at once: its names."""
        batch = self.next(instance)
        for request in batch:
            self.batcher.release(request)
        return names(batch)


def names(batch):
    return [None if one.is_null else one.request.request_id for one in batch]
