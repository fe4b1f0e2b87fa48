"""Proofs that counters, queues and address generators of the RTL keep their promises for ever, by Yosys and solvers.

`claims` is what specifications are written with, `flow` runs one, `proofs` lists all; ``python -m hwsim_rtl.prove``
runs them. What is proven, and what is not: docs/rtl-proofs.md.
"""
