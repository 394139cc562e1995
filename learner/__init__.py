"""Everything that learns: pure updates over one state, and the server around them."""
