"""What a person or a script gets to see of a result: JSON, tables, plots, a trace, and a folder with all of them.

Each file takes a frozen result of `hwsim.results`; nothing here computes a cycle or a joule.
"""
