"""What is shown of a run: while it goes, and once it is over."""
