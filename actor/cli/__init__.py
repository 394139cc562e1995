"""What a user types: one module per command, each with `main(argv) -> exit code`."""
