"""The 1 kHz host process: its core, its servers, and how a client reaches it."""
