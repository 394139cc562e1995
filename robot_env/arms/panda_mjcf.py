"""A Panda-class arm on a table as MJCF text, built from primitives.

Kinematics, limits and inertias are published (`panda_models`); the shapes are capsules, cylinders
and boxes. A task adds bodies to the world and, if something is already grasped, to the hand.

Sources:
    Franka Robotics, "Robot and interface specifications": kinematics of Panda and FR3.
"""

from __future__ import annotations

import numpy as np

from controllers.kinematics import TOOL, TORQUE_MAX
from robot_env.arms.panda_models import PANDA, Arm

FINGER_TRAVEL = 0.04  # [m], each finger; the hand opens to twice that
GRIP_FORCE = 35.0  # [N], each finger, at most (the hand's continuous force is 70 N)

CAMERAS = """
    <camera name="front" pos="1.18 0 0.55" xyaxes="0 1 0 -0.52 0 0.854" fovy="42"/>"""
WRIST_CAMERA = '<camera name="wrist" pos="-0.08 0 0.05" xyaxes="0 -1 0 -0.77 0 0.64" fovy="70"/>'

# position and orientation (wxyz) of each link in its parent
_FRAMES = (
    ("0 0 0.333", "1 0 0 0"),
    ("0 0 0", "1 -1 0 0"),
    ("0 -0.316 0", "1 1 0 0"),
    ("0.0825 0 0", "1 1 0 0"),
    ("-0.0825 0.384 0", "1 -1 0 0"),
    ("0 0 0", "1 1 0 0"),
    ("0.088 0 0", "1 1 0 0"),
)

# what each link looks like: class, shape, size, from-to or position in the link's frame
_SHAPES = (
    (
        '<geom class="shell" type="capsule" size="0.068" fromto="0 0 -0.2 0 0 -0.03"/>',
        '<geom class="joint" type="cylinder" size="0.062" fromto="0 -0.072 0 0 0.072 0"/>',
    ),
    (
        '<geom class="shell" type="capsule" size="0.066" fromto="0 -0.02 0 0 -0.15 0"/>',
        '<geom class="trim" type="cylinder" size="0.0665" fromto="0 -0.19 0 0 -0.202 0"/>',
    ),
    (
        '<geom class="shell" type="capsule" size="0.058" fromto="0 0 -0.1 0.02 0 -0.03"/>',
        '<geom class="shell" type="capsule" size="0.052" fromto="0.02 0 -0.03 0.0825 0 0"/>',
        '<geom class="joint" type="cylinder" size="0.056" fromto="0.0825 -0.068 0 0.0825 .068 0"/>',
    ),
    (
        '<geom class="shell" type="capsule" size="0.055" fromto="0 0 0 -0.0825 0.05 0"/>',
        '<geom class="shell" type="capsule" size="0.054" fromto="-0.0825 0.05 0 -0.0825 0.09 0"/>',
        '<geom class="trim" type="cylinder" size="0.0565" fromto="-.0825 .124 0 -.0825 .134 0"/>',
    ),
    (
        '<geom class="shell" type="capsule" size="0.052" fromto="0 0 -0.24 0 0.01 -0.19"/>',
        '<geom class="shell" type="capsule" size="0.04" fromto="0 0.05 -0.17 0 0.06 -0.05"/>',
        '<geom class="joint" type="cylinder" size="0.05" fromto="0 -0.055 0 0 0.062 0"/>',
    ),
    (
        '<geom class="shell" type="capsule" size="0.046" fromto="0 0 0 0.088 -0.01 0"/>',
        '<geom class="trim" type="cylinder" size="0.047" fromto="0.088 -0.052 0 0.088 -0.062 0"/>',
    ),
    (
        '<geom class="shell" type="cylinder" size="0.044" fromto="0 0 0.062 0 0 0.095"/>',
        '<geom class="dark" type="cylinder" size="0.0315" fromto="0 0 0.095 0 0 0.1071"/>',
        '<geom class="light" type="cylinder" size="0.0445" fromto="0 0 0.058 0 0 0.063"/>',
    ),
)

