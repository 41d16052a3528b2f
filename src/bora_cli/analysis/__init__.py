"""What happened: value traces, critic tests, figures and the report; torch only where the critic itself is asked."""
