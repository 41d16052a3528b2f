"""Episodes on disk (a LeRobot v3 directory) and the training windows made from them.  No torch."""
