"""Did it work? Success classifiers, detectors and labels; sparse task truth until they come."""
