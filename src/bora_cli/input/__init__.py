"""People and scripts that hold the controls."""
