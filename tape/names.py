"""ONTAP's names of tape devices.

    {r|nr|ur}st<number>{l|m|h|a}      a drive: what closing it does, which drive, density
    mc<number>                        a medium changer

    r   rewind when closed        l m h a   lowest, medium, highest density,
    nr  leave it where it is                highest with compression
    ur  rewind and unload

The number is a name, not a quantity: `st0` and `st00` are different devices.
"""

import re
from dataclasses import dataclass
from enum import Enum


class MalformedName(ValueError):
    """Text that is no ONTAP device name."""


class OnClose(Enum):
    """What closing a drive does to its cartridge."""

    REWIND = "r"
    NOTHING = "nr"
    UNLOAD = "ur"


class Density(Enum):
    """How a drive records: compression is on for AUTOMATIC (`a`) only."""

    LOW = "l"
    MEDIUM = "m"
    HIGH = "h"
    AUTOMATIC = "a"


@dataclass(frozen=True, slots=True)
class DriveName:
    """Such as `nrst0a`; `str()` gives the name."""

    number: str
    on_close: OnClose = OnClose.REWIND
    density: Density = Density.AUTOMATIC

    @property
    def alias(self) -> str:
        """The drive without closing behaviour and density, such as `st0`."""
        return f"st{self.number}"

    def __str__(self) -> str:
        return f"{self.on_close.value}st{self.number}{self.density.value}"


@dataclass(frozen=True, slots=True)
class ChangerName:
    """Such as `mc0`; `str()` gives the name."""

    number: str

    def __str__(self) -> str:
        return f"mc{self.number}"


_DRIVE = re.compile(r"(nr|ur|r)st([0-9]+)([lmha])?", re.ASCII)
_CHANGER = re.compile(r"mc([0-9]+)", re.ASCII)


def parse_drive(text: str) -> DriveName:
    """Read a drive's name; without a density letter it is the highest (`a`).

    Raises MalformedName.
    """
    match = _DRIVE.fullmatch(text)
    if match is None:
        raise MalformedName(f"{text!r} is no tape device name such as nrst0a")
    on_close, number, density = match.groups()
    return DriveName(number, OnClose(on_close), Density(density or "a"))


def parse_changer(text: str) -> ChangerName:
    """Read a changer's name; raises MalformedName."""
    match = _CHANGER.fullmatch(text)
    if match is None:
        raise MalformedName(f"{text!r} is no medium changer name such as mc0")
    return ChangerName(match[1])


def parse(text: str) -> DriveName | ChangerName:
    """Read either name; raises MalformedName."""
    return parse_changer(text) if text.startswith("mc") else parse_drive(text)


def all_names(number: str) -> tuple[DriveName, ...]:
    """Give the twelve names of a drive."""
    return tuple(DriveName(number, close, density) for density in Density for close in OnClose)
