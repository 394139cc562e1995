"""`handrail risk`: from recorded episodes to a calibrated risk critic."""
