"""The ROS 2 package: launch files only. The Python code comes from `pip install`."""

from glob import glob

from setuptools import setup

NAME = "handrail"

setup(
    name=f"{NAME}-launch",  # not NAME: pip's metadata of that name must stay visible
    version="0.1.0",
    packages=[],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", glob("*.launch.py")),
    ],
    entry_points={
        "console_scripts": [
            "host = robot_env.__main__:main",
            "actor = actor.__main__:main",
            "learner = learner.__main__:main",
        ]
    },
)
