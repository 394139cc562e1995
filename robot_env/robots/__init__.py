"""Arms behind the `controllers.robot.Robot` Protocol; vendor imports live in each driver's file."""
