"""The virtual medium changer: an SMC target over a library's robot."""

from collections.abc import Iterator
from contextlib import contextmanager

from tape import cdb, elements, pages
from tape.elements import Element, ElementKind
from tape.inquiry import Designator, Inquiry
from tape.pages import ModeParameters
from tape.virtual.inventory import FIRST_TRANSPORT
from tape.virtual.robot import INVALID_ELEMENT, Robot
from tape.virtual.target import INVALID_FIELD, Exchange, Fields, Target, refuse


class ChangerTarget(Target):
    """The changer of a library; `designators` name its drives in order."""

    commands = cdb.CHANGER

    def __init__(
        self, robot: Robot, designators: list[Designator], identity: Inquiry, serial: str
    ) -> None:
        super().__init__(identity, serial)
        self._robot = robot
        self._designators = designators
        self._handlers |= {
            cdb.TEST_UNIT_READY.opcode: self._accept,
            cdb.INITIALIZE_ELEMENT_STATUS.opcode: self._accept,
            cdb.INITIALIZE_ELEMENT_STATUS_WITH_RANGE.opcode: self._accept,
            cdb.POSITION_TO_ELEMENT.opcode: self._position_to_element,
            cdb.MOVE_MEDIUM.opcode: self._move_medium,
            cdb.READ_ELEMENT_STATUS.opcode: self._read_element_status,
            cdb.MODE_SENSE_6.opcode: self._mode_sense_6,
            cdb.MODE_SENSE_10.opcode: self._mode_sense_10,
            cdb.PREVENT_ALLOW.opcode: self._prevent_allow,
            cdb.RESERVE_6.opcode: self._accept,
            cdb.RELEASE_6.opcode: self._accept,
        }

    def close(self) -> None:
        """Let go of the files."""
        self._robot.close()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._robot.locked():
            yield

    def _next_attention(self) -> tuple[int, int] | None:
        inventory = self._robot.inventory
        if not inventory.attentions:
            return None
        waiting = inventory.attentions.pop(0)
        inventory.save()
        return waiting

    def _check_transport(self, fields: Fields) -> None:
        if fields["transport"] not in {0, FIRST_TRANSPORT}:
            raise refuse(*INVALID_ELEMENT)
        if fields["invert"]:
            raise refuse(*INVALID_FIELD)

    def _position_to_element(self, fields: Fields, _exchange: Exchange) -> None:
        self._check_transport(fields)
        if self._robot.layout.kind(fields["destination"]) is None:
            raise refuse(*INVALID_ELEMENT)

    def _move_medium(self, fields: Fields, _exchange: Exchange) -> None:
        self._check_transport(fields)
        self._robot.move(fields["source"], fields["destination"])

    def _prevent_allow(self, fields: Fields, _exchange: Exchange) -> None:
        self._robot.inventory.prevented = bool(fields["prevent"] & 1)
        self._robot.inventory.save()

    def _read_element_status(self, fields: Fields, exchange: Exchange) -> None:
        wanted = fields["type"]
        if wanted > max(ElementKind):
            raise refuse(*INVALID_FIELD)
        kinds = [ElementKind(wanted)] if wanted else list(ElementKind)
        found = [
            self._element(address, kind)
            for kind in kinds
            for address in self._robot.layout.addresses(kind)
            if address >= fields["first"]
        ]
        data = elements.encode(
            found[: fields["count"]],
            voltag=bool(fields["voltag"]),
            dvcid=bool(fields["dvcid"]),
            allocation=fields["allocation"],
        )
        exchange.reply(data, fields["allocation"])

    def _element(self, address: int, kind: ElementKind) -> Element:
        place = self._robot.inventory.places.get(address)
        mail, drive = kind is ElementKind.MAILSLOT, kind is ElementKind.DRIVE
        designator = self._designator(address) if drive else None
        return Element(
            address,
            kind,
            full=place is not None,
            barcode=place.barcode if place else "",
            source=place.source if place else None,
            access=not drive or self._robot.removable(address),
            import_enabled=mail,
            export_enabled=mail,
            imported=mail and place is not None and place.imported,
            medium_type=1 if place else 0,
            identifier=designator.value if designator else b"",
            identifier_type=designator.type if designator else 0,
            code_set=designator.code_set if designator else 0,
        )

    def _designator(self, address: int) -> Designator:
        return self._designators[self._robot.layout.addresses(ElementKind.DRIVE).index(address)]

    def _mode_sense_6(self, fields: Fields, exchange: Exchange) -> None:
        self._mode_sense(fields, exchange, long=False)

    def _mode_sense_10(self, fields: Fields, exchange: Exchange) -> None:
        self._mode_sense(fields, exchange, long=True)

    def _mode_sense(self, fields: Fields, exchange: Exchange, *, long: bool) -> None:
        if fields["page"] not in {pages.ELEMENT_ADDRESSES, pages.ALL_PAGES}:
            raise refuse(*INVALID_FIELD)
        if fields["pc"] == 3:
            raise refuse(0x39)
        parameters = ModeParameters(buffered=0, pages=(self._addresses().encode(),))
        exchange.reply(pages.encode_mode(parameters, long=long), fields["allocation"])

    def _addresses(self) -> pages.ElementAddresses:
        given = self._robot.layout.addresses
        pairs = [
            (given(kind).start, len(given(kind)))
            for kind in (
                ElementKind.TRANSPORT,
                ElementKind.SLOT,
                ElementKind.MAILSLOT,
                ElementKind.DRIVE,
            )
        ]
        return pages.ElementAddresses(*(number for pair in pairs for number in pair))
