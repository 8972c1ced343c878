"""Where the cartridges of a virtual library are: `elements.json`.

It is the truth about places; a drive's own state follows it. A cartridge put into a
drive is written here first and into the drive's state after, one taken out the other way
round, so that a crash in between is mended from here and never doubles a cartridge.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from tape.elements import ElementKind
from tape.errors import LibraryDamaged
from tape.virtual.attributes import read_json, write_json

FIRST_TRANSPORT, FIRST_DRIVE, FIRST_MAILSLOT, FIRST_SLOT = 1, 0x100, 0x300, 0x400
_ADDRESSES = 0x10000


@dataclass(frozen=True, slots=True)
class Layout:
    """How many elements of each kind a library has; one transport."""

    drives: int
    slots: int
    mailslots: int

    def addresses(self, kind: ElementKind) -> range:
        """Give the addresses of all elements of a kind."""
        first, count = {
            ElementKind.TRANSPORT: (FIRST_TRANSPORT, 1),
            ElementKind.DRIVE: (FIRST_DRIVE, self.drives),
            ElementKind.MAILSLOT: (FIRST_MAILSLOT, self.mailslots),
            ElementKind.SLOT: (FIRST_SLOT, self.slots),
        }[kind]
        return range(first, first + count)

    def most(self, kind: ElementKind) -> int:
        """Give how many elements of a kind have addresses of their own."""
        first = self.addresses(kind).start
        above = (FIRST_DRIVE, FIRST_MAILSLOT, FIRST_SLOT, _ADDRESSES)
        return min(start for start in above if start > first) - first

    def kind(self, address: int) -> ElementKind | None:
        """Tell what lies at an address, or None."""
        return next((k for k in ElementKind if address in self.addresses(k)), None)


@dataclass(frozen=True, slots=True)
class Place:
    """A full element: `source` is the slot it came from, `imported`: by an operator."""

    barcode: str
    source: int | None = None
    imported: bool = False


class Inventory:
    """The full elements by address, and the changer's waiting unit attentions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.places: dict[int, Place] = {}
        self.attentions: list[tuple[int, int]] = []
        self.prevented = False
        self.boot = 0

    def load(self) -> "Inventory":
        """Read the file; raises LibraryDamaged."""
        data = read_json(self._path)
        try:
            self.places = {int(k): Place(**v) for k, v in data["elements"].items()}
            self.attentions = [(int(a), int(q)) for a, q in data["attentions"]]
            self.prevented = bool(data["prevented"])
            self.boot = int(data["boot"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LibraryDamaged(self._path.parent.name, f"{self._path}: {error!r}") from error
        return self

    def save(self) -> None:
        """Replace the file."""
        write_json(
            self._path,
            {
                "elements": {str(k): asdict(v) for k, v in sorted(self.places.items())},
                "attentions": self.attentions,
                "prevented": self.prevented,
                "boot": self.boot,
            },
        )

    def find(self, barcode: str) -> int | None:
        """Give the address of a cartridge, or None when it is not in the library."""
        return next((a for a, p in self.places.items() if p.barcode == barcode), None)

    def attend(self, asc: int, ascq: int) -> None:
        """Let a unit attention wait, once."""
        if (asc, ascq) not in self.attentions:
            self.attentions.append((asc, ascq))
