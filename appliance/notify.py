"""Tell systemd how the service does: sd_notify(3), the datagram that it is."""

import os
import socket


def sd_notify(state: str) -> bool:
    """Send `state` (such as `READY=1`) to $NOTIFY_SOCKET; False when there is none to tell."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or address[0] not in "/@":
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.connect(address)
            channel.sendall(state.encode())
        except OSError:
            return False
    return True
