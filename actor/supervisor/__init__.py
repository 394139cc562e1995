"""The processes of a run: started, watched over, restarted and ended."""
