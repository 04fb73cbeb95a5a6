"""The loop that lands on the budget."""
