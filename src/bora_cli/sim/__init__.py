"""The embedded simulator: an arm with a five-finger hand in front of a table, three tasks; numpy and MuJoCo
only."""