_HAND_SHAPES = """
<geom class="shell" type="box" size="0.029 0.098 0.019" pos="0 0 0.031"/>
<geom class="dark" type="box" size="0.022 0.1 0.009" pos="0 0 0.0565"/>
<geom class="dark" type="cylinder" size="0.036" fromto="0 0 0 0 0 0.012"/>
<geom name="hand" class="hull" type="box" size="0.032 0.102 0.033" pos="0 0 0.033"/>"""

_FINGER = """
<geom class="dark" type="box" size="0.0095 0.0075 0.011" pos="0 0.0115 0.008"/>
<geom class="light" type="box" size="0.0085 0.0035 0.013" pos="0 0.0095 0.029"/>
<geom name="{name}_pad" class="pad" type="box" size="0.0095 0.0045 0.0105"
  pos="0 0.0045 0.0445"/>"""

_HEAD = """<mujoco model="handrail">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{timestep:g}" integrator="implicitfast" cone="{cone}" impratio="{impratio:g}"
    iterations="100" ls_iterations="50" tolerance="1e-8"/>
  <size memory="16M"/>
  <statistic center="0.35 0 0.3" extent="1.1"/>
  <visual>
    <global offwidth="1280" offheight="960" azimuth="140" elevation="-22"/>
    <quality shadowsize="2048" offsamples="0"/>
    <headlight ambient="0.42 0.42 0.44" diffuse="0.34 0.34 0.34" specular="0.1 0.1 0.1"/>
    <map znear="0.01" zfar="12"/>
  </visual>
  <default>
    <geom solref="0.004 1" solimp="0.95 0.99 0.001" friction="0.6 0.005 0.0001"/>
    <joint limited="true"/>
    <default class="arm"><joint axis="0 0 1" armature="0.1" damping="0.3"/></default>
    <default class="visual"><geom contype="0" conaffinity="0" group="2" mass="0"/>
      <default class="shell"><geom material="shell"/></default>
      <default class="joint"><geom material="joint"/></default>
      <default class="trim"><geom material="trim"/></default>
      <default class="dark"><geom material="dark"/></default>
      <default class="light"><geom material="light"/></default>
    </default>
    <default class="collision"><geom group="3" contype="1" conaffinity="2" mass="0"/>
      <default class="hull"><geom rgba="0.5 0.6 0.7 0.3"/></default>
      <default class="pad"><geom group="2" material="pad" friction="1.1 0.02 0.0005" condim="4"
        solref="0.004 1" solimp="0.97 0.995 0.0005" priority="1"/></default>
    </default>
    <default class="task"><geom contype="2" conaffinity="3"/></default>
  </default>
  <asset>
    <texture type="skybox" builtin="gradient" rgb1="0.86 0.89 0.93" rgb2="0.97 0.98 0.99"
      width="64" height="64"/>
    <texture name="floor" type="2d" builtin="checker" rgb1="0.74 0.76 0.79" rgb2="0.69 0.71 0.74"
      width="128" height="128"/>
    <material name="floor" texture="floor" texrepeat="12 12" specular="0" shininess="0"/>
    <material name="table" rgba="0.80 0.72 0.61 1" specular="0.1" shininess="0.2"/>
    <material name="edge" rgba="0.35 0.37 0.40 1" specular="0.2" shininess="0.3"/>
    <material name="shell" rgba="0.93 0.94 0.95 1" specular="0.45" shininess="0.55"/>
    <material name="joint" rgba="0.80 0.82 0.85 1" specular="0.4" shininess="0.5"/>
    <material name="trim" rgba="0.13 0.45 0.62 1" specular="0.4" shininess="0.5"/>
    <material name="dark" rgba="0.17 0.18 0.20 1" specular="0.3" shininess="0.4"/>
    <material name="light" rgba="0.62 0.65 0.69 1" specular="0.5" shininess="0.6"/>
    <material name="pad" rgba="0.11 0.11 0.12 1" specular="0.05" shininess="0.1"/>
    {assets}
  </asset>
"""

