"""Training loops: pre-training of the backbone, the offline methods, the online rounds."""
