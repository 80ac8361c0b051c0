"""Two loops, one result: what decides it is shared here, and each loop only drives it."""
