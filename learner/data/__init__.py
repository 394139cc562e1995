"""What is trained on: the replay ring, what is drawn from it, and its way to the device."""
