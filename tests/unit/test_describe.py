"""Exceptions as a client is told of them; conformance compares the texts with the server's."""

import pytest
from instances import PB_UTILS, loaded, model_class, new_instance, request

from triton_stub.errors import InferenceError, LoadError
from triton_stub.runtime.describe import describe


@pytest.fixture
def told(tmp_path):
    """Load a model that fails; the text, with places relative to the version folder."""

    def tell(code, **files):
        others = {f"1/{name}.py": text for name, text in files.items()}
        with pytest.raises(LoadError) as caught:
            new_instance(tmp_path, {"1/model.py": code, **others}).load()
        return str(caught.value).replace(f"{tmp_path}/1/", "")

    return tell


def initialize(line, before=""):
    """A model of which ``initialize`` is this line, the fifth of the text without ``before``."""
    return model_class(f"def initialize(self, args):\n    {line}", before)


def test_an_exception_and_where_it_was_raised(told):
    assert told(initialize("raise ValueError('boom')")) == (
        "ValueError: boom\n\nAt:\n  model.py(6): initialize\n"
    )


def test_innermost_comes_first(told):
    text = told(
        initialize("helper.outer()", "import helper"),
        helper="def outer():\n    return inner()\ndef inner():\n    1 / 0\n",
    )
    assert text.startswith("ZeroDivisionError: division by zero\n\nAt:\n  helper.py(4): inner\n")
    assert text.endswith("  helper.py(2): outer\n  model.py(6): initialize\n")


@pytest.mark.parametrize(
    ("raised", "start"),
    [
        ("ValueError", "ValueError: <EMPTY MESSAGE>"),
        ("KeyError('a')", "KeyError: 'a'"),
        ("SystemExit(2)", "SystemExit: 2"),
        ("KeyboardInterrupt", "KeyboardInterrupt: <EMPTY MESSAGE>"),
        ("ValueError('a\\nb')", "ValueError: a\nb"),
        ("pb_utils.TritonModelException('mine')", "TritonModelException: mine"),
        ("pb_utils.TritonError('mine')", "TypeError: exceptions must derive from BaseException"),
        ("ExceptionGroup('many', [OSError()])", "ExceptionGroup: many (1 sub-exception)"),
    ],
)
def test_types_have_no_module_and_messages_are_as_they_are(told, raised, start):
    assert told(initialize(f"raise {raised}")) == f"{start}\n\nAt:\n  model.py(6): initialize\n"


@pytest.mark.parametrize(
    "line",
    [
        "pb_utils.MetricFamily('no name', '', pb_utils.MetricFamily.COUNTER)",
        "self.f = pb_utils.MetricFamily('n', '', pb_utils.MetricFamily.GAUGE);"
        " self.f.Metric().observe(1)",
        "pb_utils.MetricFamily('n', '', pb_utils.MetricFamily.GAUGE).Metric().set(1)",
    ],
)
def test_what_the_server_refuses_is_told_with_the_models_own_lines(told, line):
    assert told(initialize(line)).endswith("\n\nAt:\n  model.py(6): initialize\n")


def test_neither_causes_nor_notes_are_told(told):
    text = told(
        initialize("try: 1 / 0\n    except ArithmeticError as e: raise OSError('x') from e")
    )
    assert text == "OSError: x\n\nAt:\n  model.py(7): initialize\n"


def test_without_a_python_frame_there_is_no_place(told):
    assert told("class TritonPythonModel:\n    def initialize(self): pass\n") == (
        "TypeError: TritonPythonModel.initialize() takes 1 positional argument but 2 were given"
    )


def test_a_syntax_error_has_no_place_but_its_own(told):
    assert told("class TritonPythonModel\n") == "SyntaxError: expected ':' (model.py, line 1)"


def test_a_syntax_error_of_a_helper_is_placed_at_its_import(told):
    text = told("import helper", helper="def f(:\n")
    first, _, places = text.partition("\n\nAt:\n")
    assert first == "SyntaxError: invalid syntax (helper.py, line 1)"
    assert places.startswith("  model.py(1): <module>\n  <frozen importlib._bootstrap>(")


def test_imports_are_told_with_importlibs_frames(told):
    text = told("import helper", helper="import missing")
    first, _, places = text.partition("\n\nAt:\n")
    assert first == "ModuleNotFoundError: No module named 'missing'"
    functions = [line.partition("): ")[2] for line in places.splitlines()]
    one_import = [
        "<module>",
        "_call_with_frames_removed",
        "exec_module",
        "_load_unlocked",
        "_find_and_load_unlocked",
        "_find_and_load",
    ]
    assert functions == 2 * one_import
    assert "scope.py" not in text


def test_a_name_that_is_not_there_yet(told):
    text = told("from triton_python_backend_utils import Tensor")
    assert text.startswith(
        "ImportError: cannot import name 'Tensor' from 'triton_python_backend_utils' "
        "(/opt/tritonserver/backends/python/triton_python_backend_utils.py)\n\nAt:\n"
        "  model.py(1): <module>\n"
    )


def test_no_class(told):
    assert told("x = 1") == "AttributeError: module '1.model' has no attribute 'TritonPythonModel'"


def test_a_message_that_cannot_be_had(told):
    before = "class Odd(Exception):\n    def __str__(self): raise OSError('why')\n"
    assert told(initialize("raise Odd", before)) == (
        "Odd: <MESSAGE UNAVAILABLE DUE TO ANOTHER EXCEPTION>\n\nAt:\n"
        "  model.py(8): initialize\n\n"
        "MESSAGE UNAVAILABLE DUE TO EXCEPTION: OSError: why\n\nAt:\n  model.py(4): __str__\n"
    )


def test_a_message_that_is_no_text(told):
    before = "class Odd(Exception):\n    def __str__(self): return 3\n"
    assert told(initialize("raise Odd", before)).endswith(
        "MESSAGE UNAVAILABLE DUE TO EXCEPTION: TypeError: __str__ returned non-string (type int)"
    )


def test_neither_a_message_nor_a_place():
    class OddError(Exception):
        def __str__(self):
            raise OSError("why")

    assert describe(OddError()).startswith(
        "OddError: <MESSAGE UNAVAILABLE DUE TO ANOTHER EXCEPTION>\n\n"
        "MESSAGE UNAVAILABLE DUE TO EXCEPTION: OSError: why\n\nAt:\n"
    )


def test_a_text_ends_at_its_first_nul(told):
    assert told(initialize("raise ValueError('a\\0b')")) == "ValueError: a"


def test_misuse_of_a_tensor_is_placed_in_the_model(told):
    text = told(initialize("pb_utils.Tensor('', np.zeros(1))"))
    assert text == (
        "TritonModelException: Tensor name cannot be an empty string.\n\nAt:\n"
        "  model.py(6): initialize\n"
    )


def test_an_import_in_execute(tmp_path):
    code = (
        f"{PB_UTILS}class TritonPythonModel:\n    def execute(self, requests):\n        import nix"
    )
    with pytest.raises(InferenceError) as caught:
        loaded(tmp_path, code).execute([request("A")])
    assert str(caught.value).endswith(
        f"message: ModuleNotFoundError: No module named 'nix'\n\nAt:\n"
        f"  {tmp_path}/1/model.py(5): execute\n"
    )
