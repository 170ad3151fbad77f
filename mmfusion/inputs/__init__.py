"""What a user gives, checked once: table, columns, labels and weights of rows, parameters.

The lowest room. Others import from its files, so that none loads more than it needs.
"""
