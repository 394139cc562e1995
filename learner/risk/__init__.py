"""The risk critic's training: labels, episodes at control rate, ensemble, calibration."""
