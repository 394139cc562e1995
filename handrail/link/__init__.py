"""How learner and actors talk: the row stream, newest-wins weights, requests, and their formats."""
