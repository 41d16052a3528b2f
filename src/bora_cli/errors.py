"""The exceptions bora raises on purpose.

    BoraError
    +-- ConfigError            a setting, a flag or a profile is wrong
    +-- DataError              a dataset cannot be used as it is
    |   +-- SchemaMismatch     columns, shapes or units differ from what was expected
    |   +-- CorruptEpisode     an episode's files disagree with its metadata
    +-- DeviceError            a device is missing or unusable
    |   +-- MissingSystemLibrary
    |   +-- NoDevice           none was found, or not the one that was asked for
    |   +-- DevicePermission   it is there, but this person may not open it
    |   +-- Unanswered         a question needs a person, and there was none
    +-- RobotFault             something is wrong on the way to the motors
    |   +-- LimitViolation     a command was outside the safety limits
    +-- CheckpointError        a checkpoint cannot be loaded or does not fit
    +-- TrainingDiverged       a loss became NaN or infinite

A message says what happened (with the value), what was expected, and what to do next.  `exit_code` is what the
command line ends with: 3 configuration or data, 4 device or robot, 5 stopped by safety, 6 training diverged.
"""

from __future__ import annotations


class BoraError(Exception):
    """An expected failure with a remedy.

    message: what happened and what was expected.  hint: the next step, one line, may be empty.
    """

    exit_code = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(BoraError):
    """A setting, a flag or a hardware profile is wrong."""


class DataError(BoraError):
    """A dataset cannot be used as it is."""


class SchemaMismatch(DataError):
    """Columns, shapes or units differ from what was expected."""


class CorruptEpisode(DataError):
    """An episode's files disagree with its metadata."""


class DeviceError(BoraError):
    """A device is missing or unusable."""

    exit_code = 4


class MissingSystemLibrary(DeviceError):
    """A shared library of the operating system is missing."""


class NoDevice(DeviceError):
    """No device was found, or not the one that was asked for."""


class DevicePermission(DeviceError):
    """A device is there, but this person may not open it."""


class Unanswered(DeviceError):
    """A question needs a person, and nobody answered."""


class RobotFault(BoraError):
    """Something is wrong on the way to the motors."""

    exit_code = 4


class LimitViolation(RobotFault):
    """A command was outside the safety limits."""

    exit_code = 5


class CheckpointError(BoraError):
    """A checkpoint cannot be loaded or does not fit."""


class TrainingDiverged(BoraError):
    """A loss became NaN or infinite."""

    exit_code = 6
