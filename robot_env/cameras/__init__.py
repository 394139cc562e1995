"""Sources of colour frames; each driver owns its thread or its context."""
