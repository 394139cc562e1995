"""The flight recorder: what the ring holds, what a file says, what a replay notices."""

import json
import mmap
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from controllers.config import ControlConfig
from controllers.packed import COMMAND_BUFFER_SIZE, MEAS, MEASUREMENT_SIZE, STATE, STATE_SIZE
from handrail.errors import StorageError
from handrail.run_folder import Run, create_run
from robot_env.arms.sim.config import MujocoConfig
from robot_env.host.core import HostCore
from robot_env.recorder.mcap_writer import save
from robot_env.recorder.recorder import Recorder, describe
from robot_env.recorder.recording import Recording
from robot_env.recorder.replay import replay
from robot_env.recorder.ring import NAME, Ring
from robot_env.recorder.ring_record import (
    INDEX,
    STATE_AT,
    TORQUE,
    WIDTH,
    RingView,
    begin_tick,
    checksum,
    end_tick,
    newest_ticks,
)
from robot_env.recorder.ring_recovery import checksums, left_by_crash, read_ring
from robot_env.recorder.writer_process import save_after_crash
from robot_env.tasks import make

ROOT = Path(__file__).resolve().parents[3]
CONTROL = ControlConfig()


@pytest.fixture(scope="module")
def core():
    return HostCore(make("peg"), MujocoConfig(), CONTROL)


def about(core: HostCore) -> dict:
    return describe(core.robot.params, CONTROL, realtime=False) | {"task": "peg"}


def new_ring(core: HostCore, path: Path, seconds: float) -> Ring:
    ring = Ring(path, seconds, CONTROL.dt, about(core))
    core.robot.ring_view = ring.ring_view
    return ring


