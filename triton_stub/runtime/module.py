"""The ``model.py`` of one model, in an import scope of its own.

Source: python_backend ``src/pb_stub.cc``, ``ModelContext`` and ``StubSetup``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.errors import LoadError
from triton_stub.pb_utils.modules import C_PB_UTILS, PB_UTILS, BackendModules
from triton_stub.runtime.offspring import Offspring
from triton_stub.runtime.own_process import OwnOffspring, OwnScope
from triton_stub.runtime.scope import ImportScope

if TYPE_CHECKING:
    from pathlib import Path

    from triton_stub.runtime.services import Services


class ModelModule:
    """A model's code, not imported yet: each instance has its own, and auto_complete_config one.

    ``is_alone`` says that the process is the model's own, so that nothing is hidden from anybody.
    ``backend_of`` is the folder of the model's version where the file is that of a backend which
    is written in Python; it is then a module like any other, and looks for others beside it alone.
    LoadError if there is no such file, or none that the backend would import.
    """

    def __init__(
        self,
        file: Path,
        services: Services,
        *,
        backend_of: Path | None = None,
        is_alone: bool = False,
    ) -> None:
        if not os.path.exists(file):  # noqa: PTH110 - it may be too long for a name
            raise LoadError(
                deviations.MISSING_MODEL_FILE.text(
                    f"Python model file not found in '{file}'",
                    "Add the model's code there, or name another file with default_model_filename.",
                )
            )
        # As the backend looks: the last letter has to be one of these.
        if file.name[-1] not in ".py":
            raise LoadError(f"Model name must end with '.py'. Model name is \"{file.name}\".")
        folders = [file.parent]
        self._name = file.name[:-3]
        if backend_of is None:
            # The order in which the backend appends them to sys.path.
            folders.append(file.parent.parent)
            self._name = f"{file.parent.name}.{self._name}"
        self._modules = BackendModules(backend_of or file.parent, services)
        self.request_class = self._modules.request_class
        backend = {PB_UTILS: self._modules.pb_utils, C_PB_UTILS: self._modules.c_pb_utils}
        self.scope: ImportScope | OwnScope
        self.offspring: Offspring | OwnOffspring
        if is_alone:
            self.scope, self.offspring = OwnScope(folders, backend), OwnOffspring()
        else:
            self.scope = scope = ImportScope(folders, backend)
            self.offspring = Offspring(scope.builtins)
        services.scope = self.scope

    def import_class(self) -> Any:
        """Import the file, then show it all names of the backend; its ``TritonPythonModel``.

        To be called while the scope is active. Raises whatever the file raises.
        """
        module = self.scope.import_module(self._name)
        self._modules.reveal_classes()
        return module.TritonPythonModel


def has(model: Any, name: str) -> bool:
    """True if a model has a method, as the backend asks it: whatever goes wrong means no."""
    try:
        getattr(model, name)
    except Exception:  # noqa: BLE001
        return False
    return True
