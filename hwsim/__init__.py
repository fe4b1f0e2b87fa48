"""Cycles, joules and values of neural-network training on a systolic accelerator, op by op."""