_WORLD = """
    <light pos="0.9 -0.9 2.2" dir="-0.35 0.4 -1" diffuse="0.55 0.55 0.55" specular="0.3 0.3 0.3"/>
    <light pos="0.2 1.4 1.8" dir="0.1 -0.7 -0.8" diffuse="0.22 0.23 0.26" castshadow="false"/>
    <geom name="floor" type="plane" size="3 3 0.1" pos="0 0 -0.72" material="floor"
      contype="0" conaffinity="0"/>
    <geom name="table" class="task" type="box" size="0.5 0.6 0.02" pos="0.32 0 -0.02"
      material="table"/>
    <geom class="visual" type="box" size="0.505 0.605 0.006" pos="0.32 0 -0.046" material="edge"/>
    <geom class="visual" type="box" size="0.03 0.03 0.33" pos="-0.1 0.52 -0.38" material="edge"/>
    <geom class="visual" type="box" size="0.03 0.03 0.33" pos="-0.1 -0.52 -0.38" material="edge"/>
    <geom class="visual" type="box" size="0.03 0.03 0.33" pos="0.74 0.52 -0.38" material="edge"/>
    <geom class="visual" type="box" size="0.03 0.03 0.33" pos="0.74 -0.52 -0.38" material="edge"/>
    <body name="link0" gravcomp="1">
      <inertial mass="0.629769" pos="-0.041018 -0.00014 0.049974"
        fullinertia="0.00315 0.00388 0.004285 8.2904e-7 0.00015 8.2299e-6"/>
      <geom class="dark" type="box" size="0.105 0.095 0.008" pos="-0.04 0 0.008"/>
      <geom class="shell" type="cylinder" size="0.078" fromto="0 0 0.01 0 0 0.135"/>
      <geom class="shell" type="box" size="0.05 0.058 0.042" pos="-0.075 0 0.052"/>
      <geom class="trim" type="cylinder" size="0.0705" fromto="0 0 0.135 0 0 0.141"/>"""


def hand_xml(tool_bodies: str, gripper: bool, finger_width: float) -> str:
    """Return the MJCF of the hand with its fingers, the tool's site and what it holds.

    Args:
        tool_bodies: MJCF bodies fixed to the hand, in the hand's frame.
        gripper: True: the fingers slide; False: they are fixed, which makes physics cheaper.
        finger_width: Opening of fixed fingers [m].
    """
    fingers = []
    for name, quaternion in (("finger1", "1 0 0 0"), ("finger2", "0 0 0 1")):
        side = 1.0 if name == "finger1" else -1.0
        offset = 0.0 if gripper else side * finger_width / 2
        joint = (
            f'<joint name="{name}" type="slide" axis="0 1 0" range="0 {FINGER_TRAVEL}" '
            'armature="0.1" damping="10"/>'
            if gripper
            else ""
        )
        fingers.append(
            f'<body name="{name}" pos="0 {offset:g} 0.0584" quat="{quaternion}" gravcomp="1">'
            '<inertial mass="0.015" pos="0 0 0.02" diaginertia="2.375e-6 2.375e-6 7.5e-7"/>'
            f"{joint}{_FINGER.format(name=name)}</body>"
        )
    centre = " ".join(f"{value:g}" for value in TOOL)
    return (
        '<body name="hand" pos="0 0 0.107" quat="0.9238795325 0 0 -0.3826834324" gravcomp="1">'
        '<inertial mass="0.73" pos="-0.01 0 0.03" diaginertia="0.001 0.0025 0.0017"/>'
        f'{_HAND_SHAPES}{WRIST_CAMERA}<site name="tool" pos="{centre}" size="0.004" group="4"/>'
        f"{''.join(fingers)}{tool_bodies}</body>"
    )


def arm_xml(
    tool_bodies: str = "",
    gripper: bool = True,
    finger_width: float = 0.04,
    arm: Arm = PANDA,
    hand: bool = True,
) -> str:
    """Return the MJCF body of the arm from link 1 to the fingers.

    Args:
        tool_bodies: As for `build_scene`.
        gripper: As for `build_scene`.
        finger_width: As for `build_scene` [m].
        arm: Whose inertias and joint ranges.
        hand: False: the flange is bare, and the arguments above say nothing.
    """
    opening, closing = [], []
    for i, (position, quaternion) in enumerate(_FRAMES):
        mass, centre, inertia = arm.links[i]
        low, high = arm.joints.low[i], arm.joints.high[i]
        opening.append(
            f'<body name="link{i + 1}" pos="{position}" quat="{quaternion}" gravcomp="1">'
            f'<inertial mass="{mass}" pos="{centre}" fullinertia="{inertia}"/>'
            f'<joint name="joint{i + 1}" class="arm" range="{low} {high}"/>' + "".join(_SHAPES[i])
        )
        closing.append("</body>")
    tip = hand_xml(tool_bodies, gripper, finger_width) if hand else ""
    return "".join(opening) + tip + "".join(closing)


