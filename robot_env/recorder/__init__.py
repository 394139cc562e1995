"""The flight recorder: the last minute of every signal, at full rate, that survives the host."""
