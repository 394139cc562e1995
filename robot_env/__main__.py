"""The robot host: `python -m robot_env --run <folder>`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import signal
import socket
import sys
import time
from pathlib import Path
from typing import get_args

from controllers.config import ControlConfig
from handrail.config import from_dict
from handrail.errors import Error, ProtocolMismatch
from handrail.metrics import Metrics
from handrail.process import attach_to_supervisor
from handrail.processes.exit_record import RUNNING, SAVING, record_error, record_state
from handrail.processes.stop import end_at_once, stop_on_signals
from handrail.run_folder import Run, open_run
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.sim.config import MujocoConfig
from robot_env.client import HostClient
from robot_env.host.async_logging import logging_in_background
from robot_env.host.authorization import HostKey, Permission
from robot_env.host.config import HostConfig, RobotName
from robot_env.host.core import HostCore, with_zone
from robot_env.host.lockstep_server import LockstepServer
from robot_env.host.realtime_server import RealtimeServer
from robot_env.host.socket import HostSocket
from robot_env.recorder.recorder import Recorder, describe
from robot_env.tasks import make
from robot_env.tasks.config import TaskConfig
from robot_env.teleop.scripted import OperatorConfig

log = logging.getLogger("host")


def main(argv: list[str] | None = None) -> int:
    """Run the robot host of a run folder until a signal comes; return the exit code."""
    options = _parser().parse_args(argv)
    # an exception would be lost in a compiler's callback, and the host go on
    signal.signal(signal.SIGINT, lambda *_: end_at_once("stopped; the arm has not moved"))
    attach_to_supervisor(signal.SIGTERM)  # the arm must come to rest
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        run = open_run(options.run)
        if options.recover:
            return _recover(run)
        host_socket = HostSocket(run.id)
        try:
            with logging_in_background():
                _serve(run, host_socket, options)
        finally:
            host_socket.close()
    except Error as error:
        record_error(error)
        log.error("%s", error)
        return 2
    except KeyboardInterrupt:  # while compiling; the arm has not moved yet
        log.info("stopped while starting; the arm has not moved")
        return 130
    return 0


def _serve(run: Run, host_socket: HostSocket, options: argparse.Namespace) -> None:
    begin = time.monotonic()
    config, core = _load(run, options)
    log.info("compiling the control loop of task %s (cached after the first time)", run.task)
    with contextlib.closing(Metrics(run, "host")) as metrics:
        metrics.write("doing", text="the host compiles the control loop: a minute, the first time")
        core.load_critic_of(run.folder)
        core.warm_up()
        metrics.write("doing", text="the host is ready")
    if config.recorder > 0.0 and (config.realtime or config.recorder_lockstep):
        about = describe(core.robot.params, core.robot.control, config.realtime)
        core.record(Recorder(run, config.recorder, config.recordings, about))
    log.info(
        "ready after %.1f s: %s, %g Hz policy steps, %s",
        time.monotonic() - begin,
        "real time" if config.realtime else "lockstep",
        core.task.spec.control_hz,
        "read-only" if core.readonly else "waiting for an actor",
    )
    waker, wake = socket.socketpair()
    for end in (waker, wake):
        end.setblocking(False)
    before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    viewer, host_key, whole = None, None, True
    try:
        with stop_on_signals() as stop:
            if options.view:
                from robot_env.viewer import Viewer

                viewer = Viewer(core.robot.model, core.robot.data)
            server = RealtimeServer if config.realtime else LockstepServer
            host_key = HostKey(run.host_key, config.human)
            host_socket.open(host_key)
            record_state(RUNNING)
            server(core, host_socket, config, stop, wake, viewer.sync if viewer else None).run()
    except Exception as error:
        core.note(f"exception {type(error).__name__}: {error}")
        whole = False
        raise
    finally:
        record_state(SAVING)  # the arm comes to rest, a recording is finished
        signal.set_wakeup_fd(before)
        waker.close()
        wake.close()
        if viewer is not None:
            viewer.close()
        if host_key is not None:
            host_key.close()
        core.robot.close()
        core.close()
        if core.recorder is not None:
            core.recorder.close(whole)
    log.info("stopped")


def _recover(run: Run) -> int:
    """Ask a running host to leave its robot's fault."""
    with HostClient.connect(run.id, ask=Permission.RECOVER, key=run.host_key) as client:
        client.recover()
    log.info("recovered; the arm moves again with the next episode")
    return 0


def _load(run: Run, options: argparse.Namespace) -> tuple[HostConfig, HostCore]:
    tables = run.config_tables()
    config = from_dict(HostConfig, tables.get("host", {}), "host")
    if from_dict(OperatorConfig, tables.get("operator", {}), "operator").enabled:
        config = dataclasses.replace(config, human=True)
    if options.realtime:
        config = dataclasses.replace(config, realtime=True)
    task_config = from_dict(TaskConfig, tables.get("task", {}), "task")
    task = make(task_config.name, task_config)
    if task.spec.hash != run.task_hash:
        raise ProtocolMismatch(
            f"run folder {run.folder} was made for task {run.task!r} with hash {run.task_hash}, "
            f"its config.toml now gives {task.spec.hash}; put the config back, or begin a new run"
        )
    robot_name = "mock" if options.mock else options.robot
    if robot_name is not None:
        config = dataclasses.replace(config, robot=robot_name)
    control = from_dict(ControlConfig, tables.get("control", {}), "control")
    control = with_zone(control, task.contact_zone)
    robot = None
    if config.robot != "mujoco":
        from robot_env.arms.franka.open import open_franka

        franka = from_dict(FrankaConfig, tables.get("franka", {}), "franka")
        config = dataclasses.replace(config, realtime=True)  # the robot waits for nobody
        mock = config.robot == "mock"
        scene, hz, readonly = task.scene(), task.spec.control_hz, options.readonly
        robot = open_franka(franka, control, scene, hz, mock=mock, readonly=readonly)
    core = HostCore(
        task,
        from_dict(MujocoConfig, tables.get("robot", {}), "robot"),
        control,
        readonly=options.readonly,
        robot=robot,
    )
    return config, core


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="handrail host",
        description="Runs the robot of a run: controls it at 1 kHz and answers one actor.",
    )
    parser.add_argument("--run", type=Path, required=True, metavar="FOLDER", help="the run folder")
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="run on a clock of its own instead of waiting for the actor",
    )
    parser.add_argument(
        "--readonly", action="store_true", help="serve the state, follow no request"
    )
    parser.add_argument(
        "--robot",
        choices=get_args(RobotName),
        help="drive this one instead of the config's [host] robot",
    )
    parser.add_argument(
        "--mock",
        action="store_true",
        help="the same as --robot mock: a simulated Franka through the real one's interface",
    )
    parser.add_argument(
        "--recover",
        action="store_true",
        help="ask the running host of this run to leave its robot's fault, and end",
    )
    parser.add_argument("--view", action="store_true", help="open MuJoCo's viewer")
    return parser


if __name__ == "__main__":
    sys.exit(main())
