"""Numbers of the models of a sweep's points, for conditions such as `device_macs < 5e6`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from splitlearn.analysis import device_macs
from splitlearn.config.build import instantiated
from splitlearn.config.sweep_trial import ConfigTrial
from splitlearn.models import CutModel
from splitlearn.sweep.distributions import Value


@dataclass(frozen=True)
class PointNumbers:
    """Returns the numbers of a point's model; can be sent to other processes.

    Attributes:
        trial: builds the model of a point.
    """

    trial: ConfigTrial
    _found: dict[str, Mapping[str, float] | None] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, values: Mapping[str, Value]) -> Mapping[str, float] | None:
        """Return parameters and multiply–accumulates of a point's model, or None if it cannot be built.

        Points that differ in other parts of the config, such as the rate weight, have one model, which is built once.
        """
        key = json.dumps({path: value for path, value in values.items() if _is_of_model(path)}, sort_keys=True)
        if key not in self._found:
            settings = self.trial.parse(values)
            try:
                task = instantiated(settings, ("model",)).model
            except Exception:  # constructors may raise anything; the trial reports it
                self._found[key] = None
            else:
                self._found[key] = numbers_of(task.model)
        return self._found[key]


def _is_of_model(path: str) -> bool:
    """Return whether a parameter may change a task's model: `model.model.…`, or the whole task, and not its others."""
    section, *rest = path.split(".")
    return section == "model" and (not rest or rest[0] in ("model", "init_args", "class_path"))


def numbers_of(model: Any) -> dict[str, float]:
    """Return what `model.complexity()` counts, by name, and `device_macs`: those of head and encoders together.

    A model without bottlenecks has no numbers; one that takes images of any size has no `device_macs`.
    """
    found = getattr(model, "complexity", lambda: None)()
    numbers = {} if found is None else {name: float(value) for name, value in asdict(found).items()}
    if isinstance(model, CutModel) and not model.net.by_image:
        numbers["device_macs"] = float(device_macs(model))
    return numbers
