"""The ROS 2 package: launch files only, and the same three processes."""

import importlib.util
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

from actor.supervisor.supervisor import MODULES
from handrail.run_folder import open_run

LAUNCH = Path(__file__).resolve().parents[3] / "launch"


@pytest.fixture(scope="module")
def sim():
    spec = importlib.util.spec_from_file_location("sim_launch", LAUNCH / "sim.launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sim_starts_the_processes_of_train(sim, tmp_path):
    folder, commands = sim.prepare("reach", str(tmp_path / "run"))
    assert open_run(Path(folder)).task == "reach"
    assert sim.MODULES == MODULES
    for role, module in MODULES.items():
        assert commands[role] == [sys.executable, "-m", module, "--run", folder]


def test_package_is_known_to_colcon_as_ament_python():
    root = xml.etree.ElementTree.parse(LAUNCH / "package.xml").getroot()
    assert root.findtext("name") == "handrail"
    assert root.findtext("export/build_type") == "ament_python"
    assert (LAUNCH / "resource" / "handrail").is_file()


def test_package_installs_launch_files_and_no_code(tmp_path):
    pytest.importorskip("setuptools")
    program = (
        "import json, runpy, setuptools\n"
        "setuptools.setup = lambda **kept: print(json.dumps(kept))\n"
        "runpy.run_path('setup.py')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True, text=True, cwd=LAUNCH, check=True,
    )  # fmt: skip
    assert '"packages": []' in done.stdout
    assert "sim.launch.py" in done.stdout
    assert '"name": "handrail-launch"' in done.stdout


@pytest.mark.ros
def test_description_is_one_that_ros_accepts(sim):
    description = sim.generate_launch_description()
    assert len(description.entities) == 3
