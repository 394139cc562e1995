"""The risk critic as both hosts know it: one flat array, and the file that holds it."""
