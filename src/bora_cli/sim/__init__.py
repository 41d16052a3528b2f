"""The embedded simulator: an arm with a five-finger hand in front of a table, five tasks; numpy and MuJoCo
only."""
