"""The command `bora`.  Modules here import the library inside functions, so that help stays instant."""
