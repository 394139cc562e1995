"""Any gymnasium environment as a task, stepped in the process that acts."""
