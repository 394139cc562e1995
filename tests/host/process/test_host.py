"""The host process and its client: one behaviour in process and across, whoever dies."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from controllers.config import ControlConfig
from controllers.robot import Mode, Request
from handrail.errors import DeviceLost, ProtocolMismatch
from handrail.run_folder import Run, create_run
from robot_env.arms.sim.config import MujocoConfig
from robot_env.client import HostClient
from robot_env.host import messages
from robot_env.host.core import HostCore
from robot_env.recorder.recording import Recording
from robot_env.tasks import make
from robot_env.tasks.config import TaskConfig

WALL_TIME = {"tick_us"}  # the only part of a snapshot that may differ between two runs

LONE_CLIENT = """
import sys, time
import numpy as np
from robot_env.client import HostClient
from robot_env.tasks import make
task = make("peg")
client = HostClient.connect(sys.argv[1], task, deadline=60)
snapshot, nominal = client.reset(5)
for _ in range(8):
    request = task.request(snapshot, np.array([0.5, 0.5, 0.0]), snapshot.request_seq + 1)
    snapshot = client.step(request)
print("moving", flush=True)
time.sleep(60)
"""


def new_run(folder: Path, more: str = "", task: TaskConfig | None = None) -> Run:
    made = make("peg", task)
    images = f"images = {str(made.config.images).lower()}\nimage_size = {made.config.image_size}\n"
    return create_run(folder, "peg", made.spec.hash, f'[task]\nname = "peg"\n{images}{more}')


def start_host(run: Run, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "robot_env", "--run", str(run.folder), *options],
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Stop a host as a supervisor does, and return its exit code and log."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    return process.returncode, log


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path / "run")


@pytest.fixture
def host(run):
    process = start_host(run)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.fixture
def client(run, host):
    with HostClient.connect(run.id, make("peg"), deadline=120) as client:
        yield client


@pytest.fixture(scope="module")
def core():
    return HostCore(make("peg"), MujocoConfig(), ControlConfig())


def actions(count, seed=0):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, 3))


def flat(snapshot):
    fields = dataclasses.replace(snapshot, tick_us=0.0, episode=0)
    return fields.pack()


def drive(host, seed, count):
    """Return the snapshots of an episode under seeded random actions."""
    task = make("peg")
    snapshot, goal_estimate = host.reset(seed)
    snapshots = [snapshot]
    for seq, action in enumerate(actions(count, seed)):
        snapshot = host.step(task.request(snapshot, action, seq))
        snapshots.append(snapshot)
    return snapshots, goal_estimate


def test_the_process_behaves_bit_for_bit_like_the_core(core, client):
    for seed in (3, 4):
        here, goal_estimate = drive(core, seed, 40)
        there, nominal_there = drive(client, seed, 40)
        assert np.array_equal(goal_estimate, nominal_there)
        for a, b in zip(here, there, strict=True):
            assert np.array_equal(flat(a), flat(b))


def test_the_same_seed_gives_the_same_episode_whatever_came_before(core):
    first, _ = drive(core, 11, 20)
    drive(core, 12, 7)
    again, _ = drive(core, 11, 20)
    assert all(np.array_equal(flat(a), flat(b)) for a, b in zip(first, again, strict=True))


BAD = {
    "not finite": lambda r: r._replace(position=np.array([np.nan, 0.0, 0.3])),
    "infinite gripper": lambda r: r._replace(gripper=np.inf),
    "old seq": lambda r: r._replace(seq=0),
    "no authority": lambda r: r._replace(authority=7),
    "no rotation": lambda r: r._replace(quaternion=np.zeros(4)),
    "short position": lambda r: r._replace(position=np.zeros(2)),
}


@pytest.mark.parametrize("where", ["core", "client"])
def test_a_bad_request_is_refused_counted_and_changes_nothing(where, request):
    host, task = request.getfixturevalue(where), make("peg")
    wanted, _ = drive(host, 3, 5)
    snapshot, _ = host.reset(3)
    refused = host.refused
    counted = 0
    for seq, action in enumerate(actions(5, 3)):
        good = task.request(snapshot, action, seq)
        if seq > 0:
            for spoil in BAD.values():
                with pytest.raises(ProtocolMismatch):
                    host.step(spoil(good))
                counted += 1
        snapshot = host.step(good)
        assert np.array_equal(flat(snapshot), flat(wanted[seq + 1]))
    assert host.refused - refused >= counted - 4  # a wrong shape never leaves the client


@pytest.mark.parametrize("where", ["core", "client"])
def test_before_a_reset_no_request_is_followed(where, request):
    host = HostCore(make("peg"), MujocoConfig(), ControlConfig()) if where == "core" else None
    host = host or request.getfixturevalue("client")
    ask = Request(0, 0, np.array([0.5, 0.0, 0.2]), np.array([1.0, 0.0, 0.0, 0.0]), 0.02)
    with pytest.raises(DeviceLost, match="reset first"):
        host.step(ask)
    host.reset(0)
    host.step(ask)


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_bad_seed_is_refused(core, seed):
    with pytest.raises(ProtocolMismatch, match="seed"):
        core.reset(seed)


def test_the_safe_state_is_a_soft_stop_at_rest(core):
    drive(core, 3, 10)
    snapshot = core.bring_to_rest()
    assert snapshot.mode == Mode.SOFT_STOP
    assert snapshot.speed_peak < 0.01
    snapshot, _ = core.reset(3)
    assert snapshot.mode == Mode.HOLDING


@pytest.mark.slow
def test_images_and_pictures_cross_the_boundary_unchanged(tmp_path):
    config = TaskConfig(name="peg", images=True, image_size=64)
    task = make("peg", config)
    run = new_run(tmp_path / "run", task=config)
    core = HostCore(task, MujocoConfig(), ControlConfig())
    process = start_host(run)
    try:
        with HostClient.connect(run.id, task, deadline=120) as client:
            core.reset(3)
            client.reset(3)
            here, there = core.images(), client.images()
            assert set(here) == set(there) == set(task.spec.images)
            for name, image in here.items():
                assert image.std() > 5.0
                assert np.array_equal(image, there[name])
            picture = client.render("front", 90, 60)
            assert np.array_equal(picture, core.render("front", 90, 60))
            with pytest.raises(DeviceLost, match="camera"):
                client.render("no such camera", 90, 60)
            with pytest.raises(ProtocolMismatch, match="4096"):
                client.render("front", 0, 60)
            client.reset(4)  # and still the connection stands
    finally:
        core.close()
        assert end(process)[0] == 0


@pytest.mark.slow
def test_a_second_client_is_refused_and_both_sides_say_so(run, host, client):
    client.reset(0)
    with pytest.raises(DeviceLost, match=f"process {os.getpid()} has authority"):
        HostClient.connect(run.id, deadline=0.2)
    client.reset(1)
    client.close()
    with HostClient.connect(run.id, deadline=5) as other:
        other.reset(2)
    code, log = end(host)
    assert code == 0
    assert "refused process" in log


@pytest.mark.slow
def test_a_client_of_another_task_is_refused(run, host):
    with pytest.raises(ProtocolMismatch, match="this client means"):
        HostClient.connect(run.id, make("reach"), deadline=120)


@pytest.mark.slow
def test_a_killed_client_leaves_the_arm_safe_and_the_next_one_begins_anew(tmp_path):
    run = new_run(tmp_path / "run", "[host]\nrecorder_lockstep = true\nrecorder = 10.0\n")
    host = start_host(run)
    lone = subprocess.Popen(
        [sys.executable, "-c", LONE_CLIENT, run.id], stdout=subprocess.PIPE, text=True
    )
    with lone:
        assert lone.stdout is not None
        assert lone.stdout.readline() == "moving\n"
        lone.kill()
    with HostClient.connect(run.id, make("peg"), deadline=30) as client:
        ask = Request(99, 0, np.array([0.5, 0.0, 0.2]), np.array([1.0, 0.0, 0.0, 0.0]), 0.02)
        with pytest.raises(DeviceLost, match="reset first"):
            client.step(ask)
        snapshot, _ = client.reset(0)
        assert snapshot.mode == Mode.HOLDING
    (path,) = (run.folder / "recordings").glob("*.mcap")
    recording = Recording(path)
    (lost,) = [event.row for event in recording.events if event.what == "the client was lost"]
    before, after = recording["mode"][:lost], recording["mode"][lost:]
    assert before[-1] == Mode.FOLLOWING
    assert Mode.FOLLOWING not in after
    assert after[-1] == Mode.SOFT_STOP
    assert np.linalg.norm(np.diff(recording["pose"][-200::20, :3], axis=0), axis=1).max() < 1e-4
    code, log = end(host)
    assert code == 0
    assert "the client was lost: episode cut, arm in SOFT_STOP" in log


@pytest.mark.slow
@pytest.mark.wallclock
def test_a_killed_host_is_a_lost_device_at_once_and_reconnecting_finds_the_next(run, host, client):
    drive(client, 3, 5)
    wanted, _ = drive(client, 3, 12)
    host.kill()
    host.wait()
    begin = time.monotonic()
    with pytest.raises(DeviceLost, match="died"):
        drive(client, 3, 5)
    assert time.monotonic() - begin < 0.5
    with pytest.raises(DeviceLost, match="reconnect"):
        client.reset(3)
    with pytest.raises(DeviceLost, match="no robot host"):
        client.reconnect(deadline=0.2)
    second = start_host(run)
    try:
        client.reconnect(deadline=120)
        again, _ = drive(client, 3, 12)
        assert all(np.array_equal(flat(a), flat(b)) for a, b in zip(wanted, again, strict=True))
    finally:
        client.close()
        assert end(second)[0] == 0


@pytest.mark.slow
def test_an_actor_that_does_not_ask_in_time_finds_the_episode_cut(tmp_path):
    run = new_run(tmp_path / "run", "[host]\nrequest_deadline = 0.3\n")
    process = start_host(run)
    with HostClient.connect(run.id, make("peg"), deadline=120) as client:
        snapshots, _ = drive(client, 3, 3)
        time.sleep(1.0)
        with pytest.raises(DeviceLost, match=r"no request within 0\.3 s"):
            client.step(make("peg").request(snapshots[-1], np.zeros(3), 3))
        client.reconnect()  # the connection stands: nothing to do
        drive(client, 3, 3)
    code, log = end(process)
    assert code == 0
    assert log.count("no request within") == 1


def test_nothing_is_left_behind_when_both_are_killed(run, host, client):
    drive(client, 3, 2)
    before = set(run.folder.rglob("*"))
    host.kill()
    host.wait()
    client.close()
    assert set(run.folder.rglob("*")) == before
    rings = f"handrail-{host.pid}-"  # other hosts may run on this machine
    assert not [name for name in os.listdir("/dev/shm") if name.startswith(rings)]
    assert messages.address(run.id)[1:] not in Path("/proc/net/unix").read_text()


@pytest.mark.slow
def test_the_host_opens_no_descriptors_over_many_clients(run, host):
    def count():
        return psutil.Process(host.pid).num_fds()

    seen = []
    for seed in range(20):
        with HostClient.connect(run.id, deadline=120) as client:
            client.reset(seed)
            client.render("front", 32, 32)
            seen.append(count())
    assert max(seen) <= min(seen) + 1, seen  # a picture may be on its way


def test_a_stop_signal_ends_the_host_with_the_arm_at_rest(run, host, client):
    drive(client, 3, 3)
    code, log = end(host)
    assert code == 0
    assert "the host was told to stop: episode cut, arm in SOFT_STOP" in log
    with pytest.raises(DeviceLost, match="died"):
        client.reset(0)


def test_a_read_only_host_follows_nobody(run):
    process = start_host(run, "--readonly")
    with HostClient.connect(run.id, deadline=120) as client:
        snapshots, _ = drive(client, 3, 5)
        assert {s.mode for s in snapshots} == {Mode.HOLDING}
    assert end(process)[0] == 0


def bad_folders(tmp_path):
    yield tmp_path / "nowhere", "not a run folder"
    run = new_run(tmp_path / "key", "[control]\nstifness = [1.0, 1.0, 1.0]\n")
    yield run.folder, "did you mean 'stiffness'"
    run = new_run(tmp_path / "value", "[host]\nrequest_deadline = -1.0\n")
    yield run.folder, "request_deadline must be positive"
    run = new_run(tmp_path / "other")
    run.config.write_text('[task]\nname = "reach"\n')
    yield run.folder, "put the config back"


@pytest.mark.slow
def test_bad_input_is_one_clear_line_and_changes_nothing(tmp_path):
    for folder, wanted in bad_folders(tmp_path):
        before = sorted(tmp_path.rglob("*"))
        done = subprocess.run(
            [sys.executable, "-m", "robot_env", "--run", str(folder)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 2
        assert wanted in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert sorted(tmp_path.rglob("*")) == before


def test_a_second_host_of_a_run_is_refused(run, host, client):
    second = start_host(run)
    _, log = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "another robot host" in log
    client.reset(0)