def bare_arm(arm: Arm, flange: str = "") -> str:
    """Return the MJCF of an arm alone, without table or hand, for other programs' physics.

    Args:
        arm: Whose inertias and joint ranges.
        flange: MJCF of what is fixed to link 7, in its frame.
    """
    head = _HEAD.format(assets="", timestep=0.001, cone="elliptic", impratio=10.0)
    links = arm_xml(arm=arm, hand=False)
    end = len(links) - 7 * len("</body>")
    base = '<body name="link0"><inertial mass="0.63" pos="0 0 0" diaginertia="1 1 1"/>'
    return f"{head}<worldbody>{base}{links[:end]}{flange}{links[end:]}</body></worldbody></mujoco>"


def build_scene(
    task_bodies: str,
    tool_bodies: str = "",
    assets: str = "",
    cameras: str = CAMERAS,
    gripper: bool = True,
    finger_width: float = 0.04,
    timestep: float = 0.001,
    cone: str = "elliptic",
    impratio: float = 10.0,
    arm: Arm = PANDA,
) -> str:
    """Return the MJCF of table, arm and task; the base frame is the world, the table's top z = 0.

    Collisions: geoms of class `task` meet one another and the hand; hand and fingers meet only
    those, so that the arm can't waste contacts on itself. A body with class `task` geoms and a
    `freejoint` can be grasped. Bodies with `gravcomp="1"` are known payload, held by the robot.

    Args:
        task_bodies: MJCF bodies and geoms of the world.
        tool_bodies: MJCF bodies fixed to the hand, in the hand's frame (z toward the finger tips).
        assets: MJCF of the task's own textures and materials.
        cameras: MJCF of the fixed cameras; `wrist` rides on the hand in any case.
        gripper: True: the fingers slide; False: they are fixed at `finger_width`.
        finger_width: Opening of fixed fingers [m].
        timestep: Of physics and control [s].
        cone: Friction cone, "pyramidal" or "elliptic".
        impratio: Stiffness of friction over that of the normal force [-]. With 10 on an elliptic
            cone a grasped 100 g part creeps 0.1 mm in 10 s; with 1 it is 1 mm, on a pyramidal cone
            2 mm, at no less cost.
        arm: Whose inertias and joint ranges.
    """
    head = _HEAD.format(assets=assets, timestep=timestep, cone=cone, impratio=impratio)
    motors = "".join(
        f'<motor name="joint{i + 1}" joint="joint{i + 1}" ctrlrange="{-limit} {limit}"/>'
        for i, limit in enumerate(TORQUE_MAX)
    )
    coupling = ""
    if gripper:
        motors += "".join(
            f'<position name="{name}" joint="{name}" kp="4000" kv="80" '
            f'ctrlrange="0 {FINGER_TRAVEL}" forcerange="{-GRIP_FORCE} {GRIP_FORCE}"/>'
            for name in ("finger1", "finger2")
        )
        coupling = (
            '<equality><joint joint1="finger1" joint2="finger2" solref="0.004 1" '
            'solimp="0.98 0.999 0.0001"/></equality>'
        )
    return (
        f"{head}<worldbody>{_WORLD}{cameras}{arm_xml(tool_bodies, gripper, finger_width, arm)}"
        f"</body>{task_bodies}</worldbody>{coupling}<actuator>{motors}</actuator>"
        '<sensor><contact name="tool_contact" subtree1="hand" num="1" reduce="netforce" '
        'data="force torque pos"/></sensor></mujoco>'
    )


assert len(_FRAMES) == len(_SHAPES) == np.size(TORQUE_MAX)
