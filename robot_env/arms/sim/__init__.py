"""The simulated arm: MuJoCo's physics, imperfect sensors and actuators, an energy meter."""
