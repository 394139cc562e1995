"""Start a simulated run under ROS 2: host, actor and learner, as `handrail train` does.

ros2 launch handrail sim.launch.py task:=peg out:=runs/under-ros
"""

import os
import sys
from pathlib import Path

MODULES = {"host": "robot_env", "learner": "learner", "actor": "actor"}


def prepare(task, out=""):
    """Make a run folder and return it with each role's command."""
    from actor.cli.run_folders import create_configured_run

    run, _ = create_configured_run(task, [], Path(out) if out else None)
    folder = str(run.folder.resolve())
    commands = {
        role: [sys.executable, "-m", module, "--run", folder] for role, module in MODULES.items()
    }
    return folder, commands


def start(context):
    """Start the processes; when the actor is done, write the report and shut down."""
    from launch.actions import EmitEvent, ExecuteProcess, RegisterEventHandler
    from launch.event_handlers import OnProcessExit
    from launch.events import Shutdown
    from launch.substitutions import LaunchConfiguration

    from handrail.process import SUPERVISOR_ENV

    folder, commands = prepare(
        LaunchConfiguration("task").perform(context), LaunchConfiguration("out").perform(context)
    )
    environment = {SUPERVISOR_ENV: str(os.getpid()), "OMP_NUM_THREADS": "1"}
    processes = {
        role: ExecuteProcess(
            cmd=command, name=role, output="screen", additional_env=environment, respawn=False
        )
        for role, command in commands.items()
    }
    report = ExecuteProcess(
        cmd=[sys.executable, "-m", "handrail", "report", folder], name="report", output="screen"
    )
    end = EmitEvent(event=Shutdown(reason="the run is over"))
    stop_all = EmitEvent(event=Shutdown(reason="a process of the run ended"))
    return [
        *processes.values(),
        RegisterEventHandler(OnProcessExit(target_action=processes["actor"], on_exit=[report])),
        RegisterEventHandler(OnProcessExit(target_action=report, on_exit=[end])),
        RegisterEventHandler(OnProcessExit(target_action=processes["learner"], on_exit=[stop_all])),
        RegisterEventHandler(OnProcessExit(target_action=processes["host"], on_exit=[stop_all])),
    ]


def generate_launch_description():
    """Return what `ros2 launch` runs."""
    from launch import LaunchDescription
    from launch.actions import DeclareLaunchArgument, OpaqueFunction

    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "task", default_value="peg", description="a shipped task or a .toml file"
            ),
            DeclareLaunchArgument(
                "out", default_value="", description="run folder to make; empty: below ./runs"
            ),
            OpaqueFunction(function=start),
        ]
    )
