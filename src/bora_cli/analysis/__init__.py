"""What happened: value traces, critic tests, figures and the report, on arrays; no torch in these files."""
