from collections.abc import Iterator
from pathlib import Path

import pytest

from tape.changer import Changer
from tape.drive import Drive
from tape.virtual.library import VirtualLibrary
from tests.tape.conformance import ChangerConformance, DriveConformance


@pytest.fixture
def library(tmp_path: Path) -> VirtualLibrary:
    return VirtualLibrary.create(
        tmp_path / "lib0", cartridges=["SR0001L8", "SR0002L8"], durable=False
    )


@pytest.fixture
def changer(library: VirtualLibrary) -> Iterator[Changer]:
    with Changer(library.changer_transport()) as changer:
        yield changer


class TestVirtualDrive(DriveConformance):
    @pytest.fixture
    def drive(self, library: VirtualLibrary, changer: Changer) -> Iterator[Drive]:
        changer.move(0x400, 0x100)
        with Drive(library.drive_transport(0)) as drive:
            drive.clear_attentions()
            yield drive


class TestVirtualChanger(ChangerConformance):
    pass
