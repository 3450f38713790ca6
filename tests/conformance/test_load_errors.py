"""Models that do not load: the stub says of each what the real server says, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_models import CONFIG, both_engines, comparable, reasons, write_models
from probing import marked

CLASS = "class TritonPythonModel: pass\n"


def initialize(line: str, before: str = "") -> str:
    """A model with this line in ``initialize``."""
    return (
        f"import triton_python_backend_utils as pb_utils\n{before}\n"
        f"class TritonPythonModel:\n    def initialize(self, args):\n        {line}\n"
    )


def odd_exception(body: str) -> str:
    return initialize("raise Odd", f"class Odd(Exception):\n    def __str__(self): {body}\n")


MODELS = {
    # Imports
    "no_module": f"import does_not_exist\n{CLASS}",
    "no_submodule": f"import json.nothing\n{CLASS}",
    "no_helper": f"from .helper import value\n{CLASS}",
    "helper_without_module": {
        "1/model.py": f"import helper\n{CLASS}",
        "1/helper.py": "from other import value\n",
        "1/other.py": "def f():\n    import does_not_exist\nf()\n",
    },
    "relative_helper": {
        "1/model.py": f"from .helper import value\n{CLASS}",
        "1/helper.py": "from .other import value\n",
        "1/other.py": "raise ValueError('deep')\n",
    },
    "name_of_helper": {
        "1/model.py": f"from helper import nothing\n{CLASS}",
        "1/helper.py": "",
    },
    "package": {
        "1/model.py": f"from package.part import value\n{CLASS}",
        "1/package/__init__.py": "from . import part\n",
        "1/package/part.py": "raise ValueError('part')\n",
    },
    "namespace_package": {
        "1/model.py": f"from package import nothing\n{CLASS}",
        "1/package/part.py": "",
    },
    "import_by_name": f"import importlib\nimportlib.import_module('helper')\n{CLASS}",
    "helper_by_name": {
        "1/model.py": f"import importlib\nimportlib.import_module('helper')\n{CLASS}",
        "1/helper.py": "1 / 0\n",
    },
    "ends_the_process": "import sys\nsys.exit(2)\n",
    # Names of the backend that are not there yet
    "tensor": f"from triton_python_backend_utils import Tensor\n{CLASS}",
    "tensor_in_helper": {
        "1/model.py": f"import helper\n{CLASS}",
        "1/helper.py": "from triton_python_backend_utils import Tensor\n",
    },
    "nonsense": f"from triton_python_backend_utils import Nonsense\n{CLASS}",
    "c_nonsense": f"from c_python_backend_utils import Nonsense\n{CLASS}",
    "annotation": "import triton_python_backend_utils as pb_utils\n"
    "class TritonPythonModel:\n    def f(self, t: pb_utils.Tensor): pass\n",
    "default": "import triton_python_backend_utils as pb_utils\n"
    "def f(code=pb_utils.TritonError.INTERNAL): pass\n",
    # Text that is no Python
    "syntax": "class TritonPythonModel\n    pass\n",
    "indentation": "class TritonPythonModel:\npass\n",
    "syntax_of_helper": {
        "1/model.py": f"\nimport helper\n{CLASS}",
        "1/helper.py": "x = 1\ndef f(:\n",
    },
    # The class
    "no_class": "x = 1\n",
    "no_class_at_all": "TritonPythonModel = 3\n",
    "own_getattr": "def __getattr__(name):\n    raise RuntimeError('no ' + name)\n",
    "constructor_arity": "class TritonPythonModel:\n    def __init__(self, x): pass\n",
    "constructor": "class TritonPythonModel:\n    def __init__(self): raise KeyError('a')\n",
    # initialize
    "arity": "class TritonPythonModel:\n    def initialize(self): pass\n",
    "raises": initialize("raise ValueError('no weights')"),
    "raises_in_helper": {
        "1/model.py": initialize("outer()", "from helper import outer"),
        "1/helper.py": "def outer():\n    return inner(0)\ndef inner(x):\n    return 1 / x\n",
    },
    "no_message": initialize("raise ValueError"),
    "key_error": initialize("{}['a']"),
    "exits": initialize("raise SystemExit('bye')"),
    "exits_without_a_word": initialize("raise SystemExit"),
    "interrupt": initialize("raise KeyboardInterrupt"),
    "lines_and_letters": initialize("raise ValueError('Größe \\u2603\\n\"two\"\\t')"),
    "nul": initialize("raise ValueError('a\\0b')"),
    "group": initialize("raise ExceptionGroup('many', [OSError(), KeyError()])"),
    "notes": initialize("e = ValueError('a'); e.add_note('note'); raise e"),
    "cause": initialize("f()", "def f():\n    try: 1 / 0\n"
                        "    except ArithmeticError as e: raise OSError('outer') from e\n"),
    "raised_before": initialize("raise OLD", "def old():\n    try: raise ValueError('old')\n"
                                "    except ValueError as e: return e\nOLD = old()\n"),
    "no_text": odd_exception("return 3"),
    "text_that_raises": odd_exception("raise ValueError('why')"),
    "triton_model_exception": initialize("raise pb_utils.TritonModelException('mine')"),
    "triton_error": initialize("raise pb_utils.TritonError('mine')"),
    "misuse": initialize("pb_utils.Tensor('', pb_utils.np.zeros(1))"),
    "late_import": {"1/model.py": initialize("import helper"), "1/helper.py": "1 / 0\n"},
    "late_missing_import": initialize("import does_not_exist"),
    "standard_library": initialize("pb_utils.json.loads('{')"),
    "thread": initialize("with ThreadPoolExecutor(1) as pool: pool.submit(fail).result()",
                         "from concurrent.futures import ThreadPoolExecutor\n"
                         "def fail(): raise ValueError('in a thread')\n"),
    "code_from_text": initialize("exec('1 / 0')"),
    # What a model finds out
    "dataclass": initialize(
        "raise ValueError(f'{Point(1)} {get_type_hints(Point)} {Point.__module__}')",
        "from dataclasses import dataclass\nfrom typing import get_type_hints\n"
        "@dataclass\nclass Point:\n    x: 'int'\n"),
    "local_dataclass": initialize(
        "raise ValueError(str(local(3)))",
        "from dataclasses import dataclass\ndef local(x):\n    @dataclass\n    class Point:\n"
        "        x: 'int'\n    return Point(x)\n"),
    "pickle": initialize(
        "raise ValueError(str(type(pickle.loads(pickle.dumps(Point())))))",
        "import pickle\nclass Point: pass\n"),
    "module": initialize(
        "raise ValueError(str((__name__, __package__, sys.modules[__name__].__file__)))",
        "import sys\n"),
    # Files
    "other_suffix": {"config.pbtxt": f'default_model_filename: "other.txt" {CONFIG}',
                     "1/other.txt": CLASS},
    "other_file": {"config.pbtxt": f'default_model_filename: "other.py" {CONFIG}',
                   "1/other.py": "1 / 0\n"},
}  # fmt: skip
RULES = {
    "1.1-import-from": "tensor tensor_in_helper nonsense",
    "1.1-annotation": "annotation default",
    "1.1-c-module-import": "c_nonsense",
    "3.1.1-file-name": "other_suffix other_file",
    "3.1.1-module-name": "relative_helper name_of_helper module dataclass pickle",
    "3.3-wrapping": "raises no_class syntax",
    "3.3-no-class": "no_class no_class_at_all own_getattr",
    "3.3-initialize-raises": "raises raises_in_helper exits interrupt misuse",
    "3.3-constructor-raises": "constructor",
    "3.3-arity": "arity constructor_arity",
    "3.3-syntax-error": "syntax indentation syntax_of_helper",
    "3.3-import-error": "no_module no_submodule no_helper helper_without_module package",
    "3.3-exit-at-import": "ends_the_process",
    "3.3-format": "raises_in_helper lines_and_letters nul code_from_text thread late_import",
    "3.3-empty-message": "no_message exits_without_a_word no_text text_that_raises",
    "3.3-no-context": "cause raised_before group notes",
    "2.7-not-an-exception": "triton_error",
    "2.7-model-exception": "triton_model_exception",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("load_errors")
    write_models(folder, MODELS)
    return folder


@pytest.fixture(scope="module")
def told(repository: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What the stub says of each model, and what the server says."""
    with both_engines(repository) as (stub, native):
        return reasons(stub), reasons(native)


@pytest.mark.parametrize("name", marked(MODELS, RULES))
def test_why_a_model_does_not_load(
    told: tuple[dict[str, str], dict[str, str]], repository: Path, name: str
) -> None:
    stub, native = (comparable(reasons[name], repository) for reasons in told)
    assert native != ""
    assert stub == native
