"""A franka-sim server with our own arm, made to lose states on request; runs in its own venv.

`.venv-franka/bin/python tests/kit/franka_server.py <mjcf> <port>`: the arm's interface is at
libfranka's fixed port 1337, and a line `lose 19` or `stop` on the control port keeps the next
states from the client or ends the process. A newline answers each line.
"""

import contextlib
import logging
import os
import socket
import sys
import threading
import time


class Lossy:
    """A socket that keeps some datagrams for itself."""

    def __init__(self, inner, owner):
        self._inner, self._owner = inner, owner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def sendto(self, data, address):
        if self._owner.lose > 0:
            self._owner.lose -= 1
            return len(data)
        return self._inner.sendto(data, address)


def be_one_computer():
    """Run on one core, and first there, as a real arm's own computer does.

    The server steps its physics in one thread and sends states from another. On two cores the
    second can stand still for 30 ms while the arm moves on, and its next state says that it is one
    tick later: a jump, on which a client stops with good reason. A client on that core too stands
    still when the core does.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(85))


def main():
    mjcf, port = sys.argv[1], int(sys.argv[2])
    be_one_computer()
    os.environ["FR3_MJCF"] = mjcf
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    from franka_sim import FrankaSimServer  # pyright: ignore[reportMissingImports]

    class Server(FrankaSimServer):
        lose = 0

        @property
        def udp_socket(self):
            return self._lossy

        @udp_socket.setter
        def udp_socket(self, inner):
            self._lossy = None if inner is None else Lossy(inner, self)

    server = Server(enable_gripper=False, enforce_comm_constraints=True, enforce_motion_limits=True)
    door = socket.create_server(("127.0.0.1", port))

    def listen():
        while True:
            conn, _ = door.accept()
            with conn, conn.makefile("r") as lines:
                for line in lines:
                    what, _, count = line.strip().partition(" ")
                    if what == "stop":
                        os._exit(0)
                    while not (server.running and server.server_socket):
                        time.sleep(0.05)  # the physics is still being compiled
                    server.lose = int(count)
                    conn.sendall(b"\n")

    parent = os.getppid()

    def follow():
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)  # the tests were killed; the port is wanted by the next ones

    for loop in (listen, follow):
        threading.Thread(target=loop, daemon=True).start()
    server.start()


if __name__ == "__main__":
    main()
