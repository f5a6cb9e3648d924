"""What all experiments share: the run, its configuration, the report."""
