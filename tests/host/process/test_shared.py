"""The memory and the socket between host and client, without a robot."""

import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from handrail.errors import DeviceLost, ProtocolMismatch, RunFolderError
from robot_env.host import messages
from robot_env.host.shared_memory import Segment, SegmentLayout
from robot_env.host.socket import HostSocket

LAYOUT = SegmentLayout(10, 100, 16, {"front": (4, 6, 3)})

WRITER = """
import os, sys
import numpy as np
from robot_env.host.shared_memory import SegmentLayout, Segment
segment = Segment.attach(int(sys.argv[1]), SegmentLayout(10, 100, 16, {"front": (4, 6, 3)}))
print("writing", flush=True)
n = 0
while True:
    n += 1
    segment.snapshot.write(np.full(100, float(n)))
"""


@pytest.fixture
def pair():
    segment, fd = Segment.create(LAYOUT)
    return segment, Segment.attach(fd, LAYOUT)


def test_what_is_written_on_one_side_is_read_on_the_other(pair):
    host, client = pair
    assert client.request.read() is None
    host.request.write(np.arange(10.0))
    sequence, values = client.request.read()
    assert sequence == 2
    assert np.array_equal(values, np.arange(10.0))
    host.images["front"][:] = 7
    assert (client.images["front"] == 7).all()


def test_a_read_copy_is_the_readers_own(pair):
    host, client = pair
    host.request.write(np.ones(10))
    _, values = client.request.read()
    host.request.write(np.zeros(10))
    assert (values == 1.0).all()


def test_a_block_refuses_another_size(pair):
    host, _ = pair
    with pytest.raises(ProtocolMismatch, match="holds"):
        host.request.write(np.zeros(11))
    assert host.request.sequence == 0


def test_a_half_written_block_reads_as_nothing_and_heals_with_the_next_write(pair):
    host, client = pair
    host.request.write(np.ones(10))
    host.request._head[0] += np.uint64(1)  # the writer died here
    assert client.request.read() is None
    host.request.write(np.full(10, 2.0))
    found = client.request.read()
    assert found is not None
    assert (found[1] == 2.0).all()


def test_values_that_dont_fit_their_checksum_read_as_nothing(pair):
    host, client = pair
    host.request.write(np.ones(10))
    host.request._values[3] = 5.0
    assert client.request.read() is None


def test_a_client_cannot_shrink_the_memory_under_the_host():
    segment, fd = Segment.create(LAYOUT)
    with pytest.raises(OSError, match="permitted"):
        os.ftruncate(fd, 0)
    os.close(fd)
    segment.request.write(np.zeros(10))


def test_memory_of_another_layout_is_refused():
    _, fd = Segment.create(LAYOUT)
    with pytest.raises(DeviceLost, match="bytes, expected"):
        Segment.attach(fd, SegmentLayout(10, 101, 16))


def test_no_torn_read_from_a_writer_at_full_speed_nor_after_its_death():
    segment, fd = Segment.create(LAYOUT)
    os.set_inheritable(fd, True)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(fd)], stdout=subprocess.PIPE, pass_fds=[fd]
    )
    os.close(fd)
    with writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        seen, end = set(), time.monotonic() + 0.5
        while time.monotonic() < end:
            found = segment.snapshot.read()
            if found is not None:
                assert (found[1] == found[1][0]).all()
                seen.add(found[0])
        writer.kill()
    assert len(seen) > 10
    found = segment.snapshot.read()
    assert found is None or (found[1] == found[1][0]).all()


def test_nothing_with_a_name_is_left_in_shared_memory(pair):
    ours = f"handrail-{os.getpid()}-"  # other workers have rings of their own there
    assert not [name for name in os.listdir("/dev/shm") if name.startswith(ours)]


def test_a_message_arrives_whole_with_its_descriptor():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        _, fd = Segment.create(LAYOUT)
        messages.send(ours, messages.WELCOME, {"version": 1}, fd)
        os.close(fd)
        kind, payload, received = messages.receive(theirs)
        assert (kind, payload) == (messages.WELCOME, {"version": 1})
        assert received is not None
        Segment.attach(received, LAYOUT)


@pytest.mark.parametrize("data", [b"w{", b"w[1]", b"w\xff"])
def test_a_message_that_is_not_one_is_refused(data):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(data)
        with pytest.raises(ProtocolMismatch):
            messages.receive(theirs)


def test_a_closed_socket_reads_as_a_lost_device():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.close()
        with pytest.raises(DeviceLost):
            messages.receive(theirs)
        with pytest.raises(DeviceLost):
            messages.send(theirs, messages.STEP)


def test_an_error_crosses_as_the_same_class():
    with pytest.raises(RunFolderError, match="in use"):
        messages.raise_error(messages.pack_error(RunFolderError("in use")))


def test_one_run_has_one_host_and_the_name_is_free_after_it():
    name = f"test-{os.getpid()}"
    door = HostSocket(name)
    with pytest.raises(RunFolderError, match="another robot host"):
        HostSocket(name)
    door.close()
    HostSocket(name).close()
