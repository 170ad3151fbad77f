"""What a fitted model says, shown: figures, tables of a paper, a report to hand over."""
