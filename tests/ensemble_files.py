"""Ensembles for tests, written into a repository on disk, over models of ``model_files``."""

from pathlib import Path


def chain(*models: str, more: str = "") -> str:
    """The configuration of an ensemble from IN to OUT through models that have such tensors."""
    names = ["IN", *(f"T{number}" for number in range(1, len(models))), "OUT"]
    steps = "".join(
        f'step {{ model_name: "{model}" model_version: -1 '
        f'input_map {{ key: "IN" value: "{names[number]}" }} '
        f'output_map {{ key: "OUT" value: "{names[number + 1]}" }} }}\n'
        for number, model in enumerate(models)
    )
    return f"""
platform: "ensemble" {more}
input {{ name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }}
output {{ name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }}
ensemble_scheduling {{ {steps} }}
"""


def write_chain(repository: Path, name: str, *models: str, more: str = "") -> None:
    """Write such an ensemble."""
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(chain(*models, more=more))