def drive(core: HostCore, seed: int, steps: int) -> None:
    """Run policy steps under seeded random actions, the odd ones tick by tick."""
    task, rng = core.task, np.random.default_rng(seed)
    snapshot, _ = core.reset(seed)
    for seq in range(steps):
        request = task.request(snapshot, rng.uniform(-1.0, 1.0, 3), seq)
        ticks = 1 if seq % 2 else core.ticks
        for n in range(core.ticks // ticks):
            snapshot = core.period(request if n == 0 else None, ticks)


def write_ticks(ring_view: RingView, count: int, begin: int = 0) -> None:
    """Write ticks whose every value is their number."""
    state, measurement = np.zeros(STATE_SIZE), np.zeros(MEASUREMENT_SIZE)
    command_buffer, torque = np.zeros(COMMAND_BUFFER_SIZE), np.zeros(7)
    state[:] = begin - 1 if begin else 0.0
    for n in range(begin, begin + count):
        begin_tick(ring_view, state)
        for array in (state, measurement, command_buffer, torque):
            array[:] = n
        end_tick(ring_view, state, measurement, command_buffer, torque)


def recorded(core: HostCore, folder: Path, steps: int = 12) -> Recording:
    ring = new_ring(core, folder / NAME, 5.0)
    ring.note("here it begins")
    drive(core, 3, steps // 2)
    drive(core, 4, steps // 2)
    return Recording(save(read_ring(ring.path), folder / "recordings", "Some Fault!", 10))


def test_a_replay_gives_every_torque_bit_for_bit(core, tmp_path):
    recording = recorded(core, tmp_path)
    verdict = replay(recording)
    assert verdict.first is None
    assert verdict.different == 0
    assert verdict.gaps == 0
    assert verdict.starts >= 1  # the second reset
    assert verdict.ticks == len(recording) > 1000


def test_a_replay_goes_on_where_the_ring_has_gone_round_in_mid_episode(core, tmp_path):
    ring = new_ring(core, tmp_path / NAME, 0.7)
    drive(core, 3, 10)
    recording = Recording(save(read_ring(ring.path), tmp_path, "x", 10))
    verdict = replay(recording)
    assert verdict.first is None
    assert verdict.ticks == len(recording) - 1 == 699  # the first one's state is where it begins


@pytest.mark.parametrize("group", ["reading", "mailbox", "tick"])
def test_a_replay_finds_the_first_difference_of_one_bit(core, tmp_path, group):
    recording = recorded(core, tmp_path)
    name = {"reading": "q", "mailbox": "pose", "tick": "torque"}[group]
    values = recording.column(group, name)
    row = 300
    values[row, 1] = np.nextafter(values[row, 1], np.inf)
    verdict = replay(recording)
    assert verdict.first is not None
    tick = recording.column("tick", "index")[recording.kinds == 0][row]
    if group == "tick":
        assert verdict.different == 1
        assert verdict.first.index == recording.column("tick", "index")[row]
        assert not verdict.first.states
    else:
        assert tick <= verdict.first.index <= tick + 200
    assert not np.array_equal(verdict.first.recorded, verdict.first.replayed)


def test_a_recording_says_what_the_robot_did(core, tmp_path):
    recording = recorded(core, tmp_path)
    ticks = newest_ticks(core.robot.ring_view, 500)
    for quantity in ("tick.torque", "pose", "reading.wrench", "reading.q", "mailbox.pose", "mode"):
        assert np.array_equal(recording[quantity][-500:], ticks[quantity])
    assert recording["reading.q"].shape == (len(recording), 7)
    assert recording.why == "Some Fault!"
    assert recording.path.name == "000000-some-fault.mcap"
    assert recording.events[0][1:] == (0, "here it begins")
    assert (np.diff(recording.wall) > 0.0).all()
    assert recording.wall[-1] == pytest.approx(time.monotonic(), abs=20.0)
    with pytest.raises(StorageError, match=r"no 'nonsense'; it has tick\.index"):
        recording["nonsense"]


def test_what_is_not_finite_is_recorded_as_it_was(core, tmp_path):
    ring = new_ring(core, tmp_path / NAME, 1.0)
    state, measurement = np.zeros(STATE_SIZE), np.zeros(MEASUREMENT_SIZE)
    measurement[MEAS.dq], measurement[MEAS.wrench] = np.nan, -np.inf
    begin_tick(ring.ring_view, state)
    end_tick(ring.ring_view, state, measurement, np.zeros(COMMAND_BUFFER_SIZE), np.zeros(7))
    recording = Recording(save(read_ring(ring.path), tmp_path, "x", 1))
    assert np.isnan(recording["dq"][0, 0])
    assert recording["wrench"][0, 0] == -np.inf


def test_other_programs_find_topics_schemas_and_times(core, tmp_path):
    """Decoded as any MCAP reader does: from the message definitions in the file alone."""
    from mcap.reader import make_reader

    recording = recorded(core, tmp_path)
    with open(recording.path, "rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        assert summary is not None
        topics = {channel.topic for channel in summary.channels.values()}
        assert topics == {"/tick", "/state", "/reading", "/mailbox", "/events"}
        assert {chunk.compression for chunk in summary.chunk_indexes} == {"zstd"}
        seen, last = 0, 0
        for schema, channel, message in reader.iter_messages(topics=["/state", "/events"]):
            assert schema is not None
            assert message.log_time >= last
            last = message.log_time
            if channel.topic == "/events":
                assert schema.name == "foxglove.Log"
                assert "message" in json.loads(message.data)
                continue
            assert (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr")
            at = 4
            for line in schema.data.decode().splitlines():
                kind, name = line.split(" ")
                size = int(kind[8:-1]) if kind.endswith("]") else 1
                assert kind.startswith("float64")
                values = np.frombuffer(message.data, "<f8", size, at)
                if name == "pose":
                    assert np.array_equal(values, recording.column("state", "pose")[seen])
                at += 8 * size
            assert at == len(message.data)
            seen += 1
        assert seen == len(recording.kinds)
    assert abs(last * 1e-9 - time.time()) < 60.0


def test_checksums_of_reader_and_writer_agree():
    words = np.random.default_rng(0).integers(-(2**62), 2**62, (50, WIDTH))
    assert checksums(words).tolist() == [checksum(row) for row in words]
    words[7, INDEX + 3] ^= 1
    assert checksums(words)[7] != checksum(words[6])


@pytest.mark.slow
def test_a_reader_beside_the_writer_never_sees_half_a_record(core, tmp_path):
    ring = new_ring(core, tmp_path / NAME, 0.3)
    stop = threading.Event()

    def write() -> None:
        begin = 0
        while not stop.is_set():
            write_ticks(ring.ring_view, 500, begin)
            begin += 500

    writer = threading.Thread(target=write)
    writer.start()
    try:
        end, seen, newest = time.monotonic() + 1.5, 0, 0
        while time.monotonic() < end:
            words = read_ring(ring.path).words
            if len(words):
                values = words[:, [TORQUE, STATE_AT, STATE_AT + STATE_SIZE - 1]].view(np.float64)
                ticks = words[:, INDEX] > 0
                assert (values == values[:, 1:2])[ticks][:, 1:].all()
                assert (np.diff(words[:, INDEX]) >= 1).all()
                seen, newest = seen + 1, int(words[-1, INDEX])
    finally:
        stop.set()
        writer.join()
    assert seen > 5
    assert newest > 1000


def test_a_torn_record_is_left_out_and_counted(core, tmp_path):
    ring = new_ring(core, tmp_path / NAME, 0.5)
    drive(core, 3, 3)
    ring.ring_view.words[20, TORQUE] ^= 1 << 40
    tail = read_ring(ring.path)
    assert tail.torn == 1
    assert 20 not in tail.words[:, INDEX]
    recording = Recording(save(tail, tmp_path, "x", 10))
    verdict = replay(recording)
    assert verdict.first is None
    assert verdict.gaps == 1


def test_writing_meets_no_page_fault_even_after_the_disk_got_everything(core, tmp_path):
    ring = new_ring(core, tmp_path / NAME, 4.0)
    write_ticks(ring.ring_view, 10)
    with open(ring.path, "rb+") as file:
        os.fsync(file.fileno())  # the kernel writes all pages and protects them
    if not ring.populate(int(ring.ring_view.head[3]), 2500):
        pytest.skip("this kernel is older than 5.14")
    state, measurement = np.zeros(STATE_SIZE), np.zeros(MEASUREMENT_SIZE)
    command_buffer, torque = np.zeros(COMMAND_BUFFER_SIZE), np.zeros(7)
    before = resource.getrusage(resource.RUSAGE_THREAD)
    for n in range(2000):
        begin_tick(ring.ring_view, state)
        state[STATE.tick] = n
        end_tick(ring.ring_view, state, measurement, command_buffer, torque)
    after = resource.getrusage(resource.RUSAGE_THREAD)
    pages = 2000 * WIDTH * 8 // mmap.PAGESIZE
    assert after.ru_minflt - before.ru_minflt < pages // 50
    assert after.ru_majflt == before.ru_majflt


def test_a_ring_in_memory_comes_home_when_its_host_ends(core, tmp_path):
    path, memory = tmp_path / NAME, tmp_path / "memory"
    memory.mkdir()
    killed = Ring(path, 0.2, CONTROL.dt, about(core), memory)
    write_ticks(killed.ring_view, 30)
    (first,) = memory.iterdir()
    assert path.is_symlink()
    assert path.resolve() == first
    assert first.stat().st_mode & 0o777 == 0o600
    assert len(read_ring(path).words) == 31  # the state before, and the ticks
    assert left_by_crash(path)
    assert save_after_crash(path, tmp_path / "recordings", 3, "killed") is not None
    assert not list(memory.iterdir())
    assert not path.is_symlink()
    assert not left_by_crash(path)
    ring = Ring(path, 0.2, CONTROL.dt, about(core), memory)
    write_ticks(ring.ring_view, 40)
    again = Ring(path, 0.2, CONTROL.dt, about(core), memory)  # of a host that saved nothing
    assert len(list(memory.iterdir())) == 1
    write_ticks(again.ring_view, 50)
    again.close()
    again.close()
    assert not list(memory.iterdir())
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(read_ring(path).words) == 51


def test_without_room_in_memory_the_ring_is_on_the_disk_and_that_is_said(core, tmp_path, caplog):
    ring = Ring(tmp_path / NAME, 0.2, CONTROL.dt, about(core), tmp_path / "nowhere")
    assert "which may make a tick late" in caplog.text
    write_ticks(ring.ring_view, 20)
    assert len(read_ring(tmp_path / NAME).words) == 21
    ring.close()


def test_where_no_link_can_be_made_the_ring_is_on_the_disk(core, tmp_path, monkeypatch):
    memory = tmp_path / "memory"
    memory.mkdir()

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "this file system has no links")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    ring = Ring(tmp_path / NAME, 0.2, CONTROL.dt, about(core), memory)
    write_ticks(ring.ring_view, 20)
    assert not list(memory.iterdir())
    assert len(read_ring(tmp_path / NAME).words) == 21
    ring.close()


def test_recordings_are_numbered_and_the_newest_are_kept(core, tmp_path):
    ring = new_ring(core, tmp_path / NAME, 0.2)
    write_ticks(ring.ring_view, 20)
    tail = read_ring(ring.path)
    for n in range(5):
        save(tail, tmp_path / "r", f"test {n}", keep=3)
    names = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert names == ["000002-test-2.mcap", "000003-test-3.mcap", "000004-test-4.mcap"]


def test_damage_is_named(core, tmp_path):
    path = recorded(core, tmp_path).path
    whole = path.read_bytes()
    for damaged in (whole[:300], whole[: len(whole) // 2], b"", b"nonsense" * 100):
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match="not a whole flight recording"):
            Recording(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(StorageError):
        Recording(path)
    ring = tmp_path / NAME
    data = ring.read_bytes()
    for damaged, match in ((b"", "empty"), (b"x" * 8192, "not the ring"), (data[:-8], "another")):
        ring.write_bytes(damaged)
        with pytest.raises(StorageError, match=match):
            read_ring(ring)


def test_a_disk_that_is_full_is_said_at_the_start(core, tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))
    try:
        with pytest.raises(StorageError, match=r"1\d MB.*\[host\] recorder"):
            Ring(tmp_path / NAME, 5.0, CONTROL.dt, about(core))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())


# the command


def handrail(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handrail", "recorder", *map(str, arguments)],
        capture_output=True, text=True, timeout=200, cwd=ROOT, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(core, tmp_path_factory) -> Run:
    """Return a run that was recorded and whose host ended as it should."""
    folder = tmp_path_factory.mktemp("recorder") / "run"
    run = create_run(folder, "peg", core.task.spec.hash, '[task]\nname = "peg"\n')
    recorder = Recorder(run, 5.0, 3, about(core))
    core.record(recorder)
    drive(core, 5, 20)
    core.note("fault MADE_UP")
    recorder.save("first")
    recorder.close()
    core.recorder = None
    return run


@pytest.mark.slow
def test_listing_dumping_plotting_and_replaying_a_dead_run(run):
    assert not left_by_crash(run.folder / NAME)
    done = handrail("dump", run.folder, "--why", "later")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.name == "000001-later.mcap"
    done = handrail("ls", run.folder)
    assert "ended" in done.stdout
    assert "000000-first.mcap  first: 2.0 s, ends in FOLLOWING, fault NONE" in done.stdout
    done = handrail("plot", path, "--last", "1.5")
    assert done.returncode == 0, done.stderr
    picture = Path(done.stdout.strip())
    assert picture == path.with_suffix(".png")
    assert picture.read_bytes()[1:4] == b"PNG"
    done = handrail("replay", run.folder)
    assert done.returncode == 0, done.stdout
    assert "every torque is the same, bit for bit" in done.stdout


@pytest.mark.slow
def test_a_replay_against_another_chain_or_config_says_so_and_fails(run, core, tmp_path):
    other = create_run(tmp_path / "run", "peg", core.task.spec.hash, run.config.read_text())
    ring = Ring(other.folder / NAME, 1.0, CONTROL.dt, about(core) | {"code": "0" * 16})
    core.robot.ring_view = ring.ring_view
    drive(core, 3, 4)
    save(read_ring(ring.path), other.folder / "recordings", "x", 1)
    done = handrail("replay", other.folder)
    assert done.returncode == 1
    assert f"code is not what it was: recorded by {'0' * 16}" in done.stdout
    assert "bit for bit" in done.stdout
    other.config.write_text('[task]\nname = "peg"\n\n[control]\nmax_stretch = 0.01\n')
    done = handrail("replay", other.folder)
    assert done.returncode == 1
    assert "[control] is not what it was" in done.stdout


@pytest.mark.slow
def test_what_is_not_there_is_one_clear_line(tmp_path, core):
    run = create_run(tmp_path / "run", "peg", core.task.spec.hash, '[task]\nname = "peg"\n')
    for command, words in (("dump", "no flight recorder's ring"), ("replay", "no recording")):
        done = handrail(command, run.folder)
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert "nothing was recorded" in handrail("ls", run.folder).stdout


def test_the_plot_shows_every_spike():
    from robot_env.recorder.plot import envelope

    x = np.arange(60_000) * 1e-3
    y = np.sin(x)
    y[31_234] = 50.0
    thin, shown = envelope(x, y)
    assert len(thin) < 7000
    assert shown.max() == 50.0
