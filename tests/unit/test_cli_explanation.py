"""What is told of models that are not served."""

import signal
import sys

from cli_process import infer, serve
from model_files import BROKEN, CONFIG, DOUBLE, write_model

__all__ = ["serve"]  # a fixture


# Name of the model → its code, its configuration, and what the explanation has to say.
BREAKAGES = {
    "arity": (
        "class TritonPythonModel:\n    def initialize(self): pass\n",
        CONFIG,
        ["initialize() takes 1 positional argument but 2 were given", "the model's class"],
    ),
    "exits": (
        "import sys\nsys.exit(3)\n",
        CONFIG,
        ["SystemExit: 3", "exits/1/model.py(2): <module>", "first line under 'At:'"],
    ),
    "feature": (
        DOUBLE,
        f'{CONFIG} model_repository_agents {{ agents {{ name: "a" }} }}',
        ["model_repository_agents", "native"],
    ),
    "garbled": (DOUBLE, "nonsense: 1", ["garbled/config.pbtxt:1:1", "nonsense"]),
    "import": (
        "import no_such_module\n",
        CONFIG,
        ["install the package that has the module 'no_such_module'", sys.executable],
    ),
    "initialize": (
        BROKEN,
        CONFIG,
        ["OSError: no weights", "initialize/1/model.py(", "first line under"],
    ),
    "noclass": ("x = 1\n", CONFIG, ["define `class TritonPythonModel` in that file"]),
    "syntax": ("class X\n", CONFIG, ["SyntaxError", "syntax/1/model.py, line 1"]),
    "value": (
        DOUBLE,
        f"{CONFIG} max_batch_size: 4 dynamic_batching {{ preferred_batch_size: 9 }}",
        ["value/config.pbtxt", "preferred size must be <= max batch size"],
    ),
}


def test_every_broken_model_is_explained_and_the_others_serve(tmp_path, serve):
    write_model(tmp_path)
    for name, (code, config, _) in BREAKAGES.items():
        write_model(tmp_path, name, code, config)
    (write_model(tmp_path, "nofile") / "1" / "model.py").unlink()
    (tmp_path / "noversion").mkdir()
    process = serve(tmp_path)
    assert infer(process.url()) == [2]
    code, out, log = process.end(signal.SIGTERM)
    assert code == 0
    for name in BREAKAGES:
        assert f"\n| {name:<10} | " in out
    expected = {name: words for name, (_, _, words) in BREAKAGES.items()}
    expected["nofile"] = ["Could not determine backend", f"{tmp_path}/nofile/1/model.py"]
    expected["noversion"] = ["Could not determine backend", f"{tmp_path}/noversion/1/model.py"]
    for name, words in expected.items():
        _, _, rest = log.partition(f"\nmodel '{name}' is not served:\n")
        explanation, found, advice = rest.partition("\n  what to do: ")
        advice = advice.partition("\n")[0]
        assert found, name
        assert str(tmp_path / name) in explanation
        assert advice
        for word in words:
            assert word in f"{explanation}\n{advice}"
    assert "model 'model' is not served" not in log
