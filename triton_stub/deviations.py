"""Where this library does otherwise than the server, on purpose: the one list of it.

The code that deviates names its entry (``deviations.NO_ANSWER``), in the error that it raises or
beside the line that does it; a case of ``tests/conformance`` shows it; the README prints the list.
``tests/unit/test_deviations.py`` checks all three.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deviation:
    """One deliberate difference. All but ``key`` are Markdown.

    Attributes:
        key: what the mark of its conformance case names.
        what: what a model, a client or a test does, or has.
        server: what the real server does then: goes on after the words "the real server".
        stub: what this library does instead.
        why: why that is better than the same.
    """

    key: str
    what: str
    server: str
    stub: str
    why: str

    def text(self, happened: str, instead: str) -> str:
        """An error's text: what happened, what the real server does then, what to do instead."""
        return f"{happened}: the real server {self.server}. {instead}"


NO_ANSWER = Deviation(
    key="no-answer",
    what="a request without an answer: `execute` returns `None` and nobody keeps the sender, or a "
    "sender is dropped before its final flag",
    server="keeps the client waiting for ever",
    stub="an error that says so",
    why="a test must not hang",
)
NO_RESCHEDULE = Deviation(
    key="no-reschedule",
    what="`set_release_flags` with `RESCHEDULE` in a model without `iterative_sequence`",
    server="keeps the client waiting for ever",
    stub="an error that says so, and the server's line in the log",
    why="a test must not hang",
)
IDLE_SEQUENCE = Deviation(
    key="idle-sequence",
    what="a request of an iterative model that is rescheduled later than "
    "`max_sequence_idle_microseconds` after it came, or was rescheduled the last time",
    server="has forgotten its sequence by then, mostly, and keeps the client waiting for ever",
    stub="an error that says so, and the server's line in the log",
    why="a test must not hang",
)
ITERATIVE_END = Deviation(
    key="iterative-end",
    what="a request with the END flag, to a model with `iterative_sequence` and `oldest`",
    server="never executes what gets the same slot later, and keeps its client waiting for ever",
    stub="an error that says so",
    why="a test must not hang",
)
ODD_STATE = Deviation(
    key="odd-state",
    what="a state of sequences without a datatype, or one of texts that begins with more or "
    "less of them than it has elements",
    server="refuses every request to the model, or its model dies of the first one",
    stub="the model does not load",
    why="the model could not be used",
)
RESCHEDULED_AFTER_END = Deviation(
    key="rescheduled-after-end",
    what="a request that is rescheduled after its final response",
    server="executes it again, and dies of the second answer",
    stub="the line in the log, and an error for every later request",
    why="a test must not crash",
)
FAILED_AFTER_END = Deviation(
    key="failed-after-end",
    what="in a model that is not decoupled, `execute` fails after a sender has sent the final flag",
    server="frees the memory of that answer twice, and dies",
    stub="the line in the log, and an error for every later request",
    why="a test must not crash",
)
FAILED_WHILE_OPEN = Deviation(
    key="failed-while-open",
    what="in a model that is not decoupled, `execute` fails, or returns a response, after the "
    "request's sender has sent one without the final flag",
    server="sends two answers to one request, which clients cannot read",
    stub="an error that says so",
    why="a test must not pass",
)
CANCELLED_AFTER_END = Deviation(
    key="cancelled-after-end",
    what="`is_cancelled()` of a request that is answered already",
    server="looks into memory that it has freed, and dies, or says anything",
    stub="an error that says so",
    why="a test must not crash",
)
OWN_REQUEST = Deviation(
    key="own-request",
    what="`is_cancelled()` and `set_release_flags()` of a request that the model has made itself",
    server="dies of the first, and the model's process of the second",
    stub="an error that says so",
    why="a test must not crash",
)
OVERDUE = Deviation(
    key="overdue",
    what="a model that blocks, or keeps a request without answering it",
    server="waits for ever",
    stub="an error, after `response_timeout` seconds",
    why="a test must not hang",
)
ASYNC_FAILURE = Deviation(
    key="async-failure",
    what="an exception in the `async def execute` of a decoupled model",
    server="only logs it, and keeps the client waiting for ever",
    stub="the line in the log, and an error response",
    why="a test must not hang",
)
ASYNC_EXIT = Deviation(
    key="async-exit",
    what="an `async def execute` raises `SystemExit` or `KeyboardInterrupt`",
    server="loses its event loop and keeps the client waiting for ever",
    stub="an error that says so",
    why="a test must not hang",
)
SHARED_RESPONSE = Deviation(
    key="shared-response",
    what="one response object for several requests",
    server="loses outputs, or dies",
    stub="an error that says so",
    why="a test must not crash",
)
EMPTY_BATCH = Deviation(
    key="empty-batch",
    what="a request whose batch size is 0, with no values",
    server="never answers such a request",
    stub="refused",
    why="a test must not hang",
)
THREADS = Deviation(
    key="threads",
    what="instances",
    server="runs each in a process of its own, and loads them side by side",
    stub="a thread each, with an import scope of its own, loaded one after another; with "
    '`isolation="process"`, a process each, as the server',
    why="`breakpoint()` and tracebacks work",
)
CRASH = Deviation(
    key="crash",
    what="`os._exit` or a segmentation fault in a model",
    server="loses the instance's process and says of every request that it is not healthy, until "
    "the model is loaded again",
    stub='the test run ends; with `isolation="process"`, as the server',
    why="instances are threads",
)
LOST_PROCESS = Deviation(
    key="lost-process",
    what='with `isolation="process"`, a model\'s process that dies while it keeps a request that '
    "`execute` has returned from, or in `auto_complete_config`",
    server="waits for its answer for ever",
    stub="an error that says so",
    why="a test must not hang",
)
DEAD_UNLOAD = Deviation(
    key="dead-unload",
    what='with `isolation="process"`, a model that is unloaded after its process has died',
    server="keeps it in state UNLOADING for ever, and waits for it until `exit-timeout-secs` when "
    "it ends",
    stub="unloads it",
    why="a test must not hang",
)
EXACT_BATCH = Deviation(
    key="exact-batch",
    what="`model.execute([...])` with requests that the server would never put into one call",
    server="has no such call",
    stub="refused, and says why",
    why="it would test what cannot happen",
)
COMPUTED_IMPORTS = Deviation(
    key="computed-imports",
    what="`pickle` of the model's own classes and functions (which `multiprocessing.Pool` needs), "
    "`sys.modules[__name__]`, `sys.path`, `sys.argv`, and what looks a module up there "
    "(`dataclass` of texts, `typing.get_type_hints`, `inspect.getsource`), inside `execute`",
    server="has the model's own",
    stub="those of the test run; an `import` and `importlib.import_module` find the model's "
    'modules; with `isolation="process"`, as the server',
    why="other models share the process",
)
WORKING_DIRECTORY = Deviation(
    key="working-directory",
    what="modules in the working directory, `sys.path[0]`",
    server="looks in its own working directory first",
    stub='`sys.path` begins as that of the test run; with `isolation="process"`, with the working '
    "directory of the test run",
    why="tests are not run where a server is",
)
SIGNALS = Deviation(
    key="signals",
    what="`signal.signal` in `initialize`",
    server="lets it",
    stub='`ValueError`: not the main thread; with `isolation="process"`, as the server',
    why="the main thread is the tests'",
)
ENVIRONMENT = Deviation(
    key="environment",
    what="what a model writes to `os.environ`",
    server="keeps it in the instance's process",
    stub='stays in the test run; with `isolation="process"`, as the server',
    why="instances are threads",
)
GPU_WITHOUT_GPU = Deviation(
    key="gpu-without-gpu",
    what="`KIND_GPU` where there is no GPU",
    server="refuses the model",
    stub="the model is told `GPU`",
    why="a laptop tests what production runs",
)
EXECUTION_ENVIRONMENT = Deviation(
    key="execution-environment",
    what="`EXECUTION_ENV_PATH`",
    server="unpacks that environment and uses it",
    stub="ignored with a warning",
    why="the model runs in the environment of the tests",
)
RATE_LIMITS = Deviation(
    key="rate-limits",
    what='`rate_limiter` of an `instance_group`, with `rate_limiter_mode="execution_count"`',
    server="lets an instance execute when it gets its resources, by priority, and refuses a model "
    "that wants more of one than there is",
    stub="ignored with a warning",
    why="not yet imitated",
)
PASSIVE = Deviation(
    key="passive",
    what="a request to a model whose instance groups are all `passive`, or which has "
    "`sequence_batching` and one that is",
    server="ends, with all of its models",
    stub="an error that says so",
    why="a test must not crash",
)
FAILED_WARMUP = Deviation(
    key="failed-warmup",
    what="a sample of `model_warmup` that fails",
    server="refuses the model, or ends, with all of its models",
    stub="the model does not load, for the server's reason",
    why="a test must not crash",
)
NOT_IMITATED = Deviation(
    key="not-imitated",
    what="batching strategies in C (`TRITON_BATCH_STRATEGY_PATH`), repository agents, "
    "backends that are not written in Python",
    server="has them",
    stub="refused when the model is loaded, by name",
    why="what they do is not in `model.py`, and under other rules a test would show nothing",
)
ORDERED_STREAMS = Deviation(
    key="ordered-streams",
    what="`preserve_ordering` on a decoupled model",
    server="(since 25.09) sends nothing any more to anybody, after the first response that is not "
    "the last one of its request",
    stub="refused when the model is loaded",
    why="a test would wait for ever",
)
REMOVED_SERIES = Deviation(
    key="removed-series",
    what="two `MetricFamily` objects of one name, a metric with the same labels from each, and one "
    "of the two families deleted: the other's metric",
    server="reads and writes memory that it has freed",
    stub="an error that says so",
    why="whatever it would be, it would be wrong",
)
TOO_EARLY = Deviation(
    key="too-early",
    what="metrics, `load_model`, `unload_model` or `is_model_ready` before `initialize`: at "
    "import, in `auto_complete_config` or in the constructor",
    server="waits for ever",
    stub="an error that says so",
    why="a test must not hang",
)
LOADING_CIRCLE = Deviation(
    key="loading-circle",
    what="a model that, while it is loaded, loads or unloads itself, or another one that waits for "
    "it",
    server="waits for ever",
    stub="an error that says so",
    why="a test must not hang",
)
DLPACK_NUMPY = Deviation(
    key="dlpack-numpy",
    what="`Tensor.from_dlpack` of a NumPy array",
    server="loses its process, with the NumPy 1.26 of its images",
    stub="an error that says so",
    why="a test must not crash",
)
DLPACK_FIRST_STRIDE = Deviation(
    key="dlpack-first-stride",
    what="`Tensor.from_dlpack` of a tensor with a stride in its first dimension, such as `x[::2]`",
    server="never looks at it and reads the wrong memory",
    stub="an error that says so",
    why="a test must not pass on wrong values",
)
DLPACK_CAPSULE = Deviation(
    key="dlpack-capsule",
    what="`Tensor.from_dlpack` of a capsule that is used up, not DLPack's, or without a deleter",
    server="takes its content for a tensor's and crashes, at once or when it is given back",
    stub="an error that says so",
    why="a test must not crash",
)
GPU_ARRAYS = Deviation(
    key="gpu-arrays",
    what="`Tensor.from_dlpack` of an array on a GPU",
    server="sends the memory on the GPU",
    stub="asks the array for its values (`__array__`) and says that they are on a GPU",
    why="CPU and GPU models run in one test run; without a GPU it is the server's error",
)
MISSING_MODEL_FILE = Deviation(
    key="missing-model-file",
    what="no `model.py` in the version's directory",
    server="waits for ever, or says after 10 s that its process is not healthy, and writes the "
    "reason to its log only",
    stub="an error that says so",
    why="a test must not hang",
)
ODD_DECOUPLED = Deviation(
    key="odd-decoupled",
    what='`set_model_transaction_policy({"decoupled": 1})`: no bool',
    server="ends, with all of its models",
    stub="the model does not load",
    why="a test must not crash",
)
UNKNOWN_DATATYPE = Deviation(
    key="unknown-datatype",
    what="a `data_type` that is a number without a name",
    server="takes it, and then does not know what to do with requests",
    stub="refused",
    why="nobody can mean it",
)
CONTROL_ERROR = Deviation(
    key="control-error",
    what="a call of a metric, or of `load_model`, `unload_model` or `is_model_ready`, that fails",
    server="raises the exception, and often dies of it",
    stub="raises the exception",
    why="a test must not crash",
)
SEVERAL_FILES = Deviation(
    key="several-files",
    what="`load_model` with more than one file",
    server="mixes up their contents, and may die of it",
    stub="an error that says so",
    why="whatever it would be, it would be wrong",
)
LOAD_LIMIT = Deviation(
    key="load-limit",
    what="a model that does not come back from its import, `auto_complete_config` or `initialize`",
    server="waits for it for ever",
    stub="a load error after `load_timeout` seconds that says where it blocks",
    why="a test must not hang",
)
EXIT_LIMIT = Deviation(
    key="exit-limit",
    what="an `execute` or `finalize` that blocks, or a thread that is no daemon, work in a "
    "`ThreadPoolExecutor` or a process that outlives `finalize`",
    server="never gets such a model unloaded, and leaves by its exit timeout when it stops",
    stub="goes on without it after `exit_timeout` seconds, and says where it is",
    why="a test run must end",
)
DAEMONS = Deviation(
    key="daemons",
    what="a daemon thread that outlives `finalize`",
    server="ends it with the process of its instance",
    stub='a warning: it runs until the tests end; with `isolation="process"`, as the server',
    why="instances are threads",
)
BIG_RESPONSE_PARAMETER = Deviation(
    key="big-response-parameter",
    what="a response's parameter that is an integer beyond 64 bits",
    server="ends, with every model in it, when it reads such a parameter",
    stub="an error where the response is made",
    why="a test must not crash",
)
BLS_CIRCLE = Deviation(
    key="bls-circle",
    what="`exec` in `execute`, where whoever could answer waits for this very `execute`: a model "
    "that calls itself and has one instance, or that calls one that calls it",
    server="waits for ever",
    stub="an exception that says so; of `async_exec`, or from another thread, after "
    "`response_timeout` seconds",
    why="a test must not hang",
)
EARLY_ANSWER = Deviation(
    key="early-answer",
    what="a model that answers another model's request, sent without `decoupled=True`, in two "
    "steps: a response, and the final flag after it",
    server="gives the response to the other model and crashes, with all its models, on the flag",
    stub="an error response that says so",
    why="a test must not crash",
)
NO_RESPONSE = Deviation(
    key="no-response",
    what="`ResponseIterator(None)`",
    server="loses the instance's process",
    stub="an exception that says so",
    why="a test must not crash",
)
GPU_MEMORY = Deviation(
    key="gpu-memory",
    what="a request of the model's own with a `PreferredMemory` on a GPU where there is none",
    server="answers it with an error",
    stub="the outputs say that they are on a GPU, and DLPack has them from the CPU",
    why="a laptop tests what production runs",
)
FORKED_WORKER = Deviation(
    key="forked-worker",
    what="in a worker that a model has forked: a second response of a stream, or `cancel` of its "
    "iterator; `is_cancelled`; metrics, `load_model`, `unload_model`, `is_model_ready`",
    server="waits for ever",
    stub="an exception that says so",
    why="a test must not hang",
)
FORKED_SENDER = Deviation(
    key="forked-sender",
    what="a worker that a model has forked answers a request, by its response sender",
    server="sends the answer",
    stub="an exception that says so",
    why="not yet imitated",
)
ENSEMBLE_CIRCLE = Deviation(
    key="ensemble-circle",
    what="an ensemble with a step that is an ensemble in a circle of ensembles, without being part "
    "of it",
    server="looks for its end for ever, and dies",
    stub="an error that says so",
    why="a test must not crash",
)
FORGOTTEN_REASON = Deviation(
    key="forgotten-reason",
    what="an ensemble with a step that has failed to load, when another of its steps is loaded "
    "anew",
    server="looks for the reason where there is none any more, and may die of it",
    stub="the ensemble stays away, and the log says because of which step",
    why="a test must not crash",
)
ODD_VERSION = Deviation(
    key="odd-version",
    what="a directory of a model that is named by a number below 0, or beyond 64 bits",
    server="waits for ever for such a version, or ends when it reads the name",
    stub="the model does not load",
    why="a test must not crash",
)
TEXT_SEQUENCE = Deviation(
    key="text-sequence",
    what="a step of an ensemble whose response has a text as its `sequence_id`: by a parameter of "
    "its own, or as an ensemble that is asked with such a sequence",
    server="reads the text as an address, and dies of it",
    stub="an error that says so",
    why="a crash tells nothing",
)
SHRUNK_MEMORY = Deviation(
    key="shrunk-memory",
    what="a tensor in a region of shared memory whose object was made smaller after the region was "
    "registered",
    server="dies when it reads or writes what is not there any more",
    stub="an error that says so",
    why="a test must not crash",
)
DEEP_JSON = Deviation(
    key="deep-json",
    what="a body of JSON that is nested deeper than some hundred levels, so deep that Python's "
    "recursion limit ends its parser",
    server="reads it, or dies of it if it is very deep and the server older than 26.05",
    stub="an error that says so",
    why="no client means it",
)
NO_CLASSES = Deviation(
    key="no-classes",
    what="an output without any element that is asked for as classification over HTTP",
    server="dies",
    stub="an error that says so",
    why="a test must not crash",
)
CLIENT_GONE = Deviation(
    key="client-gone",
    what="a client that hangs up before its request to `infer` over HTTP is answered",
    server="does not notice before it answers, and has the request executed to its end",
    stub="the request is cancelled, as one over gRPC is",
    why="nobody waits for the answer",
)
ODD_HTTP = Deviation(
    key="odd-http",
    what="a request with two `Content-Length`s or one beside `Transfer-Encoding`, bare line feeds, "
    "control characters, an unknown method, or else not as HTTP/1.1 says",
    server="has its own reading of some",
    stub="the connection is closed without an answer, as the real server does with the rest",
    why="a library that is strict reads them: it is safe behind a proxy",
)
PIPELINED = Deviation(
    key="pipelined",
    what="several requests sent at once over one HTTP connection, the first of them no `infer`",
    server="answers the first, and keeps the client waiting for the others for ever",
    stub="all are answered, in order",
    why="a test must not hang",
)
ANSWER_TO_HEAD = Deviation(
    key="answer-to-head",
    what="the answer to a `HEAD` request, which is always an error",
    server="has a body, which clients take for the begin of the next answer",
    stub="no body, as HTTP says",
    why="the connection could not be used any more",
)

MIXED_STREAM = Deviation(
    key="mixed-stream",
    what="requests of one gRPC stream to decoupled models and to others, not one after the other",
    server="writes two answers at once, and dies of it, or keeps an answer back",
    stub="an error that says so, for a request while one of the other kind is under way",
    why="a test must not crash",
)
OPEN_STREAM = Deviation(
    key="open-stream",
    what="a server that ends while clients have gRPC streams open",
    server="(before 25.05) does not end before they do",
    stub="ends their streams as soon as the requests are answered",
    why="a test must not hang",
)

ALL: tuple[Deviation, ...] = tuple(
    value for value in dict(globals()).values() if isinstance(value, Deviation)
)
