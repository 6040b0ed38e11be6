"""What can go wrong, as sentences for the person at the page or the terminal.

StudioError
 ├─ InputError        what was given cannot be used (the command line exits with 2)
 │   ├─ NotFound      the named thing does not exist
 │   └─ Conflict      somebody else changed or holds it
 ├─ ModelError        a model cannot be loaded, reached or asked for this
 │   ├─ Unsupported   this backend or model cannot do that
 │   └─ EngineLost    the process that holds the weights died
 ├─ StorageError      disk or database refuses
 └─ RunError          a run cannot start or go on

Every message names the thing, the value and the cure.
"""

__all__ = [
    "Conflict",
    "EngineLost",
    "InputError",
    "ModelError",
    "NotFound",
    "RunError",
    "StorageError",
    "StudioError",
    "Unsupported",
]


class StudioError(Exception):
    """A sentence that may be shown as it is."""


class InputError(StudioError):
    """What was given cannot be used."""


class NotFound(InputError):
    """The named thing does not exist."""


class Conflict(InputError):
    """Somebody else changed or holds it."""


class ModelError(StudioError):
    """A model cannot be loaded, reached or asked for this."""


class Unsupported(ModelError):
    """This backend or model cannot do that."""


class EngineLost(ModelError):
    """The process that holds the weights died."""


class StorageError(StudioError):
    """Disk or database refuses."""


class RunError(StudioError):
    """A run cannot start or go on."""
