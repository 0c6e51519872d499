"""What was found and how far it is shown: statistics, claims, the result. Made of outcomes."""
